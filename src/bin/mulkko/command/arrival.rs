//! How a version comes to the proxies: counted until all have it, or the time is up.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mulkko::moment;
use serde::Serialize;

use super::moments::duration;
use super::output::{ERROR, GOOD, WARNING, painted};
use super::remote::Connection;
use super::serve::{Spread, Standing, State};
use super::tables::grouped;

/// How often the server is asked.
const PACE: Duration = Duration::from_millis(200);
/// The most proxies that are named.
const MOST_NAMED: &str = "10";

/// Whether to wait for the proxies.
#[derive(Args, Clone, Debug)]
pub struct Wait {
    /// Show the proxies arriving, until all have the new version or the time is up
    #[arg(long, help_heading = "The proxies")]
    wait: bool,

    /// How long to wait for them
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration, help_heading = "The proxies")]
    timeout: moment::Duration,

    /// Wait for those that were heard of within this time: some polls' worth
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, help_heading = "The proxies")]
    alive: moment::Duration,
}

/// How far a version has come.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrival {
    /// How long it took, or was waited for, in milliseconds.
    elapsed_ms: u64,
    #[serde(flatten)]
    spread: Spread,
    /// The first of those that have refused it.
    refused_by: Vec<String>,
    /// The first of those that do not have it.
    missing: Vec<String>,
}

impl Wait {
    pub fn is_wanted(&self) -> bool {
        self.wait
    }

    /// Waits until all proxies have answered to a revision, or the time is up.
    pub async fn arrival(&self, connection: &Connection, name: &str, revision: u64) -> Result<Arrival> {
        let started = Instant::now();
        let timeout = Duration::from_millis(self.timeout.as_ms());
        // Of a length that is not known yet, lest it be drawn as full.
        let bar = ProgressBar::no_length().with_style(style());
        bar.set_prefix(name.to_owned());
        loop {
            let standing = self.standing(connection, name, &[("limit", "0")]).await?;
            let spread = standing.policies.get(name).cloned().unwrap_or_default();
            let all = spread.current + spread.behind + spread.refused;
            bar.set_length(all as u64);
            bar.set_position((spread.current + spread.refused) as u64);
            // Somebody has pushed again: what runs a later revision has this one.
            let done = all > 0 && spread.behind == 0 && spread.revision >= revision;
            if done || started.elapsed() >= timeout {
                bar.finish_and_clear();
                let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                let refused_by = self.nodes(connection, name, State::Refused, spread.refused).await?;
                let missing = self.nodes(connection, name, State::Behind, spread.behind).await?;
                return Ok(Arrival { elapsed_ms, spread, refused_by, missing });
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// The first of those that stand so, where there are any.
    async fn nodes(
        &self,
        connection: &Connection,
        name: &str,
        state: State,
        count: usize,
    ) -> Result<Vec<String>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let asked = [("state", state.name()), ("limit", MOST_NAMED)];
        let standing = self.standing(connection, name, &asked).await?;
        Ok(standing.proxies.into_iter().map(|proxy| proxy.node).collect())
    }

    async fn standing(
        &self,
        connection: &Connection,
        name: &str,
        asked: &[(&str, &str)],
    ) -> Result<Standing> {
        let within = self.alive.as_ms().div_ceil(1_000).to_string();
        let query = [&[("policy", name), ("seenWithin", &within)], asked].concat();
        connection.read(&["v1", "proxies"], &query).await
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} proxies")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Arrival {
    /// Whether it is everywhere.
    pub fn is_whole(&self) -> bool {
        self.spread.current > 0 && self.spread.behind == 0 && self.spread.refused == 0
    }

    /// For people.
    pub fn told(&self) -> String {
        let Spread { current, behind, refused, unverified, .. } = self.spread;
        let all = current + behind + refused;
        let unsure = match unverified {
            0 => String::new(),
            count => format!(
                "  {} {}: a proxy shows a token as `source.token`, or a certificate\n",
                painted(WARNING, "not waited for, since unverified:"),
                grouped(count as u64)
            ),
        };
        if all == 0 {
            return format!("  {}\n{unsure}", painted(WARNING, "no proxy asks for it"));
        }
        let style = if self.is_whole() { GOOD } else { WARNING };
        let seconds = Duration::from_millis(self.elapsed_ms).as_secs_f64();
        let count = |count: usize| grouped(count as u64);
        let have = format!("{} of {} proxies have it", count(current), count(all));
        let mut text = format!("  {} after {seconds:.1} s\n", painted(style, have));
        for (what, how_many, named) in
            [("refused by", refused, &self.refused_by), ("missing at", behind, &self.missing)]
        {
            if how_many > 0 {
                let more = if how_many > named.len() {
                    format!(", and {} more", how_many - named.len())
                } else {
                    String::new()
                };
                text += &format!("  {} {}{more}\n", painted(ERROR, what), named.join(", "));
            }
        }
        text + &unsure
    }
}
