//! The request that options say, and the proxy that is to decide it.

use anyhow::{Result, bail};
use clap::Args;
use mulkko::cases::Asked;
use mulkko::command::curl::header;
use mulkko::decide::Node;
use mulkko::dry_run::DryRun;
use mulkko::guard::RolledBack;
use mulkko::ofrep::Context;
use serde_json::{Map, Value, json};

use super::document::{Plugin, Taken};
use super::moments::{instant, now_ms};

/// A request.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The request")]
pub struct Options {
    /// The host that is asked for
    #[arg(long)]
    pub host: Option<String>,

    /// The path, with its query
    #[arg(long)]
    pub path: Option<String>,

    /// The method
    #[arg(long)]
    pub method: Option<String>,

    /// A header; may be given many times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
}

impl Options {
    /// Whether they say the host or the path.
    pub fn says_where(&self) -> bool {
        self.host.is_some() || self.path.is_some()
    }

    /// The request, put together from the options and, where they are silent, from `base`.
    pub fn asked(&self, base: Asked) -> Asked {
        let mut headers = base.headers;
        for (name, value) in
            self.host.iter().map(|host| ("host", host)).chain(self.headers.iter().map(|(n, v)| (&**n, v)))
        {
            headers.push((name.to_owned(), value.clone()));
        }
        let or = |option: &Option<String>, base: String| option.clone().unwrap_or(base);
        Asked { method: or(&self.method, base.method), path: or(&self.path, base.path), headers }
    }
}

/// `GET /`
pub fn plain() -> Asked {
    Asked { method: "GET".to_owned(), path: "/".to_owned(), headers: Vec::new() }
}

/// The proxy that decides.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The proxy")]
pub struct Proxy {
    /// The proxy's id
    #[arg(long, value_name = "ID")]
    node: Option<String>,

    /// The region that it runs in
    #[arg(long)]
    region: Option<String>,

    /// The zone that it runs in
    #[arg(long)]
    zone: Option<String>,

    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<String>,

    /// A property of the host, as `xds/node/locality/region=kr`
    #[arg(long = "property", value_name = "PATH=VALUE", value_parser = property)]
    properties: Vec<(Vec<String>, String)>,

    /// Dynamic metadata, as `envoy.filters.http.jwt_authn/payload/sub=user-1`
    #[arg(long = "metadata", value_name = "PATH=VALUE", value_parser = property)]
    metadata: Vec<(Vec<String>, String)>,

    /// A variant that the guard has rolled back
    #[arg(long = "rolled-back", value_name = "ROLLOUT/VARIANT", value_parser = variant)]
    rolled_back: Vec<(String, String)>,
}

impl Proxy {
    /// The policy in force on this proxy, at an instant or now. Passes are verified with the keys in the environment that
    /// the plugin configuration names.
    ///
    /// # Errors
    /// When the policy has no such variant to be rolled back.
    pub fn run(&self, taken: Taken, at_ms: Option<i64>) -> Result<DryRun> {
        let Taken { policy, configuration, .. } = taken;
        let mut run = DryRun::new(policy, &configuration, at_ms.unwrap_or_else(now_ms));
        let text = |option: &Option<String>| option.as_deref().map(Box::from);
        run.node = Node { id: text(&self.node), region: text(&self.region), zone: text(&self.zone) };
        let (pass_keys, mesh_keys) = Plugin::secrets(&configuration);
        run.pass_keys = pass_keys;
        run.macs = configuration.macs(&mesh_keys);
        run.host.client = self.client_ip.clone().unwrap_or_default();
        run.host.drawn = "drawn-id".to_owned();
        let metadata = ["metadata".to_owned(), "filter_metadata".to_owned()];
        let metadata =
            self.metadata.iter().map(|(path, value)| ([&metadata[..], path].concat(), value.clone()));
        run.host.properties = self.properties.iter().cloned().chain(metadata).collect();
        for (rollout, variant) in &self.rolled_back {
            if run.policy.rollout_named(rollout).and_then(|(_, it)| it.variant_named(variant)).is_none() {
                bail!("the policy has no variant `{variant}` of a rollout `{rollout}`");
            }
        }
        let names = self.rolled_back.iter().map(|(rollout, variant)| (&**rollout, &**variant));
        run.rolled_back = RolledBack::named(&run.policy, names);
        Ok(run)
    }
}

/// What clients say who ask for flags.
#[derive(Args, Clone, Debug)]
pub struct ContextOption {
    /// For whom clients of OFREP ask for flags, beside the key: `{"plan": "pro"}`
    #[arg(long, value_name = "JSON", value_parser = members, help_heading = "The request")]
    context: Option<Map<String, Value>>,
}

impl ContextOption {
    /// The context, if one is given.
    pub fn given(&self) -> Option<Context> {
        self.context.clone().map(of_members)
    }

    /// The context of somebody with this key, unless it says another itself.
    pub fn of(&self, key: &str) -> Context {
        let mut members = self.context.clone().unwrap_or_default();
        members.entry("targetingKey").or_insert_with(|| key.into());
        of_members(members)
    }
}

fn members(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn of_members(members: Map<String, Value>) -> Context {
    // An object always is a context.
    Context::read(json!({ "context": members }).to_string().as_bytes()).unwrap_or_default()
}

/// When.
#[derive(Args, Clone, Debug)]
pub struct At {
    /// The instant, as 2026-12-01T09:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<i64>,
}

fn property(text: &str) -> Result<(Vec<String>, String), String> {
    let (path, value) = text.split_once('=').ok_or("expected `path/to/it=value`")?;
    Ok((path.split('/').map(str::to_owned).collect(), value.to_owned()))
}

fn variant(text: &str) -> Result<(String, String), String> {
    let (rollout, variant) = text.split_once('/').ok_or("expected `rollout/variant`")?;
    Ok((rollout.to_owned(), variant.to_owned()))
}
