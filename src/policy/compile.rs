//! Compiles the pieces of a document, one by one, into a policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec;

use crate::bucket::{Seed, Threshold};
use crate::finding::{Findings, Path, Problem};
use crate::flag::FlagId;
use crate::json::{Json, Readable};
use crate::logic::{Compiler, MOST_LEVELS, Way};
use crate::policy::names::check_name;
use crate::policy::outline::Lines;
use crate::policy::parts::{FEW, Parts};
use crate::policy::patterns;
use crate::policy::plan::{Piecework, Plan, What};
use crate::policy::rollout::{self, Surroundings};
use crate::policy::shape::Piece;
use crate::policy::strategy::percent_at;
use crate::policy::texts::Texts;
use crate::policy::{
    Attribute, Clusters, Holdout, KeyId, MAX_REVISION, NameMap, Policy, Rollout, RolloutId, flag, keys,
};
use crate::wire;

/// The only format there is.
const API_VERSION: &str = "mulkko/v1";

/// What an attribute must not be called, nor anything below it: conditions see something else there.
const NOT_ATTRIBUTES: [&str; 5] = ["request", "client", "node", "targetingKey", "$flagd"];

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) policy: Policy,
    pub(super) findings: Findings,
    clusters: Clusters,
    keys: NameMap<KeyId>,
    layers: NameMap<KeyId>,
    holdouts: NameMap<()>,
    attributes: NameMap<()>,
    /// How many flags the document has.
    flags: usize,
    flag_keys: NameMap<()>,
    metadata: flag::Metadata,
    exports: flag::Exports,
    texts: Texts,
    cohort_names: NameMap<()>,
    evaluator_names: NameMap<()>,
    /// The slices of each layer: upper ends by lower ends.
    slices: NameMap<BTreeMap<Threshold, (Threshold, usize)>>,
    logic: Compiler,
    /// What was read of the last piece, and is to be compiled.
    pending: Option<Pending>,
    /// The patterns in it, which are compiled before, one by one: each may take as long as the rest of the piece.
    patterns: vec::IntoIter<Box<str>>,
    /// Whether those of the evaluator are known that is compiled next.
    knows_patterns: bool,
}

/// A piece that is read, and what is to be done with it next.
#[derive(Debug)]
enum Pending {
    Cohort(Json, Piecework),
    Flag(Box<wire::Flag>, Piecework),
    Rollout(Box<wire::Rollout>, usize),
    /// The rollout is compiled, but for its hosts and matches.
    Filing(Box<wire::Rollout>, usize, Option<Box<Rollout>>),
}

impl Work {
    /// Nothing has been read; rollouts may route to `clusters`.
    pub(super) fn new(clusters: Clusters, findings: Findings) -> Work {
        let mut work = Work { clusters, findings, ..Work::default() };
        work.policy.keys.push(keys::request());
        work.keys.insert("request".into(), KeyId::REQUEST);
        work
    }

    /// Makes room for what is known to come: growing a list of twenty thousand would be a long step.
    pub(super) fn begin(&mut self, plan: &Plan) {
        let rollouts = plan.count_of(What::Rollout);
        self.policy.rollouts.reserve(rollouts);
        self.policy.by_name.reserve(rollouts);
        self.policy.index.reserve(rollouts);
        self.flags = plan.count_of(What::Flag);
        self.policy.flags.reserve(self.flags);
        self.flag_keys.reserve(self.flags);
        self.policy.flags_by_key.reserve(self.flags);
        self.cohort_names.reserve(plan.count_of(What::Cohort));
    }

    /// Takes down the name of a cohort: it may be used before it is defined.
    pub(super) fn declare_cohort(&mut self, name: &str) {
        self.logic.declare_cohort(name);
    }

