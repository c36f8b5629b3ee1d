//! A JSON value as the document writes it: members in their order, every one of them kept.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::logic::Way;

/// Any JSON value.
///
/// Unlike `serde_json::Value` it keeps the order of members and sees a member that stands twice, so that what
/// compiles it can refuse the document instead of dropping one of the two.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as JavaScript would hold it.
    Number(f64),
    /// A string.
    Text(Box<str>),
    /// An array.
    List(Vec<Json>),
    /// An object's members in document order.
    Object(Vec<(Box<str>, Json)>),
}

impl Json {
    /// What this value is, for a refusal: `found an array`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::Text(_) => "a text",
            Json::List(_) => "an array",
            Json::Object(_) => "an object",
        }
    }
}

/// A JSON value whose objects have their members in the order of their names, none of them twice: whoever wrote it, a
/// member is found in few comparisons.
#[derive(Clone, Debug, PartialEq)]
pub struct Sorted(Json);

impl Default for Sorted {
    fn default() -> Self {
        Sorted(Json::Object(Vec::new()))
    }
}

impl Sorted {
    /// Sorts a value. Of a member that stands twice the last is kept, as by most readers of JSON.
    #[must_use]
    pub fn new(json: Json) -> Sorted {
        Sorted(match json {
            Json::List(items) => Json::List(items.into_iter().map(|item| Sorted::new(item).0).collect()),
            Json::Object(mut members) => {
                members.reverse();
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                members.dedup_by(|(later, _), (earlier, _)| later == earlier);
                let members = members.into_iter().map(|(name, value)| (name, Sorted::new(value).0));
                Json::Object(members.collect())
            }
            json => json,
        })
    }

    /// The member `name` of an object.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Json> {
        member(&self.0, name)
    }

    /// Where a way leads: by names of members and indices of items, from 0.
    #[must_use]
    pub fn follow(&self, way: &Way) -> Option<&Json> {
        way.steps().try_fold(&self.0, |json, step| match json {
            Json::List(items) => items.get(step.parse::<usize>().ok()?),
            json => member(json, step),
        })
    }

    /// Removes what a way leads to; an item of a list becomes null.
    pub fn remove(&mut self, way: &Way) {
        let mut steps: Vec<&str> = way.steps().collect();
        let Some(last) = steps.pop() else { return };
        let above = steps.into_iter().try_fold(&mut self.0, |json, step| match json {
            Json::List(items) => items.get_mut(step.parse::<usize>().ok()?),
            Json::Object(members) => {
                members.iter_mut().find(|(name, _)| &**name == step).map(|(_, value)| value)
            }
            _ => None,
        });
        match above {
            Some(Json::Object(members)) => members.retain(|(name, _)| &**name != last),
            Some(Json::List(items)) => {
                if let Some(item) = last.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                    *item = Json::Null;
                }
            }
            _ => {}
        }
    }
}

fn member<'j>(json: &'j Json, name: &str) -> Option<&'j Json> {
    let Json::Object(members) = json else { return None };
    // Up to here comparing one by one, which mostly ends at the length, beats searching in halves.
    const FEW: usize = 8;
    if members.len() <= FEW {
        return members.iter().find(|(member, _)| **member == *name).map(|(_, value)| value);
    }
    let at = members.binary_search_by(|(member, _)| (**member).cmp(name)).ok()?;
    members.get(at).map(|(_, value)| value)
}

/// JSON without the spaces and line ends between its parts; everything else stays as it is written.
#[must_use]
pub fn compact(json: &str) -> Box<str> {
    let mut compact = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((between, text)) = rest.split_once('"') {
        compact.extend(between.split_ascii_whitespace());
        let mut escaped = false;
        let end = text.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let (text, after) = text.split_at(end.map_or(text.len(), |end| end + 1));
        compact.push('"');
        compact.push_str(text);
        rest = after;
    }
    compact.extend(rest.split_ascii_whitespace());
    compact.into()
}

/// A text as JSON writes it.
#[must_use]
pub fn quoted(text: &str) -> String {
    // A text is always JSON.
    serde_json::to_string(text).unwrap_or_default()
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "conditions count as JavaScript does, in doubles")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "conditions count as JavaScript does, in doubles")]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

/// Any JSON value that every reader can read, of which nothing is kept: no half of a surrogate pair stands in its texts, and
/// no number is out of range. What serde skips it does not look at so closely.
#[derive(Clone, Copy, Debug)]
pub struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Readable, D::Error> {
        deserializer.deserialize_any(Readable)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Readable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Readable, A::Error> {
        while items.next_element::<Readable>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Readable, A::Error> {
        while members.next_entry::<Readable, Readable>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_json_has_no_spaces_but_in_texts() {
        for (json, expected) in [
            (" { \"a b\" :\t[ 1.0 , 1e3,\r\n true ] } ", r#"{"a b":[1.0,1e3,true]}"#),
            (r#"" \" x " "#, r#"" \" x ""#),
            (r#"["\\" , " \\\" , "]"#, r#"["\\"," \\\" , "]"#),
            ("9007199254740993", "9007199254740993"),
            (r#"" 물꼬 \u00e9""#, r#"" 물꼬 \u00e9""#),
        ] {
            assert_eq!(&*compact(json), expected);
        }
    }

    #[test]
    fn quoted_texts_read_back() {
        for text in ["", "a\"b\\c", "\u{0}\n\u{7f}", "물꼬"] {
            assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text);
        }
    }
}
