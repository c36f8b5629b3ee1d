//! Decisions in W3C `baggage`: read from an earlier hop, written for the later ones.
//!
//! A decision is the member `mulkko.<rollout>=<variant>`; `mulkko.mk` holds the macs that vouch for them. Names, variants and
//! macs need no escapes, so none is decoded. Members end at every comma: a value cannot hold one.

use std::str;

use crate::mesh::{self, Entry};

/// The most bytes up to which members are written (the limits of W3C Baggage).
const MOST_BYTES: usize = 8_192;
/// The most members up to which members are written.
const MOST_MEMBERS: usize = 64;
/// The key of the member that vouches for the others.
const MACS: &str = "mulkko.mk=";

/// Rollout and variant of every decision, in the order in which they stand; what is not UTF-8 is none.
///
/// The names may be anything, empty too, and stand more than once: the first counts.
pub fn decisions(header: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    members(header).filter_map(|member| {
        let decision = Decision::read(member)?;
        Some((str::from_utf8(decision.rollout).ok()?, str::from_utf8(decision.variant?).ok()?))
    })
}

/// What vouches for the decisions: the value of the first `mulkko.mk`.
#[must_use]
pub fn macs(header: &[u8]) -> Option<&str> {
    decisions(header).find(|(rollout, _)| *rollout == "mk").map(|(_, value)| value)
}

/// A decision to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The rollout.
    pub rollout: &'a str,
    /// The member: `mulkko.checkout-v2=canary`.
    pub text: String,
    /// What vouches for it.
    pub voucher: Voucher,
}

/// What vouches for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// Nothing does.
    None,
    /// An entry of `mulkko.mk`: `checkout-v2.500000.<mac>`.
    Entry(String),
    /// An entry for which there is no room, so that nobody has made it.
    Dropped,
}

/// What becomes of a `baggage` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The header to send.
    pub header: Header,
    /// How many members, and entries of `mulkko.mk`, were left out for want of room.
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

/// Writes decisions, at most one of a rollout, into the inbound `header` (its values joined by `,`), of which nothing is
/// left that is not believed.
///
/// Decisions of earlier hops that say otherwise go; those that say the same stay, as do those on other rollouts. Where
/// `lacks` tells which rollouts the policy does not have, `mulkko.mk` is written anew: what vouches for the decisions, then
/// what vouched for others.
///
/// mulkko's own members come first, those of earlier hops before those of this one, up to 8,192 bytes and 64 members.
/// Strangers' follow, in order and byte for byte with their
/// properties and the space around them, as far as there is room: those that are left out stand at the end. Blank ones go.
#[must_use]
pub fn rewrite(
    header: Option<&[u8]>,
    ours: &[Member<'_>],
    lacks: Option<&dyn Fn(&str) -> bool>,
) -> Rewritten {
    let inbound = header.unwrap_or_default();
    let parted = Parted::of(inbound, ours, lacks);
    let unmade = ours.iter().filter(|member| member.voucher == Voucher::Dropped).count();
    if parted.is_written(ours, lacks.is_some()) {
        return Rewritten { header: Header::Unchanged, dropped: unmade };
    }
    let (bytes, dropped) = Outbound::of(&parted, ours, lacks.is_some());
    let header = if bytes.is_empty() { Header::Removed } else { Header::Set(bytes) };
    Rewritten { header, dropped: dropped + unmade }
}

/// An inbound header by whose its members are.
struct Parted<'h> {
    /// For each of our decisions whether a member says it already.
    said: Vec<bool>,
    /// Whether a member says otherwise.
    is_contradicted: bool,
    /// Decisions of earlier hops that say the same or are on other rollouts, and macs that are none of our business.
    inherited: Vec<&'h [u8]>,
    /// The first `mulkko.mk`, where it is written anew.
    macs: Option<&'h str>,
    /// The entries of it that vouch for rollouts that the policy lacks.
    vouched: Vec<Entry<'h>>,
    /// All others.
    strangers: Vec<&'h [u8]>,
}

