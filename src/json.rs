//! A JSON value as the document writes it: members in their order, every one of them kept.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

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
    /// The member `name`; the last of that name, as most readers of JSON have it.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Json> {
        let Json::Object(members) = self else { return None };
        members.iter().rev().find(|(member, _)| &**member == name).map(|(_, value)| value)
    }

    /// Item `i`, from 0.
    #[must_use]
    pub fn item(&self, i: usize) -> Option<&Json> {
        if let Json::List(items) = self { items.get(i) } else { None }
    }

    /// How many members the largest object in it has.
    #[must_use]
    pub fn breadth(&self) -> usize {
        match self {
            Json::List(items) => items.iter().map(Json::breadth).max().unwrap_or(0),
            Json::Object(members) => {
                let inner = members.iter().map(|(_, value)| value.breadth()).max().unwrap_or(0);
                inner.max(members.len())
            }
            _ => 0,
        }
    }

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

/// JSON without the spaces and line ends between its parts; everything else stays as it is written.
#[must_use]
pub fn compact(json: &str) -> Box<str> {
    let mut in_text = false;
    let mut is_escaped = false;
    let keep = |c: &char| {
        if in_text {
            in_text = is_escaped || *c != '"';
            is_escaped = !is_escaped && *c == '\\';
            return true;
        }
        in_text = *c == '"';
        !c.is_ascii_whitespace()
    };
    json.chars().filter(keep).collect::<String>().into()
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
