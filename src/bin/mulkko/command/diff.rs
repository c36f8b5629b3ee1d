//! `mulkko diff`: what changes for whom when a policy takes the place of another.

mod asks;
mod branches;
mod changes;
mod meaning;
mod moves;
mod names;
mod reach;
mod requests;
mod shown;
mod unknown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Result, bail};
use clap::Args;
use mulkko::decide::Request;
use mulkko::dry_run::DryRun;
use mulkko::schedule::Split;
use mulkko::wire;
use serde::Serialize;

use super::Outcome;
use super::document::{Document, Plugin, Taken, taken};
use super::moments;
use super::output::Output;
use super::request::{At, ContextOption, Options, Proxy};
use super::traffic::{AccessLog, FromClient, Keys, Logged, Template, tally};
use changes::Changes;
use moves::{Change, Counting, Moves};
use names::Names;
use requests::Requests;
use unknown::{Telling, Unknown};

/// Tell what changes for whom when a policy takes the place of another.
///
/// The traffic is keys, each with a request for every rollout of both policies, or the requests of an access log. Growing or
/// shrinking a share moves keys one way only. Where keys move both ways between the same variants, users see both: that is a
/// finding. So is what is not known: that less than 1 % of the traffic gets to what the policies say otherwise.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mulkko diff old.json new.json
  mulkko diff old.json new.json --keys 1000000 --at 2026-12-01T09:45:00Z
  mulkko diff old.json new.json --access-log access.log --log-field user=x-user-id")]
pub struct Diff {
    /// The policy that is in force
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The policy that is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,

    /// How many keys, or a file with one in each line
    #[arg(long, value_name = "N|FILE", default_value = "100000", help_heading = "The traffic")]
    keys: Keys,

    #[command(flatten)]
    log: AccessLog,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    request: Options,

    #[command(flatten)]
    context: ContextOption,

    #[command(flatten)]
    plugin: Plugin,

    #[command(flatten)]
    proxy: Proxy,
}

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    old: Named,
    new: Named,
    at: String,
    /// What the traffic is: `keys` or `requests`.
    traffic: &'static str,
    count: u64,
    /// Lines of the access log that tell no request.
    #[serde(skip_serializing_if = "is_none")]
    unread: u64,
    changes: Vec<Change>,
    /// The rollouts for which no request was found.
    without: Vec<String>,
}

