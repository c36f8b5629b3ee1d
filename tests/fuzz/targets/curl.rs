//! Command lines of curl.

#![no_main]

use fuzz::timed;
use libfuzzer_sys::fuzz_target;
use mulkko::cases::Asked;
use mulkko::command::curl::asked;

fuzz_target!(|line: &str| timed(|| {
    let Ok(found) = asked(line) else { return };
    let Some((":scheme", scheme)) = found.headers.first().map(|(name, value)| (&**name, &**value)) else {
        panic!("{found:?}")
    };
    if !matches!(scheme, "http" | "https") {
        return;
    }
    assert!(found.path.starts_with('/'), "{found:?}");
    if let Some(line) = written(&found, scheme) {
        let again = asked(&line).unwrap_or_else(|error| panic!("{line}: {error:#}"));
        assert_eq!(trimmed(found), trimmed(again), "{line}");
    }
}));

/// A line that makes the same request, each header said; `None` where something in it cannot be quoted.
fn written(asked: &Asked, scheme: &str) -> Option<String> {
    let mut words = vec![
        "curl".to_owned(),
        format!("--url={scheme}://host{}", asked.path),
        format!("--request={}", asked.method),
    ];
    // What curl says by itself, unless it is told not to.
    if !asked.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        words.push("--header=host:".to_owned());
    }
    for (name, value) in asked.headers.iter().skip(1) {
        let value = value.trim();
        words.push(if value.is_empty() {
            format!("--header={name};")
        } else {
            format!("--header={name}: {value}")
        });
    }
    let quoted = words.iter().map(|word| {
        // In plain quotes nothing stands for something else.
        (!word.contains('\0')).then(|| format!("'{}'", word.replace('\'', r"'\''")))
    });
    quoted.collect::<Option<Vec<_>>>().map(|words| words.join(" "))
}

/// curl's own headers are taken as they stand, those that are said without the space around them.
fn trimmed(mut asked: Asked) -> Asked {
    for (_, value) in &mut asked.headers {
        *value = value.trim().to_owned();
    }
    asked
}
