//! The manifests: templates with the names of one's own mesh in them.

use anyhow::{Context, Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use mulkko::configuration::Configuration;
use mulkko::policy::{Rollout, Variant};
use mulkko::shadow::Shadow;
use serde::Serialize;
use serde_json::json;

use super::names::{Service, Source, is_label};
use super::{Istio, Kind, Proxy};
use crate::command::signing::PublicKey;

/// The cluster that an EnvoyFilter adds where Istio has none of the config cluster.
const OWN_CLUSTER: &str = "mulkko-config";

/// What the manifests speak of, whatever the rollouts are.
#[derive(Debug, Serialize)]
pub struct Subjects<'a> {
    kind: Kind,
    proxy: Proxy,
    /// How EnvoyFilters call such proxies.
    context: &'static str,
    name: &'a str,
    namespace: &'a str,
    workload: &'a [(String, String)],
    waypoint: &'a str,
    service: &'a Service,
    /// The hosts that the VirtualService is for.
    host: &'a str,
    gateway: Option<&'a str>,
    image: &'a str,
    digest: &'a str,
    label: &'a str,
    /// The environment variables that the plugin reads.
    variables: Vec<&'a str>,
    source: &'a Source,
    own_cluster: Option<&'static str>,
    #[serde(skip)]
    plugin: Plugin<'a>,
}

/// The plugin configuration, its members in the order in which people read them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plugin<'a> {
    name: String,
    source: PluginSource,
    trust: &'static str,
    clusters: [String; 1],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    verify: &'a [PublicKey],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pass_keys: Vec<Secret>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mesh_keys: Vec<Secret>,
}

#[derive(Debug, Serialize)]
struct PluginSource {
    cluster: String,
    authority: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Secret>,
}

#[derive(Debug, Serialize)]
struct Secret {
    env: String,
}

/// What the templates are filled with.
#[derive(Debug, Serialize)]
struct Names<'a> {
    #[serde(flatten)]
    subjects: &'a Subjects<'a>,
    /// The plugin configuration, as it is written.
    configuration: String,
    subsets: Vec<&'a str>,
    /// The subsets that the VirtualService leads to.
    routes: Vec<Route<'a>>,
    /// The subset of who has no decision.
    default: &'a str,
    /// Whether a variant names its cluster.
    routes_clusters: bool,
    /// Whether the proxy is to copy requests.
    mirrors: bool,
}

#[derive(Debug, Serialize)]
struct Route<'a> {
    rollout: &'a str,
    header: &'a str,
    subset: &'a str,
}

impl<'a> Subjects<'a> {
    /// Those of a command line, for the policy of this name.
    pub fn new(asked: &'a Istio, policy: &str) -> Subjects<'a> {
        let service = &asked.service;
        // A waypoint has clusters of the services that it stands for, under names of its own, and of hardly any other.
        let (context, variants) = match asked.proxy {
            Proxy::Sidecar => ("SIDECAR_OUTBOUND", format!("outbound|{}|*|{}", service.port, service.host)),
            Proxy::Gateway => ("GATEWAY", format!("outbound|{}|*|{}", service.port, service.host)),
            Proxy::Waypoint => ("WAYPOINT", format!("inbound-vip|{}|http/*|{}", service.port, service.host)),
        };
        let is_known = asked.source.is_in_mesh() && asked.proxy != Proxy::Waypoint;
        let own_cluster = (!is_known).then_some(OWN_CLUSTER);
        let cluster = own_cluster
            .map_or_else(|| format!("outbound|{}||{}", asked.source.port, asked.source.host), str::to_owned);
        let plugin = Plugin {
            name: policy.to_owned(),
            source: PluginSource {
                cluster,
                authority: asked.source.host.clone(),
                path: asked.source.path.clone(),
                wait: asked.wait.map(|wait| match wait.as_ms() {
                    whole if whole % 1_000 == 0 => format!("{}s", whole / 1_000),
                    broken => format!("{broken}ms"),
                }),
                token: asked.source_token.as_ref().map(|env| Secret { env: env.clone() }),
            },
            trust: if asked.proxy == Proxy::Gateway { "edge" } else { "mesh" },
            clusters: [variants],
            verify: &asked.verify,
            pass_keys: asked.pass_key.iter().map(|env| Secret { env: env.clone() }).collect(),
            mesh_keys: asked.mesh_key.iter().map(|env| Secret { env: env.clone() }).collect(),
        };
        Subjects {
            kind: asked.kind,
            proxy: asked.proxy,
            context,
            name: &asked.name,
            namespace: asked.namespace.as_deref().unwrap_or(&service.namespace),
            workload: &asked.workload,
            waypoint: &asked.waypoint,
            service,
            host: asked.host.as_deref().filter(|_| asked.proxy == Proxy::Gateway).unwrap_or(&service.host),
            gateway: asked.gateway.as_deref().filter(|_| asked.proxy == Proxy::Gateway),
            image: &asked.image,
            digest: &asked.digest,
            label: &asked.label,
            variables: [&asked.pass_key, &asked.mesh_key, &asked.source_token]
                .into_iter()
                .filter_map(|name| name.as_deref())
                .collect(),
            source: &asked.source,
            own_cluster,
            plugin,
        }
    }

    /// The plugin configuration, as the plugin will take it.
    ///
    /// # Errors
    /// When it would be refused.
    pub fn configuration(&self) -> Result<Configuration> {
        Configuration::parse(&serde_json::to_vec(&self.plugin)?).map_err(|found| {
            let first = found.into_iter().next().map_or_else(String::new, |it| it.to_string());
            anyhow!("the plugin configuration would be refused: {first}")
        })
    }
}

/// The manifests, as YAML documents.
///
/// # Errors
/// When the cluster of a variant, or of a shadow, is not one of the service's subsets.
pub fn render(subjects: &Subjects<'_>, rollouts: &[&Rollout]) -> Result<String> {
    let names = Names::of(subjects, rollouts)?;
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = SyntaxConfig::builder();
    templates.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?);
    // Beside another kind an EnvoyFilter says what that cannot, if there is anything.
    let says_more = subjects.kind == Kind::EnvoyFilter
        || subjects.proxy == Proxy::Gateway
        || subjects.own_cluster.is_some()
        || names.routes_clusters
        || names.mirrors;
    let mut documents = Vec::new();
    for (is_needed, template) in [
        (subjects.kind != Kind::EnvoyFilter, include_str!("extension.yaml")),
        (says_more, include_str!("envoy-filter.yaml")),
        (true, include_str!("destination-rule.yaml")),
        (true, include_str!("virtual-service.yaml")),
    ] {
        if is_needed {
            documents.push(templates.render_str(template, Value::from(Serde(&names)))?);
        }
    }
    Ok(documents.join("---\n"))
}

