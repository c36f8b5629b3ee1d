//! Command lines of curl.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mulkko::command::curl::asked;
use mulkko::decide::Trust;
use mulkko::dry_run::DryRun;
use mulkko_fuzz::{POLICY, policy, run};

static RUN: LazyLock<DryRun> = LazyLock::new(|| run(policy(POLICY), Trust::Edge));

fuzz_target!(|line: &str| {
    if let Ok(asked) = asked(line) {
        RUN.decided(&asked.pairs(&[]), |_, _| {});
    }
});
