//! Whose signatures are believed, and what is under them: nothing is edited and signed anew that was not verified.

use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use mulkko::configuration::Configuration;
use mulkko::finding::{Findings, Path};
use mulkko::jws::{self, VerifyKeys};
use mulkko::policy::Policy;

use super::document::Plugin;
use super::signing::{PrivateKey, PublicKey};

/// Whose signatures are believed besides those by the key that signs.
#[derive(Args, Clone, Debug)]
pub struct Believed {
    /// A key whose signatures are believed besides the signing key's, as `mulkko keygen --public` prints it, again for more
    #[arg(long, value_name = "JSON", help_heading = "The proxy")]
    verify: Vec<PublicKey>,

    #[command(flatten)]
    plugin: Plugin,
}

/// The keys that are believed, and the proxies that a policy is for.
pub struct Verifier {
    /// Each set by itself: a plugin configuration's are compiled already.
    sets: Vec<Rc<VerifyKeys>>,
    pub configuration: Configuration,
}

/// A policy that may be edited.
pub struct Verified {
    pub text: String,
    pub policy: Policy,
    /// The key that signed it, where it is signed.
    pub kid: Option<Box<str>>,
}

impl Believed {
    /// The keys, with the public half of the key that signs.
    ///
    /// # Errors
    /// When a file cannot be read, or is refused.
    pub fn verifier(&self, key: Option<&PrivateKey>) -> Result<Verifier> {
        let configuration = self.plugin.configuration()?;
        let mut sets: Vec<_> = configuration.verify.iter().cloned().collect();
        for key in self.verify.iter().cloned().chain(key.map(PrivateKey::public)) {
            sets.push(compiled(&key)?);
        }
        Ok(Verifier { sets, configuration })
    }
}

fn compiled(key: &PublicKey) -> Result<Rc<VerifyKeys>> {
    let mut findings = Findings::default();
    let keys = VerifyKeys::compile(&[key.wire()], &Path::Root.field("verify"), &mut findings);
    match findings.into_vec().first() {
        Some(finding) => bail!("{finding}"),
        None => Ok(Rc::new(keys)),
    }
}

impl Verifier {
    /// Whether a key is known at all.
    pub fn has_keys(&self) -> bool {
        !self.sets.is_empty()
    }

    /// The policy in a signed document, and the key that signed it.
    ///
    /// # Errors
    /// When no known key has: by what the last set of keys has against it.
    pub fn open(&self, token: &[u8]) -> Result<(Box<str>, Vec<u8>)> {
        let (kid, _) = jws::unverified(token).map_err(|finding| anyhow!("{finding}"))?;
        let mut refusal = anyhow!("there is no key to verify it with: `--verify` or `--plugin` names one");
        for keys in &self.sets {
            match jws::open(token.to_vec(), Rc::clone(keys)) {
                Ok(policy) => return Ok((kid, policy)),
                Err(finding) => refusal = anyhow!("{finding}"),
            }
        }
        Err(refusal)
    }

    /// The policy `name` in a document that a server gives, of `revision` where one was asked for.
    ///
    /// # Errors
    /// When it is another policy or revision, is refused, or where keys are known: not signed by one of them.
    pub fn policy(&self, name: &str, revision: Option<u64>, document: &[u8]) -> Result<Verified> {
        let (kid, text) = if jws::is_token(document) {
            let (kid, text) = self.open(document).with_context(|| format!("{name} is not believed"))?;
            (Some(kid), text)
        } else {
            ensure!(!self.has_keys(), "{name} is not believed: the server gives one that is not signed");
            (None, document.to_vec())
        };
        let policy = Policy::parse(&text, &self.configuration.clusters).map_err(|found| {
            anyhow!("{name} is refused: {}", found.first().map(ToString::to_string).unwrap_or_default())
        })?;
        let its_name = policy.name.as_deref();
        if its_name.is_some_and(|it| it != name) || (kid.is_some() && its_name.is_none()) {
            bail!("asked for {name}, the server gives {}", its_name.unwrap_or("a policy without a name"));
        }
        if let Some(asked) = revision.filter(|asked| *asked != policy.revision) {
            bail!("asked for revision {asked} of {name}, the server gives {}", policy.revision);
        }
        Ok(Verified { text: String::from_utf8(text)?, policy, kid })
    }
}
