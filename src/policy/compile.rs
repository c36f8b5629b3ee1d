//! Makes a policy from a document, a piece at a time: [`Loading`].

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use crate::bucket::{Seed, Threshold};
use crate::finding::{Finding, Findings, Path, Problem};
use crate::json::Json;
use crate::logic::Compiler;
use crate::policy::names::check_name;
use crate::policy::outline::{Item, MAX_BYTES, Member, Outline};
use crate::policy::rollout::{self, Surroundings};
use crate::policy::shape::Piece;
use crate::policy::strategy::percent_at;
use crate::policy::{Clusters, Holdout, KeyId, NameMap, Policy, RolloutId, keys};
use crate::wire;

/// The most rollouts that a policy may have.
pub const MAX_ROLLOUTS: usize = 20_000;

/// The only format there is.
const API_VERSION: &str = "mulkko/v1";

/// What an attribute must not be called, nor anything below it: conditions see something else there.
const NOT_ATTRIBUTES: [&str; 5] = ["request", "client", "node", "targetingKey", "$flagd"];

/// A policy in the making.
///
/// Each [`step`](Loading::step) reads one piece of the document (a rollout, a cohort, a flag), so that a plugin can
/// spread a large policy over many ticks. A step that finds something goes on all the same: who wants the first finding
/// only stops stepping.
#[derive(Debug)]
pub struct Loading {
    document: Vec<u8>,
    progress: Progress,
    work: Work,
}

#[derive(Debug)]
enum Progress {
    /// The document is being cut.
    Outline(Outline),
    /// Its pieces are being read, in this order; the number is the next.
    Pieces(Vec<Piecework>, usize),
    /// All is read.
    Done,
}

/// One piece, and what it is.
#[derive(Debug)]
struct Piecework {
    what: What,
    name: Box<str>,
    at: usize,
    end: usize,
    /// Which of its container's items it is.
    item: usize,
}

/// The members of a document, and the brackets in which their items stand.
const MEMBERS: [(&str, What, &str); 15] = [
    ("apiVersion", What::ApiVersion, ""),
    ("name", What::Name, ""),
    ("revision", What::Revision, ""),
    ("flagKey", What::FlagKey, ""),
    ("keys", What::Key, "{"),
    ("attributes", What::Attribute, "{"),
    ("cohorts", What::Cohort, "{"),
    ("layers", What::Layer, "{"),
    ("holdouts", What::Holdout, "["),
    ("rollouts", What::Rollout, "["),
    ("flags", What::Flag, "{["),
    ("fractional", What::Fractional, ""),
    ("$evaluators", What::Evaluator, "{"),
    ("metadata", What::Metadata, ""),
    ("$schema", What::Schema, ""),
];

/// What a piece is. The order is that in which pieces are read: names are defined before they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    ApiVersion,
    Name,
    Revision,
    Schema,
    Metadata,
    Fractional,
    Key,
    FlagKey,
    Attribute,
    Evaluator,
    Cohort,
    Layer,
    Holdout,
    Rollout,
    Flag,
}

impl Loading {
    /// Starts on `document`, which may route to `clusters`.
    #[must_use]
    pub fn new(document: Vec<u8>, clusters: Clusters) -> Loading {
        let mut work = Work { clusters, ..Work::default() };
        let mut progress = Progress::Outline(Outline::default());
        if document.len() > MAX_BYTES {
            work.findings.report(&Path::Root, Problem::over_limit("bytes", MAX_BYTES, document.len()));
            progress = Progress::Done;
        }
        work.policy.keys.push(keys::request());
        work.keys.insert("request".into(), KeyId::REQUEST);
        Loading { document, progress, work }
    }

    /// Reads one more piece; `false` when there is no more.
    pub fn step(&mut self) -> bool {
        match &mut self.progress {
            Progress::Outline(outline) => {
                if !outline.step(&self.document, &mut self.work.findings) {
                    let members = std::mem::take(outline).into_members();
                    self.progress = self.work.plan(&self.document, members);
                }
                true
            }
            Progress::Pieces(pieces, next) => {
                let Some(piece) = pieces.get(*next) else {
                    self.work.close();
                    self.progress = Progress::Done;
                    return false;
                };
                *next += 1;
                self.work.read(&self.document, piece);
                true
            }
            Progress::Done => false,
        }
    }

