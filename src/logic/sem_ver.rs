//! Versions and how they compare: semver.org's order, taken as liberally as flagd does.

use std::cmp::Ordering;

/// A version: `1.2.3`, with a `v` before it or not, without minor or patch number (0 then), with or without a pre-release.
/// What follows `+` is not kept, since it does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version<'a> {
    major: u64,
    minor: u64,
    patch: u64,
    /// Identifiers between dots; empty for a release.
    pre_release: &'a str,
}

/// A version that a policy writes.
#[derive(Clone, Debug)]
pub(super) struct Written {
    numbers: (u64, u64, u64),
    pre_release: Box<str>,
}

/// How `sem_ver` compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `~`: the same major and minor number.
    SameMinor,
    /// `^`: the same major number.
    SameMajor,
}

impl<'a> Version<'a> {
    /// Reads a version: nothing for what is none, and for numbers above 2⁶⁴ − 1.
    pub(super) fn parse(text: &'a str) -> Option<Version<'a>> {
        let bytes = text.as_bytes();
        let (major, rest) = numeric(bytes.strip_prefix(b"v").or(bytes.strip_prefix(b"V")).unwrap_or(bytes))?;
        let (minor, rest) = dotted(rest)?;
        let (patch, rest) = dotted(rest)?;
        let version = |pre_release| {
            let (minor, patch) = (minor.unwrap_or(0), patch.unwrap_or(0));
            Version { major, minor, patch, pre_release }
        };
        if rest.is_empty() {
            return Some(version(""));
        }
        // Only a whole version has a pre-release or a build.
        patch?;
        let suffixes = str::from_utf8(rest).ok()?;
        let (pre_release, build) =
            suffixes.split_once('+').map_or((suffixes, None), |(pre, it)| (pre, Some(it)));
        let is_build = build.is_none_or(|build| build.split('.').all(is_identifier));
        let pre_release = match pre_release.strip_prefix('-') {
            Some(pre) if pre.split('.').all(|id| is_identifier(id) && !has_leading_zero(id)) => pre,
            None if pre_release.is_empty() => "",
            _ => return None,
        };
        is_build.then(|| version(pre_release))
    }

    fn numbers(&self) -> (u64, u64, u64) {
        (self.major, self.minor, self.patch)
    }

    /// The same version, borrowing nothing.
    pub(super) fn written(&self) -> Written {
        Written { numbers: self.numbers(), pre_release: self.pre_release.into() }
    }
}

impl Written {
    /// The version.
    pub(super) fn version(&self) -> Version<'_> {
        let (major, minor, patch) = self.numbers;
        Version { major, minor, patch, pre_release: &self.pre_release }
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers().cmp(&other.numbers()).then_with(|| {
            match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
                (false, false) => pre_release_order(self.pre_release, other.pre_release),
                (a, b) => a.cmp(&b),
            }
        })
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Comparison {
    /// What may stand there, for a refusal.
    pub(super) const EXPECTED: &str = "one of = != < <= > >= ~ ^";

    /// Reads the operator between two versions.
    pub(super) fn parse(text: &str) -> Option<Comparison> {
        Some(match text {
            "=" => Comparison::Equal,
            "!=" => Comparison::Unequal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            "~" => Comparison::SameMinor,
            "^" => Comparison::SameMajor,
            _ => return None,
        })
    }

    /// Whether `a` stands to `b` in this way.
    pub(super) fn holds(self, a: &Version<'_>, b: &Version<'_>) -> bool {
        match self {
            Comparison::Equal => a == b,
            Comparison::Unequal => a != b,
            Comparison::Less => a < b,
            Comparison::LessOrEqual => a <= b,
            Comparison::Greater => a > b,
            Comparison::GreaterOrEqual => a >= b,
            Comparison::SameMinor => (a.major, a.minor) == (b.major, b.minor),
            Comparison::SameMajor => a.major == b.major,
        }
    }
}

/// A number without leading zeros at the start of `text`, and what follows it.
fn numeric(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    let mut digits = 0;
    for digit in text.iter().map(|byte| byte.wrapping_sub(b'0')).take_while(|digit| *digit < 10) {
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        digits += 1;
    }
    let (written, rest) = text.split_at_checked(digits)?;
    match written {
        [] | [b'0', _, ..] => None,
        _ => Some((number, rest)),
    }
}

/// The number after a dot, if a dot is next. The outer `None`: none follows it.
fn dotted(text: &[u8]) -> Option<(Option<u64>, &[u8])> {
    match text {
        [b'.', after @ ..] => numeric(after).map(|(number, rest)| (Some(number), rest)),
        _ => Some((None, text)),
    }
}

fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_leading_zero(text: &str) -> bool {
    is_numeric(text) && text.len() > 1 && text.starts_with('0')
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn pre_release_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => return identifier_order(a, b),
        }
    }
}

/// Numbers by size, before texts. Without leading zeros the longer number is the larger one.
fn identifier_order(a: &str, b: &str) -> Ordering {
    match (is_numeric(a), is_numeric(b)) {
        (true, true) => (a.len(), a).cmp(&(b.len(), b)),
        (a_numeric, b_numeric) => b_numeric.cmp(&a_numeric).then_with(|| a.cmp(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_semver_org() {
        let ascending = [
            "0.0.0",
            "0.9",
            "1.0.0-0",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0--",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "v1",
            "1.0.1",
            "1.2",
            "V1.10.0",
            "2.0.0",
            "18446744073709551615.0.0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                let (a, b) = (Version::parse(a).unwrap(), Version::parse(b).unwrap());
                assert_eq!(a.cmp(&b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn what_is_no_version_is_not_read() {
        for text in [
            "",
            "v",
            "vv1",
            "1.",
            "1.2.",
            ".1",
            "1.2.3.4",
            "01.0.0",
            "1.02.0",
            "1.0.0-",
            "1.0.0+",
            "1.0.0-a..b",
            "1.0.0-01",
            "1.0.0-ä",
            "1.2-rc",
            "1+build",
            "1.0.0+a+b",
            "-1.0.0",
            "+1.0.0",
            "1.0.0 ",
            " 1.0.0",
            "latest",
            "x.y.z",
            "18446744073709551616.0.0",
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn each_comparison_says_what_its_sign_says() {
        for (a, sign, b, expected) in [
            ("1.0.0", "=", "v1.0.0+build", true),
            ("1.0.0+x", "!=", "1.0.0", false),
            ("1.0.0-rc", "<", "1.0.0", true),
            ("1.0.0", "<", "1.0.0", false),
            ("1.0.0", "<=", "1.0.0", true),
            ("1.10.0", ">", "1.9.0", true),
            ("1.0.0", ">=", "1.0.1", false),
            ("1.2.9", "~", "1.2.0", true),
            ("1.3.0", "~", "1.2.0", false),
            ("2.2.0", "~", "1.2.0", false),
            ("1.9.0", "^", "1", true),
            ("2.0.0", "^", "1", false),
        ] {
            let (a, b) = (Version::parse(a).unwrap(), Version::parse(b).unwrap());
            assert_eq!(Comparison::parse(sign).unwrap().holds(&a, &b), expected, "{a:?} {sign} {b:?}");
        }
        assert_eq!(Comparison::parse("=="), None);
    }
}
