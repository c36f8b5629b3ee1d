//! What expressions can ask for, and who answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::value::Value;
use crate::budget::Budget;
use crate::finding::Problem;
use crate::headers::{is_token, kept_name};

/// What an expression can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Var {
    /// An attribute of the policy, by its place in the list that the compiler was given.
    Attribute(usize),
    /// `targetingKey`
    TargetingKey,
    /// `request.method`
    Method,
    /// `request.host`: what `hostnames` compare.
    Host,
    /// `request.path`: what `matches` compare.
    Path,
    /// `request.headers.NAME`: the whole rest of the name, dots included, as the proxy keeps it.
    Header(Box<str>),
    /// `request.query.NAME`: the whole rest of the name.
    Query(Box<str>),
    /// `request.cookies.NAME`: the whole rest of the name.
    Cookie(Box<str>),
    /// `client.ip`: the address, without port.
    ClientIp,
    /// `node.id`
    NodeId,
    /// `node.region`
    NodeRegion,
    /// `node.zone`
    NodeZone,
    /// `$flagd.flagKey`
    FlagKey,
    /// `$flagd.timestamp`: the clock, in whole seconds since 1970.
    Timestamp,
    /// Any other name: whole objects (`request`), everything (the empty name), and what a flag's context has. Null for
    /// a request; a JSON context resolves it with [`Value::along`].
    Other(Way),
}

/// The way that a name with dots in it leads: from member to member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way(Box<[Box<str>]>);

impl Way {
    /// The way of `name`; the empty one of the empty name.
    #[must_use]
    pub fn new(name: &str) -> Way {
        match name {
            "" => Way::default(),
            name => Way(name.split('.').map(Box::from).collect()),
        }
    }

    /// How many steps it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Its steps.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|step| &**step)
    }
}

/// Where variables come from: a request, or the context of a flag.
///
/// Evaluation asks for what it reaches, each time that it reaches it, and for nothing else.
pub trait Data {
    /// The value of `var`; null where there is none.
    fn var<'s>(&'s self, var: &Var) -> Value<'s>;

    /// The value of `var`, if it is a text.
    fn text<'s>(&'s self, var: &Var) -> Option<Cow<'s, str>> {
        if let Value::Text(text) = self.var(var) { Some(text) } else { None }
    }

    /// The targeting key for hashing. Unlike `targetingKey` it may be drawn now, where there is none.
    fn key(&self) -> Key<'_> {
        Key::Value(self.var(&Var::TargetingKey))
    }

    /// Whether a cohort holds, if that was found before.
    fn cohort(&self, _: usize) -> Option<Truth> {
        None
    }

    /// Takes down whether a cohort holds.
    fn keep_cohort(&self, _: usize, _: Truth) {}

    /// What evaluations for it may take together; each as much as a request, where nothing is said.
    fn budget(&self) -> Option<&Budget> {
        None
    }

    /// The value of a flag, by the number that the compiler was given for it; null where it has none.
    fn flag(&self, _: u32) -> Value<'_> {
        Value::Null
    }
}

/// Whether a cohort holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Whether it does.
    pub holds: bool,
    /// Whether, on the way, a targeting key was to be hashed that is not there.
    pub lacks_key: bool,
}

/// A targeting key that is hashed.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    /// As a request brings it: any bytes.
    Bytes(Cow<'a, [u8]>),
    /// As a context says it.
    Value(Value<'a>),
}

impl Key<'_> {
    /// Whether there is none: an empty one counts as none.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            Key::Bytes(bytes) => bytes.is_empty(),
            Key::Value(value) => Key::is_none(value),
        }
    }

    /// Whether a value is no targeting key: null, and the empty text.
    #[must_use]
    pub fn is_none(value: &Value<'_>) -> bool {
        match value {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    /// The key, if it is a text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Key::Bytes(bytes) => str::from_utf8(bytes).ok(),
            Key::Value(Value::Text(text)) => Some(text),
            Key::Value(_) => None,
        }
    }
}

/// The names of a policy's attributes, and their places in its list.
#[derive(Debug, Default)]
pub(super) struct Attributes(BTreeMap<Box<str>, usize>);

impl Attributes {
    /// Takes down the next name of the list, which has each once.
    pub(super) fn add(&mut self, name: &str) {
        self.0.insert(name.into(), self.0.len());
    }

    /// What `name` asks a request for. An attribute's name goes before all others.
    pub(super) fn var(&self, name: &str) -> Var {
        match self.0.get(name) {
            Some(&attribute) => Var::Attribute(attribute),
            None => Var::built_in(name).unwrap_or_else(|| Var::Other(Way::new(name))),
        }
    }

    /// As [`unknown`], of a name that may be an attribute's.
    pub(super) fn unknown(&self, name: &str) -> Option<Problem> {
        if self.0.contains_key(name) { None } else { unknown(name) }
    }
}