impl Difference {
    /// Whether most of the access log could be read.
    fn is_read(&self) -> bool {
        self.unread <= self.count
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// A policy.
#[derive(Clone, Debug, Serialize)]
struct Named {
    file: String,
    revision: u64,
}

/// One of the policies, on the proxy that both are for.
pub struct Side {
    named: Named,
    run: DryRun,
    document: wire::Document,
    source: Document,
    /// The rollouts as the document writes them, by name.
    written: OnceLock<BTreeMap<String, serde_json::Value>>,
}

impl Side {
    /// A rollout as the document writes it.
    fn written(&self, name: &str) -> Option<&serde_json::Value> {
        let written = self.written.get_or_init(|| {
            let document: serde_json::Value = serde_json::from_slice(&self.source.text).unwrap_or_default();
            let rollouts =
                document.get("rollouts").and_then(serde_json::Value::as_array).into_iter().flatten();
            let named = rollouts.filter_map(|rollout| Some((rollout["name"].as_str()?, rollout)));
            named.map(|(name, rollout)| (name.to_owned(), rollout.clone())).collect()
        });
        written.get(name)
    }

    /// Whether a rollout splits the keys at an instant.
    fn splits(&self, name: &str, at_ms: i64) -> bool {
        let rollout = self.run.policy.rollout_named(name);
        rollout.is_some_and(|(_, it)| it.enabled && !matches!(it.schedule.at(at_ms), Split::Whole(_)))
    }
}

impl Diff {
    pub fn run(self, output: &Output) -> Result<Outcome> {
        let at_ms = self.at.at.unwrap_or_else(moments::now_ms);
        let (old, new) = (self.side(&self.old, at_ms)?, self.side(&self.new, at_ms)?);
        let sides = [&old, &new];
        let (changes, libraries) = Changes::between(sides)?;
        let policies = sides.map(|side| &side.run.policy);
        let names = Names::of(policies, &changes.flags());
        let changed = names.changed(&changes);
        let counting = Counting { policies, names: &names, changed, libraries: &libraries };
        let is_log = self.log.is_given();
        let (requests, moves) = if is_log {
            (Requests::default(), self.of_log(sides, &counting)?)
        } else {
            let requests = Requests::of(sides, &counting, &self.request);
            let moves = self.of_keys(sides, &counting, &requests, at_ms)?;
            (requests, moves)
        };
        if moves.count == 0 {
            bail!(no_traffic(moves.unread));
        }
        let meanings = &changes.meanings;
        let telling = Telling { sides, meanings, is_log, count: moves.count, at_ms };
        let mut problems = requests.problems(moves.count);
        for (name, before) in changes.renamed() {
            if old.splits(before, at_ms) && new.splits(name, at_ms) {
                problems.entry(name).or_default().push(Unknown::renamed(before, moves.count));
            }
        }
        let difference = Difference {
            old: old.named.clone(),
            new: new.named.clone(),
            at: moments::told(at_ms),
            traffic: if is_log { "requests" } else { "keys" },
            count: moves.count,
            unread: moves.unread,
            changes: moves.changes(&counting, &telling, problems),
            without: requests.without,
        };
        output.tell(&difference, || shown::text(&difference))?;
        let is_good = difference.is_read() && !difference.changes.iter().any(Change::is_finding);
        Ok(if is_good { Outcome::Good } else { Outcome::Findings })
    }

    fn side(&self, file: &Path, at_ms: i64) -> Result<Side> {
        let configuration = self.plugin.configuration()?;
        let source = Document::read(file)?;
        let document = serde_json::from_slice(&source.text);
        let policy = taken(&source, &configuration)?;
        let named = Named { file: file.display().to_string(), revision: policy.revision };
        let taken = Taken { document: source.clone(), policy, configuration };
        let run = self.proxy.run(taken, Some(at_ms))?;
        Ok(Side { named, run, document: document?, source, written: OnceLock::new() })
    }

    /// The moves of keys, each with every request that tells of a rollout.
    fn of_keys(
        &self,
        sides: [&Side; 2],
        counting: &Counting<'_>,
        requests: &Requests,
        at_ms: i64,
    ) -> Result<Moves> {
        let templates = requests.list.iter().map(|(asked, of)| {
            let [old, new] = sides.map(|side| Template::new(asked, &side.run.policy));
            (old, new, of)
        });
        let templates: Vec<_> = templates.collect();
        let [old_side, new_side] = sides;
        let has_flags = counting.names.flags().next().is_some();
        let count = |moves: &mut Moves, key: String| {
            moves.count += 1;
            let context = has_flags.then(|| self.context.of(&key));
            for (old, new, of) in &templates {
                old.asked(&old_side.run, &key, at_ms, |old| {
                    new.asked(&new_side.run, &key, at_ms, |new| {
                        moves.add(counting, [old, new], context.as_ref(), Some(of));
                    });
                });
            }
        };
        tally(self.keys.source()?, || Moves::new(counting.names), count, Moves::merge)
    }

    /// The moves of the requests of the access log.
    fn of_log(&self, sides: [&Side; 2], counting: &Counting<'_>) -> Result<Moves> {
        let [old_side, new_side] = sides;
        let context = self.context.given();
        let count = |moves: &mut Moves, logged: Logged| {
            let Some(FromClient { asked, client, drawn }) = logged else {
                moves.unread += 1;
                return;
            };
            moves.count += 1;
            let pairs = self.request.asked(asked).pairs(&[]);
            let mut host = old_side.run.host.clone();
            host.client = client.unwrap_or(host.client);
            host.drawn = drawn;
            old_side.run.asked(&pairs, |old| {
                new_side.run.asked(&pairs, |new| {
                    let [old, new] = [old, new].map(|it| Request { proxy: &host, ..*it });
                    moves.add(counting, [&old, &new], context.as_ref(), None);
                });
            });
        };
        tally(self.log.source()?, || Moves::new(counting.names), count, Moves::merge)
    }
}

/// Why there is none.
fn no_traffic(unread: u64) -> String {
    match unread {
        0 => "there is no traffic".to_owned(),
        lines => format!(
            "none of the {lines} lines of the access log tells a request: say how by --log-format, or by --log-field FIELD=:path"
        ),
    }
}