    /// Reads one piece.
    pub(super) fn read(&mut self, document: &[u8], lines: &Lines, work: Piecework) {
        let piece = Piece { document, lines, at: work.at, end: work.end };
        let name = &*work.name;
        let field = |container| Path::Field(&Path::Root, container);
        match work.what {
            What::ApiVersion => self.api_version(piece),
            What::Name => self.name(piece),
            What::Revision => self.revision(piece),
            What::Schema => drop(piece.read::<Box<str>>(&field("$schema"), &mut self.findings)),
            What::Metadata => {
                let place = field("metadata");
                let metadata = piece.read::<wire::Entries<wire::Scalar>>(&place, &mut self.findings);
                let metadata = metadata.unwrap_or_default().0;
                if flag::check_metadata(&metadata, &place, &mut self.findings)
                    && flag::check_shared_metadata(&metadata, self.flags, &place, &mut self.findings)
                {
                    let all: Vec<_> = metadata.iter().map(|(name, value)| (&**name, value)).collect();
                    self.policy.metadata = flag::written(&all);
                    self.metadata = metadata;
                }
            }
            What::Fractional => {
                let version = piece.read(&field("fractional"), &mut self.findings);
                self.logic.hash_as(version.unwrap_or_default());
            }
            What::Key => self.key(piece, name, &field("keys").field(name)),
            What::FlagKey => {
                let place = field("flagKey");
                if let Some(key) = piece.read::<Box<str>>(&place, &mut self.findings) {
                    self.policy.flag_key = self.known_key(&key, &place);
                }
            }
            What::Attribute => self.attribute(piece, name, &field("attributes").field(name)),
            What::Evaluator => {
                let place = field("$evaluators");
                let place = place.field(name);
                if self.evaluator_names.insert(name.into(), ()).is_some() {
                    self.findings.report(&place, Problem::twice(name));
                }
                if let Some(json) = piece.read(&place, &mut self.findings) {
                    self.logic.declare_evaluator(name, json);
                }
            }
            What::Cohort => {
                let json = piece.read::<Json>(&field("cohorts").field(name), &mut self.findings);
                self.patterns = json.as_ref().map(patterns::of).unwrap_or_default().into_iter();
                self.pending = json.map(|json| Pending::Cohort(json, work));
            }
            What::Layer => self.layer(piece, name, &field("layers").field(name)),
            What::Holdout => self.holdout(piece, &field("holdouts").item(work.item)),
            What::Rollout => {
                let place = field("rollouts");
                let rollout = piece.read::<wire::Rollout>(&place.item(work.item), &mut self.findings);
                self.patterns = rollout.as_ref().map(patterns::of_rollout).unwrap_or_default().into_iter();
                self.pending = rollout.map(|rollout| Pending::Rollout(Box::new(rollout), work.item));
            }
            What::Flag => {
                let place = field("flags");
                let place = flag_place(&place, &work);
                let flag = piece.read::<wire::Flag>(&place, &mut self.findings);
                // Of a flag's unknown members nothing was read yet, and who edits the document reads all of it.
                let flag = flag.filter(|_| piece.read::<Readable>(&place, &mut self.findings).is_some());
                let targeting = flag.as_ref().and_then(|flag| flag.targeting.as_ref());
                self.patterns = targeting.map(patterns::of).unwrap_or_default().into_iter();
                self.pending = flag.map(|flag| Pending::Flag(Box::new(flag), work));
            }
        }
    }

    /// Reads the revision: digits that are too many for any number are over the limit like those that are not.
    fn revision(&mut self, piece: Piece<'_>) {
        let place = Path::Root.field("revision");
        let text = piece.bytes().trim_ascii_end();
        let is_whole = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(text).ok().filter(|_| is_whole);
        match number.map(|number| (number, number.parse::<u64>())) {
            Some((_, Ok(..=MAX_REVISION))) | None => {
                self.policy.revision = piece.read(&place, &mut self.findings).unwrap_or_default();
            }
            Some((found, _)) => {
                let expected = format!("at most {MAX_REVISION}");
                self.findings.report(&place, Problem::expected(expected, found));
            }
        }
    }

