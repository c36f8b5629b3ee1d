//! Everything that is wrong with a document, for who has to put it right.
//!
//! A piece that has not the shape of one (a misspelt member, a text for a number) is not read, and what else is wrong in it
//! is not seen. So what is wrong is cut out, and what is left is read again. What is found then because of the cuts is left
//! out.

use std::ops::Range;

use crate::finding::{Finding, Findings, Problem};
use crate::policy::locate::{Located, Places};
use crate::policy::{Clusters, Policy, nearest};

/// How often at most what is left is read again.
const MOST_ROUNDS: usize = 8;
/// Beyond so many findings nobody misses any.
const MANY: usize = 200;

/// As [`Policy::parse`], with what is wrong beside a misspelt member too.
///
/// # Errors
/// Everything that is wrong with the document, if anything is.
pub fn parse_thoroughly(document: &[u8], clusters: &Clusters) -> Result<Policy, Vec<Finding>> {
    let mut all = Findings::default();
    match Policy::parse(document, clusters) {
        Ok(policy) => return Ok(policy),
        Err(found) => found.into_iter().for_each(|it| all.add(it)),
    }
    let (mut left, mut cuts, mut looked_at) = (document.to_vec(), Vec::new(), 0);
    for _ in 0..MOST_ROUNDS {
        let new = all.as_slice().get(looked_at..).unwrap_or_default();
        if new.is_empty() || looked_at + new.len() > MANY {
            break;
        }
        looked_at += new.len();
        let mut places = Places::of(&left);
        let found = new.iter().filter(|it| may_be_cut(&it.problem));
        let (cut_places, ranges): (Vec<_>, Vec<_>) =
            found.filter_map(|it| member(&mut places, &it.place)).unzip();
        if ranges.is_empty() {
            break;
        }
        cuts.extend(cut_places);
        left = without(&left, ranges);
        let Err(found) = Policy::parse(&left, clusters) else { break };
        found.into_iter().filter(|it| !follows(it, &cuts)).for_each(|it| all.add(it));
    }
    let mut all = all.into_vec();
    nearest::tell(document, &mut all);
    Err(all)
}

fn may_be_cut(problem: &Problem) -> bool {
    !matches!(problem, Problem::Syntax { .. } | Problem::OverLimit { .. } | Problem::MissingMember(_))
}

/// The member at `place`, or the one that has it as an item: its place, and where it stands.
fn member(places: &mut Places<'_>, place: &str) -> Option<(String, Range<usize>)> {
    let mut place = place.to_owned();
    loop {
        match places.locate(&place) {
            Located { name: Some(name), value, rest } if rest.is_empty() => {
                return Some((place, name.start..value.end));
            }
            Located { rest, .. } if rest.is_empty() => place.truncate(place.rfind('[')?),
            _ => return None,
        }
    }
}

/// A document without these members, and the commas that go with them.
fn without(document: &[u8], mut members: Vec<Range<usize>>) -> Vec<u8> {
    members.sort_by_key(|member| member.start);
    let (mut left, mut at) = (Vec::with_capacity(document.len()), 0);
    for member in members {
        if member.start < at {
            continue;
        }
        left.extend_from_slice(document.get(at..member.start).unwrap_or_default());
        let rest = document.get(member.end..).unwrap_or_default();
        let after = rest.trim_ascii_start();
        at = document.len() - after.len();
        if after.starts_with(b",") {
            at += 1;
        } else if left.trim_ascii_end().ends_with(b",") {
            // The last of its object: the comma before it goes.
            left.truncate(left.trim_ascii_end().len() - 1);
        }
    }
    left.extend_from_slice(document.get(at..).unwrap_or_default());
    left
}

/// Whether something may be wrong only because of what was cut.
fn follows(finding: &Finding, cuts: &[String]) -> bool {
    let is_around = |cut: &String| {
        let inner = cut.strip_prefix(&*finding.place);
        inner.is_some_and(|inner| finding.place.is_empty() || inner.starts_with(['.', '[']))
    };
    let is_named = |cut: &String| match &finding.problem {
        Problem::UnknownName { name, .. } => cut.strip_suffix(&**name).is_some_and(|it| it.ends_with('.')),
        _ => false,
    };
    cuts.iter().any(|cut| is_around(cut) || is_named(cut))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_beside_a_misspelt_member_is_found_too() {
        for (rollout, expected) in [
            (r#""nmae": 1, "default": "c""#, &["nmae", "default"][..]),
            (r#""hostnames": [7], "default": "c", "seed": "a:b""#, &["hostnames[0]", "default", "seed"]),
            (
                r#""when": {"no-such": 1}, "force": [{"when": {"nor-this": 2}, "variant": "x"}], "seed": """#,
                &["when.no-such", "force[0].when.nor-this", "force[0].variant", "seed"],
            ),
            (
                r#""variants": {"b": 1, "d": {}}, "default": "c", "default2": 1"#,
                &["variants.b", "default", "default2"],
            ),
            (
                r#""matches": [{"path": {"type": "x"}, "method": "get"}], "layer": {"name": "l", "from": -1, "to": 101}"#,
                &["matches[0].path.type", "matches[0].method", "layer"],
            ),
        ] {
            let document = format!(
                r#"{{"rollouts": [{{"name": "a", {rollout}, "strategy": {{"dark": {{"variant": "b"}}}}{}{}}}]}}"#,
                if rollout.contains("\"variants\"") { "" } else { r#", "variants": {"a": {}, "b": {}}"# },
                if rollout.contains("\"default\"") { "" } else { r#", "default": "a""# },
            );
            let found = parse_thoroughly(document.as_bytes(), &Clusters::default()).unwrap_err();
            let mut places: Vec<_> =
                found.iter().map(|it| it.place.trim_start_matches("rollouts[0].")).collect();
            places.sort_unstable();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(places, expected, "{document}");
        }
    }

    #[test]
    fn members_are_cut_out_with_their_commas() {
        for (document, members, expected) in [
            (r#"{"a": 1, "b": 2}"#, &["a"][..], r#"{"b": 2}"#),
            (r#"{"a": 1 , "b": 2}"#, &["b"], r#"{"a": 1 }"#),
            (r#"{"a": 1, "b": 2}"#, &["b", "a"], "{}"),
            (r#"{"a": 1, "b": 2, "c": 3}"#, &["b", "c"], r#"{"a": 1}"#),
            (r#"{"a": {"x": 1, "y": 2}, "b": 2}"#, &["a", "a.y"], r#"{"b": 2}"#),
            (r#"{"a": {"x": 1, "y": [3]}, "b": 2}"#, &["a.y[0]", "b"], r#"{"a": {"x": 1}}"#),
        ] {
            let mut places = Places::of(document.as_bytes());
            let ranges =
                members.iter().filter_map(|place| member(&mut places, place)).map(|(_, range)| range);
            let left = without(document.as_bytes(), ranges.collect());
            assert_eq!(
                String::from_utf8(left).unwrap().replace("{ ", "{"),
                expected,
                "{document} {members:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_document_panics(document: Vec<u8>, json in r#"\{"(rollouts|flags|keys)": [\[\]{}:,"a0 ]{0,40}\}"#) {
            let _ = parse_thoroughly(&document, &Clusters::default());
            let _ = parse_thoroughly(json.as_bytes(), &Clusters::default());
        }
    }
}
