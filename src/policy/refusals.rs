//! Everything that is wrong with a document, for who has to put it right.
//!
//! A piece that has not the shape of one (a misspelt member, a text for a number) is not read, and what else is wrong in it
//! is not seen. So what is wrong is cut out, and what is left is read again. What is found then because of the cuts is left
//! out.

use crate::finding::{Finding, Problem};
use crate::policy::locate::{Located, locate};
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
    let mut all = match Policy::parse(document, clusters) {
        Ok(policy) => return Ok(policy),
        Err(found) => found,
    };
    let (mut left, mut cuts, mut looked_at) = (document.to_vec(), Vec::new(), 0);
    for _ in 0..MOST_ROUNDS {
        let new = all.get(looked_at..).unwrap_or_default();
        let places =
            new.iter().filter(|it| may_be_cut(&it.problem)).filter_map(|it| cut(&mut left, &it.place));
        let before = cuts.len();
        cuts.extend(places);
        looked_at = all.len();
        if cuts.len() == before || all.len() > MANY {
            break;
        }
        let Err(found) = Policy::parse(&left, clusters) else { break };
        let found: Vec<_> = found.into_iter().filter(|it| !all.contains(it) && !follows(it, &cuts)).collect();
        all.extend(found);
    }
    nearest::tell(document, &mut all);
    Err(all)
}

fn may_be_cut(problem: &Problem) -> bool {
    !matches!(problem, Problem::Syntax { .. } | Problem::OverLimit { .. } | Problem::MissingMember(_))
}

/// Cuts the member at `place` out of a document, or the one that has it as an item; gives where that was.
fn cut(document: &mut Vec<u8>, place: &str) -> Option<String> {
    let mut place = place.to_owned();
    let (name, value) = loop {
        match locate(document, &place) {
            Located { name: Some(name), value, rest } if rest.is_empty() => break (name, value),
            Located { rest, .. } if rest.is_empty() => place.truncate(place.rfind('[')?),
            _ => return None,
        }
    };
    let spaces = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let mut end = value.end + spaces(document.get(value.end..)?);
    let mut start = name.start;
    if document.get(end) == Some(&b',') {
        end += 1;
    } else {
        // The last of its object: the comma before it goes.
        let before = document.get(..start)?.trim_ascii_end();
        if before.ends_with(b",") {
            start = before.len() - 1;
        }
    }
    document.drain(start..end);
    Some(place)
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

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_document_panics(document: Vec<u8>, json in r#"\{"(rollouts|flags|keys)": [\[\]{}:,"a0 ]{0,40}\}"#) {
            let _ = parse_thoroughly(&document, &Clusters::default());
            let _ = parse_thoroughly(json.as_bytes(), &Clusters::default());
        }
    }
}
