//! What was meant, likely, by a name that nothing has.

use std::collections::BTreeMap;

use crate::finding::{Finding, Problem};
use crate::policy::locate::names_in;

/// The longest name that is compared with others, in bytes.
const LONGEST: usize = 100;
/// Of so many findings it is told.
const MOST_TOLD: usize = 100;

/// What conditions can ask of every request, but for what goes on with a name.
const VARIABLES: [&str; 10] = [
    "targetingKey",
    "request.method",
    "request.host",
    "request.path",
    "client.ip",
    "node.id",
    "node.region",
    "node.zone",
    "$flagd.flagKey",
    "$flagd.timestamp",
];
/// What goes on with a name.
const FAMILIES: [&str; 3] = ["request.headers", "request.query", "request.cookies"];

/// Says of names that are unknown in a document what was meant.
pub(super) fn tell(document: &[u8], findings: &mut [Finding]) {
    let mut known: BTreeMap<&str, Vec<Box<str>>> = BTreeMap::new();
    for finding in findings.iter_mut().take(MOST_TOLD) {
        let Problem::UnknownName { what, name, near } = &mut finding.problem else { continue };
        let member = match *what {
            "variable" => "attributes",
            "cohort" => "cohorts",
            "evaluator" => "$evaluators",
            "key" => "keys",
            "layer" => "layers",
            "flag" => "flags",
            _ => continue,
        };
        let names = known.entry(member).or_insert_with(|| names_in(document, member));
        let names = names.iter().map(|name| &**name);
        *near = match *what {
            "variable" => nearest_variable(name, names),
            _ => nearest(name, names).map(str::to_owned),
        };
    }
}

/// The variable that `name` is likely to be, of those that every request has and these attributes.
#[must_use]
pub fn nearest_variable<'a>(name: &str, attributes: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let of_family = |name: &str| {
        let end = name.match_indices('.').nth(1)?.0;
        let (family, rest) = name.split_at_checked(end)?;
        let family = FAMILIES.iter().find(|it| **it == family).copied();
        let family = family.or_else(|| nearest(name.get(..end)?, FAMILIES.into_iter()))?;
        Some(format!("{family}{rest}"))
    };
    let whole =
        |name: &str| nearest(name, VARIABLES.into_iter().chain(attributes.clone())).map(str::to_owned);
    // The first part may have been left out: `headers.x-user-id`.
    let within = format!("request.{name}");
    of_family(name).or_else(|| whole(name)).or_else(|| of_family(&within))
}

/// The first of the candidates that `name` differs least from: in case, or in a letter or two.
fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let most = match name.len() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let lower = name.to_ascii_lowercase();
    let is_like = |it: &&str| name.len() <= LONGEST && *it != name && it.len().abs_diff(name.len()) <= most;
    let distance = |it: &str| strsim::osa_distance(&lower, &it.to_ascii_lowercase());
    let near =
        candidates.filter(is_like).map(|it| (distance(it), it)).filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_name() {
        for (name, expected) in [
            ("regoin", Some("region")),
            ("Region", Some("region")),
            ("regions", Some("region")),
            ("pln", Some("plan")),
            ("request.header.x-a", Some("request.headers.x-a")),
            ("reqest.headers.X.b", Some("request.headers.X.b")),
            ("request.cookie.sid", Some("request.cookies.sid")),
            ("headers.x-a", Some("request.headers.x-a")),
            ("request.Method", Some("request.method")),
            ("client.IP", Some("client.ip")),
            ("targeting_key", Some("targetingKey")),
            ("node.zones", Some("node.zone")),
            ("$flagd.timestam", Some("$flagd.timestamp")),
            ("email", None),
            ("country", None),
            ("pa", None),
            ("request", None),
            ("request.body.x", None),
            ("", None),
        ] {
            let found = nearest_variable(name, ["region", "plan"].into_iter());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
