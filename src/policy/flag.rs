//! Compiles one flag.

use std::collections::HashSet;

use crate::finding::{Findings, Path, Problem};
use crate::flag::{Flag, Variant, VariantIndex};
use crate::json::{Json, compact, quoted};
use crate::logic::{Compiler, Condition};
use crate::policy::{MAX_BYTES, NameMap};
use crate::structured;
use crate::wire;

/// The most variants that a flag may have.
const MAX_VARIANTS: usize = 1_000;
/// The most members that metadata may have.
const MAX_METADATA: usize = 100;
/// What `x-mulkko-flags` may take at most, in bytes: as much as `baggage`.
const MAX_EXPORTED_BYTES: usize = 8_192;
/// The member of metadata by which a flag is exported.
const EXPORT: &str = "mulkko.export";
/// The member of metadata by which clients from outside may ask for it.
const PUBLIC: &str = "mulkko.public";

/// The flags that are exported.
#[derive(Debug, Default)]
pub struct Exports {
    names: NameMap<()>,
    /// What they take in the header, with their longest values.
    bytes: usize,
}

/// Metadata: what each member says, as the document writes it.
pub type Metadata = Vec<(Box<str>, wire::Scalar)>;

/// What the rest of the document says of a flag.
pub struct Surroundings<'a> {
    /// The metadata of the document.
    pub metadata: &'a Metadata,
    /// The flags that were exported before.
    pub exports: &'a mut Exports,
    /// What compiles targeting.
    pub logic: &'a mut Compiler,
}

/// Compiles the flag `key` at `place`.
pub fn compile(
    key: &str,
    flag: &wire::Flag,
    around: &mut Surroundings<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Flag> {
    let at = place.field("metadata");
    let own = flag.metadata.as_ref().map_or(&[][..], |metadata| &metadata.0);
    if !check_metadata(own, &at, findings) {
        return None;
    }
    let export = export(key, own, around.exports, &at, findings);
    let variants = variants(&flag.variants, export, &place.field("variants"), findings);
    if export.is_some() {
        around.exports.make_room(&variants, &at.field(EXPORT), findings);
    }
    let default = default(flag, &variants, &place.field("defaultVariant"), findings);
    let targeting = match &flag.targeting {
        Some(json) => targeting(json, around.logic, &place.field("targeting"), findings)?,
        None => None,
    };
    Some(Flag {
        key: key.into(),
        enabled: flag.state == wire::State::Enabled,
        variants,
        default,
        targeting,
        public: public(own, &at, findings),
        metadata: written(&merged(around.metadata, own)),
    })
}

impl Exports {
    /// Reports a flag for whose longest value the header has no room.
    fn make_room(&mut self, variants: &[Variant], place: &Path<'_>, findings: &mut Findings) {
        let longest = variants.iter().map(|variant| variant.member.len() + ", ".len()).max();
        self.bytes += longest.unwrap_or(0);
        if self.bytes > MAX_EXPORTED_BYTES {
            let problem = Problem::over_limit("bytes in x-mulkko-flags", MAX_EXPORTED_BYTES, self.bytes);
            findings.report(place, problem);
        }
    }
}

/// The default variant. flagd takes an empty name for none.
fn default(
    flag: &wire::Flag,
    variants: &[Variant],
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<VariantIndex> {
    let name = flag.default_variant.as_deref().filter(|name| !name.is_empty())?;
    let Some(i) = variants.iter().position(|variant| &*variant.name == name) else {
        findings.report(place, Problem::unknown("variant", name));
        return None;
    };
    u16::try_from(i).ok().map(VariantIndex)
}

/// The targeting; an empty object is none. The outer `None`: it was refused.
fn targeting(
    json: &Json,
    logic: &mut Compiler,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Option<Condition>> {
    match json {
        Json::Object(members) if members.is_empty() => Some(None),
        Json::Object(_) => logic.targeting(json, place, findings).map(Some),
        other => {
            findings.report(place, Problem::expected("an object", other.kind()));
            None
        }
    }
}

/// Whether metadata has not too many members, and none twice; reports it otherwise.
pub fn check_metadata(
    metadata: &[(Box<str>, wire::Scalar)],
    place: &Path<'_>,
    findings: &mut Findings,
) -> bool {
    if metadata.len() > MAX_METADATA {
        findings.report(place, Problem::over_limit("members", MAX_METADATA, metadata.len()));
        return false;
    }
    let mut is_sound = true;
    let mut names: NameMap<()> = NameMap::default();
    for (name, _) in metadata {
        if names.insert(name.clone(), ()).is_some() {
            findings.report(&place.field(name), Problem::twice(name));
            is_sound = false;
        }
    }
    is_sound
}

/// Whether metadata of the document is not too much to be told with each of so many flags, and says nothing that only a
/// flag may say of itself; reports it otherwise.
pub fn check_shared_metadata(
    metadata: &[(Box<str>, wire::Scalar)],
    flags: usize,
    place: &Path<'_>,
    findings: &mut Findings,
) -> bool {
    let of_flags = metadata.iter().find(|(name, _)| [EXPORT, PUBLIC].contains(&&**name));
    if let Some((name, _)) = of_flags {
        let problem = Problem::expected("it in the metadata of a flag alone", "it in the document's");
        findings.report(&place.field(name), problem);
        return false;
    }
    let each: usize = metadata.iter().map(|(name, value)| name.len() + value.json().len()).sum();
    let bytes = each.saturating_mul(flags);
    if bytes > MAX_BYTES {
        findings.report(place, Problem::over_limit("bytes with all flags", MAX_BYTES, bytes));
    }
    bytes <= MAX_BYTES
}

/// The metadata of the document, in which what the flag says itself comes first.
fn merged<'m>(
    all: &'m [(Box<str>, wire::Scalar)],
    own: &'m [(Box<str>, wire::Scalar)],
) -> Vec<(&'m str, &'m wire::Scalar)> {
    let names: HashSet<&str> = own.iter().map(|(name, _)| &**name).collect();
    let inherited = all.iter().filter(|(name, _)| !names.contains(&**name));
    inherited.chain(own).map(|(name, value)| (&**name, value)).collect()
}

/// Metadata as a JSON object; empty where there is none.
pub fn written(metadata: &[(&str, &wire::Scalar)]) -> Box<str> {
    if metadata.is_empty() {
        return Box::default();
    }
    let members: Vec<String> =
        metadata.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.json())).collect();
    format!("{{{}}}", members.join(",")).into()
}

