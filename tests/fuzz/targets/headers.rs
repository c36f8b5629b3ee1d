//! Headers of a request, one in a line; the lines after an empty one are macs of other hops, as `mulkko.mk` has them.

#![no_main]

use fuzz::{HOPS, message, policy, run_on, timed};
use libfuzzer_sys::fuzz_target;
use mulkko::decide::{Decisions, Trust, decide};
use mulkko::dry_run::{DryRun, Pair, applied, header};
use mulkko::effects::{Effects, effects};
use mulkko::{authority, baggage, cookie, forged, mesh, query};

thread_local! {
    static RUNS: [DryRun; 3] = HOPS.map(|hop| run_on(policy(), hop));
}

fuzz_target!(|input: &[u8]| timed(|| {
    let (mut pairs, rest) = message(input);
    RUNS.with(|runs| {
        for run in runs {
            hop(run, &pairs);
        }
        // A hop that vouches, after one that does.
        if let (Some(run), Ok(macs)) = (runs.last(), str::from_utf8(rest)) {
            let value = format!("mulkko.dark=on,mulkko.mk={macs}").into_bytes();
            pairs.push((b"baggage".to_vec(), value));
            hop(run, &pairs);
        }
    });
    for (name, value) in &pairs {
        parts(name, value);
    }
    macs(rest);
}));

/// Sends the request through a proxy, and what comes of it through the same again.
fn hop(run: &DryRun, pairs: &[Pair]) {
    let upstream = sent(run, pairs, |decisions, _| assert!(decisions.list.len() <= 3));
    match run.trust {
        Trust::Edge => {
            // Nothing is believed: what came changes nothing, so without a policy nothing of our own is left.
            let bare = run
                .asked(pairs, |request| applied(pairs, &effects(None, &Decisions::default(), request).edits));
            for (name, value) in &bare {
                assert!(!forged::is_name(Trust::Edge, name), "{name:?}");
                if forged::divider(name).is_some() {
                    assert!(!has_own(value), "{}", value.escape_ascii());
                }
            }
        }
        Trust::Mesh => {
            let again = sent(run, &upstream, |_, _| {});
            for name in ["baggage", "x-mulkko-dark", "x-mulkko-flags", "x-mulkko-cluster"] {
                let [one, other] = [&upstream, &again].map(|pairs| header(pairs, name));
                assert_eq!(one, other, "{name}: the second hop decides as the first");
            }
        }
    }
}

fn sent(run: &DryRun, pairs: &[Pair], look: impl Fn(&Decisions, &Effects<'_>)) -> Vec<Pair> {
    run.asked(pairs, |request| {
        let decisions = decide(&run.policy, *request);
        let effects = effects(Some(&run.policy), &decisions, request);
        look(&decisions, &effects);
        for cookie in &effects.response.cookies {
            assert!(cookie.bytes().all(|b| (b' '..=b'~').contains(&b)), "{cookie:?}");
        }
        let edits = &effects.edits;
        let upstream = applied(pairs, edits);
        for (name, value) in upstream.iter().filter(|(name, _)| name.starts_with(b"x-mulkko-")) {
            // Nothing that came unharmed can end a header.
            let is_clean = !value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
            assert!(
                is_clean || pairs.iter().any(|(n, v)| n == name && v == value),
                "{}",
                value.escape_ascii()
            );
        }
        upstream
    })
}

/// Whether a text has `mulkko.` in it, however often it is decoded.
fn has_own(text: &[u8]) -> bool {
    let mut text = text.to_vec();
    loop {
        if text.windows(7).any(|part| part == b"mulkko.") {
            return true;
        }
        let decoded = query::decode_path(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
}

/// The value of each header, read as each part of a request.
fn parts(name: &[u8], value: &[u8]) {
    assert_eq!(forged::mentions(value), has_own(value), "{}", value.escape_ascii());
    let name = String::from_utf8_lossy(name);
    if let Some(host) = authority::host(value) {
        assert!(host.len() <= value.len() && !host.bytes().any(|b| b.is_ascii_uppercase()));
    }
    if let Some(ip) = authority::client_ip(value) {
        assert!(ip.parse::<std::net::IpAddr>().is_ok());
    }
    let (path, asked) = authority::path(value);
    assert!(value.starts_with(path) && !path.contains(&b'?') && !asked.contains(&b'#'));
    // What others make of a query, where it is text.
    let found = query::find(asked, &name);
    let of_others = form_urlencoded::parse(asked).find(|(key, _)| *key == name).map(|(_, value)| value);
    if name.is_ascii() {
        let found = found.as_deref().map(String::from_utf8_lossy);
        assert_eq!(found.as_deref(), of_others.as_deref(), "{name} in {}", asked.escape_ascii());
    }
    let replaced = cookie::replace(Some(value), "uid", "u 1=");
    assert_eq!(cookie::find(&replaced, "uid"), Some(&b"u 1="[..]), "{}", replaced.escape_ascii());
    assert_eq!(cookie::replace(Some(&replaced), "uid", "u 1="), replaced, "once and again");
    let other = cookie::find(value, "other").map(<[u8]>::trim_ascii);
    assert_eq!(cookie::find(&replaced, "other").map(<[u8]>::trim_ascii), other, "the others stay");
    rewritten(value);
}

/// Baggage says what it is made to say, and stays so.
fn rewritten(value: &[u8]) {
    let ours = [("a", "x"), ("b-2", "y")].map(|(rollout, variant)| baggage::Member {
        rollout,
        text: format!("mulkko.{rollout}={variant}"),
        voucher: baggage::Voucher::Entry(format!("{rollout}.500000.AAAAAAAAAAAAAAAAAAAAAA")),
    });
    let lacks = |name: &str| name != "a" && name != "b-2";
    for lacks in [None, Some(&lacks as &dyn Fn(&str) -> bool)] {
        let written = baggage::rewrite(Some(value), &ours, lacks);
        let text = match &written.header {
            baggage::Header::Unchanged => value,
            baggage::Header::Removed => b"",
            baggage::Header::Set(text) => text,
        };
        if written.dropped == 0 {
            for member in &ours {
                let of_it = baggage::decisions(text).filter(|(rollout, _)| *rollout == member.rollout);
                let said: Vec<_> = of_it.map(|(_, variant)| variant).collect();
                assert_eq!(said, [&member.text[member.rollout.len() + 8..]], "{}", text.escape_ascii());
            }
            let again = baggage::rewrite(Some(text), &ours, lacks);
            assert_eq!(again.header, baggage::Header::Unchanged, "{}", text.escape_ascii());
        }
    }
}

fn macs(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let mut rest = text;
    for entry in mesh::entries(text) {
        assert!(rest.starts_with(entry.text) && entry.text.starts_with(entry.rollout), "{text}");
        rest = &rest[entry.text.len()..];
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
}
