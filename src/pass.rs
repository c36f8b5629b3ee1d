//! Passes: signed permission to be forced into a variant, or to be told why.

use std::fmt;
use std::str;

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac_sha256::HMAC;
use serde::Deserialize;

use crate::finding::Problem;
use crate::json::Json;
use crate::jws;

/// The most passes of a request that are read.
const MOST_TOKENS: usize = 8;
/// The most bytes of a pass that is read.
const MOST_TOKEN_BYTES: usize = 4_096;
/// The fewest bytes of a key: as many as the hash has (RFC 7518, section 3.2).
const FEWEST_KEY_BYTES: usize = 32;

/// Whether a secret is long enough to sign with; `expected` says what it should be.
pub(crate) fn check_secret(expected: &'static str, secret: &[u8]) -> Result<(), Problem> {
    if secret.len() < FEWEST_KEY_BYTES {
        return Err(Problem::expected(expected, secret.len()));
    }
    Ok(())
}

/// The longest that a pass is good, in milliseconds: what is over it is no time in seconds.
pub const LONGEST_MS: u64 = 366 * 24 * 60 * 60 * 1_000;
/// How far the clocks of whoever signs and of a proxy may differ, in milliseconds.
const LEEWAY_MS: f64 = 30_000.0;

/// Which passes are believed, and whether they go on upstream.
#[derive(Clone, Default)]
pub struct PassKeys {
    /// The secrets that they may be signed with: several, so that one can replace another.
    secrets: Vec<Box<[u8]>>,
    /// Whom they must be for, where that is asked.
    audience: Option<Box<str>>,
    /// Whether they go on from the edge.
    forwards: bool,
}

impl PassKeys {
    /// No secrets yet; passes must be for `audience`, if there is one, and go on from the edge if it `forwards` them.
    #[must_use]
    pub fn for_audience(audience: Option<Box<str>>, forwards: bool) -> PassKeys {
        PassKeys { secrets: Vec::new(), audience, forwards }
    }

    /// Takes one more secret, its bytes as they stand.
    ///
    /// # Errors
    /// `expected a pass key of at least 32 bytes, found 5`; the other secrets stay in use.
    pub fn add(&mut self, secret: &[u8]) -> Result<(), Problem> {
        check_secret("a pass key of at least 32 bytes", secret)?;
        self.secrets.push(secret.into());
        Ok(())
    }

    /// The one secret of a test or a tool, whatever its length.
    #[must_use]
    pub fn of(secret: &[u8]) -> PassKeys {
        PassKeys { secrets: vec![secret.into()], ..PassKeys::default() }
    }

    /// A pass with these claims (a JSON object), signed with the first of the secrets; `None` without one.
    #[must_use]
    pub fn sign(&self, claims: &str) -> Option<String> {
        let key = self.secrets.first()?;
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(claims));
        let signature = Base64UrlUnpadded::encode_string(&HMAC::mac(&signed, key));
        Some(format!("{signed}.{signature}"))
    }

    /// Whether `signature` is one of `text` by any of the secrets; compared in constant time.
    fn have_signed(&self, text: &str, signature: &str) -> bool {
        let mut bytes = [0; 32];
        // A shorter signature than the hash must not be filled up with zeros.
        match Base64UrlUnpadded::decode(signature, &mut bytes) {
            Ok(decoded) if decoded.len() == 32 => {
                self.secrets.iter().any(|key| HMAC::verify(text, key, &bytes))
            }
            _ => false,
        }
    }
}

impl fmt::Debug for PassKeys {
    /// Says how many there are, and no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PassKeys({})", self.secrets.len())
    }
}

/// The passes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passes<'a> {
    /// Those that verify and are in time, in order.
    pub verified: Vec<Pass<'a>>,
    /// How many others there are.
    pub refused: usize,
    /// Whether they go on from the edge.
    pub forwards: bool,
}

impl Passes<'_> {
    /// What they force, in order.
    pub fn forced(&self) -> impl Iterator<Item = &Forced> {
        self.verified.iter().filter_map(|pass| pass.forced.as_ref())
    }

    /// Whether one of them asks for an explanation.
    #[must_use]
    pub fn explain(&self) -> bool {
        self.verified.iter().any(|pass| pass.explain)
    }

    /// What goes on upstream from the edge as `x-mulkko-pass`: the verified passes as they came, where that is asked for and
    /// there are any.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let tokens: Vec<&str> = self.verified.iter().map(|pass| pass.token).collect();
        (self.forwards && !tokens.is_empty()).then(|| tokens.join(","))
    }
}