    /// Goes on with what was read; `false` when it is compiled, with all that it uses.
    pub(super) fn compile(&mut self) -> bool {
        if let Some(pattern) = self.patterns.next() {
            self.findings.prepare_pattern(pattern);
            return true;
        }
        match self.pending.take() {
            Some(Pending::Cohort(json, work)) => self.cohort(&json, &work),
            Some(Pending::Flag(flag, work)) => self.flag(&flag, &work),
            Some(Pending::Rollout(rollout, item)) => {
                let compiled = self.rollout(&rollout, item).map(Box::new);
                self.pending = Some(Pending::Filing(rollout, item, compiled));
                return true;
            }
            Some(Pending::Filing(rollout, item, compiled)) => {
                self.file(&rollout, item, compiled.map(|rollout| *rollout));
            }
            None => return self.compile_wanted(),
        }
        true
    }

    /// Compiles an evaluator that was referred to.
    fn compile_wanted(&mut self) -> bool {
        let Some(json) = self.logic.wanted() else { return false };
        self.knows_patterns = !self.knows_patterns;
        if self.knows_patterns {
            self.patterns = patterns::of(json).into_iter();
        } else {
            self.logic.compile_wanted(&mut self.findings);
        }
        true
    }

    /// Looks at one more of what nothing in the document may use; `false` when there is none left.
    pub(super) fn want_unused(&mut self) -> bool {
        self.logic.want_unused()
    }

    /// Checks a part of what can be checked only when all is read; `false` when all is checked.
    pub(super) fn check(&mut self) -> bool {
        self.logic.check(&mut self.findings)
    }

