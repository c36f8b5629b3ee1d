//! The plugin configuration, compiled.

use std::rc::Rc;
use std::sync::Arc;

use crate::decide::Trust;
use crate::finding::{Finding, Findings, Path, Problem};
use crate::jws::VerifyKeys;
use crate::mesh::{Macs, MeshKeys};
use crate::moment::Duration;
use crate::ofrep::Ofrep;
use crate::pass::PassKeys;
use crate::policy::shape::Piece;
use crate::policy::{Clusters, Policy, check_name};
use crate::update::{Rules, Signed};
use crate::wire;

/// The longest that any of the durations may be, in milliseconds: a day.
const LONGEST_MS: u64 = 24 * 60 * 60 * 1_000;

/// The most keys by which proxies vouch for their decisions: one in use, one to come, and some to spare.
const MOST_MESH_KEYS: usize = 8;

/// The most that `ofrep.maxBodyBytes` may be: what Envoy buffers unless it is told otherwise.
const MOST_BODY_BYTES: usize = 1 << 20;

/// What the plugin is told by the listener that it runs in.
#[derive(Debug)]
pub struct Configuration {
    /// What tells policies of one process apart.
    pub name: Box<str>,
    /// Where policies come from.
    pub source: Option<Source>,
    /// The inline policy.
    pub policy: Option<Rc<Policy>>,
    /// Whether requests are believed.
    pub trust: Trust,
    /// Where policies may route to.
    pub clusters: Clusters,
    /// Who may sign policies; with it, only signed ones are fetched.
    pub verify: Option<Rc<VerifyKeys>>,
    /// The environment variables that hold the keys of passes.
    pub pass_keys: Vec<Box<str>>,
    /// Whom passes must be for, where that is asked.
    pub pass_audience: Option<Box<str>>,
    /// Whether passes go on upstream from the edge.
    pub forwards_passes: bool,
    /// The environment variables that hold the keys by which proxies vouch for their decisions, where that is asked for.
    pub mesh_keys: Option<Vec<Box<str>>>,
    /// Whether users whose variant has a cluster that the proxy lacks get the default; else their requests fail.
    pub spares_missing: bool,
    /// How OFREP is answered, if it is.
    pub ofrep: Option<Ofrep>,
}

/// The config cluster, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Envoy's name of it.
    pub cluster: Box<str>,
    /// The host that is asked for.
    pub authority: Box<str>,
    /// The path of the policy.
    pub path: Box<str>,
    /// How often it is asked for, in milliseconds.
    pub poll_ms: u64,
    /// How long the server may wait for news, in seconds; 0: it answers at once.
    pub wait_s: u64,
    /// How long an answer may take beyond the wait, in milliseconds.
    pub timeout_ms: u64,
    /// The environment variable that holds the token with which it is asked.
    pub token: Option<Box<str>>,
}

impl Default for Configuration {
    /// What a refused configuration acts as.
    fn default() -> Self {
        Configuration {
            name: "default".into(),
            source: None,
            policy: None,
            trust: Trust::Edge,
            clusters: Clusters::default(),
            verify: None,
            pass_keys: Vec::new(),
            pass_audience: None,
            forwards_passes: false,
            mesh_keys: None,
            spares_missing: true,
            ofrep: None,
        }
    }
}

impl Configuration {
    /// What fetched documents must be.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let signed = |keys| Signed { keys: Rc::clone(keys), name: self.name.clone() };
        Rules { clusters: self.clusters.clone(), signed: self.verify.as_ref().map(signed) }
    }

    /// Which passes are believed: none until secrets are added.
    #[must_use]
    pub fn passes(&self) -> PassKeys {
        PassKeys::for_audience(self.pass_audience.clone(), self.forwards_passes)
    }

    /// What vouches for the decisions under one policy, by these keys, where that is asked for.
    #[must_use]
    pub fn macs(&self, keys: &Arc<MeshKeys>) -> Option<Macs> {
        self.mesh_keys.as_ref().map(|_| Macs::new(&self.name, Arc::clone(keys)))
    }

    /// Reads a plugin configuration; nothing at all reads as `{}`.
    ///
    /// # Errors
    /// What is wrong with it, the inline policy included.
    pub fn parse(text: &[u8]) -> Result<Configuration, Vec<Finding>> {
        let mut findings = Findings::default();
        let text = if text.trim_ascii().is_empty() { b"{}" } else { text };
        let compiled = Piece::whole(text)
            .read::<wire::Plugin>(&Path::Root, &mut findings)
            .and_then(|wire| compile(&wire, &mut findings));
        match (compiled, findings.is_empty()) {
            (Some(configuration), true) => Ok(configuration),
            _ => Err(findings.into_vec()),
        }
    }
}

