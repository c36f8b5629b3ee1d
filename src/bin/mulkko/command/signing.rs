//! Keys that sign policies, as JSON Web Keys (RFC 8037, section 2).

use std::str::FromStr;

use anyhow::{Context, Result, anyhow, ensure};
use base64ct::{Base64UrlUnpadded, Encoding};
use clap::Args;
use ed25519_dalek::SigningKey;
use mulkko::{jws, wire};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::moments::now_ms;

/// The environment variable that holds a private key.
pub const KEY_VARIABLE: &str = "MULKKO_SIGNING_KEY";

/// Where the private key is.
#[derive(Args, Clone, Debug)]
pub struct KeyEnv {
    /// The environment variable that holds the private key, as `mulkko keygen` prints it
    #[arg(long, value_name = "NAME", default_value = KEY_VARIABLE)]
    key_env: String,
}

impl KeyEnv {
    /// The private key, if the variable is set.
    ///
    /// # Errors
    /// When it holds none.
    pub fn key(&self) -> Result<Option<PrivateKey>> {
        let Ok(text) = std::env::var(&self.key_env) else { return Ok(None) };
        PrivateKey::parse(&text).with_context(|| self.key_env.clone()).map(Some)
    }

    /// The private key.
    ///
    /// # Errors
    /// When the variable is not set, or holds none.
    pub fn required(&self) -> Result<PrivateKey> {
        self.key()?.ok_or_else(|| anyhow!("{}: no key; `mulkko keygen` makes one", self.key_env))
    }
}

/// A public key, as a plugin configuration lists it; whether it is one is seen when it is compiled.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicKey {
    kid: String,
    ed25519: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age: Option<String>,
}

impl FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<PublicKey, &'static str> {
        let expected = r#"expected `{"kid":"2026-11","ed25519":"…"}`, as `mulkko keygen --public` prints it"#;
        serde_json::from_str(text).map_err(|_| expected)
    }
}

impl PublicKey {
    /// The key, as a plugin configuration has it.
    pub fn wire(&self) -> wire::Verify {
        let PublicKey { kid, ed25519, max_age } = self.clone();
        wire::Verify { kid, ed25519, max_age }
    }
}

/// A private key, and its name.
pub struct PrivateKey {
    kid: String,
    key: SigningKey,
}

#[derive(Deserialize, Serialize)]
struct Jwk {
    kty: String,
    crv: String,
    kid: String,
    x: String,
    d: String,
}

impl PrivateKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(kid: &str) -> Result<PrivateKey> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| anyhow!("no randomness: {error}"))?;
        Ok(PrivateKey { kid: kid.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a JWK. No error shows anything of it.
    fn parse(text: &str) -> Result<PrivateKey> {
        let jwk: Jwk = serde_json::from_str(text)
            .map_err(|_| anyhow!("expected a JWK with `kty`, `crv`, `kid`, `x` and `d`"))?;
        ensure!(
            jwk.kty == "OKP" && jwk.crv == "Ed25519",
            "expected a key of `kty` OKP and `crv` Ed25519, found {} and {}",
            jwk.kty,
            jwk.crv
        );
        ensure!(!jwk.kid.is_empty(), "expected a key with a name, found an empty `kid`");
        let mut seed = [0; 32];
        let decoded = Base64UrlUnpadded::decode(&jwk.d, &mut seed).map(<[u8]>::len);
        ensure!(decoded == Ok(32), "expected 32 bytes in base64url as `d`");
        let key = PrivateKey { kid: jwk.kid, key: SigningKey::from_bytes(&seed) };
        ensure!(key.x() == jwk.x, "`x` is not the public key of `d`");
        Ok(key)
    }

    fn x(&self) -> String {
        Base64UrlUnpadded::encode_string(self.key.verifying_key().as_bytes())
    }

    /// The JWK, private part and all.
    pub fn jwk(&self) -> Value {
        let d = Base64UrlUnpadded::encode_string(self.key.as_bytes());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": self.x(), "d": d })
    }

    /// What a plugin configuration lists below `verify`.
    pub fn public(&self) -> PublicKey {
        PublicKey { kid: self.kid.clone(), ed25519: self.x(), max_age: None }
    }

    /// A policy, signed now.
    pub fn sign(&self, policy: &[u8]) -> String {
        jws::sign(policy, &self.kid, &self.key, now_ms())
    }
}
