//! `mulkko istio`: the manifests that bring mulkko, and a policy's variants, into one's own mesh.

mod manifests;
mod names;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use mulkko::configuration::Configuration;
use mulkko::moment::Duration;
use mulkko::policy::{Policy, Rollout};
use serde::Serialize;

use super::Outcome;
use super::document::{Document, taken};
use super::moments::duration;
use super::output::Output;
use super::signing::PublicKey;
use manifests::Subjects;
use names::{Service, Source};

/// Print Istio's manifests for a policy and a service: the plugin, and routes to the variants.
///
/// The plugin goes into the proxies that decide: the sidecars of the service's clients, a gateway, or a waypoint. A
/// variant is a subset of the service; one that names a cluster is routed to by the proxy itself, any other by a
/// VirtualService. The policy is checked against the plugin configuration that is printed.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mulkko istio --policy policies/mesh.json --service checkout.shop.svc.cluster.local:8080 \\
    --image oci://registry.example/mulkko:0.1.0 --digest adf20561…9502 \\
    --source http://config.mulkko.svc.cluster.local:8080/policies/shop.json | kubectl apply -f -")]
pub struct Istio {
    /// The policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// The service whose versions the variants are: `checkout.shop.svc.cluster.local:8080`
    #[arg(long, value_name = "HOST:PORT")]
    service: Service,

    /// The image of the plugin: `oci://registry.example/mulkko:0.1.0`
    #[arg(long, value_name = "URL", value_parser = names::image)]
    image: String,

    /// The digest of its manifest, which `make image` prints
    #[arg(long, value_name = "SHA256", value_parser = names::digest)]
    digest: String,

    /// Where the policy is fetched: `http://config.mulkko.svc.cluster.local:8080/policies/shop.json`
    #[arg(long, value_name = "URL")]
    source: Source,

    /// How long the source may wait for news, where it knows `Prefer: wait`, as `mulkko serve` does: `30s`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,

    /// A key of which signatures are taken, as `mulkko keygen --public` prints it, again for more; without any, policies are
    /// taken unsigned
    #[arg(long, value_name = "JSON")]
    verify: Vec<PublicKey>,

    /// Which proxies decide
    #[arg(long, value_enum, default_value_t = Proxy::Sidecar)]
    proxy: Proxy,

    /// What brings the plugin there
    #[arg(long = "as", value_enum, value_name = "KIND", default_value_t = Kind::EnvoyFilter)]
    kind: Kind,

    /// A rollout whose variants are versions of the service, again for more; by default all that the policy has
    #[arg(long = "rollout", value_name = "NAME")]
    rollouts: Vec<String>,

    /// What the manifests are called
    #[arg(long, default_value = "mulkko", value_parser = names::label)]
    name: String,

    /// The namespace of the proxies; by default the service's
    #[arg(long, value_parser = names::label)]
    namespace: Option<String>,

    /// A label of the proxies' pods (`app=frontend`), again for more; by default all of the namespace
    #[arg(long = "workload", value_name = "LABEL", value_parser = names::pod_label)]
    workload: Vec<(String, String)>,

    /// The label by which pods of one variant are told from those of another
    #[arg(long, value_name = "KEY", default_value = "version", value_parser = names::label)]
    label: String,

    /// The environment variable of the proxies that holds the key of passes
    #[arg(long, value_name = "NAME", value_parser = names::variable)]
    pass_key: Option<String>,

    /// The environment variable of the proxies that holds the token for the config cluster
    #[arg(long, value_name = "NAME", value_parser = names::variable)]
    source_token: Option<String>,

    /// The environment variable of the proxies that holds the key by which they vouch for their decisions
    #[arg(long, value_name = "NAME", value_parser = names::variable)]
    mesh_key: Option<String>,

    /// The host that clients ask the gateway for
    #[arg(long, required_if_eq("proxy", "gateway"), value_parser = names::hostname)]
    host: Option<String>,

    /// The Gateway of that host: `istio-ingress/shop`
    #[arg(long, required_if_eq("proxy", "gateway"), value_parser = names::gateway)]
    gateway: Option<String>,

    /// The waypoint's Gateway
    #[arg(long, default_value = "waypoint", value_parser = names::label)]
    waypoint: String,
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Proxy {
    /// The sidecars of the service's clients
    Sidecar,
    /// A gateway, for its host
    Gateway,
    /// The service's waypoint, in an ambient mesh
    Waypoint,
}

/// What brings the plugin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// Says everything, to any Istio
    EnvoyFilter,
    /// From Istio 1.30 on
    TrafficExtension,
    /// Before Istio 1.30
    WasmPlugin,
}

impl Istio {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let document = Document::read(&self.policy)?;
        // First by itself: its name is needed before the configuration can be made that it must fit.
        let name = taken(&document, &Configuration::default())?.name;
        let subjects = Subjects::new(self, name.as_deref().unwrap_or("default"));
        let policy = taken(&document, &subjects.configuration()?)?;
        let rollouts = self.rollouts_of(&policy)?;
        let text = manifests::render(&subjects, &rollouts)?;
        output.tell(&manifests::list(&text)?, || text.clone())?;
        Ok(Outcome::Good)
    }

    /// The rollouts that were asked for, in the policy's order.
    fn rollouts_of<'a>(&self, policy: &'a Policy) -> Result<Vec<&'a Rollout>> {
        for name in &self.rollouts {
            if policy.rollout_named(name).is_none() {
                bail!("--rollout {name}: the policy has none of this name");
            }
        }
        let named =
            |it: &&Rollout| self.rollouts.is_empty() || self.rollouts.iter().any(|name| **name == *it.name);
        let rollouts: Vec<_> = policy.rollouts.iter().filter(named).collect();
        for rollout in &rollouts {
            for variant in &rollout.variants {
                if !names::is_label(&variant.name) {
                    bail!("rollout {}: variant `{}` cannot name a subset", rollout.name, variant.name);
                }
            }
        }
        if rollouts.is_empty() {
            bail!("the policy has no rollout");
        }
        Ok(rollouts)
    }
}
