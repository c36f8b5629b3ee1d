//! What a request says in mulkko's own name, and is not believed: its headers, and members of what carries baggage.
//!
//! An application decodes what it is sent before it sends it on. So what counts is what any of them may make of a text: a
//! server of CGI takes `_` for `-`, SDKs decode percent-escapes (some of them at each hop), skip white space and `;`, and
//! make baggage of headers such as `uberctx-mulkko.next`.

use crate::decide::Trust;
use crate::query::hex_digit;

/// Prefix of the headers that are the proxy's own.
const OWN: &[u8] = b"x-mulkko-";
/// Those of them that count for one hop: the cluster for routes with `cluster_header`, and the one that is mirrored to.
const ONE_HOP: [&[u8]; 2] = [b"x-mulkko-cluster", b"x-mulkko-mirror"];
/// What the keys of mulkko's own members begin with.
const MEMBER: &[u8] = b"mulkko.";
/// Headers of which SDKs make baggage, and what divides their members.
const CARRIERS: [(&[u8], u8); 4] = [
    (b"baggage", b','),
    (b"jaeger-baggage", b','),
    (b"correlation-context", b','),
    (b"x-amzn-trace-id", b';'),
];

/// Whether a header of that name (lower case) is not believed.
///
/// At the edge: one that starts with `x-mulkko-`, or has `mulkko.` in it. In the mesh: what counts for one hop.
#[must_use]
pub fn is_name(trust: Trust, name: &[u8]) -> bool {
    match trust {
        Trust::Edge => name.get(..OWN.len()).is_some_and(|start| is_alike(start, OWN)) || mentions(name),
        Trust::Mesh => ONE_HOP.iter().any(|own| is_alike(name, own)),
    }
}

/// Whether a name reads as `own` where `_` is taken for `-`.
fn is_alike(name: &[u8], own: &[u8]) -> bool {
    let dashed = |b: &u8| if *b == b'_' { b'-' } else { *b };
    name.len() == own.len() && name.iter().map(dashed).eq(own.iter().copied())
}

/// What divides the members of a header of that name (lower case), if it carries some.
#[must_use]
pub fn divider(name: &[u8]) -> Option<u8> {
    CARRIERS.iter().find(|(carrier, _)| is_alike(name, carrier)).map(|(_, divider)| *divider)
}

/// A header without the members that mention mulkko's own; `None` where there is none of them.
///
/// All other members stay, in order and byte for byte; only the ends of the header are trimmed.
#[must_use]
pub fn without(header: &[u8], divider: u8) -> Option<Vec<u8>> {
    if !mentions(header) {
        return None;
    }
    let members = header.split(|b| *b == divider).filter(|member| !mentions(member));
    let kept = members.collect::<Vec<_>>().join(&divider);
    Some(kept.trim_ascii().to_vec())
}

/// Whether a text, decoded until nothing changes, has `mulkko.` in it.
#[must_use]
pub fn mentions(text: &[u8]) -> bool {
    // Without a dot, or what may stand for one, there is nothing to look for.
    if !text.iter().any(|b| matches!(b, b'.' | b'%')) {
        return false;
    }
    let has = |text: &[u8]| text.windows(MEMBER.len()).any(|part| part == MEMBER);
    if text.contains(&b'%') { has(&decoded(text)) } else { has(text) }
}