    /// Whether something was found already, so that the document will be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.work.findings.is_empty()
    }

    /// The document; there is nothing left to load after it is taken out.
    #[must_use]
    pub fn take_document(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.document)
    }

    /// The policy, once all is read.
    ///
    /// # Errors
    /// What was found, in the order in which it was found; never empty.
    pub fn finish(self) -> Result<Policy, Vec<Finding>> {
        match self.work.findings.is_empty() {
            true => Ok(self.work.policy),
            false => Err(self.work.findings.into_vec()),
        }
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Work {
    policy: Policy,
    findings: Findings,
    clusters: Clusters,
    keys: NameMap<KeyId>,
    layers: NameMap<KeyId>,
    holdouts: NameMap<()>,
    attributes: NameMap<()>,
    flags: NameMap<()>,
    cohort_names: NameMap<()>,
    evaluator_names: NameMap<()>,
    /// The slices of each layer: upper ends by lower ends.
    slices: NameMap<BTreeMap<Threshold, (Threshold, usize)>>,
    evaluators: Vec<(Box<str>, Json)>,
    attribute_names: Vec<Box<str>>,
    cohorts: Vec<Box<str>>,
    logic: Option<Compiler>,
}

impl Work {
    /// Puts the pieces in the order in which they are read. Reports members that nobody knows or that stand twice.
    fn plan(&mut self, document: &[u8], members: Vec<Member>) -> Progress {
        if !self.findings.is_empty() {
            return Progress::Done;
        }
        let mut pieces = Vec::new();
        let mut known = Vec::new();
        for member in members {
            self.plan_member(document, member, &mut known, &mut pieces);
        }
        pieces.sort_by_key(|piece| piece.what);
        Progress::Pieces(pieces, 0)
    }

    fn plan_member(
        &mut self,
        document: &[u8],
        member: Member,
        known: &mut Vec<What>,
        pieces: &mut Vec<Piecework>,
    ) {
        let known_as = MEMBERS.iter().find(|(name, ..)| *name == &*member.name);
        let Some((_, what, brackets)) = known_as.copied() else {
            let names: Vec<String> = MEMBERS.iter().map(|(name, ..)| format!("`{name}`")).collect();
            let expected = format!("one of {}", names.join(", "));
            let problem = Problem::UnknownMember { expected };
            return self.findings.report(&Path::Root.field(&member.name), problem);
        };
        let place = Path::Root.field(&member.name);
        if known.contains(&what) {
            return self.findings.report(&place, Problem::Twice(member.name.to_string()));
        }
        known.push(what);
        if brackets.is_empty() {
            let (at, end) = (member.value.start, member.value.end);
            pieces.push(Piecework { what, name: Box::default(), at, end, item: 0 });
            return;
        }
        let open = document.get(member.value.start).map_or(' ', |byte| char::from(*byte));
        if !brackets.contains(open) {
            let expected = match brackets {
                "{" => "an object",
                "[" => "an array",
                _ => "an object or an array",
            };
            let found = if open == '{' { "an object" } else { "another value" };
            self.findings.report(&place, Problem::expected(expected, found));
            return;
        }
        if what == What::Rollout && member.items.len() > MAX_ROLLOUTS {
            self.findings.report(&place, Problem::over_limit("rollouts", MAX_ROLLOUTS, member.items.len()));
            return;
        }
        if what == What::Rollout {
            // Growing a list of twenty thousand would be a long step.
            self.policy.rollouts.reserve(member.items.len());
            self.policy.by_name.reserve(member.items.len());
            self.policy.index.reserve(member.items.len());
        }
        if what == What::Cohort {
            self.cohorts = member.items.iter().filter_map(|item| item.name.clone()).collect();
        }
        for (item, Item { name, value }) in member.items.into_iter().enumerate() {
            let name = name.unwrap_or_default();
            pieces.push(Piecework { what, name, at: value.start, end: value.end, item });
        }
    }

    /// Reads one piece.
    fn read(&mut self, document: &[u8], work: &Piecework) {
        let piece = Piece { document, at: work.at, end: work.end };
        let name = &*work.name;
        let field = |container| Path::Field(&Path::Root, container);
        match work.what {
            What::ApiVersion => self.api_version(piece),
            What::Name => self.name(piece),
            What::Revision => {
                let revision = piece.read(&field("revision"), &mut self.findings);
                self.policy.revision = revision.unwrap_or_default();
            }
            What::Schema => drop(piece.read::<Box<str>>(&field("$schema"), &mut self.findings)),
            What::Metadata => {
                drop(piece.read::<wire::Entries<IgnoredAny>>(&field("metadata"), &mut self.findings));
            }
            What::Fractional => {
                piece.read::<wire::Fractional>(&field("fractional"), &mut self.findings);
            }
            What::Key => self.key(piece, name, &field("keys").field(name)),
            What::FlagKey => {
                let place = field("flagKey");
                if let Some(key) = piece.read::<Box<str>>(&place, &mut self.findings) {
                    self.known_key(&key, &place);
                }
            }
            What::Attribute => self.attribute(piece, name, &field("attributes").field(name)),
            What::Evaluator => {
                let place = field("$evaluators");
                let place = place.field(name);
                if self.evaluator_names.insert(name.into(), ()).is_some() {
                    self.findings.report(&place, Problem::Twice(name.to_owned()));
                }
                if let Some(json) = piece.read(&place, &mut self.findings) {
                    self.evaluators.push((name.into(), json));
                }
            }
            What::Cohort => self.cohort(piece, name, work.item, &field("cohorts").field(name)),
            What::Layer => self.layer(piece, name, &field("layers").field(name)),
            What::Holdout => self.holdout(piece, &field("holdouts").item(work.item)),
            What::Rollout => self.rollout(piece, work.item, &field("rollouts").item(work.item)),
            What::Flag => self.flag(piece, work, &field("flags")),
        }
    }

    fn api_version(&mut self, piece: Piece<'_>) {
        let place = Path::Root.field("apiVersion");
        let Some(found) = piece.read::<Box<str>>(&place, &mut self.findings) else { return };
        if &*found != API_VERSION {
            let problem = Problem::expected(format!("\"{API_VERSION}\""), format_args!("\"{found}\""));
            self.findings.report(&place, problem);
        }
    }

    fn name(&mut self, piece: Piece<'_>) {
        let place = Path::Root.field("name");
        let Some(name) = piece.read::<Box<str>>(&place, &mut self.findings) else { return };
        check_name(&name, &place, &mut self.findings);
        self.policy.name = Some(name);
    }

    fn key(&mut self, piece: Piece<'_>, name: &str, place: &Path<'_>) {
        check_name(name, place, &mut self.findings);
        let id = KeyId(self.policy.keys.len());
        match self.keys.insert(name.into(), id) {
            Some(KeyId::REQUEST) => {
                self.findings.report(place, Problem::expected("a name that is not built in", "`request`"));
            }
            Some(_) => self.findings.report(place, Problem::Twice(name.to_owned())),
            None => {}
        }
        let Some(key) = piece.read::<wire::Key>(place, &mut self.findings) else { return };
        self.policy.keys.extend(keys::key(&key, place, &mut self.findings));
    }

    fn known_key(&mut self, name: &str, place: &Path<'_>) -> Option<KeyId> {
        let around = Surroundings { keys: &self.keys, layers: &self.layers, clusters: &self.clusters };
        around.key(name, place, &mut self.findings)
    }

    fn attribute(&mut self, piece: Piece<'_>, name: &str, place: &Path<'_>) {
        let first = name.split('.').next().unwrap_or(name);
        if NOT_ATTRIBUTES.contains(&first) || name.is_empty() {
            let problem = Problem::expected("a name that conditions do not have", format_args!("\"{name}\""));
            self.findings.report(place, problem);
        }
        if self.attributes.insert(name.into(), ()).is_some() {
            self.findings.report(place, Problem::Twice(name.to_owned()));
        }
        let Some(sources) = piece.read::<Vec<wire::Source>>(place, &mut self.findings) else { return };
        if let Some(sources) = keys::sources(&sources, place, &mut self.findings) {
            self.policy.attributes.push(sources);
            self.attribute_names.push(name.into());
        }
    }

    /// The compiler of conditions. Made when the first condition is read: attributes and evaluators are known by then.
    fn logic<'w>(
        logic: &'w mut Option<Compiler>,
        attributes: &mut Vec<Box<str>>,
        evaluators: &mut Vec<(Box<str>, Json)>,
        cohorts: &mut Vec<Box<str>>,
    ) -> &'w mut Compiler {
        logic.get_or_insert_with(|| {
            Compiler::new(std::mem::take(attributes), std::mem::take(evaluators), std::mem::take(cohorts))
        })
    }

    fn cohort(&mut self, piece: Piece<'_>, name: &str, item: usize, place: &Path<'_>) {
        let Work { logic, attribute_names, evaluators, cohorts, findings, .. } = self;
        let logic = Work::logic(logic, attribute_names, evaluators, cohorts);
        check_name(name, place, findings);
        if self.cohort_names.insert(name.into(), ()).is_some() {
            findings.report(place, Problem::Twice(name.to_owned()));
        }
        if let Some(json) = piece.read::<Json>(place, findings) {
            logic.cohort(item, &json, place, findings);
        }
    }

    fn layer(&mut self, piece: Piece<'_>, name: &str, place: &Path<'_>) {
        check_name(name, place, &mut self.findings);
        let Some(layer) = piece.read::<wire::Layer>(place, &mut self.findings) else { return };
        let Some(key) = self.known_key(&layer.key, &place.field("key")) else { return };
        if self.layers.insert(name.into(), key).is_some() {
            self.findings.report(place, Problem::Twice(name.to_owned()));
        }
    }

    fn holdout(&mut self, piece: Piece<'_>, place: &Path<'_>) {
        let Some(holdout) = piece.read::<wire::Holdout>(place, &mut self.findings) else { return };
        let at = place.field("name");
        check_name(&holdout.name, &at, &mut self.findings);
        let is_layer = self.layers.contains_key(holdout.name.as_str());
        if self.holdouts.insert(holdout.name.as_str().into(), ()).is_some() || is_layer {
            self.findings.report(&at, Problem::Twice(holdout.name.clone()));
        }
        let key = self.known_key(&holdout.key, &place.field("key"));
        let percent = percent_at(&holdout.percent, &place.field("percent"), &mut self.findings);
        if let (Some(key), Some(percent)) = (key, percent) {
            self.policy.holdouts.push(Holdout {
                seed: Seed::new(&holdout.name),
                key,
                end: percent.threshold(),
            });
        }
    }

    fn rollout(&mut self, piece: Piece<'_>, item: usize, place: &Path<'_>) {
        let Some(wire) = piece.read::<wire::Rollout>(place, &mut self.findings) else { return };
        let Ok(id) = RolloutId::try_from(item) else { return };
        self.seed_is_free(&wire, place);
        let Work {
            policy,
            findings,
            clusters,
            keys,
            layers,
            logic,
            attribute_names,
            evaluators,
            cohorts,
            ..
        } = self;
        let logic = Work::logic(logic, attribute_names, evaluators, cohorts);
        let around = Surroundings { keys, layers, clusters };
        let compiled = rollout::compile(&wire, &around, logic, place, findings);
        policy.index.insert(id, &wire.hostnames, &wire.matches, place, findings);
        if policy.by_name.insert(wire.name.as_str().into(), id).is_some() {
            findings.report(&place.field("name"), Problem::Twice(wire.name.clone()));
        }
        self.slice_is_free(&wire, compiled.as_ref(), item, place);
        self.policy.rollouts.extend(compiled);
    }

    /// A layer or holdout hashes with its own name: a rollout with the same seed would be in step with it.
    fn seed_is_free(&mut self, rollout: &wire::Rollout, place: &Path<'_>) {
        let (member, seed) = match &rollout.seed {
            Some(seed) => ("seed", seed.as_str()),
            None => ("name", rollout.name.as_str()),
        };
        if self.layers.contains_key(seed) || self.holdouts.contains_key(seed) {
            let problem =
                Problem::expected("a seed that no layer or holdout is called", format_args!("`{seed}`"));
            self.findings.report(&place.field(member), problem);
        }
    }

    /// Slices of a layer never overlap: two rollouts in one layer never meet in a user.
    fn slice_is_free(
        &mut self,
        rollout: &wire::Rollout,
        compiled: Option<&crate::policy::Rollout>,
        item: usize,
        place: &Path<'_>,
    ) {
        let (Some(layer), Some(slice)) = (&rollout.layer, compiled.and_then(|it| it.slice.as_ref())) else {
            return;
        };
        let slices = self.slices.entry(layer.name.as_str().into()).or_default();
        let (from, to) = (slice.from, slice.to);
        let before = slices.range(..to).next_back().filter(|(_, (end, _))| *end > from);
        if let Some((_, (_, other))) = before {
            let found = format!("an overlap with `rollouts[{other}]`");
            self.findings.report(&place.field("layer"), Problem::expected("a slice of its own", found));
            return;
        }
        slices.insert(from, (to, item));
    }

    /// Takes a flag by its shape; flags are not evaluated yet.
    fn flag(&mut self, piece: Piece<'_>, work: &Piecework, flags: &Path<'_>) {
        let place = if work.name.is_empty() { flags.item(work.item) } else { flags.field(&work.name) };
        let Some(flag) = piece.read::<wire::Flag>(&place, &mut self.findings) else { return };
        let key = match (&*work.name, &flag.key) {
            ("", Some(key)) => key.as_str(),
            ("", None) => return self.findings.report(&place, Problem::MissingMember("key".into())),
            (name, _) => name,
        };
        if self.flags.insert(key.into(), ()).is_some() {
            self.findings.report(&place, Problem::Twice(key.to_owned()));
        }
    }

    /// Checks what can be checked only when all is read.
    fn close(&mut self) {
        let Some(logic) = self.logic.take() else { return };
        self.policy.library = logic.close(&mut self.findings).unwrap_or_default();
    }
}
