//! Compiles the pieces of a document, one by one, into a policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bucket::{Seed, Threshold};
use crate::finding::{Findings, Path, Problem};
use crate::flag::FlagId;
use crate::json::Json;
use crate::logic::{Compiler, Way};
use crate::policy::names::check_name;
use crate::policy::plan::{Piecework, What};
use crate::policy::rollout::{self, Surroundings};
use crate::policy::shape::Piece;
use crate::policy::strategy::percent_at;
use crate::policy::texts::Texts;
use crate::policy::{Attribute, Clusters, Holdout, KeyId, NameMap, Policy, RolloutId, flag, keys};
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
    fractional: wire::Fractional,
    texts: Texts,
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
    /// Nothing has been read; rollouts may route to `clusters`.
    pub(super) fn new(clusters: Clusters) -> Work {
        let mut work = Work { clusters, ..Work::default() };
        work.policy.keys.push(keys::request());
        work.keys.insert("request".into(), KeyId::REQUEST);
        work
    }

    /// Takes down what is known before the first piece is read: the names of cohorts, which may be used before they are
    /// defined, and how many rollouts there are, since growing a list of twenty thousand would be a long step.
    pub(super) fn begin(&mut self, pieces: &[Piecework]) {
        let of = |what| pieces.iter().filter(move |piece| piece.what == what);
        self.cohorts = of(What::Cohort).map(|piece| piece.name.clone()).collect();
        let rollouts = of(What::Rollout).count();
        self.policy.rollouts.reserve(rollouts);
        self.policy.by_name.reserve(rollouts);
        self.policy.index.reserve(rollouts);
        let flags = of(What::Flag).count();
        self.flags = flags;
        self.policy.flags.reserve(flags);
        self.flag_keys.reserve(flags);
        self.policy.flags_by_key.reserve(flags);
    }

    /// Reads one piece.
    pub(super) fn read(&mut self, document: &[u8], work: &Piecework) {
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
                self.fractional = version.unwrap_or_default();
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
            self.findings.report(place, Problem::Twice(name.to_owned()));
        }
        // Known even if what it says is refused: conditions that ask for it are not to blame.
        self.attribute_names.push(name.into());
        let Some(sources) = piece.read::<Vec<wire::Source>>(place, &mut self.findings) else { return };
        if let Some(from) = keys::sources(&sources, place, &mut self.findings) {
            self.policy.attributes.push(Attribute { way: Way::new(name), from });
        }
    }

    /// The compiler of conditions. Made when the first condition is read: attributes and evaluators are known by then.
    fn logic(&mut self) -> &mut Compiler {
        let Work { logic, attribute_names, evaluators, cohorts, fractional, .. } = self;
        logic.get_or_insert_with(|| {
            let [attributes, cohorts] = [attribute_names, cohorts].map(std::mem::take);
            Compiler::new(attributes, std::mem::take(evaluators), cohorts, *fractional)
        })
    }

    fn cohort(&mut self, piece: Piece<'_>, name: &str, item: usize, place: &Path<'_>) {
        let mut findings = std::mem::take(&mut self.findings);
        check_name(name, place, &mut findings);
        if self.cohort_names.insert(name.into(), ()).is_some() {
            findings.report(place, Problem::Twice(name.to_owned()));
        }
        if let Some(json) = piece.read::<Json>(place, &mut findings) {
            self.logic().cohort(item, &json, place, &mut findings);
        }
        self.findings = findings;
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
        self.logic();
        let Work { policy, findings, clusters, texts, keys, layers, logic: Some(logic), .. } = self else {
            return;
        };
        let around = Surroundings { keys, layers, clusters, texts };
        let compiled = rollout::compile(&wire, &around, logic, place, findings);
        policy.index.insert(id, &wire.hostnames, &wire.matches, place, findings);
        let name =
            compiled.as_ref().map_or_else(|| wire.name.as_str().into(), |rollout| Arc::clone(&rollout.name));
        if policy.by_name.insert(name, id).is_some() {
            findings.report(&place.field("name"), Problem::Twice(wire.name.clone()));
        }
        if let Some(guard) = compiled.as_ref().and_then(|rollout| rollout.guard.as_ref()) {
            policy.guarded.push(id);
            policy.by_guard.insert(guard.identity, id);
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

    fn flag(&mut self, piece: Piece<'_>, work: &Piecework, flags: &Path<'_>) {
        let place = if work.name.is_empty() { flags.item(work.item) } else { flags.field(&work.name) };
        let Some(wire) = piece.read::<wire::Flag>(&place, &mut self.findings) else { return };
        let key = match (&*work.name, &wire.key) {
            ("", Some(key)) if key.is_empty() => {
                return self.findings.report(&place.field("key"), Problem::expected("a name", ""));
            }
            ("", Some(key)) => key.as_str(),
            ("", None) => return self.findings.report(&place, Problem::MissingMember("key".into())),
            (name, _) => name,
        };
        if self.flag_keys.insert(key.into(), ()).is_some() {
            self.findings.report(&place, Problem::Twice(key.to_owned()));
        }
        self.logic();
        let Work { policy, findings, metadata, exports, logic: Some(logic), .. } = self else { return };
        let Ok(id) = FlagId::try_from(policy.flags.len()) else { return };
        logic.flag(key, id);
        let mut around = flag::Surroundings { metadata, exports, logic };
        let Some(compiled) = flag::compile(key, &wire, &mut around, &place, findings) else { return };
        if compiled.variants.iter().any(|variant| !variant.member.is_empty()) {
            policy.exported_flags.push(id);
        }
        policy.flags_by_key.insert(key.into(), id);
        policy.flags.push(compiled);
    }

    /// Compiles one more of what nothing in the document uses; `false` when there is none left.
    pub(super) fn compile_unused(&mut self) -> bool {
        self.logic();
        let Work { findings, logic: Some(logic), .. } = self else { return false };
        logic.compile_unused(findings)
    }

    /// Checks what can be checked only when all is read.
    pub(super) fn close(&mut self) {
        let Some(logic) = self.logic.take() else { return };
        self.policy.library = logic.close(&mut self.findings).unwrap_or_default();
    }
}
