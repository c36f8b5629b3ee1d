//! OFREP 0.3.0: feature flags asked for over HTTP, by OpenFeature's SDKs, and answered by the proxy itself.
//!
//! Everything is worked out here; a plugin only hands over headers and body, and sends the [`Answer`].
//!
//! # Life of a request
//! 1. [`Ofrep::begin`] looks at the headers: is it below the prefix, and can it be answered at once? That is so for
//!    preflights, for who has no bearer token, for what is not there, and for bodies that say they are too large.
//! 2. Else the body is read, [`Ofrep::max_body_bytes`] at most and [`BODY_TIMEOUT_MS`] at longest.
//! 3. [`Asked::answer`] evaluates one flag, or all of them.
//!
//! # Who may know what
//! `request`, `client`, `node` and `$flagd` mean the request that asks, whatever its body says. At the edge attributes
//! that are known from it go before the body's, and so does the targeting key; flags are there only if their metadata
//! says `"mulkko.public": true`, unless the client has the bearer token. In the mesh the body goes first.

mod answer;
mod context;
mod cors;

use hmac_sha256::Hash;

use crate::authority;
use crate::decide::{Request, Trust, Values};
use crate::flag::Flag;
use crate::headers::Headers;
use crate::ofrep::cors::Cors;
use crate::policy::Policy;
use crate::query::decode_path;

pub use answer::Answer;
pub use context::{Context, Evaluating};

/// How long a body may take, in milliseconds.
pub const BODY_TIMEOUT_MS: i64 = 5_000;

/// How OFREP is answered.
#[derive(Debug)]
pub struct Ofrep {
    /// Where: the path below which everything is OFREP's.
    pub prefix: Box<str>,
    /// The environment variable with the token without which nothing is answered.
    pub bearer: Option<Box<str>>,
    /// The origins whose scripts may read the answers.
    pub allow_origins: Box<[Box<str>]>,
    /// How large a body may be.
    pub max_body_bytes: usize,
}

/// A token that clients must have.
#[derive(Debug)]
pub struct Bearer(Option<[u8; 32]>);

impl Bearer {
    /// A token; nobody has an empty one.
    #[must_use]
    pub fn new(token: &[u8]) -> Bearer {
        Bearer((!token.is_empty()).then(|| Hash::hash(token)))
    }

    /// Whether this is one that nobody has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the request has it. Hashes are compared, and all of them: how long that takes says nothing of the token.
    fn is_in(&self, headers: &Headers<'_>) -> bool {
        let value = headers.value("authorization").unwrap_or_default();
        let (scheme, token) = value.split_at_checked("bearer ".len()).unwrap_or_default();
        let hash = Hash::hash(token);
        let difference = |own: &[u8; 32]| own.iter().zip(hash).fold(0, |all, (a, b)| all | (a ^ b));
        let is_same = self.0.as_ref().is_some_and(|own| std::hint::black_box(difference(own)) == 0);
        is_same && scheme.eq_ignore_ascii_case(b"bearer ")
    }
}

/// What becomes of a request whose headers are there.
#[derive(Debug)]
pub enum Begun {
    /// It is answered.
    Answered(Answer),
    /// Its body is needed.
    Asked(Asked),
}

/// A request for flags.
#[derive(Debug)]
pub struct Asked {
    /// The flag; all of them without one.
    key: Option<String>,
    cors: Cors,
    /// Whether only public flags are there.
    public_only: bool,
}