/// A pass that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass<'a> {
    /// The JWT as it came.
    pub token: &'a str,
    /// What it forces, if it forces something.
    pub forced: Option<Forced>,
    /// Whether the response tells why.
    pub explain: bool,
}

/// A variant that a pass forces. Whether a policy has it is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The rollout.
    pub rollout: Box<str>,
    /// Its variant.
    pub variant: Box<str>,
}

/// Reads the header `x-mulkko-pass`: up to 8 JWTs, divided by commas; empty items are none.
///
/// A JWT is verified when `keys` has its HS256 signature, its header says so and has no `crit`, and its claims hold
/// `exp` in seconds with `now_ms` before it, at most 366 days, an `nbf`, if any, that `now_ms` (milliseconds since 1970) has
/// reached (clocks may differ by 30 s), an `aud` that is or has the audience, where there is one, `rollout` and `variant` both
/// or neither, and an `explain` that is a boolean, if any. Fractions of a second count to the millisecond. All other claims are
/// ignored. Refused without being read are tokens over 4,096 bytes and all after
/// the eighth; nothing of a token is parsed before its signature is verified.
#[must_use]
pub fn read<'a>(header: &'a [u8], keys: &PassKeys, now_ms: i64) -> Passes<'a> {
    let mut tokens = header.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty());
    let mut passes = Passes { forwards: keys.forwards, ..Passes::default() };
    for token in tokens.by_ref().take(MOST_TOKENS) {
        match verify(token, keys, now_ms) {
            Some(pass) => passes.verified.push(pass),
            None => passes.refused += 1,
        }
    }
    passes.refused += tokens.count();
    passes
}

fn verify<'a>(token: &'a [u8], keys: &PassKeys, now_ms: i64) -> Option<Pass<'a>> {
    if token.len() > MOST_TOKEN_BYTES {
        return None;
    }
    let token = str::from_utf8(token).ok()?;
    let (signed, signature) = token.rsplit_once('.')?;
    if !keys.have_signed(signed, signature) {
        return None;
    }
    let (header, claims) = signed.split_once('.')?;
    jws::object::<jws::Header>(header).filter(|header| &*header.alg == "HS256" && !header.crit)?;
    let claims = jws::object::<Claims>(claims).filter(|claims| claims.are_in_time(now_ms))?;
    if keys.audience.as_deref().is_some_and(|audience| !claims.are_for(audience)) {
        return None;
    }
    let forced = match (claims.rollout, claims.variant) {
        (Some(rollout), Some(variant)) => Some(Forced { rollout, variant }),
        (None, None) => None,
        _ => return None,
    };
    Some(Pass { token, forced, explain: claims.explain })
}

/// What is read of a JWT's claims. A member that stands twice is refused, and so is `null`.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default, deserialize_with = "crate::wire::some")]
    nbf: Option<f64>,
    aud: Option<Json>,
    #[serde(default, deserialize_with = "crate::wire::some")]
    rollout: Option<Box<str>>,
    #[serde(default, deserialize_with = "crate::wire::some")]
    variant: Option<Box<str>>,
    #[serde(default)]
    explain: bool,
}

impl Claims {
    #[expect(clippy::cast_precision_loss, reason = "doubles hold the milliseconds of 285,000 years")]
    fn are_in_time(&self, now_ms: i64) -> bool {
        let now_ms = now_ms as f64;
        let left_ms = to_ms(self.exp) - now_ms;
        -LEEWAY_MS < left_ms
            && left_ms <= LONGEST_MS as f64
            && self.nbf.is_none_or(|nbf| now_ms >= to_ms(nbf) - LEEWAY_MS)
    }

    /// Whether `aud` is this text, or a list that has it (RFC 7519, section 4.1.3).
    fn are_for(&self, audience: &str) -> bool {
        let is_it = |json: &Json| matches!(json, Json::Text(text) if **text == *audience);
        match &self.aud {
            Some(Json::List(list)) => list.iter().any(is_it),
            Some(json) => is_it(json),
            None => false,
        }
    }
}

