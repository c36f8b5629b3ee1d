//! The values of conditions: borrowed from the policy and the request where they can be.

use std::borrow::Cow;
use std::rc::Rc;

use super::coerce::number_text;
use super::var::Way;
use crate::json::Json;

/// How deep lists that an evaluation makes may nest: no policy needs more than its own nesting, and what nests must be
/// dropped and turned into text without filling the stack.
const DEEPEST: u8 = 64;

/// What an expression evaluates to. Cloning copies no list, and no text that is borrowed.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Null, and what is absent.
    Null,
    /// True or false.
    Bool(bool),
    /// A number, which may be infinite or not a number (`NaN`), as in JavaScript.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(List<'a>),
    /// Named values.
    Object(Object<'a>),
}

/// A list, as JSON writes it or as an operator made it.
#[derive(Clone, Debug)]
pub struct List<'a>(Items<'a>);

#[derive(Clone, Debug)]
enum Items<'a> {
    Written(&'a [Json]),
    Made { items: Rc<[Value<'a>]>, depth: u8 },
}

/// An object, as JSON writes it or as a step of `reduce` sees it.
#[derive(Clone, Debug)]
pub struct Object<'a>(Members<'a>);

#[derive(Clone, Debug)]
enum Members<'a> {
    Written(&'a [(Box<str>, Json)]),
    Step { step: Rc<Step<'a>>, depth: u8 },
}

#[derive(Debug)]
struct Step<'a> {
    current: Value<'a>,
    accumulator: Value<'a>,
}

impl<'a> Value<'a> {
    /// The value itself for an empty `path`, else what it leads to: names of members and indices of items, from 0, with
    /// dots between them. Null where it leads nowhere.
    #[must_use]
    pub fn at(&self, path: &str) -> Value<'a> {
        if path.is_empty() { self.clone() } else { self.led(path.split('.')).0 }
    }

    /// As [`Value::at`], of a way that was read before.
    #[must_use]
    pub fn along(&self, way: &Way) -> Value<'a> {
        self.led(way.steps()).0
    }

    /// As [`Value::along`]; and how many members it went through.
    pub(super) fn found_along(&self, way: &Way) -> (Value<'a>, usize) {
        self.led(way.steps())
    }

    /// Whether it counts as true: null, false, 0, NaN, the empty text and the empty list do not.
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(value) => *value != 0.0 && !value.is_nan(),
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Object(_) => true,
        }
    }

    /// The value, or another one in place of null.
    #[must_use]
    pub fn or_else(self, other: impl FnOnce() -> Value<'a>) -> Value<'a> {
        if let Value::Null = self { other() } else { self }
    }

    /// It as the name of a variant: a text itself, a boolean or a number as its text. Lists and objects name none.
    #[must_use]
    pub fn name(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Value::Number(number) => Some(Cow::Owned(number_text(*number))),
            Value::Null | Value::List(_) | Value::Object(_) => None,
        }
    }

    fn led<'s>(&self, steps: impl Iterator<Item = &'s str>) -> (Value<'a>, usize) {
        let mut value = self.clone();
        let mut scanned = 0;
        for step in steps {
            let child = match &value {
                Value::List(list) => step.parse().ok().and_then(|i| list.item(i)),
                Value::Object(object) => {
                    scanned += object.len();
                    object.member(step)
                }
                _ => None,
            };
            match child.map(Cow::into_owned) {
                Some(child) => value = child,
                None => return (Value::Null, scanned),
            }
        }
        (value, scanned)
    }

    fn depth(&self) -> u8 {
        match self {
            Value::List(List(Items::Made { depth, .. }))
            | Value::Object(Object(Members::Step { depth, .. })) => *depth,
            _ => 0,
        }
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(value) => Value::Number(*value),
            Json::Text(text) => Value::from(&**text),
            Json::List(items) => Value::List(List(Items::Written(items))),
            Json::Object(members) => Value::Object(Object(Members::Written(members))),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl<'a> List<'a> {
    /// A list of `items`, unless it would nest too deep.
    pub(super) fn made(items: Vec<Value<'a>>) -> Option<List<'a>> {
        let depth = one_deeper(items.iter().map(Value::depth).max().unwrap_or(0))?;
        Some(List(Items::Made { items: items.into(), depth }))
    }

    /// How many items it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Written(items) => items.len(),
            Items::Made { items, .. } => items.len(),
        }
    }

    /// Whether it has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Item `i`, from 0.
    #[must_use]
    pub fn item(&self, i: usize) -> Option<Cow<'_, Value<'a>>> {
        match &self.0 {
            Items::Written(items) => items.get(i).map(|json| Cow::Owned(Value::from(json))),
            Items::Made { items, .. } => items.get(i).map(Cow::Borrowed),
        }
    }

    /// The items in their order.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, Value<'a>>> {
        (0..self.len()).map_while(|i| self.item(i))
    }
}

