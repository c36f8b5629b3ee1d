//! Decisions in W3C `baggage`: read from an earlier hop, written for the later ones.
//!
//! A decision is the member `mulkko.<rollout>=<variant>`. Names and variants need no escapes, so none is decoded.
//! Members end at every comma: a value cannot hold one.

use std::str;

/// The most bytes up to which members are added (the limits of W3C Baggage).
const MOST_BYTES: usize = 8_192;
/// The most members up to which members are added.
const MOST_MEMBERS: usize = 64;

/// Rollout and variant of every decision, in the order in which they stand; what is not UTF-8 is none.
///
/// The names may be anything, empty too, and stand more than once: the first counts.
pub fn decisions(header: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    members(header).filter_map(|member| {
        let decision = Decision::read(member)?;
        Some((str::from_utf8(decision.rollout).ok()?, str::from_utf8(decision.variant?).ok()?))
    })
}

/// Which inbound decisions are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strip {
    /// All: they are a client's (`"trust": "edge"`).
    All,
    /// Those that say otherwise than the members to add: they are an earlier hop's (`"trust": "mesh"`).
    Contradicting,
}

/// What becomes of a `baggage` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The header to send.
    pub header: Header,
    /// How many members were left out, because they would have passed 8,192 bytes or 64 members.
    pub dropped: usize,
}

/// What to do with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// Nothing: it stays as it came, or absent.
    Unchanged,
    /// Remove it: nothing is left of it.
    Removed,
    /// Set it to this value, in place of all that came.
    Set(Vec<u8>),
}

/// Takes decisions out of the inbound `header` (its values joined by `,`) and adds `additions`
/// (`mulkko.checkout-v2=canary`), at most one of a rollout, at its end.
///
/// All other members stay, in order and byte for byte with their properties and the space around them, whatever they
/// hold and however many they are; only the ends of the header are trimmed. A member that is there already is not
/// added again. Members that go are gone even where the one in their place is dropped.
#[must_use]
pub fn rewrite(header: Option<&[u8]>, strip: Strip, additions: &[impl AsRef<str>]) -> Rewritten {
    let inbound = header.unwrap_or_default();
    let additions: Vec<Addition<'_>> = additions.iter().map(|text| Addition::new(text.as_ref())).collect();
    let (missing, is_stripped) = compare(inbound, strip, &additions);
    let mut outbound = Outbound::default();
    if is_stripped || !missing.is_empty() {
        members(inbound)
            .filter(|member| !goes(member, strip, &additions))
            .for_each(|member| outbound.keep(member));
        outbound.trim();
    }
    let dropped = missing.iter().filter(|addition| !outbound.add(addition.text)).count();
    let is_unchanged = !is_stripped && dropped == missing.len();
    let header = match outbound.bytes {
        _ if is_unchanged => Header::Unchanged,
        bytes if bytes.is_empty() => Header::Removed,
        bytes => Header::Set(bytes),
    };
    Rewritten { header, dropped }
}

/// A member to add, read once for all the inbound ones that it is compared with.
#[derive(Clone, Copy)]
struct Addition<'a> {
    text: &'a str,
    decision: Option<Decision<'a>>,
}

impl Addition<'_> {
    fn new(text: &str) -> Addition<'_> {
        Addition { text, decision: Decision::read(text.as_bytes()) }
    }
}

/// The additions that the header does not have yet, and whether one of its members goes.
fn compare<'a>(inbound: &[u8], strip: Strip, additions: &[Addition<'a>]) -> (Vec<Addition<'a>>, bool) {
    let mut missing = additions.to_vec();
    let mut is_stripped = false;
    for member in members(inbound) {
        if goes(member, strip, additions) {
            is_stripped = true;
        } else if let Some(decision) = Decision::read(member) {
            missing.retain(|addition| addition.decision != Some(decision));
        }
    }
    (missing, is_stripped)
}

/// Whether an inbound member is taken out.
fn goes(member: &[u8], strip: Strip, additions: &[Addition<'_>]) -> bool {
    let Some(decision) = Decision::read(member) else { return false };
    match strip {
        Strip::All => true,
        Strip::Contradicting => {
            let mut added = additions.iter().filter_map(|addition| addition.decision);
            added.any(|added| added.rollout == decision.rollout && added.variant != decision.variant)
        }
    }
}

/// The members of a header with the space around them, empty ones too.
fn members(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header.split(|b| *b == b',')
}

/// A member whose key starts with `mulkko.`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Decision<'a> {
    rollout: &'a [u8],
    /// `None` for a member without `=`.
    variant: Option<&'a [u8]>,
}

impl Decision<'_> {
    fn read(member: &[u8]) -> Option<Decision<'_>> {
        let rest = member.trim_ascii_start().strip_prefix(b"mulkko.")?;
        let pair = rest.split(|b| *b == b';').next()?;
        let mut parts = pair.splitn(2, |b| *b == b'=');
        Some(Decision { rollout: parts.next()?.trim_ascii(), variant: parts.next().map(<[u8]>::trim_ascii) })
    }
}