fn to_ms(seconds: f64) -> f64 {
    (seconds * 1_000.0).round()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const OTHER_KEY: &[u8] = b"another key that has 32 bytes too";
    const NOW_MS: i64 = 1_800_000_000_500;
    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const CLAIMS: &str = r#"{"exp":1800000060,"rollout":"checkout-v2","variant":"canary"}"#;

    #[test]
    fn a_signed_pass_forces_its_variant() {
        let token = signed(HS256, CLAIMS, KEY);
        let passes = read(token.as_bytes(), &keys(&[KEY]), NOW_MS);
        let forced = Forced { rollout: "checkout-v2".into(), variant: "canary".into() };
        assert_eq!(passes.verified, [Pass { token: &token, forced: Some(forced), explain: false }]);
        assert_eq!(passes.refused, 0);
        assert_eq!(passes.header(), None);
        let mut keys = PassKeys::for_audience(None, true);
        keys.add(KEY).unwrap();
        assert_eq!(read(token.as_bytes(), &keys, NOW_MS).header(), Some(token));
    }

    #[test]
    fn where_an_audience_is_expected_a_pass_is_for_it() {
        let mut keys = PassKeys::for_audience(Some("shop".into()), false);
        keys.add(KEY).unwrap();
        for (aud, verified) in [
            (r#","aud":"shop""#, 1),
            (r#","aud":["cart","shop"]"#, 1),
            (r#","aud":"cart""#, 0),
            (r#","aud":"shop ""#, 0),
            (r#","aud":["cart"]"#, 0),
            (r#","aud":[]"#, 0),
            (r#","aud":[["shop"]]"#, 0),
            (r#","aud":{"shop":1}"#, 0),
            (r#","aud":null"#, 0),
            (r#","aud":1"#, 0),
            ("", 0),
        ] {
            let token = signed(HS256, &format!(r#"{{"exp":1820000000{aud}}}"#), KEY);
            let passes = read(token.as_bytes(), &keys, NOW_MS);
            assert_eq!((passes.verified.len(), passes.refused), (verified, 1 - verified), "{aud}");
        }
    }

    #[test]
    fn the_token_of_rfc_7515_verifies_until_it_expires() {
        let key = Base64UrlUnpadded::decode_vec(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        )
        .unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
            dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        for (now_ms, verified) in [(1_300_819_409_999, 1), (1_300_819_410_000, 0)] {
            assert_eq!(read(token.as_bytes(), &keys(&[&key]), now_ms).verified.len(), verified);
        }
    }

    #[test]
    fn claims_that_verify() {
        for (claims, forces, explain) in [
            (r#"{"exp":1800000001}"#, false, false),
            (r#"{"exp":1800000000.501}"#, false, false),
            (r#"{"exp":1.82e9}"#, false, false),
            // 366 days and clocks that differ.
            (r#"{"exp":1831622400.5}"#, false, false),
            (r#"{"exp":1799999970.501}"#, false, false),
            (r#"{"exp":1820000000,"nbf":1800000030.5}"#, false, false),
            (r#"{"exp":1820000000,"nbf":1800000000}"#, false, false),
            (r#"{"exp":1820000000,"nbf":1800000000.5}"#, false, false),
            (r#"{"exp":1820000000,"nbf":-1}"#, false, false),
            (r#"{"exp":1820000000,"explain":true}"#, false, true),
            (r#"{"exp":1820000000,"explain":false}"#, false, false),
            (r#"{"exp":1820000000,"explain":true,"rollout":"a","variant":"b"}"#, true, true),
            (r#"{"exp":1820000000,"sub":"x","sub":[{}],"iat":null,"aud":{"exp":1}}"#, false, false),
            (" {\n\"\\u0065xp\" : 1820000000 } ", false, false),
        ] {
            let token = signed(HS256, claims, KEY);
            let passes = read(token.as_bytes(), &keys(&[KEY]), NOW_MS);
            let [pass] = &passes.verified[..] else { panic!("refused: {claims}") };
            assert_eq!((pass.forced.is_some(), pass.explain), (forces, explain), "{claims}");
        }
    }

    #[test]
    fn claims_that_are_refused() {
        for claims in [
            "{}",
            r#"{"rollout":"a","variant":"b"}"#,
            r#"{"exp":1799999970}"#,
            r#"{"exp":1799999970.5}"#,
            // Beyond 366 days: milliseconds, for one.
            r#"{"exp":1831622400.501}"#,
            r#"{"exp":1800000060000}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":-1e300}"#,
            r#"{"exp":1e999}"#,
            r#"{"exp":null}"#,
            r#"{"exp":"1820000000"}"#,
            r#"{"exp":[1820000000]}"#,
            r#"{"Exp":1820000000}"#,
            r#"{"exp":1820000000,"exp":1820000000}"#,
            r#"{"exp":1820000000,"nbf":1800000031}"#,
            r#"{"exp":1820000000,"nbf":1800000030.501}"#,
            r#"{"exp":1820000000,"nbf":null}"#,
            r#"{"exp":1820000000,"nbf":"0"}"#,
            r#"{"exp":1820000000,"rollout":"a"}"#,
            r#"{"exp":1820000000,"variant":"b"}"#,
            r#"{"exp":1820000000,"rollout":"a","variant":null}"#,
            r#"{"exp":1820000000,"rollout":null,"variant":null}"#,
            r#"{"exp":1820000000,"rollout":1,"variant":"b"}"#,
            r#"{"exp":1820000000,"rollout":"a","rollout":"c","variant":"b"}"#,
            r#"{"exp":1820000000,"explain":"true"}"#,
            r#"{"exp":1820000000,"explain":null}"#,
            r#"{"exp":1820000000"#,
            r#"{"exp":1820000000}{}"#,
            "[1820000000,0,\"a\",\"b\",true]",
            "1820000000",
            "null",
            "",
        ] {
            refuses(&signed(HS256, claims, KEY));
        }
    }

    #[test]
    fn claims_that_are_not_utf_8_are_refused() {
        refuses(&sealed(HS256.as_bytes(), b"{\"exp\":1820000000,\"sub\":\"\xff\"}", KEY));
    }

    #[test]
    fn headers_other_than_plain_hs256_are_refused() {
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS256 "}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":null}"#,
            r#"{"typ":"JWT"}"#,
            r#"["HS256",false]"#,
            "",
        ] {
            refuses(&signed(header, CLAIMS, KEY));
        }
    }

    #[test]
    fn signatures_that_do_not_fit_are_refused() {
        let token = signed(HS256, CLAIMS, KEY);
        let (text, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = text.split_once('.').unwrap();
        let forged = signed(HS256, &CLAIMS.replace("canary", "stable"), OTHER_KEY);
        let (forged_text, _) = forged.rsplit_once('.').unwrap();
        for token in [
            format!("{forged_text}.{signature}"),
            signed(HS256, CLAIMS, OTHER_KEY),
            signed(HS256, CLAIMS, b""),
            format!("{text}."),
            format!("{text}.{}", &signature[..42]),
            format!("{text}.{signature}="),
            format!("{text}.{signature}A"),
            format!("{text}.{}", signature.to_uppercase()),
            format!("{header}.{signature}"),
            format!("{text}.{signature}.{signature}"),
            format!("{header}.{claims}.{claims}.{signature}"),
            format!(" {header} .{claims}.{signature}"),
            text.to_owned(),
            "..".to_owned(),
            ".".to_owned(),
            "null".to_owned(),
        ] {
            refuses(&token);
        }
    }

    #[test]
    fn a_changed_byte_makes_a_pass_invalid() {
        let token = signed(HS256, r#"{"exp":1820000000}"#, KEY);
        for place in 0..token.len() {
            for byte in (0x21..0x7f).filter(|byte| *byte != token.as_bytes()[place]) {
                let mut changed = token.clone().into_bytes();
                changed[place] = byte;
                let passes = read(&changed, &keys(&[KEY]), NOW_MS);
                assert!(passes.verified.is_empty(), "{}", changed.escape_ascii());
            }
        }
    }

    #[test]
    fn a_signed_text_that_is_no_token_is_refused() {
        for text in ["", ".", "..", "a.b", "a.b.c", "é.é", "e30=.e30="] {
            let signature = Base64UrlUnpadded::encode_string(&HMAC::mac(text, KEY));
            refuses(&format!("{text}.{signature}"));
        }
    }

    #[test]
    fn a_pass_signed_with_any_of_the_keys_verifies() {
        let header = format!("{},{}", signed(HS256, CLAIMS, KEY), signed(HS256, CLAIMS, OTHER_KEY));
        for (keys, verified) in [
            (keys(&[KEY, OTHER_KEY]), 2),
            (keys(&[OTHER_KEY, KEY]), 2),
            (keys(&[OTHER_KEY]), 1),
            (keys(&[]), 0),
        ] {
            let passes = read(header.as_bytes(), &keys, NOW_MS);
            assert_eq!((passes.verified.len(), passes.refused), (verified, 2 - verified), "{keys:?}");
        }
    }

    #[test]
    fn verified_passes_go_on_as_they_came() {
        let (a, b) = (signed(HS256, CLAIMS, KEY), signed(HS256, r#"{"exp":1820000000}"#, KEY));
        let header = [b", ,\t", a.as_bytes(), b" ,,x.y.z,\xff , ", b.as_bytes(), b" ,"].concat();
        let mut forwarding = PassKeys::for_audience(None, true);
        forwarding.add(KEY).unwrap();
        let passes = read(&header, &forwarding, NOW_MS);
        assert_eq!(passes.header(), Some(format!("{a},{b}")));
        assert_eq!(passes.refused, 2);
    }

    #[test]
    fn without_a_token_there_is_no_pass() {
        for header in [&b""[..], b" ", b",, ,"] {
            assert_eq!(read(header, &keys(&[KEY]), NOW_MS), Passes::default());
        }
        assert_eq!(Passes::default().header(), None);
    }

    #[test]
    fn passes_after_the_eighth_are_refused() {
        let header = vec![signed(HS256, CLAIMS, KEY); 9].join(" , ");
        let passes = read(header.as_bytes(), &keys(&[KEY]), NOW_MS);
        assert_eq!((passes.verified.len(), passes.refused), (8, 1));
        let header = format!("{}{header}", "x,".repeat(30_000));
        let passes = read(header.as_bytes(), &keys(&[KEY]), NOW_MS);
        assert_eq!((passes.verified.len(), passes.refused), (0, 30_009));
    }

    #[test]
    fn a_token_over_4096_bytes_is_refused() {
        for (padding, length, verified) in [(2_986, 4_096, 1), (2_987, 4_097, 0)] {
            let claims = format!(r#"{{"exp":1820000000,"x":"{}"}}"#, "x".repeat(padding));
            let token = signed(HS256, &claims, KEY);
            assert_eq!(token.len(), length);
            assert_eq!(read(token.as_bytes(), &keys(&[KEY]), NOW_MS).verified.len(), verified);
        }
    }

    #[test]
    fn short_keys_are_refused() {
        let mut keys = PassKeys::default();
        for (secret, refusal) in [
            (&KEY[..31], "expected a pass key of at least 32 bytes, found 31"),
            (b"", "expected a pass key of at least 32 bytes, found 0"),
        ] {
            assert_eq!(keys.add(secret).unwrap_err().to_string(), refusal);
        }
        assert_eq!(keys.add(KEY), Ok(()));
        assert_eq!(format!("{keys:?}"), "PassKeys(1)");
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_header_makes_the_reader_panic(
            header in proptest::collection::vec(any::<u8>(), 0..256),
            text in "[a-z0-9_.,= -]{0,64}",
        ) {
            let keys = keys(&[KEY]);
            prop_assert!(read(&header, &keys, NOW_MS).verified.is_empty());
            prop_assert!(read(text.as_bytes(), &keys, NOW_MS).verified.is_empty());
        }

        #[test]
        fn no_signed_bytes_make_the_reader_panic(
            header in proptest::collection::vec(any::<u8>(), 0..32),
            claims in proptest::collection::vec(any::<u8>(), 0..64),
            number in "-?[0-9]{1,30}(\\.[0-9]{1,30})?(e[-+]?[0-9]{1,4})?",
            now_ms: i64,
        ) {
            let keys = keys(&[KEY]);
            let number = format!(r#"{{"exp":{number},"nbf":{number}}}"#);
            let tokens =
                [sealed(&header, &claims, KEY), sealed(HS256.as_bytes(), &claims, KEY), signed(HS256, &number, KEY)];
            for token in tokens {
                prop_assert!(read(token.as_bytes(), &keys, now_ms).verified.is_empty());
            }
        }
    }

    fn keys(secrets: &[&[u8]]) -> PassKeys {
        let mut keys = PassKeys::default();
        for secret in secrets {
            keys.add(secret).unwrap();
        }
        keys
    }

    fn signed(header: &str, claims: &str, key: &[u8]) -> String {
        sealed(header.as_bytes(), claims.as_bytes(), key)
    }

    fn sealed(header: &[u8], claims: &[u8], key: &[u8]) -> String {
        let encode = Base64UrlUnpadded::encode_string;
        let text = format!("{}.{}", encode(header), encode(claims));
        let signature = encode(&HMAC::mac(&text, key));
        format!("{text}.{signature}")
    }

    #[track_caller]
    fn refuses(token: &str) {
        let passes = read(token.as_bytes(), &keys(&[KEY]), NOW_MS);
        assert_eq!(passes, Passes { refused: 1, ..Passes::default() }, "{token}");
    }
}
