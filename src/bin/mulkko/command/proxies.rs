//! `mulkko proxies`: who runs what; and `mulkko versions`: what there was to run.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::Outcome;
use super::output::{Output, STRONG, painted};
use super::remote::Remote;
use super::serve::{Audit, Spread, Standing, State};
use super::tables::{grouped, indented, table};

/// Tell which proxies run which revision, who has refused one, and who has rolled back.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mulkko proxies shop --server https://config.example.com")]
pub struct Proxies {
    /// Only those that ask for this policy
    #[arg(value_name = "POLICY")]
    policy: Option<String>,

    #[command(flatten)]
    remote: Remote,
}

impl Proxies {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let query: Vec<_> = self.policy.iter().map(|policy| ("policy", &**policy)).collect();
        let standing: Standing =
            self.remote.run(async |connection| connection.read(&["v1", "proxies"], &query).await)?;
        output.tell(&standing, || shown(&standing))?;
        let is_refused = standing.policies.values().any(|spread| spread.refused > 0);
        Ok(if is_refused { Outcome::Findings } else { Outcome::Good })
    }
}

fn shown(standing: &Standing) -> String {
    if standing.policies.is_empty() {
        return "no proxies\n".to_owned();
    }
    let mut text = String::new();
    for (policy, Spread { revision, current, behind, refused }) in &standing.policies {
        let [current, behind, refused] = [current, behind, refused].map(|count| grouped(*count as u64));
        text += &format!(
            "{}, revision {revision}: {current} run it, {behind} behind, {refused} refused it\n",
            painted(STRONG, policy)
        );
        let mut rows = table(&["node", "revision", "state", "heard of", "rolled back"]);
        let own = standing.proxies.iter().filter(|proxy| proxy.policy == *policy);
        for proxy in own {
            let state = match proxy.state {
                State::Current => "current",
                State::Behind => "behind",
                State::Refused => "refused",
            };
            let age = format!("{:.1} s ago", Duration::from_millis(proxy.age_ms).as_secs_f64());
            let revision = proxy.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
            rows.add_row([proxy.node.clone(), revision, state.to_owned(), age, proxy.rolled_back.join(", ")]);
        }
        text += &indented(&rows);
    }
    text
}

/// Tell which versions a policy has had: who has pushed them, when, and how many places they changed.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mulkko versions shop --server https://config.example.com")]
pub struct Versions {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: String,

    /// The most that are told
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: u32,

    #[command(flatten)]
    remote: Remote,
}

impl Versions {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let (path, limit) = (["v1", "policies", &self.policy, "audit"], self.limit.to_string());
        let audit: Audit =
            self.remote.run(async |connection| connection.read(&path, &[("limit", &limit)]).await)?;
        output.tell(&audit, || {
            let mut rows = table(&["revision", "pushed", "by", "from", "signed by", "changes"]);
            for push in &audit.changes {
                let signed = push.version.signed_by.clone().unwrap_or_else(|| "-".to_owned());
                let (revision, places) = (push.version.revision.to_string(), push.change.places.to_string());
                rows.add_row([
                    revision,
                    push.version.at.clone(),
                    push.by.clone(),
                    push.from.clone(),
                    signed,
                    places,
                ]);
            }
            indented(&rows)
        })?;
        Ok(Outcome::Good)
    }
}
