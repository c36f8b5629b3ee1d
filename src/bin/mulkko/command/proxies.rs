//! `mulkko proxies`: who runs what; and `mulkko versions`: what there was to run.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::Outcome;
use super::output::{ERROR, Output, STRONG, painted};
use super::remote::{Connection, Remote};
use super::serve::{Audit, BrokenItem, Spread, Standing};
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
        let standing = self.remote.run(async |connection| self.standing(connection).await)?;
        output.tell(&standing, || shown(&standing))?;
        let is_refused = standing.policies.values().any(|spread| spread.refused > 0);
        Ok(if is_refused { Outcome::Findings } else { Outcome::Good })
    }
}

impl Proxies {
    /// All proxies, page by page.
    async fn standing(&self, connection: &Connection) -> Result<Standing> {
        let asked: Vec<_> = self.policy.iter().map(|policy| ("policy", &**policy)).collect();
        let mut standing: Standing = connection.read(&["v1", "proxies"], &asked).await?;
        while let Some(after) = standing.next.take() {
            let query = [&asked[..], &[("after", &*after)]].concat();
            let page: Standing = connection.read(&["v1", "proxies"], &query).await?;
            standing.proxies.extend(page.proxies);
            standing.next = page.next.filter(|next| *next != after);
        }
        Ok(standing)
    }
}

fn shown(standing: &Standing) -> String {
    if standing.policies.is_empty() {
        return "no proxies\n".to_owned();
    }
    let mut text = String::new();
    for (policy, Spread { revision, current, behind, refused, unverified }) in &standing.policies {
        let unsure = match unverified {
            0 => String::new(),
            count => format!(", {} unverified", grouped(*count as u64)),
        };
        let [current, behind, refused] = [current, behind, refused].map(|count| grouped(*count as u64));
        text += &format!(
            "{}, revision {revision}: {current} run it, {behind} behind, {refused} refused it{unsure}\n",
            painted(STRONG, policy)
        );
        let mut rows = table(&["node", "version", "revision", "state", "heard of", "rolled back"]);
        let own = standing.proxies.iter().filter(|proxy| proxy.policy == *policy);
        for proxy in own {
            let age = format!("{:.1} s ago", Duration::from_millis(proxy.age_ms).as_secs_f64());
            let revision = proxy.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
            rows.add_row([
                proxy.node.clone(),
                proxy.version.clone().unwrap_or_else(|| "-".to_owned()),
                revision,
                proxy.state.name().to_owned(),
                age,
                proxy.rolled_back.join(", "),
            ]);
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
            let mut rows = table(&["revision", "pushed", "by", "from", "signature", "changes"]);
            for push in &audit.changes {
                let signed = match (&push.version.signed_by, &push.version.claimed_by) {
                    (Some(key), _) => format!("by {key}"),
                    (None, Some(key)) => format!("not verified ({key})"),
                    (None, None) => "-".to_owned(),
                };
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
            let broken = audit.broken.iter().map(|BrokenItem { version, key, problem }| {
                format!("  {} version {version} ({key}): {problem}\n", painted(ERROR, "broken"))
            });
            indented(&rows) + &broken.collect::<String>()
        })?;
        Ok(Outcome::Good)
    }
}
