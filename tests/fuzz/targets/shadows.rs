//! Answers that are compared: JSON is read the same in whatever parts it comes. The first byte says where it is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mulkko::shadow::Items;
use mulkko::shadow::json::{Path, Reader, Scalar, Scalars};

#[derive(Default, PartialEq, Debug)]
struct Seen(Vec<(u64, u64, u32, Vec<u8>, Vec<u8>)>);

impl Scalars for Seen {
    fn scalar(&mut self, path: Path<'_>, scalar: Scalar<'_>) {
        self.0.push((path.hash, scalar.hash, scalar.bytes, path.text.to_vec(), scalar.text.to_vec()));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, body)) = input.split_first() else { return };
    for items in [Items::Any, Items::Numbered] {
        let (mut whole, mut parts) = (Seen::default(), Seen::default());
        let mut reader = Reader::new(items, true);
        reader.read(body, &mut whole);
        let ended = reader.end(&mut whole);
        let mut reader = Reader::new(items, true);
        for part in body.chunks(usize::from(*cut) % 16 + 1) {
            reader.read(part, &mut parts);
        }
        assert_eq!((ended, &whole), (reader.end(&mut parts), &parts));
        // What it takes is JSON. (It takes no byte order mark and nests less deep; numbers it does not compute.)
        if ended.is_ok()
            && let Ok(text) = str::from_utf8(body)
        {
            let read = serde_json::from_str::<Box<serde_json::value::RawValue>>(text);
            assert!(read.is_ok(), "{read:?}: {text}");
        }
    }
});
