//! What lies in shared data: the document that one root context has taken, for all others to take.

/// Which document is published: written after it, and all that the others read at every tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// A random number, new for each document that is published.
    pub id: u64,
    /// The revision of the policy.
    pub revision: u64,
}

impl Stamp {
    /// The bytes of a stamp.
    pub const BYTES: usize = 16;

    /// Reads a stamp; `None` for what is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; Stamp::BYTES] = bytes.try_into().ok()?;
        let ([id, revision], []) = bytes.as_chunks::<8>() else { return None };
        Some(Stamp { id: u64::from_le_bytes(*id), revision: u64::from_le_bytes(*revision) })
    }

    /// The stamp as it is stored.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        [self.id.to_le_bytes(), self.revision.to_le_bytes()].concat()
    }
}

/// A published document, with the ETag that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its stamp: it may be newer than the one that was seen beside it.
    pub stamp: Stamp,
    /// Its ETag, where it had one.
    pub etag: Option<Box<str>>,
    /// Its bytes.
    pub document: Vec<u8>,
}

impl Published {
    /// Reads what was published; `None` for what is none.
    #[must_use]
    pub fn read(mut bytes: Vec<u8>) -> Option<Published> {
        let (stamp, rest) = bytes.split_at_checked(Stamp::BYTES)?;
        let stamp = Stamp::read(stamp)?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let etag = str::from_utf8(rest.get(..length)?).ok()?;
        let etag = (!etag.is_empty()).then(|| etag.into());
        drop(bytes.drain(..Stamp::BYTES + 2 + length));
        Some(Published { stamp, etag, document: bytes })
    }

    /// A document as it is stored.
    #[must_use]
    pub fn bytes(stamp: Stamp, etag: Option<&str>, document: &[u8]) -> Vec<u8> {
        let (length, etag) = match etag.map(|etag| (u16::try_from(etag.len()), etag)) {
            Some((Ok(length), etag)) => (length, etag),
            _ => (0, ""),
        };
        [&*stamp.bytes(), &length.to_le_bytes(), etag.as_bytes(), document].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp = Stamp { id: 1, revision: u64::MAX };
        for etag in [None, Some("\"a\"")] {
            let bytes = Published::bytes(stamp, etag, b"{}");
            let expected = Published { stamp, etag: etag.map(Box::from), document: b"{}".to_vec() };
            assert_eq!(Published::read(bytes), Some(expected));
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn any_bytes_can_lie_there(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Stamp::read(&bytes);
            let _ = Published::read(bytes);
        }
    }
}