impl<'h> Parted<'h> {
    fn of(inbound: &'h [u8], ours: &[Member<'_>], lacks: Option<&dyn Fn(&str) -> bool>) -> Parted<'h> {
        let mut parted = Parted {
            said: vec![false; ours.len()],
            is_contradicted: false,
            inherited: Vec::new(),
            macs: None,
            vouched: Vec::new(),
            strangers: Vec::new(),
        };
        let mut by_name: Vec<usize> = (0..ours.len()).collect();
        let name = |i: &usize| ours.get(*i).map_or("", |member| member.rollout).as_bytes();
        by_name.sort_unstable_by_key(name);
        for member in members(inbound) {
            let Some(decision) = Decision::read(member) else {
                parted.strangers.push(member);
                continue;
            };
            if decision.rollout == b"mk" && lacks.is_some() {
                let value = decision.variant.and_then(|value| str::from_utf8(value).ok());
                parted.macs = parted.macs.or(value);
                continue;
            }
            let at = by_name.binary_search_by_key(&decision.rollout, name);
            let Some(i) = at.ok().and_then(|at| by_name.get(at)) else {
                parted.inherited.push(member.trim_ascii());
                continue;
            };
            let is_said = ours.get(*i).is_some_and(|ours| decision.is_said_by(&ours.text));
            match parted.said.get_mut(*i) {
                Some(said) if is_said && !*said => {
                    *said = true;
                    parted.inherited.push(member.trim_ascii());
                }
                Some(_) if is_said => {}
                _ => parted.is_contradicted = true,
            }
        }
        if let (Some(macs), Some(lacks)) = (parted.macs, lacks) {
            parted.vouched = mesh::entries(macs).filter(|entry| lacks(entry.rollout)).collect();
        }
        parted
    }

    /// Whether the header says already what there is to say.
    fn is_written(&self, ours: &[Member<'_>], writes_macs: bool) -> bool {
        let is_said = !self.is_contradicted && self.said.iter().all(|said| *said);
        is_said
            && (!writes_macs
                || self.entries(ours).eq(mesh::entries(self.macs.unwrap_or_default()).map(|it| it.text)))
    }

    /// What vouches for our decisions, then what vouched for others.
    fn entries<'e>(&'e self, ours: &'e [Member<'_>]) -> impl Iterator<Item = &'e str> {
        let own = ours.iter().filter_map(|member| match &member.voucher {
            Voucher::Entry(entry) => Some(&**entry),
            Voucher::None | Voucher::Dropped => None,
        });
        own.chain(self.vouched.iter().map(|entry| entry.text))
    }
}

/// The members of a header with the space around them; blank ones are none.
fn members(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header.split(|b| *b == b',').filter(|member| !member.trim_ascii().is_empty())
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

    fn is_said_by(&self, text: &str) -> bool {
        Decision::read(text.as_bytes()) == Some(*self)
    }
}

/// A header that is being put together.
#[derive(Default)]
struct Outbound {
    bytes: Vec<u8>,
    /// How many members it has.
    count: usize,
    /// How many have found no room.
    dropped: usize,
}