fn compile(wire: &wire::Plugin, findings: &mut Findings) -> Option<Configuration> {
    let mut configuration = Configuration::default();
    if let Some(name) = &wire.name {
        check_name(name, &Path::Root.field("name"), findings);
        configuration.name = name.as_str().into();
    }
    if let Some(wire) = &wire.ofrep {
        configuration.ofrep = Some(ofrep(wire, &Path::Root.field("ofrep"), findings));
    }
    if wire.trust == Some(wire::Trust::Mesh) {
        configuration.trust = Trust::Mesh;
    }
    configuration.spares_missing = wire.missing_cluster == wire::MissingCluster::Default;
    if let Some(clusters) = &wire.clusters {
        configuration.clusters = Clusters::matching(clusters.iter().map(|it| it.as_str().into()).collect());
    }
    if let Some(keys) = &wire.verify {
        let keys = VerifyKeys::compile(keys, &Path::Root.field("verify"), findings);
        configuration.verify = Some(Rc::new(keys));
    }
    let names = |keys: &[wire::Secret]| keys.iter().map(|key| key.env.as_str().into()).collect();
    configuration.pass_keys = names(&wire.pass_keys);
    if let Some(audience) = &wire.pass_audience {
        if audience.is_empty() {
            findings
                .report(&Path::Root.field("passAudience"), Problem::expected("a text, not empty", "\"\""));
        }
        configuration.pass_audience = Some(audience.as_str().into());
    }
    configuration.forwards_passes = wire.forward_passes;
    if let Some(keys) = &wire.mesh_keys {
        if !(1..=MOST_MESH_KEYS).contains(&keys.len()) {
            let problem = Problem::expected("1 to 8 keys", keys.len());
            findings.report(&Path::Root.field("meshKeys"), problem);
        }
        configuration.mesh_keys = Some(names(keys));
    }
    if let Some(source) = &wire.source {
        configuration.source = Some(self::source(source, &Path::Root.field("source"), findings)?);
    }
    if let Some(policy) = &wire.policy {
        match Policy::parse(policy.get().as_bytes(), &configuration.clusters) {
            Ok(policy) => configuration.policy = Some(Rc::new(policy)),
            Err(found) => findings.adopt(&Path::Root.field("policy"), found),
        }
    }
    Some(configuration)
}

fn source(source: &wire::PluginSource, place: &Path<'_>, findings: &mut Findings) -> Option<Source> {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let authority = source.authority.as_ref().unwrap_or(&source.cluster);
    for (member, value) in [("cluster", &source.cluster), ("authority", authority)] {
        if !visible(value) {
            let problem = Problem::expected("visible ASCII, not empty", format_args!("\"{value}\""));
            findings.report(&place.field(member), problem);
        }
    }
    if !visible(&source.path) || !source.path.starts_with('/') {
        let problem = Problem::expected("a path that starts with `/`", format_args!("\"{}\"", source.path));
        findings.report(&place.field("path"), problem);
    }
    let poll_ms = duration(source.poll.as_deref(), 5_000, 1, &place.field("poll"), findings);
    let wait_ms = duration(source.wait.as_deref(), 0, 0, &place.field("wait"), findings);
    let timeout_ms = duration(source.timeout.as_deref(), 2_000, 1, &place.field("timeout"), findings);
    let wait_ms = wait_ms?;
    if wait_ms % 1_000 != 0 {
        let found = source.wait.as_deref().unwrap_or_default();
        findings.report(&place.field("wait"), Problem::expected("whole seconds", found));
    }
    Some(Source {
        cluster: source.cluster.as_str().into(),
        authority: authority.as_str().into(),
        path: source.path.as_str().into(),
        poll_ms: poll_ms?,
        wait_s: wait_ms / 1_000,
        timeout_ms: timeout_ms?,
        token: source.token.as_ref().map(|token| token.env.as_str().into()),
    })
}

