//! Hostnames: what a policy may write, and which of them a request's host fits.

use std::collections::HashSet;

use super::saturated;
use super::tiers::Tiers;
use crate::finding::{Findings, Path, Problem};
use crate::policy::Parts;

/// The longest hostname in bytes, as DNS has it without the final dot (RFC 1035, section 2.3.4).
const LONGEST_BYTES: usize = 253;
/// The longest label of a hostname in bytes, as DNS has it.
const LONGEST_LABEL_BYTES: usize = 63;
/// How many bits [`Hostname::rank`] has: two for the kind, eight for up to 253 characters.
pub(super) const RANK_BITS: u32 = 10;

/// A hostname of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hostname {
    /// Every host, and requests without one: the rollout has no hostnames.
    Any,
    /// `*.example.com`, kept as `.example.com`.
    Below(Box<str>),
    /// `shop.example.com`.
    Exact(Box<str>),
}

impl Hostname {
    /// Compiles one hostname.
    ///
    /// # Errors
    ///
    /// All but lower case DNS names and `*.` before one: `Shop.example.com`, `shop.example.com:443`, `a..b`, `*`.
    pub(super) fn compile(text: &str) -> Result<Hostname, Problem> {
        if text.len() > LONGEST_BYTES {
            return Err(Problem::over_limit("bytes", LONGEST_BYTES, text.len()));
        }
        let (name, is_wildcard) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        if !name.split('.').all(is_label) {
            let expected = "a lower case DNS name without port and final dot, or `*.` before one";
            return Err(Problem::expected(expected, text));
        }
        Ok(if is_wildcard {
            Hostname::Below(format!(".{name}").into())
        } else {
            Hostname::Exact(name.into())
        })
    }

    /// Compiles the hostnames written at `place`; none is [`Hostname::Any`]. Reports what it refuses, names that stand
    /// twice among it, and gives `None` then.
    pub(super) fn compile_all(
        hostnames: &[String],
        place: &Path<'_>,
        findings: &mut Findings,
    ) -> Option<Vec<Hostname>> {
        if hostnames.is_empty() {
            return Some(vec![Hostname::Any]);
        }
        let mut seen: HashSet<_, foldhash::fast::RandomState> = HashSet::default();
        let mut compiled = Vec::with_capacity(hostnames.len());
        for (i, text) in hostnames.iter().enumerate() {
            let hostname = match seen.insert(text) {
                true => Hostname::compile(text),
                false => Err(Problem::twice(text)),
            };
            match hostname {
                Ok(hostname) => compiled.push(hostname),
                Err(problem) => findings.report(&place.item(i), problem),
            }
        }
        (compiled.len() == hostnames.len()).then_some(compiled)
    }

    /// The Gateway API's precedence among hostnames: the longer exact one, then the longer wildcard, then none.
    pub(super) fn rank(&self) -> u64 {
        let (kind, length) = match self {
            Hostname::Any => (0, 0),
            Hostname::Below(suffix) => (1, suffix.len()),
            Hostname::Exact(name) => (2, name.len()),
        };
        kind << 8 | saturated(length, 8)
    }
}

/// Letters, digits, `-` and `_`, without `-` at either end.
fn is_label(label: &str) -> bool {
    (1..=LONGEST_LABEL_BYTES).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// The hostnames of a policy, each with a number. [`Hostname::Any`] has 0, the others follow as they come.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: Tiers<Box<str>, u32>,
    below: Tiers<Box<str>, u32>,
    /// The lengths of what `below` holds, ascending: only these suffixes of a host are looked up.
    lengths: Vec<usize>,
    count: u32,
}

impl Hosts {
    /// Gives `parts` all of it.
    pub(super) fn into_parts(self, parts: &mut Parts) {
        self.exact.into_parts(parts);
        self.below.into_parts(parts);
    }

    /// The number of [`Hostname::Any`].
    pub(super) const ANY: u32 = 0;

    /// The number of `hostname`, which is new if it has not been asked for before.
    pub(super) fn number(&mut self, hostname: &Hostname) -> u32 {
        let (numbers, name) = match hostname {
            Hostname::Any => return Hosts::ANY,
            Hostname::Exact(name) => (&mut self.exact, name),
            Hostname::Below(suffix) => {
                if let Err(at) = self.lengths.binary_search(&suffix.len()) {
                    self.lengths.insert(at, suffix.len());
                }
                (&mut self.below, suffix)
            }
        };
        if let Some(number) = numbers.get(&**name) {
            return *number;
        }
        self.count += 1;
        numbers.insert(name.clone(), self.count);
        self.count
    }

    /// The numbers of the hostnames that `host` fits, each once.
    pub(super) fn find(&self, host: Option<&str>) -> impl Iterator<Item = u32> {
        let host = host.filter(|host| host.len() <= LONGEST_BYTES);
        let exact = host.and_then(|host| self.exact.get(host));
        let below = host.into_iter().flat_map(|host| {
            let suffixes = self.lengths.iter().map_while(|length| host.len().checked_sub(*length));
            // From 1: `*` stands for one label at least.
            suffixes.filter(|start| *start >= 1).filter_map(|start| self.below.get(host.get(start..)?))
        });
        exact.into_iter().chain(below).copied().chain([Hosts::ANY])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_lower_case_dns_names_or_wildcards() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for taken in
            ["a", "localhost", "shop.example.com", "*.com", "10.0.0.1", "a_b.svc", "_x._y", "xn--p-1.kr"]
                .into_iter()
                .chain([longest.as_str()])
        {
            assert!(Hostname::compile(taken).is_ok(), "{taken}");
        }
        for refused in [
            "", ".", "*", "*.", "**.a", "*.*.a", "a.*", "*a.b", "A.b", "*.B", "a:80", "a.", "*.a.", ".a",
            "*..a", "a..b", "-a.b", "a-.b", "a b", "é.fr", "a/b", "[::1]",
        ] {
            assert!(Hostname::compile(refused).is_err(), "{refused}");
        }
        assert!(Hostname::compile(&format!("{label}a")).is_err());
        assert!(Hostname::compile(&format!("{longest}a")).is_err());
    }

    #[test]
    fn a_host_finds_its_name_the_wildcards_above_it_and_any() {
        let mut hosts = Hosts::default();
        let numbers = ["a.b.c", "*.c", "*.b.c", "b.c", "*.a.b.c"]
            .map(|name| hosts.number(&Hostname::compile(name).unwrap()));
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert_eq!(hosts.number(&Hostname::compile("*.b.c").unwrap()), 3);
        let long = format!("{}.b.c", "x".repeat(300));
        for (host, expected) in [
            (Some("a.b.c"), &[1, 2, 3, 0][..]),
            (Some("x.a.b.c"), &[2, 3, 5, 0]),
            (Some("b.c"), &[4, 2, 0]),
            (Some("xb.c"), &[2, 0]),
            (Some("c"), &[0]),
            (Some(".c"), &[0]),
            (Some("é.c"), &[2, 0]),
            (Some(""), &[0]),
            (Some(&long), &[0]),
            (None, &[0]),
        ] {
            assert_eq!(hosts.find(host).collect::<Vec<_>>(), expected, "{host:?}");
        }
    }
}
