//! What a push changed, as a JSON Patch (RFC 6902) that is never longer than may be kept.
//!
//! Both documents are gone over piece by piece, and only where their texts differ: what they hold is never in memory as a
//! whole, and beyond the limit places are counted and no more operations written.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::store::{Change, MOST_RECORD_BYTES};

/// The most bytes of a patch: room is left for the rest of the record.
const MOST_PATCH_BYTES: usize = MOST_RECORD_BYTES / 2;
/// What an operation takes beside its path and value.
const OPERATION_BYTES: usize = 40;

/// What a document changed in the one before it.
pub fn change(before: &[u8], after: &[u8]) -> Change {
    let read = |text| serde_json::from_slice::<&RawValue>(text).ok();
    let mut patch = Patch::default();
    if let (Some(before), Some(after)) = (read(before), read(after)) {
        patch.compare(before, after);
    }
    Change { places: patch.places, patch: patch.operations.map(Value::Array) }
}

/// A patch in the making.
struct Patch {
    path: String,
    places: usize,
    /// `None` once they are too long.
    operations: Option<Vec<Value>>,
    bytes: usize,
}

impl Default for Patch {
    fn default() -> Self {
        Patch { path: String::new(), places: 0, operations: Some(Vec::new()), bytes: 0 }
    }
}

type Members<'t> = BTreeMap<String, &'t RawValue>;
type Items<'t> = Vec<&'t RawValue>;

impl Patch {
    fn compare(&mut self, before: &RawValue, after: &RawValue) {
        let (old, new) = (before.get(), after.get());
        if old == new {
            return;
        }
        let kind = |text: &str| text.bytes().next();
        match (kind(old), kind(new)) {
            (Some(b'{'), Some(b'{')) => {
                let read = serde_json::from_str::<Members<'_>>;
                if let (Ok(old), Ok(new)) = (read(old), read(new)) {
                    return self.members(&old, &new);
                }
            }
            (Some(b'['), Some(b'[')) => {
                let read = serde_json::from_str::<Items<'_>>;
                if let (Ok(old), Ok(new)) = (read(old), read(new)) {
                    return self.items(&old, &new);
                }
            }
            (Some(b'"'), Some(b'"')) => {
                let read = |text| serde_json::from_str::<String>(text).ok();
                if read(old).is_some_and(|old| read(new) == Some(old)) {
                    return;
                }
            }
            _ => {}
        }
        self.operation("replace", Some(after));
    }

    fn members(&mut self, before: &Members<'_>, after: &Members<'_>) {
        for (name, value) in before {
            self.at(name, |patch| match after.get(name) {
                Some(new) => patch.compare(value, new),
                None => patch.operation("remove", None),
            });
        }
        for (name, value) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
            self.at(name, |patch| patch.operation("add", Some(value)));
        }
    }

    fn items(&mut self, before: &Items<'_>, after: &Items<'_>) {
        for (i, (old, new)) in before.iter().zip(after).enumerate() {
            self.at(&i.to_string(), |patch| patch.compare(old, new));
        }
        // The last goes first: each removal moves what stands after it.
        for i in (after.len()..before.len()).rev() {
            self.at(&i.to_string(), |patch| patch.operation("remove", None));
        }
        for (i, new) in after.iter().enumerate().skip(before.len()) {
            self.at(&i.to_string(), |patch| patch.operation("add", Some(new)));
        }
    }

    /// Does something at a member or an item of the place.
    fn at(&mut self, name: &str, act: impl FnOnce(&mut Patch)) {
        let length = self.path.len();
        // Where no more operations are written, nobody needs the path.
        if self.operations.is_some() {
            let _ = write!(self.path, "/{}", name.replace('~', "~0").replace('/', "~1"));
        }
        act(self);
        self.path.truncate(length);
    }

    fn operation(&mut self, op: &str, value: Option<&RawValue>) {
        self.places = self.places.saturating_add(1);
        let Some(operations) = &mut self.operations else { return };
        let text = value.map_or("", RawValue::get);
        self.bytes = self.bytes.saturating_add(self.path.len() + text.len() + OPERATION_BYTES);
        let value = match value {
            _ if self.bytes > MOST_PATCH_BYTES => None,
            None => Some(json!({ "op": op, "path": self.path })),
            Some(_) => serde_json::from_str::<Value>(text)
                .ok()
                .map(|value| json!({ "op": op, "path": self.path, "value": value })),
        };
        match value {
            Some(operation) => operations.push(operation),
            None => self.operations = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_change_is_a_patch_of_the_places_that_differ() {
        for (before, after, expected) in [
            ("{}", " { } ", json!([])),
            (r#"{"a": 1, "b": {"c": [1, 2]}}"#, r#"{"b":{"c":[ 1,2 ]},"a":1}"#, json!([])),
            (r#"{"a": "\u0041"}"#, r#"{"a": "A"}"#, json!([])),
            (
                r#"{"a": 1, "b": 2}"#,
                r#"{"b": 3, "c": null}"#,
                json!([
                    {"op": "remove", "path": "/a"},
                    {"op": "replace", "path": "/b", "value": 3},
                    {"op": "add", "path": "/c", "value": null},
                ]),
            ),
            (
                r#"{"a": [1, 2, 3, 4]}"#,
                r#"{"a": [1, 5]}"#,
                json!([
                    {"op": "replace", "path": "/a/1", "value": 5},
                    {"op": "remove", "path": "/a/3"},
                    {"op": "remove", "path": "/a/2"},
                ]),
            ),
            (r#"{"a": []}"#, r#"{"a": [{}]}"#, json!([{"op": "add", "path": "/a/0", "value": {}}])),
            (r#"{"a": []}"#, r#"{"a": {}}"#, json!([{"op": "replace", "path": "/a", "value": {}}])),
            (
                r#"{"a/b~c": 1}"#,
                r#"{"a/b~c": 2}"#,
                json!([{"op": "replace", "path": "/a~1b~0c", "value": 2}]),
            ),
        ] {
            let change = change(before.as_bytes(), after.as_bytes());
            assert_eq!(change.patch, Some(expected.clone()), "{before} {after}");
            assert_eq!(change.places, expected.as_array().unwrap().len());
        }
    }

    #[test]
    fn a_patch_that_is_too_long_is_counted_and_not_written() {
        let wide = |value: &str| {
            format!(
                "{{{}}}",
                vec![value; 20_000]
                    .iter()
                    .enumerate()
                    .map(|(i, value)| format!("\"{i}\": {value}"))
                    .collect::<Vec<_>>()
                    .join(",")
            )
        };
        let deep =
            |value: &str| format!("{{\"{}\": [{}]}}", "k".repeat(100_000), vec![value; 100_000].join(","));
        for (before, after, places) in [
            (wide("1"), wide("2"), 20_000),
            (deep("1"), deep("2"), 100_000),
            (deep("1"), deep("\"x\""), 100_000),
            ("{}".to_owned(), format!("{{\"a\": \"{}\"}}", "x".repeat(MOST_PATCH_BYTES)), 1),
        ] {
            let started = Instant::now();
            let change = change(before.as_bytes(), after.as_bytes());
            assert_eq!((change.places, change.patch), (places, None));
            assert!(started.elapsed() < Duration::from_secs(10));
        }
        // What only some readers can read is a place like any other.
        assert_eq!(change(br#"{"a": 1}"#, br#"{"a": "\ud800"}"#), Change { places: 1, patch: None });
    }
}