fn ofrep(ofrep: &wire::Ofrep, place: &Path<'_>, findings: &mut Findings) -> Ofrep {
    // No query, no fragment, nothing to decode: what Envoy matches routes with.
    let is_path = |text: &str| {
        text.starts_with('/')
            && !text.ends_with('/')
            && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#%".contains(&b))
    };
    if !is_path(&ofrep.prefix) {
        let expected = "a path that starts with `/`, without `/` at its end";
        let problem = Problem::expected(expected, format_args!("\"{}\"", ofrep.prefix));
        findings.report(&place.field("prefix"), problem);
    }
    let at = place.field("allowOrigins");
    for (i, origin) in ofrep.allow_origins.iter().enumerate() {
        if !is_origin(origin) {
            let problem =
                Problem::expected("an origin (`https://shop.example.com`)", format_args!("\"{origin}\""));
            findings.report(&at.item(i), problem);
        }
    }
    let max_body_bytes = ofrep.max_body_bytes.unwrap_or(64 << 10);
    if !(1..=MOST_BODY_BYTES).contains(&max_body_bytes) {
        let problem = Problem::expected("1 to 1048576", max_body_bytes);
        findings.report(&place.field("maxBodyBytes"), problem);
    }
    Ofrep {
        prefix: ofrep.prefix.as_str().into(),
        bearer: ofrep.bearer.as_ref().map(|bearer| bearer.env.as_str().into()),
        allow_origins: ofrep.allow_origins.iter().map(|origin| origin.as_str().into()).collect(),
        max_body_bytes,
    }
}

/// Whether `text` is an origin as browsers send it: scheme, host in lower case, port if it is not the scheme's own.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let is_host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
    is_scheme && !host.is_empty() && host.bytes().all(is_host)
}

