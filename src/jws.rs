//! Signed policies: compact JWS (RFC 7515) with Ed25519 (RFC 8037), verified a piece at a time.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{PUBLIC_KEY_LENGTH, SIGNATURE_LENGTH, Signature, Signer, SigningKey, VerifyingKey};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};

use crate::finding::{Finding, Findings, Path, Problem};
use crate::moment::Duration;
use crate::wire;

/// The most keys that policies may be signed with: one in use, one to come, and some to spare.
const MOST_KEYS: usize = 8;
/// The most bytes of a header, encoded, that is read.
const MOST_HEADER_BYTES: usize = 1_024;
/// The most white space at the end of a token: a file's.
const MOST_SPACE_BYTES: usize = 1_024;
/// The characters of a signature.
const SIGNATURE_CHARS: usize = 86;
/// How far the clock of who signs may be ahead, in milliseconds.
const LEEWAY_MS: i64 = 30_000;
/// How much is hashed and decoded at a time: whole groups of base64, and far less than a turn.
const PIECE_BYTES: usize = 64 << 10;

/// What is read of a JOSE header. All other members are ignored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Header {
    /// The algorithm.
    pub alg: Box<str>,
    /// Whether `crit` stands there: it names what must be understood, and nothing is.
    #[serde(default, deserialize_with = "is_there")]
    pub crit: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The name of the key, which only policies need.
#[derive(Deserialize)]
struct KeyName {
    #[serde(default, deserialize_with = "wire::some")]
    kid: Option<Box<str>>,
}

/// When a token was signed, in unix seconds.
#[derive(Deserialize)]
struct IssuedAt {
    iat: f64,
}

/// The JSON object in a part of a token.
#[must_use]
pub fn object<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = Base64UrlUnpadded::decode_vec(part).ok()?;
    let json = str::from_utf8(&json).ok()?;
    // Read into a struct, an array would pass for an object.
    json.trim_start().starts_with('{').then(|| serde_json::from_str(json).ok())?
}

/// The public keys of who may sign policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyKeys(Vec<VerifyKey>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct VerifyKey {
    kid: Box<str>,
    public: VerifyingKey,
    /// How old its signature may be when a document is fetched, in milliseconds.
    max_age_ms: Option<u64>,
}

impl VerifyKeys {
    /// Compiles the keys written at `place`.
    ///
    /// Reports no keys, over eight, a `kid` that is empty or stands twice, what is no public key (32 bytes in base64url
    /// without padding that are a point of the curve, and none of the few under which anybody can sign), and a `maxAge` that
    /// is no duration, or 0.
    #[must_use]
    pub fn compile(written: &[wire::Verify], place: &Path<'_>, findings: &mut Findings) -> VerifyKeys {
        let mut keys: Vec<VerifyKey> = Vec::new();
        if written.is_empty() {
            findings.report(place, Problem::expected("at least one key", ""));
        }
        if written.len() > MOST_KEYS {
            findings.report(place, Problem::over_limit("keys", MOST_KEYS, written.len()));
        }
        for (i, key) in written.iter().enumerate() {
            let place = place.item(i);
            if key.kid.is_empty() {
                findings.report(&place.field("kid"), Problem::expected("the name of a key", ""));
            }
            if keys.iter().any(|it| *it.kid == *key.kid) {
                findings.report(&place.field("kid"), Problem::twice(&key.kid));
            }
            let max_age = key.max_age.as_deref().map(Duration::positive);
            let max_age = max_age.and_then(|it| findings.reported(it, &place.field("maxAge")));
            let max_age_ms = max_age.map(Duration::as_ms);
            match public_key(&key.ed25519) {
                Some(public) => keys.push(VerifyKey { kid: key.kid.as_str().into(), public, max_age_ms }),
                None => {
                    let expected = "an Ed25519 public key, 32 bytes in base64url";
                    let found = format_args!("\"{}\"", key.ed25519);
                    findings.report(&place.field("ed25519"), Problem::expected(expected, found));
                }
            }
        }
        VerifyKeys(keys)
    }

    fn named(&self, kid: &str) -> Option<&VerifyKey> {
        self.0.iter().find(|it| *it.kid == *kid)
    }
}

fn public_key(text: &str) -> Option<VerifyingKey> {
    let mut bytes = [0; PUBLIC_KEY_LENGTH];
    if Base64UrlUnpadded::decode(text, &mut bytes).ok()?.len() != PUBLIC_KEY_LENGTH {
        return None;
    }
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
}

/// A signed document on the way to its policy: verified and decoded a piece at a time.
///
/// Nothing of what it decodes may be used before the last piece has been verified.
pub struct Opening {
    token: Vec<u8>,
    keys: Rc<VerifyKeys>,
    /// When it was fetched, in unix milliseconds; `None` where its age does not matter.
    fetched_ms: Option<i64>,
    signed_ms: Option<i64>,
    payload: Vec<u8>,
    progress: Progress,
}

