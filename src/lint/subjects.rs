//! What the operands of conditions can be, whatever the request is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::authority;
use crate::headers::is_token;
use crate::json::Json;
use crate::logic::{Var, operation};
use crate::wire::{Document, Flag};

/// Why something never is, in words that follow a colon; empty where there is nothing to add.
pub type Why = &'static str;

/// The clock in seconds does not reach it for 3,000 years; in milliseconds it was there in 1973.
pub const MOST_SECONDS: f64 = 1e11;

/// How long the values of a flag may be that are told apart, in bytes of JSON.
const MOST_VALUES_BYTES: usize = 200;

/// What texts a variable can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// All.
    Any,
    /// All but the empty one.
    Value,
    Method,
    Host,
    Path,
    Header,
    /// The header that Envoy leaves to upgrades alone.
    Connection,
    Cookie,
    Address,
}

const METHOD: Why = "methods are words in upper case";
const HOST: Why = "a host is in lower case, without port and final dot";
const CONNECTION: Why = "`connection` arrives with an upgrade alone";
const ADDRESS: Why = "it is an address without port and prefix, as Envoy writes it";

impl Text {
    /// Why it never is `text`.
    pub fn whole(self, text: &str) -> Option<Why> {
        let fault = match self {
            Text::Any => None,
            Text::Value => text.is_empty().then_some("what is empty counts as absent"),
            Text::Method => text.is_empty().then_some(METHOD),
            Text::Host => (authority::host(text.as_bytes()).as_deref() != Some(text)).then_some(HOST),
            Text::Address => {
                let written = text.parse::<IpAddr>().map(|address| address.to_string());
                (written.as_deref() != Ok(text)).then_some(ADDRESS)
            }
            Text::Connection => (!text.to_ascii_lowercase().contains("upgrade")).then_some(CONNECTION),
            Text::Path | Text::Header | Text::Cookie => None,
        };
        fault.or_else(|| self.start(text)).or_else(|| self.end(text))
    }

    /// Why it never begins with `text`.
    pub fn start(self, text: &str) -> Option<Why> {
        let fault = match self {
            // `*`, and a target in absolute form, are all path.
            Text::Path if text.contains("://") || ["", "*", "/"].contains(&text) => None,
            Text::Path => (!text.starts_with('/')).then_some("every path begins with `/`"),
            Text::Header => {
                text.starts_with([' ', '\t']).then_some("headers arrive without spaces around them")
            }
            _ => None,
        };
        fault.or_else(|| self.part(text))
    }

    /// Why it never ends with `text`.
    pub fn end(self, text: &str) -> Option<Why> {
        let fault = match self {
            Text::Host => {
                let host = format!("x{text}");
                (authority::host(host.as_bytes()).as_deref() != Some(&*host)).then_some(HOST)
            }
            Text::Header => {
                text.ends_with([' ', '\t']).then_some("headers arrive without spaces around them")
            }
            Text::Cookie => {
                text.ends_with([' ', '\t']).then_some("cookies are read without spaces after them")
            }
            _ => None,
        };
        fault.or_else(|| self.part(text))
    }

    /// Why `text` never is part of it.
    pub fn part(self, text: &str) -> Option<Why> {
        let has = |what: &[char], why| text.contains(what).then_some(why);
        match self {
            Text::Any | Text::Value => None,
            Text::Method => {
                let is_word = text.is_empty() || is_token(text);
                (!is_word || text.contains(|c: char| c.is_ascii_lowercase())).then_some(METHOD)
            }
            Text::Host => text
                .contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace() || c == '/')
                .then_some(HOST),
            Text::Path => has(&['?'], "the path has no query (`queryParams` and `request.query` see that)")
                .or_else(|| has(&['#'], "the path has no fragment"))
                .or_else(|| {
                    text.contains(|c: char| c == ' ' || c.is_control()).then_some("a path has no spaces")
                }),
            Text::Header | Text::Connection => text
                .contains(|c: char| c.is_control() && c != '\t')
                .then_some("a header has no control characters"),
            Text::Cookie => has(&[';'], "a cookie ends with `;`"),
            Text::Address => {
                text.contains(|c: char| !matches!(c, '0'..='9' | 'a'..='f' | '.' | ':')).then_some(ADDRESS)
            }
        }
    }

    /// Whether it never counts as a number.
    pub fn is_no_number(self) -> bool {
        matches!(self, Text::Method | Text::Path | Text::Address)
    }

    /// Whether it never is an address.
    pub fn is_no_address(self) -> bool {
        matches!(self, Text::Method | Text::Path)
    }
}