    /// What was found, the policy if that is nothing, and what is not needed any more.
    pub(super) fn into_parts(self) -> (Findings, Option<Policy>, Parts) {
        let Work { mut policy, mut findings, logic, .. } = self;
        let mut parts = Parts::default();
        policy.patterns = findings.take_patterns();
        policy.library = logic.into_parts(&mut parts);
        for names in [self.keys, self.layers] {
            parts.add(names, FEW);
        }
        for names in [self.holdouts, self.attributes, self.flag_keys, self.cohort_names, self.evaluator_names]
        {
            parts.add(names, FEW);
        }
        parts.add(self.slices, 1);
        parts.add(self.texts.into_all(), FEW);
        parts.add(self.patterns, FEW);
        parts.add(self.pending, 1);
        let policy = match findings.is_empty() {
            true => Some(policy),
            false => {
                parts.append(policy.into_parts());
                None
            }
        };
        (findings, policy, parts)
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
            Some(_) => self.findings.report(place, Problem::twice(name)),
            None => {}
        }
        let Some(key) = piece.read::<wire::Key>(place, &mut self.findings) else { return };
        self.policy.keys.extend(keys::key(&key, place, &mut self.findings));
    }

    fn known_key(&mut self, name: &str, place: &Path<'_>) -> Option<KeyId> {
        let around = Surroundings {
            keys: &self.keys,
            layers: &self.layers,
            clusters: &self.clusters,
            texts: &self.texts,
        };
        around.key(name, place, &mut self.findings)
    }

    fn attribute(&mut self, piece: Piece<'_>, name: &str, place: &Path<'_>) {
        let first = name.split('.').next().unwrap_or(name);
        if NOT_ATTRIBUTES.contains(&first) || name.is_empty() {
            let problem = Problem::expected("a name that conditions do not have", format_args!("\"{name}\""));
            self.findings.report(place, problem);
        }
        if self.attributes.insert(name.into(), ()).is_some() {
            self.findings.report(place, Problem::twice(name));
        }
        let levels = name.split('.').count();
        if levels > MOST_LEVELS {
            let problem = Problem::over_limit("names between dots", MOST_LEVELS, levels);
            return self.findings.report(place, problem);
        }
        // Known even if what it says is refused: conditions that ask for it are not to blame.
        self.logic.declare_attribute(name);
        let Some(sources) = piece.read::<Vec<wire::Source>>(place, &mut self.findings) else { return };
        if let Some(from) = keys::sources(&sources, place, &mut self.findings) {
            self.policy.attributes.push(Attribute { way: Way::new(name), from });
        }
    }

    fn cohort(&mut self, json: &Json, work: &Piecework) {
        let (name, findings) = (&*work.name, &mut self.findings);
        let place = Path::Root.field("cohorts");
        let place = place.field(name);
        check_name(name, &place, findings);
        if self.cohort_names.insert(name.into(), ()).is_some() {
            findings.report(&place, Problem::twice(name));
        }
        self.logic.cohort(work.item, json, &place, findings);
    }

    fn layer(&mut self, piece: Piece<'_>, name: &str, place: &Path<'_>) {
        check_name(name, place, &mut self.findings);
        let Some(layer) = piece.read::<wire::Layer>(place, &mut self.findings) else { return };
        let Some(key) = self.known_key(&layer.key, &place.field("key")) else { return };
        if self.layers.insert(name.into(), key).is_some() {
            self.findings.report(place, Problem::twice(name));
        }
    }

    fn holdout(&mut self, piece: Piece<'_>, place: &Path<'_>) {
        let Some(holdout) = piece.read::<wire::Holdout>(place, &mut self.findings) else { return };
        let at = place.field("name");
        check_name(&holdout.name, &at, &mut self.findings);
        let is_layer = self.layers.contains_key(holdout.name.as_str());
        if self.holdouts.insert(holdout.name.as_str().into(), ()).is_some() || is_layer {
            self.findings.report(&at, Problem::twice(&holdout.name));
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

    /// Compiles a rollout, but for its hosts and matches.
    fn rollout(&mut self, wire: &wire::Rollout, item: usize) -> Option<Rollout> {
        let place = Path::Root.field("rollouts");
        let place = place.item(item);
        self.seed_is_free(wire, &place);
        let Work { findings, clusters, texts, keys, layers, logic, .. } = self;
        let around = Surroundings { keys, layers, clusters, texts };
        rollout::compile(wire, &around, logic, &place, findings)
    }

    /// Files a rollout below its hosts and matches, its name, and what it says of layers and guards.
    fn file(&mut self, wire: &wire::Rollout, item: usize, compiled: Option<Rollout>) {
        let Ok(id) = RolloutId::try_from(item) else { return };
        let place = Path::Root.field("rollouts");
        let place = place.item(item);
        let Work { policy, findings, .. } = self;
        policy.index.insert(id, &wire.hostnames, &wire.matches, &place, findings);
        let name =
            compiled.as_ref().map_or_else(|| wire.name.as_str().into(), |rollout| Arc::clone(&rollout.name));
        if policy.by_name.insert(name, id).is_some() {
            findings.report(&place.field("name"), Problem::twice(&wire.name));
        }
        if let Some(guard) = compiled.as_ref().and_then(|rollout| rollout.guard.as_ref()) {
            policy.guarded.push(id);
            policy.by_guard.insert(guard.identity, id);
        }
        self.slice_is_free(wire, compiled.as_ref(), item, &place);
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
        compiled: Option<&Rollout>,
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

    fn flag(&mut self, wire: &wire::Flag, work: &Piecework) {
        let flags = Path::Root.field("flags");
        let place = flag_place(&flags, work);
        let key = match (&*work.name, &wire.key) {
            ("", Some(key)) if key.is_empty() => {
                return self.findings.report(&place.field("key"), Problem::expected("a name", ""));
            }
            ("", Some(key)) => key.as_str(),
            ("", None) => return self.findings.report(&place, Problem::MissingMember("key".into())),
            (name, _) => name,
        };
        if self.flag_keys.insert(key.into(), ()).is_some() {
            self.findings.report(&place, Problem::twice(key));
        }
        let Work { policy, findings, metadata, exports, logic, .. } = self;
        let Ok(id) = FlagId::try_from(policy.flags.len()) else { return };
        logic.flag(key, id);
        let mut around = flag::Surroundings { metadata, exports, logic };
        let Some(compiled) = flag::compile(key, wire, &mut around, &place, findings) else { return };
        if compiled.variants.iter().any(|variant| !variant.member.is_empty()) {
            policy.exported_flags.push(id);
        }
        policy.flags_by_key.insert(key.into(), id);
        policy.flags.push(compiled);
    }
}

/// Where a flag stands: by its key in an object, by its number in an array.
fn flag_place<'p>(flags: &'p Path<'p>, work: &'p Piecework) -> Path<'p> {
    if work.name.is_empty() { flags.item(work.item) } else { flags.field(&work.name) }
}
