//! Lines of an access log, and formats of such lines. The first line is the format; an empty one is Envoy's own.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mulkko::command::access_log::request;
use mulkko::command::log_format::{DEFAULT, LogFormat};

fuzz_target!(|input: &str| {
    let (format, lines) = input.split_once('\n').unwrap_or(("", input));
    let format = if format.is_empty() { DEFAULT } else { format };
    let Ok(format) = LogFormat::parse(format) else { return };
    let fields = [("user".to_owned(), "x-user-id".to_owned())];
    for line in lines.lines() {
        if let Some((asked, _)) = request(line, &format, &fields) {
            assert!(!asked.path.is_empty());
            assert!(asked.headers.iter().all(|(name, _)| !name.starts_with("x-mulkko-")), "{asked:?}");
        }
    }
});