/// A header that is being put together.
#[derive(Default)]
struct Outbound {
    bytes: Vec<u8>,
    /// How many of its members are not blank.
    count: usize,
    /// Whether a member stands there, blank ones too.
    is_begun: bool,
}

impl Outbound {
    /// Puts an inbound member at the end, as it is.
    fn keep(&mut self, member: &[u8]) {
        if self.is_begun {
            self.bytes.push(b',');
        }
        self.is_begun = true;
        self.bytes.extend_from_slice(member);
        self.count += usize::from(!member.trim_ascii().is_empty());
    }

    /// Takes the space off both ends, where HTTP allows none.
    fn trim(&mut self) {
        self.bytes.truncate(self.bytes.trim_ascii_end().len());
        let leading = self.bytes.len() - self.bytes.trim_ascii_start().len();
        self.bytes.drain(..leading);
    }

    /// Puts a member at the end, or gives `false` where a limit forbids it.
    fn add(&mut self, member: &str) -> bool {
        let divider: &[u8] = if self.bytes.is_empty() { b"" } else { b"," };
        let length = self.bytes.len() + divider.len() + member.len();
        if length > MOST_BYTES || self.count >= MOST_MEMBERS {
            return false;
        }
        self.bytes.extend_from_slice(divider);
        self.bytes.extend_from_slice(member.as_bytes());
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variant that the first decision on `rollout` names.
    fn decision<'a>(header: &'a [u8], rollout: &str) -> Option<&'a str> {
        decisions(header).find(|(name, _)| *name == rollout).map(|(_, variant)| variant)
    }
    use proptest::prelude::*;

    #[test]
    fn decisions_are_the_members_of_our_own() {
        for (header, expected) in [
            (&b"mulkko.a=x"[..], &[("a", "x")][..]),
            (b" mulkko.a = x ;p=1;q , other=1,\tmulkko.b=y", &[("a", "x"), ("b", "y")]),
            (b"mulkko.a=x,mulkko.a=y", &[("a", "x"), ("a", "y")]),
            (b"mulkko.a=x=y", &[("a", "x=y")]),
            (b"mulkko.a=", &[("a", "")]),
            (b"mulkko.=x", &[("", "x")]),
            (b"mulkko.a,mulkko.b;c=x,mulkko=x,mulkkoXa=x,Mulkko.a=x,xmulkko.a=x", &[]),
            (b"other=1;mulkko.a=x", &[]),
            (b"mulkko.\xff=x,mulkko.a=\xff,mulkko.b=y", &[("b", "y")]),
            (b"", &[]),
            (b",, ,;=,", &[]),
        ] {
            assert_eq!(decisions(header).collect::<Vec<_>>(), expected, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn the_first_decision_of_a_rollout_counts() {
        let header = b"mulkko.a-b=w,mulkko.a=x,mulkko.a=y";
        assert_eq!(decision(header, "a"), Some("x"));
        assert_eq!(decision(header, "b"), None);
    }

    #[test]
    fn at_the_edge_all_decisions_go_and_other_members_stay() {
        for (header, additions, expected) in [
            (None, &[][..], Header::Unchanged),
            (Some(&b""[..]), &[], Header::Unchanged),
            (Some(b" a=1 ,, b"), &[], Header::Unchanged),
            (Some(b"mulkko.a=x"), &[], Header::Removed),
            (Some(b"mulkko.a , mulkko.b=y;p"), &[], Header::Removed),
            (Some(b" ,mulkko.a=x"), &[], Header::Removed),
            (None, &["mulkko.a=x"], set(b"mulkko.a=x")),
            (Some(b""), &["mulkko.a=x", "mulkko.b=y"], set(b"mulkko.a=x,mulkko.b=y")),
            (Some(b"mulkko.a=x"), &["mulkko.a=x"], set(b"mulkko.a=x")),
            (Some(b"mulkko.a=x, k=1;p = 2 ,mulkko.b=y"), &[], set(b"k=1;p = 2")),
            (Some(b"k=1, mulkko.a=x,\tl=\xff;q, ,m"), &["mulkko.c=z"], set(b"k=1,\tl=\xff;q, ,m,mulkko.c=z")),
            (Some(b"Mulkko.a=x,k;mulkko.a=x"), &[], Header::Unchanged),
        ] {
            check(header, Strip::All, additions, &expected);
        }
    }

    #[test]
    fn in_the_mesh_only_contradicting_decisions_go() {
        for (header, additions, expected) in [
            (Some(&b"mulkko.a=x"[..]), &[][..], Header::Unchanged),
            (Some(b"mulkko.a=x"), &["mulkko.a=x"], Header::Unchanged),
            (Some(b"k=1, mulkko.a = x ;p=1"), &["mulkko.a=x"], Header::Unchanged),
            (Some(b"mulkko.a=x,mulkko.b=y"), &["mulkko.b=z"], set(b"mulkko.a=x,mulkko.b=z")),
            (Some(b"mulkko.a=x,k=1,mulkko.a=y"), &["mulkko.a=x"], set(b"mulkko.a=x,k=1")),
            (Some(b"mulkko.a=y, k=1"), &["mulkko.a=x"], set(b"k=1,mulkko.a=x")),
            (Some(b"mulkko.a"), &["mulkko.a=x"], set(b"mulkko.a=x")),
            (Some(b"mulkko.b=y"), &["mulkko.a=x", "mulkko.b=y"], set(b"mulkko.b=y,mulkko.a=x")),
        ] {
            check(header, Strip::Contradicting, additions, &expected);
        }
    }

    #[test]
    fn members_are_added_up_to_8192_bytes() {
        let others = format!("k={}", "v".repeat(8_192 - 2 - 11));
        for (others, dropped) in [(others.clone(), 0), (format!("{others}v"), 1)] {
            let rewritten = rewrite(Some(others.as_bytes()), Strip::All, &["mulkko.a=x"]);
            assert_eq!(rewritten.dropped, dropped);
            assert_eq!(rewritten.header == Header::Unchanged, dropped == 1);
        }
    }

    #[test]
    fn a_member_that_does_not_fit_leaves_room_for_a_shorter_one() {
        let others = format!("k={}", "v".repeat(8_192 - 2 - 11));
        let rewritten = rewrite(Some(others.as_bytes()), Strip::All, &["mulkko.long=x", "mulkko.a=x"]);
        assert_eq!(
            rewritten,
            Rewritten { header: Header::Set(format!("{others},mulkko.a=x").into_bytes()), dropped: 1 }
        );
    }

    #[test]
    fn members_are_added_up_to_64_of_them_and_blank_ones_are_none() {
        let others = format!(" ,{}", vec!["k=1"; 63].join(","));
        let rewritten = rewrite(Some(others.as_bytes()), Strip::All, &["mulkko.a=x", "mulkko.b=y"]);
        assert_eq!(rewritten.dropped, 1);
        let Header::Set(header) = rewritten.header else { panic!("a member is added") };
        assert_eq!(decisions(&header).collect::<Vec<_>>(), [("a", "x")]);
    }

    #[test]
    fn a_contradicting_member_goes_even_where_the_new_one_does_not_fit() {
        let others = format!("k={}", "v".repeat(9_000));
        let header = format!("{others},mulkko.a=y");
        let rewritten = rewrite(Some(header.as_bytes()), Strip::Contradicting, &["mulkko.a=x"]);
        assert_eq!(rewritten, Rewritten { header: Header::Set(others.into_bytes()), dropped: 1 });
    }

    #[test]
    fn other_members_stay_however_many_they_are() {
        let others = ",=;".repeat(20_000);
        let header = format!("{others},mulkko.a=x");
        let rewritten = rewrite(Some(header.as_bytes()), Strip::All, &[""; 0]);
        assert_eq!(rewritten, Rewritten { header: Header::Set(others.into_bytes()), dropped: 0 });
    }

    fn header() -> impl Strategy<Value = Vec<u8>> {
        let pieces = ["mulkko.a", "mulkko.b", "mulkko.", "=", "=x", ";", ",", ",", " ", "\t", "k=1", "é"];
        let pieces = proptest::sample::select(pieces.to_vec());
        prop_oneof![
            proptest::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..64),
        ]
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn a_rewrite_says_what_was_decided_and_keeps_the_rest(
            header in header(),
            is_edge: bool,
            is_decided: bool,
        ) {
            let strip = if is_edge { Strip::All } else { Strip::Contradicting };
            let additions: &[&str] = if is_decided { &["mulkko.a=x", "mulkko.c=z"] } else { &[] };
            let rewritten = rewrite(Some(&header), strip, additions);
            prop_assert_eq!(rewritten.dropped, 0);
            let outbound = outbound(&header, &rewritten);

            prop_assert_eq!(others(outbound), others(&header));
            if is_decided {
                prop_assert_eq!(decision(outbound, "a"), Some("x"));
                prop_assert_eq!(decision(outbound, "c"), Some("z"));
                let again = rewrite(Some(outbound), Strip::Contradicting, additions);
                prop_assert_eq!(again.header, Header::Unchanged);
            }
            if is_edge {
                prop_assert_eq!(decisions(outbound).count(), additions.len());
            }
        }
    }

    /// The members that are neither ours nor blank, with the space inside the header.
    fn others(header: &[u8]) -> Vec<&[u8]> {
        let others = members(header).filter(|member| Decision::read(member).is_none());
        others.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()).collect()
    }

    fn outbound<'a>(inbound: &'a [u8], rewritten: &'a Rewritten) -> &'a [u8] {
        match &rewritten.header {
            Header::Unchanged => inbound,
            Header::Removed => b"",
            Header::Set(header) => header,
        }
    }

    fn set(header: &[u8]) -> Header {
        Header::Set(header.to_vec())
    }

    #[track_caller]
    fn check(header: Option<&[u8]>, strip: Strip, additions: &[&str], expected: &Header) {
        let name = header.map(|header| header.escape_ascii().to_string());
        let rewritten = rewrite(header, strip, additions);
        assert_eq!((&rewritten.header, rewritten.dropped), (expected, 0), "{name:?}");
    }
}