/// A duration in milliseconds, from `least_ms` to a day.
fn duration(
    text: Option<&str>,
    default_ms: u64,
    least_ms: u64,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<u64> {
    let Some(text) = text else { return Some(default_ms) };
    match Duration::parse(text).map(Duration::as_ms) {
        Ok(ms) if (least_ms..=LONGEST_MS).contains(&ms) => return Some(ms),
        Ok(_) => {
            let expected = if least_ms == 0 { "at most 1d" } else { "above 0, at most 1d" };
            findings.report(place, Problem::expected(expected, text));
        }
        Err(problem) => findings.report(place, problem),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_an_empty_object_are_the_defaults() {
        for text in ["", " ", "{}"] {
            let configuration = Configuration::parse(text.as_bytes()).unwrap();
            assert_eq!(&*configuration.name, "default", "{text:?}");
            assert_eq!(configuration.trust, Trust::Edge);
            assert!(configuration.source.is_none() && configuration.policy.is_none());
        }
    }

    #[test]
    fn a_source_has_defaults() {
        let text = br#"{"source": {"cluster": "config", "path": "/shop.json"}}"#;
        let source = Configuration::parse(text).unwrap().source.unwrap();
        let expected = Source {
            cluster: "config".into(),
            authority: "config".into(),
            path: "/shop.json".into(),
            poll_ms: 5_000,
            wait_s: 0,
            timeout_ms: 2_000,
            token: None,
        };
        assert_eq!(source, expected);
    }

    #[test]
    fn a_source_s_token_is_named_never_written() {
        let text = br#"{"source": {"cluster": "config", "path": "/", "token": {"env": "MULKKO_TOKEN"}}}"#;
        let source = Configuration::parse(text).unwrap().source.unwrap();
        assert_eq!(source.token.as_deref(), Some("MULKKO_TOKEN"));
    }

    #[test]
    fn refusals_name_the_place_and_the_problem() {
        for (text, refusal) in [
            ("[]", "document: expected an object, found an array"),
            (
                r#"{"nam": "a"}"#,
                "nam: unknown member, expected one of `name`, `source`, `policy`, `trust`, `clusters`, `verify`, `passKeys`, `passAudience`, `forwardPasses`, `meshKeys`, `missingCluster`, `ofrep`",
            ),
            (r#"{"name": "A"}"#, "name: expected 1 to 63 of `a-z 0-9 -`, a letter first, found \"A\""),
            (r#"{"trust": "none"}"#, "trust: expected `edge` or `mesh`, found `none`"),
            (r#"{"verify": []}"#, "verify: expected at least one key, found nothing"),
            (
                r#"{"verify": [{"kid": "a", "ed25519": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "maxAge": "0s"}]}"#,
                "verify[0].maxAge: expected a duration above 0, found 0s",
            ),
            (
                r#"{"verify": [{"kid": "a", "ed25519": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "maxAge": 7}]}"#,
                "verify[0].maxAge: expected a text, found 7",
            ),
            (r#"{"passAudience": ""}"#, "passAudience: expected a text, not empty, found \"\""),
            (r#"{"meshKeys": []}"#, "meshKeys: expected 1 to 8 keys, found 0"),
            (r#"{"missingCluster": "retry"}"#, "missingCluster: expected `default` or `fail`, found `retry`"),
            (r#"{"ofrep": {}}"#, "ofrep: missing member `prefix`"),
            (
                r#"{"ofrep": {"prefix": "/ofrep/v1/"}}"#,
                "ofrep.prefix: expected a path that starts with `/`, without `/` at its end, found \"/ofrep/v1/\"",
            ),
            (
                r#"{"ofrep": {"prefix": "/o", "bearer": "secret"}}"#,
                "ofrep.bearer: expected an object, found \"secret\"",
            ),
            (
                r#"{"ofrep": {"prefix": "/o", "allowOrigins": ["https://a.example.com", "*"]}}"#,
                "ofrep.allowOrigins[1]: expected an origin (`https://shop.example.com`), found \"*\"",
            ),
            (
                r#"{"ofrep": {"prefix": "/o", "maxBodyBytes": 0}}"#,
                "ofrep.maxBodyBytes: expected 1 to 1048576, found 0",
            ),
            (r#"{"source": {"cluster": "c"}}"#, "source: missing member `path`"),
            (
                r#"{"source": {"cluster": "c", "path": "x"}}"#,
                "source.path: expected a path that starts with `/`, found \"x\"",
            ),
            (
                r#"{"source": {"cluster": "c", "path": "/x", "poll": "0s"}}"#,
                "source.poll: expected above 0, at most 1d, found 0s",
            ),
            (
                r#"{"source": {"cluster": "c", "path": "/x", "wait": "1500ms"}}"#,
                "source.wait: expected whole seconds, found 1500ms",
            ),
            (
                r#"{"source": {"cluster": "c", "path": "/x", "token": "mulkko_x"}}"#,
                "source.token: expected an object, found \"mulkko_x\"",
            ),
            (
                r#"{"source": {"cluster": "c", "path": "/x", "token": {}}}"#,
                "source.token: missing member `env`",
            ),
            (
                r#"{"policy": {"revision": 9007199254740992}}"#,
                "policy.revision: expected at most 9007199254740991, found 9007199254740992",
            ),
            (r#"{"policy": {"revision": -1}}"#, "policy.revision: expected a whole number, found -1"),
            (r#"{"policy": []}"#, "policy: expected an object at line 1 column 1"),
        ] {
            let found = Configuration::parse(text.as_bytes()).unwrap_err();
            assert_eq!(found.first().unwrap().to_string(), refusal, "{text}");
        }
    }
}