enum Progress {
    /// Nothing is read yet.
    Start,
    /// This much of the payload is still to be hashed and decoded.
    Payload { rest: Range<usize>, kid: Box<str>, verifier: Verifier },
    /// All of it was signed.
    Done,
}

/// Takes the signed text a piece at a time (`Some`); at its end (`None`) it says whether the signature fits. (The library
/// has a type for it, and no name for the type.)
type Verifier = Box<dyn FnMut(Option<&[u8]>) -> bool>;

/// What verifies `signature`; `None` where it cannot be one.
fn verifier(key: &VerifyingKey, signature: &Signature) -> Option<Verifier> {
    let mut stream = Some(key.verify_stream(signature).ok()?);
    Some(Box::new(move |piece| match piece {
        Some(piece) => stream.as_mut().map(|stream| stream.update(piece)).is_some(),
        None => stream.take().is_some_and(|stream| stream.finalize_and_verify().is_ok()),
    }))
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({} bytes)", self.token.len())
    }
}

impl Opening {
    /// Starts on `token`, which one of `keys` must have signed. White space at its end is a file's.
    ///
    /// Where it was fetched, at `fetched_ms` (unix milliseconds), its `iat` must be as young as the key's `maxAge` says.
    #[must_use]
    pub fn new(token: Vec<u8>, keys: Rc<VerifyKeys>, fetched_ms: Option<i64>) -> Opening {
        Opening { token, keys, fetched_ms, signed_ms: None, payload: Vec::new(), progress: Progress::Start }
    }

    /// Reads one more piece; `false` when all was read and the signature fits.
    ///
    /// # Errors
    /// Why the document is refused, as `jws.header.alg: expected EdDSA, found HS256`.
    pub fn step(&mut self) -> Result<bool, Finding> {
        self.advance().map_err(|(place, problem)| Finding { place: place.to_owned(), problem })
    }

    /// When it was signed, as its `iat` says, in unix milliseconds.
    #[must_use]
    pub fn signed_ms(&self) -> Option<i64> {
        self.signed_ms
    }

    /// The document as it came, and the policy in it.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        (self.token, self.payload)
    }

    fn advance(&mut self) -> Result<bool, (&'static str, Problem)> {
        match std::mem::replace(&mut self.progress, Progress::Done) {
            Progress::Start => {
                self.progress = self.begin()?;
                Ok(true)
            }
            Progress::Payload { rest, kid, mut verifier } => {
                let piece = rest.start..rest.end.min(rest.start.saturating_add(PIECE_BYTES));
                let text = self.token.get(piece.clone()).unwrap_or_default();
                verifier(Some(text));
                decode_onto(&mut self.payload, text)
                    .ok_or_else(|| ("jws.payload", Problem::expected("base64url", "something else")))?;
                let rest = piece.end..rest.end;
                if !rest.is_empty() {
                    self.progress = Progress::Payload { rest, kid, verifier };
                    return Ok(true);
                }
                if verifier(None) {
                    return Ok(false);
                }
                let expected = format!("a signature of this text by the key `{kid}`");
                Err(("jws.signature", Problem::expected(expected, "another")))
            }
            Progress::Done => Ok(false),
        }
    }

    fn begin(&mut self) -> Result<Progress, (&'static str, Problem)> {
        let parts = Parts::of(&self.token)?;
        let kid = check(parts.header)?;
        let unknown = || ("jws.header.kid", Problem::unknown("key", &kid));
        let key = self.keys.named(&kid).ok_or_else(unknown)?;
        self.signed_ms = signed_ms(parts.header);
        if let (Some(fetched_ms), Some(max_age_ms)) = (self.fetched_ms, key.max_age_ms) {
            check_age(self.signed_ms, fetched_ms, max_age_ms)?;
        }
        let signature = signature(parts.signature);
        let mut verifier = signature.and_then(|it| verifier(&key.public, &it)).ok_or_else(|| {
            ("jws.signature", Problem::expected("an Ed25519 signature in base64url", "something else"))
        })?;
        verifier(Some(parts.header.as_bytes()));
        verifier(Some(b"."));
        let rest = parts.payload;
        self.payload.reserve(rest.len() / 4 * 3 + 3);
        Ok(Progress::Payload { rest, kid, verifier })
    }
}

/// The name of the key in a header that says nothing that is not understood.
fn check(header: &str) -> Result<Box<str>, (&'static str, Problem)> {
    let (Some(said), Some(key)) = (object::<Header>(header), object::<KeyName>(header)) else {
        let expected = "a JOSE header with `alg` and `kid`, in base64url";
        return Err(("jws.header", Problem::expected(expected, "something else")));
    };
    if &*said.alg != "EdDSA" {
        return Err(("jws.header.alg", Problem::expected("EdDSA", said.alg)));
    }
    if said.crit {
        return Err(("jws.header", Problem::expected("no member `crit`", "one")));
    }
    key.kid.ok_or(("jws.header", Problem::MissingMember("kid".into())))
}