impl Outbound {
    /// The header, and how much was left out.
    fn of(parted: &Parted<'_>, ours: &[Member<'_>], writes_macs: bool) -> (Vec<u8>, usize) {
        let mut outbound = Outbound::default();
        let macs = if writes_macs { outbound.macs(parted, ours) } else { String::new() };
        let (kept_bytes, kept_members) = if macs.is_empty() { (0, 0) } else { (macs.len() + 1, 1) };
        let missing =
            ours.iter().zip(&parted.said).filter(|(_, said)| !**said).map(|(it, _)| it.text.as_bytes());
        for member in parted.inherited.iter().copied().chain(missing) {
            outbound.add(member, MOST_BYTES.saturating_sub(kept_bytes), MOST_MEMBERS - kept_members);
        }
        if !macs.is_empty() {
            outbound.add(macs.as_bytes(), MOST_BYTES, MOST_MEMBERS);
        }
        // Where nothing is written there is nothing to make room for.
        let is_bounded = outbound.count > 0;
        let mut strangers = parted.strangers.iter();
        for member in strangers.by_ref() {
            let is_full =
                outbound.count >= MOST_MEMBERS || outbound.bytes.len() + 1 + member.len() > MOST_BYTES;
            if is_bounded && is_full {
                outbound.dropped += 1;
                break;
            }
            outbound.put(member);
        }
        outbound.dropped += strangers.count();
        // HTTP allows no space at the ends.
        (outbound.bytes.trim_ascii().to_vec(), outbound.dropped)
    }

    /// The member that vouches for the others; empty where nothing does.
    fn macs(&mut self, parted: &Parted<'_>, ours: &[Member<'_>]) -> String {
        let mut value = String::new();
        for entry in parted.entries(ours) {
            let divider = if value.is_empty() { "" } else { "." };
            if value.len() + divider.len() + entry.len() > mesh::MOST_BYTES {
                self.dropped += 1;
                continue;
            }
            value += divider;
            value += entry;
        }
        if value.is_empty() { value } else { [MACS, &value].concat() }
    }

    /// Puts a member at the end, or counts it where there is no room.
    fn add(&mut self, member: &[u8], most_bytes: usize, most_members: usize) {
        if self.count >= most_members
            || self.bytes.len() + usize::from(self.count > 0) + member.len() > most_bytes
        {
            self.dropped += 1;
            return;
        }
        self.put(member);
    }

    /// Puts a member at the end, as it is.
    fn put(&mut self, member: &[u8]) {
        if self.count > 0 {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(member);
        self.count += 1;
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
    fn decisions_come_first_and_say_it_once() {
        for (header, ours, expected) in [
            (None, &[][..], Header::Unchanged),
            (Some(&b""[..]), &[], Header::Unchanged),
            (Some(b" a=1 ,, b"), &[], Header::Unchanged),
            (Some(b"mulkko.a=x"), &[], Header::Unchanged),
            (None, &[("a", "x")], set(b"mulkko.a=x")),
            (Some(b""), &[("a", "x"), ("b", "y")], set(b"mulkko.a=x,mulkko.b=y")),
            (Some(b"mulkko.a=x"), &[("a", "x")], Header::Unchanged),
            (Some(b"k=1, mulkko.a = x ;p=1"), &[("a", "x")], Header::Unchanged),
            (Some(b"mulkko.a=x,mulkko.a=x"), &[("a", "x")], Header::Unchanged),
            (Some(b"mulkko.a=x,mulkko.b=y"), &[("b", "z")], set(b"mulkko.a=x,mulkko.b=z")),
            (Some(b"mulkko.a=x,k=1,mulkko.a=y"), &[("a", "x")], set(b"mulkko.a=x,k=1")),
            (Some(b"mulkko.a=y, k=1"), &[("a", "x")], set(b"mulkko.a=x, k=1")),
            (Some(b"mulkko.a"), &[("a", "x")], set(b"mulkko.a=x")),
            (Some(b"k=1, \xff;q, ,m"), &[("c", "z")], set(b"mulkko.c=z,k=1, \xff;q,m")),
            (
                Some(b"l=1, mulkko.b = y ;p=1"),
                &[("a", "x"), ("b", "y")],
                set(b"mulkko.b = y ;p=1,mulkko.a=x,l=1"),
            ),
        ] {
            let found = rewrite(header, &members(ours), None);
            let name = header.map(|header| header.escape_ascii().to_string());
            assert_eq!((found.header, found.dropped), (expected, 0), "{name:?}");
        }
    }

    #[test]
    fn strangers_are_left_out_from_the_end() {
        let others = format!("a=1,k={}", "v".repeat(8_192 - 4 - 11 - 2));
        for (others, dropped, expected) in [
            (others.clone(), 0, format!("mulkko.a=x,{others}")),
            (format!("{others}v"), 1, "mulkko.a=x,a=1".to_owned()),
            (format!("{others}v,b=1, ,c"), 3, "mulkko.a=x,a=1".to_owned()),
            (vec!["k"; 63].join(","), 0, format!("mulkko.a=x,{}", vec!["k"; 63].join(","))),
            (vec!["k"; 70].join(","), 7, format!("mulkko.a=x,{}", vec!["k"; 63].join(","))),
        ] {
            let rewritten = rewrite(Some(others.as_bytes()), &members(&[("a", "x")]), None);
            assert_eq!(rewritten, Rewritten { header: Header::Set(expected.into_bytes()), dropped });
        }
        // Where nothing is decided there is nothing to make room for.
        let others = "k=1,".repeat(3_000);
        assert_eq!(rewrite(Some(others.as_bytes()), &[], None).header, Header::Unchanged);
    }

    #[test]
    fn then_decisions_are() {
        let names: Vec<String> = (0..70).map(|i| format!("r{i}")).collect();
        let ours: Vec<_> = names.iter().map(|name| (&**name, "x")).collect();
        let rewritten = rewrite(Some(b"mulkko.z=x,k=1"), &members(&ours), None);
        let Header::Set(header) = rewritten.header else { panic!("members are added") };
        let found: Vec<_> = decisions(&header).map(|(name, _)| name.to_owned()).collect();
        assert_eq!(found[0], "z");
        assert_eq!((&found[1..], rewritten.dropped), (&names[..63], 7 + 1));
    }

    #[test]
    fn what_vouches_is_written_anew() {
        let entry = |rollout: &str| format!("{rollout}.500000.AAAAAAAAAAAAAAAAAAAAAA");
        let ours =
            [Member { rollout: "a", text: "mulkko.a=x".to_owned(), voucher: Voucher::Entry(entry("a")) }];
        let lacks = |name: &str| name == "z";
        let (a, b, z) = (entry("a"), entry("b"), entry("z"));
        for (header, expected) in [
            (String::new(), Some(format!("mulkko.a=x,mulkko.mk={a}"))),
            (format!("mulkko.a=x,k=1,mulkko.mk={a}"), None),
            (format!("mulkko.a=x,mulkko.mk={a};p,mulkko.mk=other"), None),
            ("mulkko.a=x".to_owned(), Some(format!("mulkko.a=x,mulkko.mk={a}"))),
            (
                format!("mulkko.z=1,mulkko.a=y,mulkko.mk={b}.{z}.garbage"),
                Some(format!("mulkko.z=1,mulkko.a=x,mulkko.mk={a}.{z}")),
            ),
            (format!("mulkko.mk={z}.{z},mulkko.mk={b}"), Some(format!("mulkko.a=x,mulkko.mk={a}.{z}.{z}"))),
        ] {
            let rewritten = rewrite(Some(header.as_bytes()), &ours, Some(&lacks));
            let expected = expected.map_or(Header::Unchanged, |header| Header::Set(header.into_bytes()));
            assert_eq!(rewritten, Rewritten { header: expected, dropped: 0 }, "{header}");
        }
        let many = (0..200).map(|i| format!("z.{i}.AAAAAAAAAAAAAAAAAAAAAA")).collect::<Vec<_>>().join(".");
        let rewritten = rewrite(Some(format!("mulkko.mk={many}").as_bytes()), &ours, Some(&lacks));
        let Header::Set(header) = rewritten.header else { panic!("a member is added") };
        let length = macs(&header).unwrap().len();
        assert!((3_400..=3_500).contains(&length) && rewritten.dropped > 0, "{length} {}", rewritten.dropped);
        // Who has no key leaves alone what others wrote.
        let rewritten = rewrite(Some(format!("mulkko.mk={z}").as_bytes()), &members(&[("a", "x")]), None);
        assert_eq!(rewritten.header, Header::Set(format!("mulkko.mk={z},mulkko.a=x").into_bytes()));
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
        fn a_rewrite_says_what_was_decided_and_keeps_the_rest(header in header(), is_decided: bool) {
            let ours = if is_decided { members(&[("a", "x"), ("c", "z")]) } else { Vec::new() };
            let rewritten = rewrite(Some(&header), &ours, None);
            prop_assert_eq!(rewritten.dropped, 0);
            let outbound = match &rewritten.header {
                Header::Unchanged => &header[..],
                Header::Removed => b"",
                Header::Set(header) => header,
            };
            prop_assert_eq!(others(outbound), others(&header));
            if is_decided {
                prop_assert_eq!(decision(outbound, "a"), Some("x"));
                prop_assert_eq!(decision(outbound, "c"), Some("z"));
                prop_assert_eq!(rewrite(Some(outbound), &ours, None).header, Header::Unchanged);
            }
        }
    }

    /// The members that are neither ours nor blank, with the space inside the header.
    fn others(header: &[u8]) -> Vec<&[u8]> {
        let others = super::members(header).filter(|member| Decision::read(member).is_none());
        others.map(<[u8]>::trim_ascii).collect()
    }

    fn members<'a>(decisions: &[(&'a str, &str)]) -> Vec<Member<'a>> {
        let member = |(rollout, variant): &(&'a str, &str)| Member {
            rollout,
            text: format!("mulkko.{rollout}={variant}"),
            voucher: Voucher::None,
        };
        decisions.iter().map(member).collect()
    }

    fn set(header: &[u8]) -> Header {
        Header::Set(header.to_vec())
    }
}