impl<'a> Object<'a> {
    /// What the body of `reduce` looks into, unless it would nest too deep.
    pub(super) fn step(current: Value<'a>, accumulator: Value<'a>) -> Option<Object<'a>> {
        let depth = one_deeper(current.depth().max(accumulator.depth()))?;
        Some(Object(Members::Step { step: Rc::new(Step { current, accumulator }), depth }))
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Members::Written(members) => members.len(),
            Members::Step { .. } => 2,
        }
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member `name`; the last of that name, as JSON's readers have it.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Cow<'_, Value<'a>>> {
        match (&self.0, name) {
            (Members::Written(members), _) => {
                let (_, json) = members.iter().rev().find(|(member, _)| &**member == name)?;
                Some(Cow::Owned(Value::from(json)))
            }
            (Members::Step { step, .. }, "current") => Some(Cow::Borrowed(&step.current)),
            (Members::Step { step, .. }, "accumulator") => Some(Cow::Borrowed(&step.accumulator)),
            (Members::Step { .. }, _) => None,
        }
    }

    /// The names and values of the members, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Cow<'_, Value<'a>>)> {
        let (written, step) = match &self.0 {
            Members::Written(members) => (*members, None),
            Members::Step { step, .. } => (&[][..], Some(step)),
        };
        let step = step.into_iter().flat_map(|step| {
            [("current", Cow::Borrowed(&step.current)), ("accumulator", Cow::Borrowed(&step.accumulator))]
        });
        written.iter().map(|(name, json)| (&**name, Cow::Owned(Value::from(json)))).chain(step)
    }
}

fn one_deeper(depth: u8) -> Option<u8> {
    (depth < DEEPEST).then_some(depth + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_members_and_items_or_nowhere() {
        let json: Json =
            serde_json::from_str(r#"{"a": {"b": [10, {"c": "d"}], "": 1, "twice": 1, "twice": 2}}"#).unwrap();
        for (path, expected) in [
            ("a.b.0", "Number(10.0)"),
            ("a.b.1.c", "Text(\"d\")"),
            ("a.b.2", "Null"),
            ("a.b.-1", "Null"),
            ("a.b.c", "Null"),
            ("a.b.1.c.d", "Null"),
            ("a.", "Number(1.0)"),
            ("a.twice", "Number(2.0)"),
            (".", "Null"),
            ("b", "Null"),
        ] {
            assert_eq!(format!("{:?}", Value::from(&json).at(path)), expected, "{path}");
        }
        assert!(matches!(Value::from(&json).at(""), Value::Object(_)));
    }

    #[test]
    fn made_lists_nest_only_so_deep() {
        let mut value = Value::Null;
        for _ in 0..DEEPEST {
            value = Value::List(List::made(vec![value]).unwrap());
        }
        assert!(List::made(vec![value.clone()]).is_none());
        assert!(Object::step(Value::Null, value).is_none());
    }
}