/// The name of the member of `x-mulkko-flags` that tells the flag, if it is exported.
fn export<'m>(
    key: &'m str,
    metadata: &'m [(Box<str>, wire::Scalar)],
    exports: &mut Exports,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<&'m str> {
    let (_, value) = metadata.iter().find(|(name, _)| &**name == EXPORT)?;
    let place = place.field(EXPORT);
    let name = match value {
        wire::Scalar::Bool(false) => return None,
        wire::Scalar::Bool(true) => key,
        wire::Scalar::Text { value, .. } => value,
        wire::Scalar::Number(number) => {
            findings.report(&place, Problem::expected("true, false or a name", number));
            return None;
        }
    };
    if !structured::is_key(name) {
        let expected = "a key of RFC 9651 (`a-z` or `*` first, then also `0-9 _ - .`), or such a name here";
        findings.report(&place, Problem::expected(expected, format_args!("\"{name}\"")));
        return None;
    }
    if exports.names.insert(name.into(), ()).is_some() {
        findings.report(&place, Problem::twice(name));
    }
    Some(name)
}

fn public(metadata: &[(Box<str>, wire::Scalar)], place: &Path<'_>, findings: &mut Findings) -> bool {
    let Some((_, value)) = metadata.iter().find(|(name, _)| &**name == PUBLIC) else { return false };
    match value {
        wire::Scalar::Bool(value) => *value,
        other => {
            findings.report(&place.field(PUBLIC), Problem::expected("true or false", other.json()));
            false
        }
    }
}

fn variants(
    entries: &wire::Entries<wire::Value>,
    export: Option<&str>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Box<[Variant]> {
    let entries = &entries.0;
    if entries.is_empty() {
        findings.report(place, Problem::expected("at least one variant", "none"));
    }
    if entries.len() > MAX_VARIANTS {
        findings.report(place, Problem::over_limit("variants", MAX_VARIANTS, entries.len()));
        return Box::default();
    }
    let mut names: NameMap<()> = NameMap::default();
    let mut compiled: Vec<Variant> = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let place = place.field(name);
        if name.is_empty() {
            findings.report(&place, Problem::expected("a name", ""));
        }
        if names.insert(name.clone(), ()).is_some() {
            findings.report(&place, Problem::twice(name));
        }
        let wire::Value { value, json } = value;
        let kind = value.kind();
        match (value, compiled.first()) {
            (Json::Null | Json::List(_), _) => {
                let expected = "a boolean, a text, a number or an object";
                findings.report(&place, Problem::expected(expected, kind));
            }
            (_, Some(first)) if first.value.kind() != kind => {
                let expected = format!("{}, as the first variant has", first.value.kind());
                findings.report(&place, Problem::expected(expected, kind));
            }
            _ => {}
        }
        let json = compact(json.get());
        let member = export.and_then(|name| structured::member(name, value, &json)).unwrap_or_default();
        let member = member.into();
        compiled.push(Variant { name: name.clone(), value: value.clone(), json, member });
    }
    compiled.into()
}