impl<'a> Names<'a> {
    fn of(subjects: &'a Subjects<'a>, rollouts: &[&'a Rollout]) -> Result<Names<'a>> {
        let mut subsets = Vec::new();
        let mut routes = Vec::new();
        let first = rollouts.first().and_then(|rollout| rollout.variant(rollout.default));
        for rollout in rollouts {
            let default = rollout.variant(rollout.default);
            for variant in &rollout.variants {
                // Who has the default of a rollout is left to the other rollouts, in the end to the first one's default.
                let is_default = default.is_some_and(|it| it.name == variant.name);
                let is_first = first.is_some_and(|it| std::ptr::eq(it, variant));
                let has_route = variant.cluster.is_none() && !is_default;
                if !(is_first || has_route || variant.cluster.is_some()) {
                    continue;
                }
                let subset = subset_of(variant).with_context(|| {
                    format!("rollout {}: the cluster of `{}` is no subset", rollout.name, variant.name)
                })?;
                if has_route {
                    routes.push(Route { rollout: &rollout.name, header: rollout.called.header(), subset });
                }
                if !subsets.contains(&subset) {
                    subsets.push(subset);
                }
            }
            for cluster in rollout.shadow.iter().flat_map(|shadow| clusters_of(shadow)) {
                let subset = subset(cluster).with_context(|| {
                    format!("rollout {}: `{cluster}` of its shadow is no subset", rollout.name)
                })?;
                if !subsets.contains(&subset) {
                    subsets.push(subset);
                }
            }
        }
        let mut variants = rollouts.iter().flat_map(|rollout| &rollout.variants);
        Ok(Names {
            subjects,
            configuration: serde_json::to_string_pretty(&subjects.plugin)?,
            subsets,
            routes,
            default: first.and_then(subset_of).unwrap_or_default(),
            routes_clusters: variants.any(|variant| variant.cluster.is_some()),
            mirrors: rollouts.iter().filter_map(|rollout| rollout.shadow.as_ref()).any(|it| it.mirrors()),
        })
    }
}

/// The subset of a variant: that of its cluster, or one of its name.
fn subset_of(variant: &Variant) -> Option<&str> {
    variant.cluster.as_deref().map_or(Some(&*variant.name), subset)
}

/// The subset that a cluster is made of: `outbound|8080|canary|host`, of a waypoint
/// `inbound-vip|8080|http/canary|host`.
fn subset(cluster: &str) -> Option<&str> {
    let subset = cluster.split('|').nth(2)?;
    Some(subset.strip_prefix("http/").unwrap_or(subset)).filter(|it| is_label(it))
}

/// Where the copies of a shadow go.
fn clusters_of(shadow: &Shadow) -> impl Iterator<Item = &str> {
    let secondary = shadow.comparison.as_ref().and_then(|it| it.secondary.as_ref());
    [&*shadow.cluster].into_iter().chain(secondary.map(|it| &*it.cluster))
}

/// The manifests as one JSON document, which `kubectl apply` takes, too.
pub fn list(text: &str) -> Result<serde_json::Value> {
    let items: Vec<serde_json::Value> = serde_saphyr::from_multiple(text)?;
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}