/// The bytes that are left when all percent-escapes are decoded, those too that decoding makes.
///
/// Escapes do not overlap, so it does not matter in which order they are decoded: each is, as soon as it ends.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text {
        bytes.push(*byte);
        while let [.., b'%', high, low] = bytes[..] {
            let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low)) else { break };
            bytes.truncate(bytes.len() - 3);
            bytes.push(high << 4 | low);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::headers::Headers;

    #[test]
    fn whatever_an_application_may_read_as_our_own_is_not_believed_at_the_edge() {
        for (text, expected) in [
            ("mulkko.next=dark", true),
            (" \tmulkko.next=dark", true),
            ("mulkko%2Enext=dark", true),
            ("mulkko%2enext=dark", true),
            ("%6Dulkko.next=dark", true),
            ("mulkko%252Enext=dark", true),
            ("mulkko%25252525%32%45next=dark", true),
            ("%256%44ulkko.next", true),
            ("mulkko%%32Enext", true),
            ("+mulkko.next=dark", true),
            ("%20mulkko.next=dark", true),
            (";mulkko.next=dark", true),
            ("\u{a0}mulkko.next=dark", true),
            ("%C2%A0mulkko.next=dark", true),
            ("x=1;p%2Cmulkko.next%3Ddark", true),
            ("x=mulkko.next", true),
            ("k;mulkko.a=x", true),
            ("mulkko.", true),
            ("mulkko", false),
            ("Mulkko.a=x", false),
            ("mulkko%2", false),
            ("mulkko%2", false),
            ("mulkko%2G.a", false),
            ("mulkk%6f.", true),
            ("mulk.ko.a=x", false),
            ("a=1;b=2", false),
            ("", false),
            ("%", false),
            ("%%%", false),
        ] {
            assert_eq!(mentions(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn decoding_until_nothing_changes_takes_one_pass() {
        // Decoded once at a time this would take as many passes.
        let text = format!("mulkko%{}2Enext", "25".repeat(1_000_000));
        assert!(mentions(text.as_bytes()));
    }

    #[test]
    fn names_that_are_ours_or_read_so_are_not_believed() {
        for (name, at_the_edge, in_the_mesh) in [
            ("x-mulkko-checkout", true, false),
            ("x_mulkko_checkout", true, false),
            ("x-mulkko_pass", true, false),
            ("x-mulkko-", true, false),
            ("x-mulkko-cluster", true, true),
            ("x_mulkko_cluster", true, true),
            ("x-mulkko_mirror", true, true),
            ("x-mulkko-clusters", true, false),
            ("x-mulkko", false, false),
            ("x-mulkkoa", false, false),
            ("ax-mulkko-a", false, false),
            ("mulkko.next", true, false),
            ("uberctx-mulkko.next", true, false),
            ("ot-baggage-mulkko.next", true, false),
            ("uberctx-%6dulkko%2enext", true, false),
            ("baggage", false, false),
            ("x.y", false, false),
        ] {
            assert_eq!(is_name(Trust::Edge, name.as_bytes()), at_the_edge, "{name}");
            assert_eq!(is_name(Trust::Mesh, name.as_bytes()), in_the_mesh, "{name}");
        }
    }

    #[test]
    fn whoever_looks_sees_nothing_of_it_at_the_edge() {
        let pairs: Vec<(&[u8], &[u8])> = vec![
            (b"x-mulkko-a", b"1"),
            (b"x_mulkko_a", b"2"),
            (b"x-mulkko-cluster", b"c"),
            (b"baggage", b" k=1;p , mulkko%2Ea=x"),
            (b"baggage", b"mulkko.b=y,l=\xff"),
            (b"jaeger-baggage", b"mulkko.a=x"),
            (b"correlation-context", b"k=1"),
            (b"x-amzn-trace-id", b"Root=1-2;mulkko.a=x;Sampled=1"),
            (b"uberctx-mulkko.a", b"x"),
            (b"x-b", b"3"),
        ];
        let at = |trust| Headers::of_request(pairs.clone(), trust);
        for (name, at_the_edge, in_the_mesh) in [
            ("x-mulkko-a", None, Some(&b"1"[..])),
            ("x_mulkko_a", None, Some(b"2")),
            ("x-mulkko-cluster", None, None),
            ("baggage", Some(&b"k=1;p ,l=\xff"[..]), Some(b" k=1;p , mulkko%2Ea=x,mulkko.b=y,l=\xff")),
            ("jaeger-baggage", None, Some(b"mulkko.a=x")),
            ("correlation-context", Some(b"k=1"), Some(b"k=1")),
            ("x-amzn-trace-id", Some(b"Root=1-2;Sampled=1"), Some(b"Root=1-2;mulkko.a=x;Sampled=1")),
            ("uberctx-mulkko.a", None, Some(b"x")),
            ("x-b", Some(b"3"), Some(b"3")),
        ] {
            assert_eq!(at(Trust::Edge).value(name).as_deref(), at_the_edge, "{name}");
            assert_eq!(at(Trust::Mesh).value(name).as_deref(), in_the_mesh, "{name}");
        }
        assert_eq!(at(Trust::Edge).came("x-mulkko-a"), Some(Cow::Borrowed(&b"1"[..])));
        let forged: Vec<_> = at(Trust::Edge).forged().collect();
        assert_eq!(forged, [&b"x-mulkko-a"[..], b"x_mulkko_a", b"x-mulkko-cluster", b"uberctx-mulkko.a"]);
        assert_eq!(at(Trust::Mesh).forged().collect::<Vec<_>>(), [b"x-mulkko-cluster"]);
        let answer = Headers::new(pairs.clone());
        assert_eq!((answer.forged().count(), answer.value("x-mulkko-a").as_deref()), (0, Some(&b"1"[..])));
    }
}
