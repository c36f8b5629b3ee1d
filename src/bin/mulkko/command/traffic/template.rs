//! One request, to be made with any key.

use std::borrow::Cow;

use mulkko::cases::Asked;
use mulkko::decide::{Decisions, Node, Proxy, Request, decide};
use mulkko::dry_run::{DryRun, Host};
use mulkko::headers::Headers;
use mulkko::pass;
use mulkko::policy::{Policy, Source, TargetingKey};
use url::form_urlencoded::byte_serialize;

/// A request with places for a key: every targeting key of the policy has it, in the first of its sources.
#[derive(Debug)]
pub struct Template {
    pairs: Vec<(Vec<u8>, Value)>,
    /// The properties that have it.
    properties: Vec<Box<[Box<str>]>>,
    /// Whether the proxy's id is it: where proxies move, each key is one.
    node: bool,
}

/// A header's value.
#[derive(Debug)]
enum Value {
    Fixed(Vec<u8>),
    /// The key comes between these parts.
    Around(Vec<Vec<u8>>),
    /// It does, percent-encoded.
    Encoded(Vec<Vec<u8>>),
}

impl Template {
    pub fn new(asked: &Asked, policy: &Policy) -> Template {
        let pairs = asked.pairs(&[]).into_iter().map(|(name, value)| (name, Value::Fixed(value))).collect();
        let node = policy.rollouts.iter().any(|rollout| rollout.key == TargetingKey::Node);
        let mut template = Template { pairs, properties: Vec::new(), node };
        for source in policy.keys.iter().filter_map(|key| key.from.first()) {
            template.place(source);
        }
        template
    }

    fn place(&mut self, source: &Source) {
        match source {
            Source::Header(name) => {
                self.pairs.retain(|(known, _)| known != name.as_bytes());
                self.pairs.push((name.as_bytes().to_vec(), Value::Around(vec![Vec::new(); 2])));
            }
            Source::Cookie(name) => {
                let joint = |start: &str| format!("{start}{name}=").into_bytes();
                self.append(b"cookie", joint("; "), joint(""), Value::Around);
            }
            Source::Query(name) => {
                let name: String = byte_serialize(name.as_bytes()).collect();
                let has_query = self.pairs.iter().any(|(known, value)| known == b":path" && value.has(b'?'));
                let joint = if has_query { '&' } else { '?' };
                self.append(b":path", format!("{joint}{name}=").into_bytes(), Vec::new(), Value::Encoded);
            }
            Source::Property(way) => self.properties.push(way.clone()),
        }
    }

    /// Has the key stand after the value of a header and `joint`, or after `first` where there is none.
    fn append(&mut self, name: &[u8], joint: Vec<u8>, first: Vec<u8>, value: impl Fn(Vec<Vec<u8>>) -> Value) {
        let mut parts = match self.pairs.iter().position(|(known, _)| known == name) {
            None => vec![first],
            Some(at) => match self.pairs.remove(at).1 {
                Value::Fixed(fixed) => vec![[fixed, joint].concat()],
                Value::Around(mut parts) | Value::Encoded(mut parts) => {
                    // The last part is what stands after the last key: nothing.
                    parts.pop();
                    parts.push(joint);
                    parts
                }
            },
        };
        parts.push(Vec::new());
        self.pairs.push((name.to_vec(), value(parts)));
    }

    /// Gives `look` the decisions for this request with this key at an instant.
    pub fn decided<T>(&self, run: &DryRun, key: &str, at_ms: i64, look: impl FnOnce(&Decisions) -> T) -> T {
        self.asked(run, key, at_ms, |request| look(&decide(&run.policy, *request)))
    }

    /// Gives `look` this request with this key at an instant.
    pub fn asked<T>(&self, run: &DryRun, key: &str, at_ms: i64, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let pairs: Vec<_> = self.pairs.iter().map(|(name, value)| (&name[..], value.with(key))).collect();
        let pairs = pairs.iter().map(|(name, value)| (*name, &value[..])).collect();
        let headers = Headers::of_request(pairs, run.trust);
        let header = headers.came("x-mulkko-pass").unwrap_or_default();
        let own = self.node.then(|| Node { id: Some(key.into()), ..run.node.clone() });
        look(&Request {
            headers: &headers,
            passes: &pass::read(&header, &run.pass_keys, at_ms),
            macs: run.macs.as_ref(),
            node: own.as_ref().unwrap_or(&run.node),
            proxy: &Person { host: &run.host, properties: &self.properties, key, at_ms },
            rolled_back: Some(&run.rolled_back),
        })
    }
}

impl Value {
    fn has(&self, byte: u8) -> bool {
        match self {
            Value::Fixed(fixed) => fixed.contains(&byte),
            Value::Around(parts) | Value::Encoded(parts) => parts.iter().any(|part| part.contains(&byte)),
        }
    }

    fn with(&self, key: &str) -> Cow<'_, [u8]> {
        match self {
            Value::Fixed(fixed) => Cow::Borrowed(fixed),
            Value::Around(parts) => Cow::Owned(parts.join(key.as_bytes())),
            Value::Encoded(parts) => {
                Cow::Owned(parts.join(byte_serialize(key.as_bytes()).collect::<String>().as_bytes()))
            }
        }
    }
}

/// The host, to a request of somebody who has a key.
struct Person<'p> {
    host: &'p Host,
    properties: &'p [Box<[Box<str>]>],
    key: &'p str,
    at_ms: i64,
}

impl Proxy for Person<'_> {
    fn property(&self, path: &[Box<str>]) -> Option<Vec<u8>> {
        if self.properties.iter().any(|way| **way == *path) {
            return Some(self.key.as_bytes().to_vec());
        }
        self.host.property(path)
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        self.host.client_address()
    }

    fn now_ms(&self) -> i64 {
        self.at_ms
    }

    fn draw_id(&self) -> String {
        self.host.draw_id()
    }
}
