//! A request for each rollout: made up from its hosts and matches, and from what options say.

use mulkko::cases::Asked;
use mulkko::dry_run::DryRun;
use mulkko::policy::RolloutId;
use mulkko::wire::{Document, Match, PathMatchType, Rollout, ValueMatch, ValueMatchType};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::super::request::{Options, plain};
use super::Template;

/// A request, and the rollouts of which it tells.
#[derive(Debug)]
pub struct Sample {
    pub asked: Asked,
    pub rollouts: Vec<RolloutId>,
}

/// Requests for the rollouts of a policy that are of interest, each rollout in one of them; and the rollouts for which none
/// was found.
pub fn samples(
    document: &Document,
    run: &DryRun,
    options: &Options,
    of_interest: impl Fn(&str) -> bool,
) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut without): (Vec<Sample>, Vec<String>) = (Vec::new(), Vec::new());
    for rollout in document.rollouts.iter().flatten().filter(|it| of_interest(&it.name)) {
        let Some((id, _)) = run.policy.rollout_named(&rollout.name) else { continue };
        let found = candidates(rollout, options).find(|asked| applies(run, asked, &rollout.name));
        match found {
            None => without.push(rollout.name.clone()),
            Some(asked) => match samples.iter_mut().find(|sample| sample.asked == asked) {
                Some(sample) => sample.rollouts.push(id),
                None => samples.push(Sample { asked, rollouts: vec![id] }),
            },
        }
    }
    (samples, without)
}

/// Whether the rollout of that name matches the request.
pub fn applies(run: &DryRun, asked: &Asked, rollout: &str) -> bool {
    let Some((id, _)) = run.policy.rollout_named(rollout) else { return false };
    let template = Template::new(asked, &run.policy);
    template.decided(run, "a-key", run.host.now_ms, |decisions| {
        decisions.list.iter().any(|decision| decision.rollout == id && decision.applies)
    })
}

/// Requests that should match: one for each match, and one for each host.
pub fn candidates(rollout: &Rollout, options: &Options) -> impl Iterator<Item = Asked> {
    let host = |host: &String| match host.strip_prefix('*') {
        Some(suffix) => format!("any{suffix}"),
        None => host.clone(),
    };
    let hosts: Vec<String> = rollout.hostnames.iter().map(host).collect();
    let any = if rollout.matches.is_empty() { vec![Match::default()] } else { rollout.matches.clone() };
    let host_of_all = hosts.first().cloned();
    let match_of_all = any.first().cloned().unwrap_or_default();
    let others = hosts.into_iter().skip(1).map(move |host| candidate(&match_of_all, Some(&host)));
    let each = any.into_iter().map(move |entry| candidate(&entry, host_of_all.as_deref()));
    each.chain(others).map(|asked| options.asked(asked))
}

fn candidate(entry: &Match, host: Option<&str>) -> Asked {
    let mut asked = plain();
    asked.method = entry.method.clone().unwrap_or(asked.method);
    if let Some(path) = &entry.path {
        let value = path.value.clone().unwrap_or_else(|| "/".to_owned());
        asked.path = if path.kind == PathMatchType::RegularExpression { example(&value) } else { value };
    }
    let value = |it: &ValueMatch| match it.kind {
        ValueMatchType::Exact => it.value.clone(),
        ValueMatchType::RegularExpression => example(&it.value),
    };
    for (i, it) in entry.query_params.iter().enumerate() {
        let joint = if i == 0 { '?' } else { '&' };
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        asked.path += &format!("{joint}{}={}", encode(&it.name), encode(&value(it)));
    }
    asked.headers.extend(host.map(|host| ("host".to_owned(), host.to_owned())));
    asked.headers.extend(entry.headers.iter().map(|it| (it.name.clone(), value(it))));
    asked
}

/// A text that a regular expression should match, not a long one.
fn example(pattern: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(hir) = regex_syntax::parse(pattern) {
        write(&hir, &mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write(hir: &Hir, text: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.extend(&*literal.0),
        HirKind::Class(Class::Unicode(class)) => {
            // One that can stand in a path or a header, if there is one.
            let mut chars = class.iter().flat_map(|range| range.start()..=range.end()).take(200);
            let c =
                chars.find(char::is_ascii_alphanumeric).or_else(|| class.iter().next().map(|it| it.start()));
            text.extend(c.unwrap_or('a').to_string().bytes());
        }
        HirKind::Class(Class::Bytes(class)) => text.extend(class.iter().next().map(|range| range.start())),
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min.min(1_000) {
                write(&repetition.sub, text);
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, text)),
        HirKind::Alternation(parts) => parts.iter().take(1).for_each(|part| write(part, text)),
    }
}

#[cfg(test)]
mod tests {
    use mulkko::pattern::Pattern;

    use super::*;

    #[test]
    fn examples_match() {
        for pattern in [
            "/checkout",
            "/cart/[0-9]+",
            "[0-9]{4,}",
            "(a|b)c?",
            r"\d+\.\w",
            "^/x$",
            "/.*",
            "",
            "[^/]+/[^a-z]",
            "(?i)abc",
            "a{2,3}",
        ] {
            let found = example(pattern);
            let compiled = Pattern::compile(pattern, &mut mulkko::finding::Findings::default());
            assert!(compiled.is_ok_and(|it| it.is_match(&found)), "{pattern}: {found}");
        }
    }
}
