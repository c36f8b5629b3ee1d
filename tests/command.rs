//! The command as its users see it: sessions at a console in `tests/command/*.md`, each run and compared to the letter.
//!
//! `TRYCMD=overwrite cargo test --test command` writes down what is printed now; read the difference.

#![cfg(not(target_arch = "wasm32"))]

#[test]
fn sessions_go_as_written_down() {
    trycmd::TestCases::new().case("tests/command/*.md");
}