/// The pseudo headers of a request that the proxy shows as headers.
const PSEUDO_HEADERS: [&str; 5] = [":authority", ":method", ":path", ":protocol", ":scheme"];

/// Why no request has a variable that is no attribute, if that is plain from its name. The context of a caller who asks for
/// a flag may have it all the same.
#[must_use]
pub fn unknown(name: &str) -> Option<Problem> {
    let (is_known, expected) = match Var::built_in(name) {
        None => return Some(Problem::unknown("variable", name)),
        Some(Var::Header(header)) => {
            (is_token(&header) || PSEUDO_HEADERS.contains(&&*header), "the name of a header")
        }
        Some(Var::Cookie(cookie)) => {
            let is_cut = cookie.contains(['=', ';']) || cookie.trim_ascii() != &*cookie;
            (!cookie.is_empty() && !is_cut, "the name of a cookie")
        }
        Some(Var::Query(parameter)) => (!parameter.is_empty(), "the name of a query parameter"),
        Some(_) => return None,
    };
    (!is_known).then(|| Problem::expected(expected, name))
}

impl Var {
    /// What `name` asks every policy's requests for; nothing for an attribute and for what no request has.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Var> {
        Some(match name {
            "targetingKey" => Var::TargetingKey,
            "request.method" => Var::Method,
            "request.host" => Var::Host,
            "request.path" => Var::Path,
            "client.ip" => Var::ClientIp,
            "node.id" => Var::NodeId,
            "node.region" => Var::NodeRegion,
            "node.zone" => Var::NodeZone,
            "$flagd.flagKey" => Var::FlagKey,
            "$flagd.timestamp" => Var::Timestamp,
            _ => match name.strip_prefix("request.")?.split_once('.')? {
                ("headers", name) => Var::Header(kept_name(name)),
                ("query", name) => Var::Query(name.into()),
                ("cookies", name) => Var::Cookie(name.into()),
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_asks_for_one_thing() {
        let mut attributes = Attributes::default();
        ["region", "user.plan"].into_iter().for_each(|name| attributes.add(name));
        for (name, expected) in [
            ("region", Var::Attribute(0)),
            ("user.plan", Var::Attribute(1)),
            ("user", Var::Other(Way::new("user"))),
            ("Region", Var::Other(Way::new("Region"))),
            ("targetingKey", Var::TargetingKey),
            ("request.method", Var::Method),
            ("request.headers.X-Api.Version", Var::Header("x-api.version".into())),
            ("request.headers.Host", Var::Header(":authority".into())),
            ("request.headers.", Var::Header("".into())),
            ("request.headers", Var::Other(Way::new("request.headers"))),
            ("request.query.Q.a", Var::Query("Q.a".into())),
            ("request.cookies.Sid", Var::Cookie("Sid".into())),
            ("request.bodies.x", Var::Other(Way::new("request.bodies.x"))),
            ("client.ip", Var::ClientIp),
            ("node.zone", Var::NodeZone),
            ("$flagd.timestamp", Var::Timestamp),
            ("", Var::Other(Way::new(""))),
        ] {
            assert_eq!(attributes.var(name), expected, "{name}");
        }
    }

    #[test]
    fn what_no_request_has_is_told_by_its_name() {
        for name in [
            "region",
            "user.plan",
            "targetingKey",
            "request.method",
            "request.headers.X-Api.Version",
            "request.headers.host",
            "request.headers.:scheme",
            "request.query.a b",
            "request.cookies.a[0]",
            "client.ip",
            "node.id",
            "$flagd.flagKey",
        ] {
            let mut attributes = Attributes::default();
            ["region", "user.plan"].into_iter().for_each(|name| attributes.add(name));
            assert_eq!(attributes.unknown(name), None, "{name}");
        }
        for (name, problem) in [
            ("", "unknown variable `nothing`"),
            ("0", "unknown variable `0`"),
            ("regoin", "unknown variable `regoin`"),
            ("user", "unknown variable `user`"),
            ("targetingkey", "unknown variable `targetingkey`"),
            ("request", "unknown variable `request`"),
            ("request.headers", "unknown variable `request.headers`"),
            ("request.header.x-a", "unknown variable `request.header.x-a`"),
            ("request.Method", "unknown variable `request.Method`"),
            ("client.ip.address", "unknown variable `client.ip.address`"),
            ("node", "unknown variable `node`"),
            ("$flagd", "unknown variable `$flagd`"),
            ("request.headers.", "expected the name of a header, found request.headers."),
            ("request.headers.x a", "expected the name of a header, found request.headers.x a"),
            ("request.headers.:status", "expected the name of a header, found request.headers.:status"),
            ("request.cookies.a=b", "expected the name of a cookie, found request.cookies.a=b"),
            ("request.cookies. a", "expected the name of a cookie, found request.cookies. a"),
            ("request.query.", "expected the name of a query parameter, found request.query."),
        ] {
            assert_eq!(Attributes::default().unknown(name).unwrap().to_string(), problem, "{name}");
        }
    }
}