/// When a token was signed, as its header says, in unix milliseconds.
fn signed_ms(header: &str) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    object::<IssuedAt>(header).map(|it| (it.iat * 1_000.0).round() as i64)
}

/// Refuses what was signed too long ago, or after now by more than clocks may differ.
fn check_age(signed_ms: Option<i64>, now_ms: i64, max_age_ms: u64) -> Result<(), (&'static str, Problem)> {
    let signed_ms = signed_ms.ok_or(("jws.header", Problem::MissingMember("iat".into())))?;
    let age_ms = now_ms.saturating_sub(signed_ms);
    let ahead_ms = LEEWAY_MS.saturating_neg();
    if (ahead_ms..=i64::try_from(max_age_ms).unwrap_or(i64::MAX)).contains(&age_ms) {
        return Ok(());
    }
    let expected = format!("at most {} s before now, {} s after it", max_age_ms / 1_000, LEEWAY_MS / 1_000);
    let found = format_args!(
        "{} s {}",
        age_ms.unsigned_abs().div_ceil(1_000),
        if age_ms < 0 { "after" } else { "before" }
    );
    Err(("jws.header.iat", Problem::expected(expected, found)))
}

/// Where the parts of a token stand.
struct Parts<'t> {
    header: &'t str,
    payload: Range<usize>,
    signature: &'t str,
}

impl Parts<'_> {
    /// Cuts a token; how long signatures are is known, so that nothing has to be searched through.
    fn of(token: &[u8]) -> Result<Parts<'_>, (&'static str, Problem)> {
        let none =
            || ("jws", Problem::expected("a signed policy (compact JWS)", "a document without signature"));
        let (before, end) = token.split_at(token.len().saturating_sub(MOST_SPACE_BYTES));
        let text = token.get(..before.len() + end.trim_ascii_end().len()).unwrap_or(token);
        let start = text.iter().take(MOST_HEADER_BYTES + 1).position(|b| *b == b'.').ok_or_else(none)?;
        let end = text.len().checked_sub(SIGNATURE_CHARS + 1).filter(|end| *end > start).ok_or_else(none)?;
        let (header, signature) = (text.get(..start), text.get(end..));
        let (Some(header), Some([b'.', signature @ ..])) = (header, signature) else { return Err(none()) };
        match (str::from_utf8(header), str::from_utf8(signature)) {
            (Ok(header), Ok(signature)) => Ok(Parts { header, payload: start + 1..end, signature }),
            _ => Err(none()),
        }
    }
}

fn signature(text: &str) -> Option<Signature> {
    let mut bytes = [0; SIGNATURE_LENGTH];
    (Base64UrlUnpadded::decode(text, &mut bytes).ok()?.len() == SIGNATURE_LENGTH).then_some(())?;
    Some(Signature::from_bytes(&bytes))
}

/// Decodes a piece of base64url; all pieces but the last are of whole groups.
fn decode_onto(bytes: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let length = bytes.len();
    bytes.resize(length + text.len() / 4 * 3 + 3, 0);
    let decoded = Base64UrlUnpadded::decode(text, bytes.get_mut(length..)?).ok()?.len();
    bytes.truncate(length + decoded);
    Some(())
}

/// Opens a signed document at once, whatever its age.
///
/// # Errors
/// Why it is refused.
pub fn open(token: Vec<u8>, keys: Rc<VerifyKeys>) -> Result<Vec<u8>, Finding> {
    let mut opening = Opening::new(token, keys, None);
    while opening.step()? {}
    Ok(opening.into_parts().1)
}

/// Whether a document is meant to be a JWS: policies are JSON, and start otherwise.
#[must_use]
pub fn is_token(document: &[u8]) -> bool {
    document.starts_with(b"eyJ")
}

/// The header and the policy of a signed document, whose signature nobody has verified.
///
/// # Errors
/// Why it cannot be read.
pub fn unverified(token: &[u8]) -> Result<(Box<str>, Vec<u8>), Finding> {
    let read = || {
        let parts = Parts::of(token)?;
        let kid = check(parts.header)?;
        let mut payload = Vec::new();
        decode_onto(&mut payload, token.get(parts.payload).unwrap_or_default())
            .ok_or_else(|| ("jws.payload", Problem::expected("base64url", "something else")))?;
        Ok((kid, payload))
    };
    read().map_err(|(place, problem): (&str, Problem)| Finding { place: place.to_owned(), problem })
}

/// Signs a policy, at `now_ms` (unix milliseconds).
#[must_use]
pub fn sign(policy: &[u8], kid: &str, key: &SigningKey, now_ms: i64) -> String {
    let header = serde_json::json!({"alg": "EdDSA", "kid": kid, "iat": now_ms.div_euclid(1_000)}).to_string();
    let part = Base64UrlUnpadded::encode_string;
    let mut token = format!("{}.{}", part(header.as_bytes()), part(policy));
    let signature = part(&key.sign(token.as_bytes()).to_bytes());
    token.push('.');
    token.push_str(&signature);
    token
}

#[cfg(test)]
mod tests;
