//! What a request is for and where it comes from: host, path, client address.

use std::borrow::Cow;
use std::net::IpAddr;
use std::str;

/// The host of `:authority`: in lower case, without port and final dot; `None` for what is not UTF-8.
///
/// An IPv6 address keeps its brackets, as in a URI. What has more colons than a port needs, or none of a port's digits
/// behind it, is no host and port, and stays in one piece.
#[must_use]
pub fn host(authority: &[u8]) -> Option<Cow<'_, str>> {
    let authority = str::from_utf8(authority).ok()?;
    let host = without_port(authority);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

/// Path and query of `:path`, without `?` and fragment; the query is empty where there is none.
///
/// Nothing is decoded or normalised, and a target in absolute form (`http://host/path`) is all path.
#[must_use]
pub fn path(target: &[u8]) -> (&[u8], &[u8]) {
    let (target, _fragment) = split_once(target, b'#');
    split_once(target, b'?')
}

/// The IP address in Envoy's `source.address`, without port, brackets and zone: `10.0.0.1:4711` gives `10.0.0.1`,
/// `[fe80::1%2]:80` gives `fe80::1`.
///
/// `None` for what is no IP address: a Unix socket's path, an internal listener's name.
#[must_use]
pub fn client_ip(address: &[u8]) -> Option<&str> {
    let address = str::from_utf8(address).ok()?;
    let host = without_port(address);
    let ip = host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(host);
    let ip = ip.split_once('%').map_or(ip, |(ip, _zone)| ip);
    ip.parse::<IpAddr>().is_ok().then_some(ip)
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) && is_whole(host) => host,
        _ => authority,
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether the colon behind `host` divides it from a port, instead of being one of an IPv6 address.
fn is_whole(host: &str) -> bool {
    host.starts_with('[') && host.ends_with(']') || !host.contains(':')
}

fn split_once(bytes: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let mut parts = bytes.splitn(2, |b| *b == mark);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_lower_case_without_port_and_final_dot() {
        for (authority, expected) in [
            (&b"shop.example.com"[..], Some("shop.example.com")),
            (b"Shop.Example.COM:8443", Some("shop.example.com")),
            (b"shop.example.com.", Some("shop.example.com")),
            (b"shop.example.com.:80", Some("shop.example.com")),
            (b"shop.example.com..", Some("shop.example.com.")),
            (b"shop:", Some("shop")),
            (b"10.0.0.1:80", Some("10.0.0.1")),
            (b"[::1]", Some("[::1]")),
            (b"[2001:DB8::1]:443", Some("[2001:db8::1]")),
            (b"[::1", Some("[::1")),
            (b"[::1]x:80", Some("[::1]x:80")),
            (b"::1", Some("::1")),
            (b"a:b:80", Some("a:b:80")),
            (b"shop:http", Some("shop:http")),
            ("BÜCHER.example:80".as_bytes(), Some("bÜcher.example")),
            (b"", Some("")),
            (b":", Some("")),
            (b".", Some("")),
            (b":80", Some("")),
            (b"shop\xff", None),
        ] {
            assert_eq!(host(authority).as_deref(), expected, "{}", authority.escape_ascii());
        }
    }

    #[test]
    fn a_host_in_lower_case_is_borrowed() {
        assert!(matches!(host(b"shop.example.com.:80"), Some(Cow::Borrowed(_))));
        assert!(matches!(host(b"shop.example.Com"), Some(Cow::Owned(_))));
    }

    #[test]
    fn a_path_ends_where_the_query_starts() {
        for (target, expected) in [
            (&b"/"[..], (&b"/"[..], &b""[..])),
            (b"/a?b=c", (b"/a", b"b=c")),
            (b"/a?b?c", (b"/a", b"b?c")),
            (b"/a?", (b"/a", b"")),
            (b"/a#f", (b"/a", b"")),
            (b"/a?b#f?g", (b"/a", b"b")),
            (b"/a#f?b", (b"/a", b"")),
            (b"/%3F%23/..//\xff", (b"/%3F%23/..//\xff", b"")),
            (b"http://h/a?b", (b"http://h/a", b"b")),
            (b"*", (b"*", b"")),
            (b"", (b"", b"")),
            (b"?", (b"", b"")),
        ] {
            assert_eq!(path(target), expected, "{}", target.escape_ascii());
        }
    }

    #[test]
    fn a_client_ip_has_no_port() {
        for (address, expected) in [
            (&b"10.0.0.1:4711"[..], Some("10.0.0.1")),
            (b"10.0.0.1", Some("10.0.0.1")),
            (b"[::1]:80", Some("::1")),
            (b"[::1]", Some("::1")),
            (b"::1", Some("::1")),
            (b"[::ffff:10.0.0.1]:80", Some("::ffff:10.0.0.1")),
            (b"[fe80::1%2]:80", Some("fe80::1")),
            (b"", None),
            (b":80", None),
            (b"[]:80", None),
            (b"[::1:80", None),
            (b"10.0.0.256:80", None),
            (b"10.0.0.1:80x", None),
            (b"/run/envoy.sock", None),
            (b"envoy://internal/1", None),
            (b"10.0.0.1\xff:80", None),
        ] {
            assert_eq!(client_ip(address), expected, "{}", address.escape_ascii());
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_bytes_make_the_readers_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..48),
            text in "[\\[\\]a:.%0-9?#é]{0,16}",
        ) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let (path, query) = path(bytes);
                prop_assert!(!path.contains(&b'?') && !path.contains(&b'#') && !query.contains(&b'#'));
                prop_assert_eq!(host(bytes).is_some(), str::from_utf8(bytes).is_ok());
                let _ = client_ip(bytes);
            }
        }

        #[test]
        fn every_address_is_read_with_and_without_port(ip in any::<IpAddr>(), port in any::<u16>()) {
            let ip_text = ip.to_string();
            let address = std::net::SocketAddr::new(ip, port).to_string();
            prop_assert_eq!(client_ip(address.as_bytes()), Some(&ip_text[..]));
            prop_assert_eq!(client_ip(ip_text.as_bytes()), Some(&ip_text[..]));
        }
    }
}
