//! `mulkko diff`: what changes for whom when a policy takes the place of another.

mod moves;
mod shown;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use mulkko::cases::Asked;
use mulkko::decide::{Request, decide};
use mulkko::dry_run::DryRun;
use mulkko::wire;
use serde::Serialize;

use super::Outcome;
use super::document::{Document, Plugin, Taken, taken};
use super::moments;
use super::output::Output;
use super::request::{At, Options, Proxy, plain};
use super::traffic::{AccessLog, FromClient, Keys, Template, applies, candidates, tally};
use moves::{Change, Moves, Names};

/// Tell what changes for whom when a policy takes the place of another.
///
/// The traffic is keys, each with a request for every rollout of both policies, or the requests of an access log. Growing or
/// shrinking a share moves keys one way only. Where keys move both ways between the same variants, users see both: that is a
/// finding.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// A policy.
#[derive(Debug, Serialize)]
struct Named {
    file: String,
    revision: u64,
}

/// Both policies, on the same proxy.
struct Both {
    old: DryRun,
    new: DryRun,
}

impl Diff {
    pub fn run(self, output: &Output) -> Result<Outcome> {
        let at_ms = self.at.at.unwrap_or_else(moments::now_ms);
        let (old, old_document) = self.side(&self.old, at_ms)?;
        let (new, new_document) = self.side(&self.new, at_ms)?;
        let named = |path: &PathBuf, run: &DryRun| Named {
            file: path.display().to_string(),
            revision: run.policy.revision,
        };
        let (of_old, of_new) = (named(&self.old, &old), named(&self.new, &new));
        let both = Both { old, new };
        let names = Names::of(&both.old.policy, &both.new.policy);
        let (moves, without) = if self.log.is_given() {
            (self.of_log(&both, &names)?, Vec::new())
        } else {
            self.of_keys(&both, [&old_document, &new_document], &names, at_ms)?
        };
        let difference = Difference {
            old: of_old,
            new: of_new,
            at: moments::told(at_ms),
            traffic: if self.log.is_given() { "requests" } else { "keys" },
            count: moves.count,
            unread: moves.unread,
            changes: moves.changes(&names),
            without,
        };
        if difference.count == 0 {
            bail!("there is no traffic");
        }
        output.tell(&difference, || shown::text(&difference))?;
        let is_good = difference.changes.iter().all(|it| !it.kind.is_alarming());
        Ok(if is_good { Outcome::Good } else { Outcome::Findings })
    }

    fn side(&self, file: &Path, at_ms: i64) -> Result<(DryRun, wire::Document)> {
        let configuration = self.plugin.configuration()?;
        let document = Document::read(file)?;
        let whole = serde_json::from_slice(&document.text);
        let policy = taken(&document, &configuration)?;
        let run = self.proxy.run(Taken { document, policy, configuration }, Some(at_ms))?;
        Ok((run, whole?))
    }

    /// The moves of keys, each with every request that tells of a rollout; and the rollouts for which none was found.
    fn of_keys(
        &self,
        both: &Both,
        documents: [&wire::Document; 2],
        names: &Names,
        at_ms: i64,
    ) -> Result<(Moves, Vec<String>)> {
        let (mut requests, mut without): (Vec<(Asked, Vec<String>)>, Vec<String>) = (Vec::new(), Vec::new());
        for name in names.rollouts() {
            let found = self.requests(both, documents, name);
            if found.is_empty() {
                without.push(name.to_owned());
            }
            for asked in found {
                match requests.iter_mut().find(|(known, _)| *known == asked) {
                    Some((_, names)) => names.push(name.to_owned()),
                    None => requests.push((asked, vec![name.to_owned()])),
                }
            }
        }
        if requests.is_empty() {
            requests.push((self.request.asked(plain()), Vec::new()));
        }
        let templates = requests.iter().enumerate().map(|(i, (asked, rollouts))| {
            let [old, new] = [&both.old, &both.new].map(|run| Template::new(asked, &run.policy));
            // Flags go with any request: of them the first one tells.
            (old, new, names.numbers(rollouts, i == 0))
        });
        let templates: Vec<_> = templates.collect();
        let count = |moves: &mut Moves, key: String| {
            moves.count += 1;
            for (old, new, of) in &templates {
                old.decided(&both.old, &key, at_ms, |before| {
                    new.decided(&both.new, &key, at_ms, |after| {
                        let sides = [(&both.old.policy, before), (&both.new.policy, after)];
                        moves.add(names, sides, |number| of.contains(&number), |_| None);
                    });
                });
            }
        };
        Ok((tally(self.keys.source()?, || Moves::new(names), count, Moves::merge)?, without))
    }

    /// A request that a rollout matches under both policies; where there is none, one for each.
    fn requests(&self, both: &Both, documents: [&wire::Document; 2], name: &str) -> Vec<Asked> {
        let [old, new] = documents.map(|document| {
            let rollout = document.rollouts.iter().flatten().find(|it| it.name == name);
            rollout.map(|it| candidates(it, &self.request).collect::<Vec<_>>()).unwrap_or_default()
        });
        let fits = |run: &DryRun, asked: &&Asked| applies(run, asked, name);
        let shared = old.iter().chain(&new).find(|asked| fits(&both.old, asked) && fits(&both.new, asked));
        let of_old = || old.iter().find(|asked| fits(&both.old, asked));
        let of_new = || new.iter().find(|asked| fits(&both.new, asked));
        let found =
            shared.map_or_else(|| of_old().into_iter().chain(of_new()).collect(), |asked| vec![asked]);
        found.into_iter().cloned().collect()
    }

    /// The moves of the requests of the access log.
    fn of_log(&self, both: &Both, names: &Names) -> Result<Moves> {
        let count = |moves: &mut Moves, logged: Option<FromClient>| {
            let Some(FromClient { asked, client }) = logged else {
                moves.unread += 1;
                return;
            };
            moves.count += 1;
            let pairs = self.request.asked(asked).pairs(&[]);
            let mut host = both.old.host.clone();
            host.client = client.unwrap_or(host.client);
            both.old.asked(&pairs, |old| {
                both.new.asked(&pairs, |new| {
                    let [old, new] = [old, new].map(|it| Request { proxy: &host, ..*it });
                    let (before, after) = (decide(&both.old.policy, old), decide(&both.new.policy, new));
                    let sides = [(&both.old.policy, &before), (&both.new.policy, &after)];
                    let key_of = |rollout: &str| {
                        let of_new = moves::key_of(&both.new.policy, &new, rollout);
                        of_new.or_else(|| moves::key_of(&both.old.policy, &old, rollout))
                    };
                    moves.add(names, sides, |_| true, key_of);
                });
            });
        };
        tally(self.log.source()?, || Moves::new(names), count, Moves::merge)
    }
}
