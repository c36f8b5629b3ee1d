//! What servers tell one another of their proxies: in parts, each of which can be read by itself.

use std::io::{Read, Write};
use std::sync::Arc;

use anyhow::Result;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{Proxy, Seen};
use crate::command::serve::store::MOST_PART_BYTES;

#[derive(Deserialize)]
struct Part {
    at_ms: i64,
    proxies: Vec<Said<Proxy>>,
}

/// A proxy, and when it was last heard of, in unix milliseconds.
#[derive(Deserialize, Serialize)]
struct Said<P> {
    #[serde(flatten)]
    proxy: P,
    seen_ms: i64,
}

/// The parts that say of some proxies, each of at most 1 MiB even before it is compressed.
pub fn parts(at_ms: i64, proxies: &[Seen]) -> impl Iterator<Item = Result<Vec<u8>>> {
    let mut left = proxies.iter().peekable();
    std::iter::from_fn(move || {
        left.peek()?;
        let mut text = format!("{{\"at_ms\":{at_ms},\"proxies\":[").into_bytes();
        let mut separator = "";
        while let Some(Seen { proxy, seen_ms }) = left.peek() {
            let proxy = match serde_json::to_vec(&Said { proxy: &**proxy, seen_ms: *seen_ms }) {
                Ok(proxy) => proxy,
                Err(error) => return Some(Err(error.into())),
            };
            if !separator.is_empty() && text.len() + proxy.len() + 3 > MOST_PART_BYTES {
                break;
            }
            text.extend_from_slice(separator.as_bytes());
            text.extend_from_slice(&proxy);
            separator = ",";
            left.next();
        }
        text.extend_from_slice(b"]}");
        Some(packed(&text))
    })
}

fn packed(text: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    Ok(encoder.finish()?)
}

/// When a part was written, and what it says; `None` for what is no part.
pub fn proxies_of(part: &[u8]) -> Option<(i64, Vec<Seen>)> {
    let mut text = Vec::new();
    GzDecoder::new(part).take(MOST_PART_BYTES as u64).read_to_end(&mut text).ok()?;
    let Part { at_ms, proxies } = serde_json::from_slice(&text).ok()?;
    let seen = |Said { proxy, seen_ms }| Seen { proxy: Arc::new(proxy), seen_ms };
    Some((at_ms, proxies.into_iter().map(seen).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_proxies_are_told_in_parts_that_others_read() {
        let proxy = |i: usize| Seen {
            proxy: Arc::new(Proxy {
                policy: "shop".to_owned(),
                node: format!("{i}-{}", "x".repeat(240)),
                rolled_back: vec!["checkout-v2/canary".to_owned(); 50],
                verified: i.is_multiple_of(2),
                ..Proxy::default()
            }),
            seen_ms: 7,
        };
        let proxies: Vec<_> = (0..9_000).map(proxy).collect();
        let parts: Vec<_> = parts(5, &proxies).map(Result::unwrap).collect();
        assert!(parts.len() > 1 && parts.iter().all(|part| part.len() <= MOST_PART_BYTES));
        let read = parts.iter().flat_map(|part| {
            let (at_ms, proxies) = proxies_of(part).unwrap();
            assert_eq!(at_ms, 5);
            proxies
        });
        let read: Vec<_> = read.collect();
        let same = read
            .iter()
            .zip(&proxies)
            .all(|(read, told)| read.proxy == told.proxy && read.seen_ms == told.seen_ms);
        assert!(same && read.len() == proxies.len());
    }

    #[test]
    fn what_is_no_part_says_nothing() {
        let bomb = packed(&vec![b' '; 100 << 20]).unwrap();
        for part in [
            &b""[..],
            b"{}",
            &bomb,
            &packed(b"{}").unwrap(),
            &packed(b"{\"at_ms\":1,\"proxies\":[{}]}").unwrap(),
        ] {
            assert!(proxies_of(part).is_none());
        }
        assert_eq!(parts(5, &[]).count(), 0);
    }
}