/// What an operand can be: one of these.
#[derive(Clone, Debug, Default)]
pub struct Subject<'j> {
    /// One of these texts.
    pub text: Option<Text>,
    /// A number from the first to the second.
    pub number: Option<(f64, f64)>,
    /// One of these values.
    pub others: Vec<Cow<'j, Json>>,
}

impl<'j> Subject<'j> {
    fn text(text: Text) -> Subject<'j> {
        Subject { text: Some(text), ..Subject::default() }
    }

    fn number(from: f64, to: f64) -> Subject<'j> {
        Subject { number: Some((from, to)), ..Subject::default() }
    }

    fn one_of(others: impl IntoIterator<Item = Json>) -> Subject<'j> {
        Subject { others: others.into_iter().map(Cow::Owned).collect(), ..Subject::default() }
    }

    fn or_null(mut self) -> Subject<'j> {
        self.others.push(Cow::Owned(Json::Null));
        self
    }

    /// Whether it may be absent.
    pub fn may_be_null(&self) -> bool {
        self.others.iter().any(|it| **it == Json::Null)
    }

    /// With this in place of null.
    fn or_else(mut self, default: &'j Json) -> Subject<'j> {
        if self.may_be_null() {
            self.others.retain(|it| **it != Json::Null);
            self.others.push(Cow::Borrowed(default));
        }
        self
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'d> {
    /// Whether it may be a caller who asks for a flag: attributes and the targeting key are what the context says.
    pub caller: bool,
    /// Whether there may be a targeting key.
    pub key: bool,
    /// The flag whose targeting it is.
    pub flag: Option<&'d str>,
}

/// What the document says of its variables and flags.
pub struct World<'d> {
    attributes: BTreeSet<&'d str>,
    flags: BTreeMap<&'d str, &'d Flag>,
    now_s: f64,
}