impl Ofrep {
    /// Looks at the headers of a request; `None`: it is not OFREP's.
    ///
    /// `bearer` is the token that [`Ofrep::bearer`] names.
    #[must_use]
    pub fn begin(&self, bearer: Option<&Bearer>, trust: Trust, headers: &Headers<'_>) -> Option<Begun> {
        let first = |name: &[u8]| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
        let (path, _) = authority::path(first(b":path").unwrap_or_default());
        let route = path.strip_prefix(self.prefix.as_bytes())?;
        if !route.is_empty() && !route.starts_with(b"/") {
            return None;
        }
        let cors = Cors::new(&self.allow_origins, headers);
        let method = first(b":method").unwrap_or_default();
        if method == b"OPTIONS" {
            return Some(Begun::Answered(cors.preflight(headers)));
        }
        if bearer.is_some_and(|bearer| !bearer.is_in(headers)) {
            return Some(Begun::Answered(cors.mark(Answer::unauthorized())));
        }
        let public_only = trust == Trust::Edge && bearer.is_none();
        let asked = match route.strip_prefix(b"/evaluate/flags") {
            Some(b"") => Asked { key: None, cors, public_only },
            Some([b'/', key @ ..]) => Asked {
                key: Some(String::from_utf8_lossy(&decode_path(key)).into_owned()),
                cors,
                public_only,
            },
            _ => return Some(Begun::Answered(cors.mark(Answer::not_found()))),
        };
        if method != b"POST" {
            return Some(Begun::Answered(asked.finish(Answer::not_allowed())));
        }
        let length =
            first(b"content-length").and_then(|length| str::from_utf8(length).ok()?.parse::<u64>().ok());
        let most = u64::try_from(self.max_body_bytes).unwrap_or(u64::MAX);
        if length.is_some_and(|length| length > most) {
            return Some(Begun::Answered(asked.too_large(self.max_body_bytes)));
        }
        Some(Begun::Asked(asked))
    }
}

impl Asked {
    /// The answer to a body of more than `most` bytes.
    #[must_use]
    pub fn too_large(&self, most: usize) -> Answer {
        self.failed(413, "GENERAL", &format!("expected at most {most} bytes, found more"))
    }

    /// The answer to a body that does not come.
    #[must_use]
    pub fn too_late(&self) -> Answer {
        self.failed(408, "GENERAL", &format!("expected the body within {} s", BODY_TIMEOUT_MS / 1_000))
    }

    /// The answer where too many others wait for their bodies already.
    #[must_use]
    pub fn too_many(&self) -> Answer {
        let seconds = BODY_TIMEOUT_MS / 1_000;
        self.failed(429, "GENERAL", "too many requests wait for their bodies")
            .with("retry-after", seconds.to_string())
    }

    /// The answer, evaluated under `policy` for `request`, whose body is `body`.
    #[must_use]
    pub fn answer(&self, body: &[u8], policy: Option<&Policy>, request: Request<'_>) -> Answer {
        let Some(policy) = policy else {
            return self.failed(500, "PROVIDER_NOT_READY", "no policy is in force yet");
        };
        let known = Values::new(policy, request);
        let context = match (Context::read(body), request.trust()) {
            (Ok(context), Trust::Edge) => context.without_known(&known),
            (Ok(context), Trust::Mesh) => context,
            (Err(problem), _) => return self.failed(400, "INVALID_CONTEXT", &problem),
        };
        let evaluating = Evaluating::new(policy, request, &context);
        // Of one budget: what there was nothing left to look for is not the caller's to say.
        let _ = evaluating.budget().spend(known.budget().spent());
        let answer = match &self.key {
            Some(key) => match policy.flag_keyed(key).filter(|flag| self.is_there(flag)) {
                Some(flag) => Answer::single(flag, evaluating.resolve(flag)),
                None => return self.failed(404, "FLAG_NOT_FOUND", &format!("flag `{key}` is not there")),
            },
            None => {
                let there = policy.flags.iter().filter(|flag| self.is_there(flag));
                let none_match = request.headers.value("if-none-match");
                let flags = there.map(|flag| (flag, evaluating.resolve(flag)));
                // Who may see no flag sees nothing of their document either.
                let is_any = !self.public_only || policy.flags.iter().any(|flag| flag.public);
                let metadata = if is_any { &*policy.metadata } else { "" };
                Answer::bulk(flags, metadata, none_match.as_deref())
            }
        };
        let answer = answer.with_exhausted(evaluating.budget().is_exhausted());
        self.finish(answer.with_cookies(evaluating.cookies()))
    }

    fn is_there(&self, flag: &Flag) -> bool {
        flag.public || !self.public_only
    }

    fn failed(&self, status: u32, code: &str, details: &str) -> Answer {
        self.finish(Answer::failed(status, self.key.as_deref(), code, details))
    }

    fn finish(&self, answer: Answer) -> Answer {
        self.cors.mark(answer)
    }
}

#[cfg(test)]
mod tests;
