//! Access logs: the first line is their format, each after it a line of a log.

#![no_main]

use fuzz::timed;
use libfuzzer_sys::fuzz_target;
use mulkko::command::access_log::request;
use mulkko::command::log_format::{DEFAULT, LogFormat};

fuzz_target!(|input: &[u8]| timed(|| {
    let Ok(input) = str::from_utf8(input) else { return };
    let (format, lines) = input.split_once('\n').unwrap_or((DEFAULT, input));
    let Ok(format) = LogFormat::parse(format).or_else(|_| LogFormat::parse(DEFAULT)) else { return };
    let fields = [("uid".to_owned(), "x-user-id".to_owned())];
    for line in lines.lines() {
        if let Some(headers) = format.headers(line) {
            assert!(headers.iter().all(|(_, value)| line.contains(value) && *value != "-"), "{line}");
        }
        let Some((asked, client)) = request(line, &format, &fields) else { continue };
        assert!(!asked.path.is_empty());
        assert!(!asked.headers.iter().any(|(name, _)| name.starts_with("x-mulkko-")), "{asked:?}");
        assert_eq!(request(line, &format, &fields), Some((asked, client)), "the same each time");
    }
}));
