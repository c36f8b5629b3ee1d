//! What the expressions and keys of a document mean, names followed: as numbers, which are equal where two documents say the
//! same.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use mulkko::json::Json;
use mulkko::logic::operation;
use mulkko::wire::{Document, Flag, Key, Source};

/// A document, and what its names stand for.
pub struct Meaning<'d> {
    pub document: &'d Document,
    /// Cohorts and evaluators, by the operator that uses them.
    named: BTreeMap<(&'static str, &'d str), &'d Json>,
    attributes: BTreeMap<&'d str, &'d [Source]>,
    pub flags: BTreeMap<&'d str, &'d Flag>,
    keys: BTreeMap<&'d str, &'d Key>,
    /// Of named expressions it is found once: they may refer to each other.
    known: RefCell<BTreeMap<*const Json, u64>>,
}

impl<'d> Meaning<'d> {
    pub fn new(document: &'d Document) -> Meaning<'d> {
        let expressions = [("cohort", &document.cohorts), ("$ref", &document.evaluators)];
        let named = expressions.into_iter().flat_map(|(operator, entries)| {
            let entries = entries.iter().flat_map(|entries| &entries.0);
            entries.map(move |(name, json)| ((operator, &**name), json))
        });
        let attributes = document.attributes.iter().flat_map(|it| &it.0);
        let flags = document.flags.iter().flat_map(|it| &it.0);
        let keys = document.keys.iter().flat_map(|it| &it.0);
        Meaning {
            document,
            named: named.collect(),
            attributes: attributes.map(|(name, from)| (&**name, &**from)).collect(),
            flags: flags.map(|(key, flag)| (&**key, flag)).collect(),
            keys: keys.map(|(name, key)| (&**name, key)).collect(),
            known: RefCell::default(),
        }
    }

    /// What an evaluator stands for.
    pub fn evaluator(&self, name: &str) -> Option<&'d Json> {
        self.named.get(&("$ref", name)).copied()
    }

    /// Where an attribute comes from.
    pub fn attribute(&self, name: &str) -> Option<&'d [Source]> {
        self.attributes.get(name).copied()
    }

    /// What an expression means.
    pub fn of(&self, json: &Json) -> u64 {
        hash(|hasher| self.add(json, hasher))
    }

    /// What a targeting key means: where it comes from. One that the document does not define is built in.
    pub fn of_key(&self, name: Option<&str>) -> u64 {
        hash(|hasher| match name.and_then(|name| self.keys.get(name)) {
            Some(key) => written(key, hasher),
            None => name.hash(hasher),
        })
    }

    fn add(&self, json: &Json, hasher: &mut DefaultHasher) {
        match json {
            Json::List(items) => {
                items.len().hash(hasher);
                items.iter().for_each(|item| self.add(item, hasher));
            }
            Json::Object(members) => {
                if let Some((operator, operands)) = operation(json) {
                    self.add_named(operator, operands, hasher);
                }
                for (name, inner) in members {
                    name.hash(hasher);
                    self.add(inner, hasher);
                }
            }
            literal => written(literal, hasher),
        }
    }

    /// What the names stand for that an operator is given.
    fn add_named(&self, operator: &str, operands: &[Json], hasher: &mut DefaultHasher) {
        if operator == "fractional" {
            written(self.document.fractional, hasher);
        }
        for name in operands.iter().filter_map(text) {
            match operator {
                "cohort" | "$ref" => {
                    let named = self.named.get(&(operator, name)).map(|json| self.known(json));
                    named.hash(hasher);
                }
                "flag" => self.flags.get(name).map(|flag| self.of_flag(flag)).hash(hasher),
                "var" | "missing" | "missing_some" => written(self.attribute(name), hasher),
                _ => {}
            }
        }
    }

    fn known(&self, json: &'d Json) -> u64 {
        if let Some(known) = self.known.borrow().get(&std::ptr::from_ref(json)) {
            return *known;
        }
        let meaning = self.of(json);
        self.known.borrow_mut().insert(json, meaning);
        meaning
    }

    fn of_flag(&self, flag: &Flag) -> u64 {
        hash(|hasher| {
            written((flag.state, &flag.default_variant, &flag.variants), hasher);
            flag.targeting.as_ref().map(|json| self.of(json)).hash(hasher);
            self.of_key(self.document.flag_key.as_deref()).hash(hasher);
        })
    }

    /// Shows `look` every operator of an expression and of the named ones that it uses, with its operands.
    pub fn each(&self, json: &Json, look: &mut dyn FnMut(&str, &[Json])) {
        self.each_once(json, &mut BTreeSet::new(), look);
    }

    fn each_once(&self, json: &Json, seen: &mut BTreeSet<*const Json>, look: &mut dyn FnMut(&str, &[Json])) {
        match json {
            Json::List(items) => items.iter().for_each(|item| self.each_once(item, seen, look)),
            Json::Object(members) => {
                if let Some((operator, operands)) = operation(json) {
                    look(operator, operands);
                    let names = operands.iter().filter_map(text);
                    for name in names.filter(|_| matches!(operator, "cohort" | "$ref" | "flag")) {
                        let targeting = || self.flags.get(name)?.targeting.as_ref();
                        let named = self.named.get(&(operator, name)).copied().or_else(targeting);
                        // Each once, so that it takes no longer than the document is.
                        if let Some(named) = named.filter(|named| seen.insert(std::ptr::from_ref(*named))) {
                            self.each_once(named, seen, look);
                        }
                    }
                }
                members.iter().for_each(|(_, inner)| self.each_once(inner, seen, look));
            }
            _ => {}
        }
    }
}

/// The hash of what is added.
pub fn hash(add: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    add(&mut hasher);
    hasher.finish()
}

/// Adds a value as it is written down.
pub fn written(value: impl Debug, hasher: &mut DefaultHasher) {
    format!("{value:?}").hash(hasher);
}

fn text(json: &Json) -> Option<&str> {
    if let Json::Text(text) = json { Some(text) } else { None }
}