impl<'d> World<'d> {
    pub fn new(document: &'d Document, now_ms: i64) -> World<'d> {
        let attributes = document.attributes.iter().flat_map(|it| &it.0).map(|(name, _)| &**name).collect();
        let flags = document.flags.iter().flat_map(|it| &it.0).map(|(key, flag)| (&**key, flag)).collect();
        #[expect(clippy::cast_precision_loss, reason = "seconds stay far below 2⁵³")]
        let now_s = now_ms.div_euclid(1_000) as f64;
        World { attributes, flags, now_s }
    }

    /// Whether it is the name of an attribute.
    pub fn is_attribute(&self, name: &str) -> bool {
        self.attributes.contains(name)
    }

    /// The names of the attributes.
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = &'d str> + Clone + '_ {
        self.attributes.iter().copied()
    }

    /// What an operand can be; nothing where it may be anything. `absent` names a variable that is taken to be absent.
    pub fn subject<'j>(&self, json: &'j Json, asker: Asker<'_>, absent: Option<&str>) -> Option<Subject<'j>> {
        let Some((operator, operands)) = operation(json) else {
            return is_plain(json)
                .then(|| Subject { others: vec![Cow::Borrowed(json)], ..Subject::default() });
        };
        let bools = [false, true].map(Json::Bool);
        Some(match (operator, operands) {
            ("var", [Json::Text(name), default @ ..]) => {
                let known = if absent == Some(name) {
                    Subject::default().or_null()
                } else {
                    self.variable(name, asker)?
                };
                match default {
                    [] => known,
                    [default] if is_plain(default) => known.or_else(default),
                    _ => return None,
                }
            }
            ("flag", [Json::Text(key)]) => {
                let values = &self.flags.get(&**key)?.variants.0;
                if values.iter().map(|(_, value)| value.json.get().len()).sum::<usize>() > MOST_VALUES_BYTES {
                    return None;
                }
                Subject::one_of(values.iter().map(|(_, value)| value.value.clone())).or_null()
            }
            (
                "!" | "!!" | "==" | "!=" | "===" | "!==" | "<" | "<=" | ">" | ">=" | "in" | "all" | "none"
                | "some" | "cohort",
                _,
            ) => Subject::one_of(bools),
            ("starts_with" | "ends_with" | "matches" | "cidr" | "sem_ver", _) => {
                Subject::one_of(bools).or_null()
            }
            ("cat" | "substr", _) => Subject::text(Text::Any),
            ("+" | "-" | "*" | "/" | "%" | "max" | "min", _) => {
                Subject::number(f64::NEG_INFINITY, f64::INFINITY)
            }
            _ => return None,
        })
    }

    fn variable<'j>(&self, name: &str, asker: Asker<'_>) -> Option<Subject<'j>> {
        let of_context = |subject: Subject<'j>| (!asker.caller).then_some(subject);
        if self.is_attribute(name) {
            return of_context(Subject::text(Text::Value).or_null());
        }
        Some(match Var::built_in(name) {
            None => return of_context(Subject::default().or_null()),
            Some(Var::TargetingKey) if asker.key => return of_context(Subject::text(Text::Value).or_null()),
            Some(Var::Method) => Subject::text(Text::Method),
            Some(Var::Path) => Subject::text(Text::Path),
            Some(Var::Host) => Subject::text(Text::Host).or_null(),
            Some(Var::ClientIp) => Subject::text(Text::Address).or_null(),
            Some(Var::Header(header)) if never_arrives(&header) => Subject::default().or_null(),
            Some(Var::Header(header)) => match of_header(&header) {
                Text::Method => Subject::text(Text::Method),
                kind => Subject::text(kind).or_null(),
            },
            Some(Var::Cookie(_)) => Subject::text(Text::Cookie).or_null(),
            Some(Var::Timestamp) => Subject::number(self.now_s.min(MOST_SECONDS), MOST_SECONDS),
            Some(Var::FlagKey) => match asker.flag {
                Some(key) => Subject::one_of([Json::Text(key.into())]),
                None if asker.caller => Subject::text(Text::Value).or_null(),
                None => Subject::default().or_null(),
            },
            Some(Var::TargetingKey | Var::Other(_) | Var::Attribute(_)) => Subject::default().or_null(),
            Some(Var::Query(_) | Var::NodeId | Var::NodeRegion | Var::NodeZone) => {
                Subject::text(Text::Any).or_null()
            }
        })
    }
}

/// Whether a header never arrives at the plugin, whoever sends it: Envoy removes what is between two hops.
pub fn never_arrives(header: &str) -> bool {
    ["transfer-encoding", "keep-alive", "proxy-connection"].iter().any(|it| header.eq_ignore_ascii_case(it))
}

/// What there is to say of a header that is not for who is behind Envoy.
pub fn hop_by_hop(header: &str) -> Option<Why> {
    if never_arrives(header) {
        return Some("never arrives: Envoy removes what is between two hops");
    }
    let is_connection = header.eq_ignore_ascii_case("connection");
    is_connection.then_some("arrives with an upgrade alone: `upgrade` says with which")
}

/// What texts a header, by the name under which the proxy keeps it, can be.
pub fn of_header(header: &str) -> Text {
    match header {
        ":method" => Text::Method,
        "connection" => Text::Connection,
        _ => Text::Header,
    }
}

/// Whether there is no operator in it.
pub fn is_plain(json: &Json) -> bool {
    match json {
        Json::Object(_) => false,
        Json::List(items) => items.iter().all(is_plain),
        _ => true,
    }
}
