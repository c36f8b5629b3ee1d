//! The expressions of a document: where they stand, and which of them say the same to every request.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use super::clashes;
use super::subjects::{Asker, World};
use super::verdicts::verdict;

use crate::finding::{Findings, Path};
use crate::json::Json;
use crate::logic::{Compiler, Data, Library, Value, Var, operation};
use crate::wire::{Document, State};

/// Shows `look` every operator below `json`, with its operands and its place.
pub fn each(json: &Json, place: &Path<'_>, look: &mut dyn FnMut(&str, &[Json], &Path<'_>)) {
    match json {
        Json::List(items) => {
            for (i, item) in items.iter().enumerate() {
                each(item, &place.item(i), look);
            }
        }
        Json::Object(members) => {
            for (name, inner) in members {
                let place = place.field(name);
                if let Some((operator, operands)) = operation(json) {
                    look(operator, operands, &place);
                }
                each(inner, &place, look);
            }
        }
        _ => {}
    }
}

/// Shows `look` every operator below `json` that asks the request, and not, as in the body of `map`, an item: with its
/// operands as they are written, and its place.
pub fn each_asking<'j>(json: &'j Json, place: &Path<'_>, look: &mut dyn FnMut(&str, &'j Json, &Path<'_>)) {
    match json {
        Json::List(items) => {
            for (i, item) in items.iter().enumerate() {
                each_asking(item, &place.item(i), look);
            }
        }
        Json::Object(members) => {
            for (name, inner) in members {
                let place = place.field(name);
                look(name, inner, &place);
                match inner {
                    Json::List(operands) if has_body(name) => {
                        for (i, operand) in operands.iter().enumerate().filter(|(i, _)| *i != 1) {
                            each_asking(operand, &place.item(i), look);
                        }
                    }
                    inner => each_asking(inner, &place, look),
                }
            }
        }
        _ => {}
    }
}

/// Whether the second operand is evaluated for each item of the first.
pub fn has_body(operator: &str) -> bool {
    matches!(operator, "map" | "filter" | "all" | "none" | "some" | "reduce")
}

/// An expression that rollouts and flags have themselves.
#[derive(Clone, Copy)]
pub struct Root<'d> {
    pub json: &'d Json,
    pub asker: Asker<'d>,
    /// What `unreachable` tells of it as a whole: that it always holds, or never.
    pub told: &'static [bool],
}

/// Shows `look` every expression of rollouts and flags, which all others serve, with its place.
pub fn each_root<'d>(document: &'d Document, look: &mut dyn FnMut(Root<'d>, &Path<'_>)) {
    let rollouts = Path::Root.field("rollouts");
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        let place = rollouts.item(i);
        let has_key = rollout.key.is_some() || rollout.strategy.rolling.is_some();
        let asker = Asker { caller: false, key: has_key, flag: None };
        // Nobody is meant to reach one that is switched off.
        let is_on = rollout.state == State::Enabled;
        if let Some(json) = &rollout.when {
            look(Root { json, asker, told: if is_on { &[false] } else { &[] } }, &place.field("when"));
        }
        let force = place.field("force");
        for (i, entry) in rollout.force.iter().enumerate() {
            look(
                Root { json: &entry.when, asker, told: if is_on { &[false, true] } else { &[] } },
                &force.item(i).field("when"),
            );
        }
        if let Some(json) = rollout.shadow.as_ref().and_then(|shadow| shadow.when.as_ref()) {
            look(Root { json, asker, told: &[] }, &place.field("shadow").field("when"));
        }
    }
    let flags = Path::Root.field("flags");
    for (i, (key, flag)) in document.flags.iter().flat_map(|flags| &flags.0).enumerate() {
        let place = if flag.key.is_some() { flags.item(i) } else { flags.field(key) };
        if let Some(json) = &flag.targeting {
            let asker = Asker { caller: true, key: true, flag: Some(flag.key.as_deref().unwrap_or(key)) };
            look(Root { json, asker, told: &[] }, &place.field("targeting"));
        }
    }
}

/// Shows `look` every expression that has a name: the member that has it, the name, the expression, the place.
pub fn each_named<'d>(
    document: &'d Document,
    look: &mut dyn FnMut(&'static str, &'d str, &'d Json, &Path<'_>),
) {
    for (member, entries) in [("cohorts", &document.cohorts), ("$evaluators", &document.evaluators)] {
        let place = Path::Root.field(member);
        for (name, json) in entries.iter().flat_map(|entries| &entries.0) {
            look(member, name, json, &place.field(name));
        }
    }
}

/// Shows `look` every expression of the document.
pub fn each_whole(document: &Document, look: &mut dyn FnMut(&Json, &Path<'_>)) {
    each_named(document, &mut |_, _, json, place| look(json, place));
    each_root(document, &mut |root, place| look(root.json, place));
}

/// Named expressions, by the members that have them and their names.
pub type Named<'d> = BTreeMap<&'static str, BTreeMap<&'d str, &'d Json>>;

/// The member that has a named expression, and its name.
pub type Name<'d> = (&'static str, &'d str);

/// The named expressions of a document.
pub fn named(document: &Document) -> Named<'_> {
    let mut named = Named::new();
    each_named(document, &mut |member, name, json, _| {
        _ = named.entry(member).or_default().insert(name, json)
    });
    named
}

/// The expression that this one stands for by a name.
fn referred<'d>(named: &Named<'d>, operator: &str, operands: &Json) -> Option<(Name<'d>, &'d Json)> {
    let member = match operator {
        "cohort" => "cohorts",
        "$ref" => "$evaluators",
        _ => return None,
    };
    let Json::Text(name) = operands else { return None };
    named.get(member)?.get_key_value(&**name).map(|(name, json)| ((member, *name), *json))
}

/// The named expressions that these reach.
pub fn reached<'d>(named: &Named<'d>, mut left: Vec<&'d Json>) -> BTreeSet<Name<'d>> {
    let mut reached = BTreeSet::new();
    while let Some(json) = left.pop() {
        let left_too = &mut left;
        each(json, &Path::Root, &mut |operator, operands, _| {
            let found = operands.first().and_then(|operand| referred(named, operator, operand));
            left_too.extend(found.filter(|(name, _)| reached.insert(*name)).map(|(_, json)| json));
        });
    }
    reached
}

/// What conditions say whatever the request is.
pub struct Truths<'d> {
    pub world: World<'d>,
    named: Named<'d>,
    /// The named expressions that flags reach, or nothing does.
    of_flags: BTreeSet<Name<'d>>,
    /// Of named expressions it is found once: they may refer to each other.
    known: RefCell<BTreeMap<*const Json, Option<bool>>>,
    /// What is left of [`MOST_LOOKED_AT`].
    left: Cell<usize>,
}

/// Who asks, and what is taken to be absent.
#[derive(Clone, Copy)]
pub struct View<'v> {
    pub asker: Asker<'v>,
    pub absent: Option<&'v str>,
}

/// How many parts of conditions may be looked at more than once, how many values tried and names compared: work that grows
/// faster than the document does.
const MOST_LOOKED_AT: usize = 1_000_000;

impl<'d> Truths<'d> {
    pub fn new(document: &'d Document, now_ms: i64) -> Truths<'d> {
        let named = named(document);
        let (mut of_rollouts, mut of_flags) = (Vec::new(), Vec::new());
        each_root(document, &mut |root, _| {
            if root.asker.caller { of_flags.push(root.json) } else { of_rollouts.push(root.json) }
        });
        let (of_rollouts, mut of_flags) = (reached(&named, of_rollouts), reached(&named, of_flags));
        let all = named.iter().flat_map(|(member, named)| named.keys().map(|name| (*member, *name)));
        of_flags.extend(all.filter(|name| !of_rollouts.contains(name)));
        Truths {
            world: World::new(document, now_ms),
            named,
            of_flags,
            known: RefCell::default(),
            left: Cell::new(MOST_LOOKED_AT),
        }
    }

    /// Who asks a named expression.
    pub fn asker_of(&self, name: Name<'d>) -> Asker<'static> {
        Asker { caller: self.of_flags.contains(&name), key: true, flag: None }
    }

    /// Whether `json` holds for every request, or for none; `None` where it depends.
    pub fn of(&self, json: &Json, asker: Asker<'_>) -> Option<bool> {
        self.seen(json, View { asker, absent: None })
    }

    /// As [`Truths::of`], for all requests without the variable `absent`. Nothing once too much has been looked at.
    pub fn without(&self, json: &Json, asker: Asker<'_>, absent: &str) -> Option<bool> {
        self.seen(json, View { asker, absent: Some(absent) })
    }

    /// Whether so much more may be looked at; once it may not, nothing may.
    pub fn spend(&self, parts: usize) -> bool {
        self.left.set(self.left.get().saturating_sub(parts));
        self.left.get() > 0
    }

    fn seen(&self, json: &Json, view: View<'_>) -> Option<bool> {
        let Some((operator, operands)) = operation(json) else { return plainly(json) };
        if view.absent.is_some() {
            let size = |it: &Json| if let Json::List(items) = it { items.len() } else { 1 };
            if !self.spend(1 + operands.iter().map(size).sum::<usize>()) {
                return None;
            }
        }
        match operator {
            "and" | "or" if view.absent.is_none() && self.clash(operator, operands) => Some(operator == "or"),
            // One that never holds decides an `and`, one that always does an `or`.
            "and" | "or" => {
                let decisive = operator == "or";
                let inner: Vec<Option<bool>> =
                    operands.iter().map(|operand| self.seen(operand, view)).collect();
                let is_decided = inner.contains(&Some(decisive));
                let is_even = inner.iter().all(|it| *it == Some(!decisive));
                is_decided.then_some(decisive).or(is_even.then_some(!decisive))
            }
            "if" | "?:" => self.branches(operands, view),
            "!" => self.seen(operands.first()?, view).map(|it| !it),
            "!!" => self.seen(operands.first()?, view),
            "cohort" | "$ref" => self.named(operator, operands.first()?, view),
            "missing" if view.absent.is_some() => {
                let is_absent = |it: &Json| matches!(it, Json::Text(name) if Some(&**name) == view.absent);
                operands.iter().any(is_absent).then_some(true)
            }
            _ => plainly(json)
                .or_else(|| verdict(&self.world, json, view.asker, view.absent).map(|verdict| verdict.holds)),
        }
    }

    /// What the branches come to that can be reached.
    fn branches(&self, mut operands: &[Json], view: View<'_>) -> Option<bool> {
        let mut all = None;
        let mut add = |truth: Option<bool>| {
            let is_same = truth.is_some() && all.is_none_or(|it| Some(it) == truth);
            all = truth;
            is_same
        };
        while let [condition, then, rest @ ..] = operands {
            let truth = self.seen(condition, view);
            if truth != Some(false) && !add(self.seen(then, view)) {
                return None;
            }
            if truth == Some(true) {
                return all;
            }
            operands = rest;
        }
        let otherwise = operands.first().map_or(Some(false), |json| self.seen(json, view));
        if add(otherwise) { all } else { None }
    }

    fn named(&self, operator: &str, name: &Json, view: View<'_>) -> Option<bool> {
        let (name, json) = referred(&self.named, operator, name)?;
        if view.absent.is_some() {
            return self.seen(json, view);
        }
        if let Some(known) = self.known.borrow().get(&std::ptr::from_ref(json)) {
            return *known;
        }
        let truth = self.of(json, self.asker_of(name));
        self.known.borrow_mut().insert(json, truth);
        truth
    }

    /// The expression that `json` stands for, names followed.
    pub fn resolved<'j>(&'j self, mut json: &'j Json) -> &'j Json {
        const MOST_NAMES: usize = 8;
        for _ in 0..MOST_NAMES {
            let next = operation(json)
                .and_then(|(operator, operands)| Some(referred(&self.named, operator, operands.first()?)?.1));
            match next {
                Some(next) => json = next,
                None => break,
            }
        }
        json
    }

    /// Whether the operands of an `and` cannot hold together, or those of an `or` cannot all fail.
    pub fn clash(&self, operator: &str, operands: &[Json]) -> bool {
        clashes::clash(self, operator, operands)
    }
}

/// Whether an expression holds that asks for nothing of the request.
pub fn plainly(json: &Json) -> Option<bool> {
    let mut asks = false;
    each(json, &Path::Root, &mut |operator, _, _| {
        asks |= matches!(
            operator,
            "var" | "missing" | "missing_some" | "flag" | "cohort" | "$ref" | "fractional"
        );
    });
    if asks { None } else { holds_for(json, &Nothing) }
}

/// Whether an expression without names holds for `data`.
pub fn holds_for(json: &Json, data: &dyn Data) -> Option<bool> {
    let mut compiler = Compiler::new(Vec::new(), Vec::new(), Vec::new(), crate::wire::Fractional::default());
    // As targeting, which takes the most.
    let condition = compiler.targeting(json, &Path::Root, &mut Findings::default())?;
    Some(condition.holds(&Library::default(), data))
}

/// A request of which nothing is known.
struct Nothing;

impl Data for Nothing {
    fn var<'s>(&'s self, _: &Var) -> Value<'s> {
        Value::Null
    }
}

// Natively, as lints are: with frames of a debug build the law takes more stack than WebAssembly has.
#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: i64 = 1_796_083_200_000;

    /// A request: each variable has one of the values that it can have.
    #[derive(Clone, Debug)]
    struct Request {
        method: &'static str,
        host: Option<&'static str>,
        path: &'static str,
        headers: [Option<&'static str>; 2],
        client: Option<&'static str>,
    }

    impl Data for Request {
        fn var<'s>(&'s self, var: &Var) -> Value<'s> {
            let text = |it: Option<&'static str>| it.map_or(Value::Null, Value::from);
            match var {
                Var::Method => Value::from(self.method),
                Var::Host => text(self.host),
                Var::Path => Value::from(self.path),
                Var::Header(name) if &**name == "a" => text(self.headers[0]),
                Var::Header(name) if &**name == "b" => text(self.headers[1]),
                Var::ClientIp => text(self.client),
                Var::Timestamp => Value::Number(1_796_083_201.0),
                _ => Value::Null,
            }
        }
    }

    fn requests() -> impl Strategy<Value = Request> {
        let one_of = |texts: &[&'static str]| prop::sample::select(texts.to_vec());
        let header =
            || prop::option::of(one_of(&["", "a", "5", "5.0", "0", "1", "true", "ab", "-1", "GET", "1e3"]));
        (
            one_of(&["GET", "POST", "PURGE"]),
            prop::option::of(one_of(&["", "a", "a.b", "10.0.0.1", "5"])),
            one_of(&["/", "/a", "/a/b", "*"]),
            [header(), header()],
            prop::option::of(one_of(&["10.0.0.1", "::1"])),
        )
            .prop_map(|(method, host, path, headers, client)| Request {
                method,
                host,
                path,
                headers,
                client,
            })
    }

    fn conditions() -> impl Strategy<Value = Json> {
        let op = |name: &str, operands: Vec<Json>| Json::Object(vec![(name.into(), Json::List(operands))]);
        let texts =
            ["", "a", "A", "a.b", "A.b", "get", "GET", "5", "/a", "10.0.0.1", "10.0.0.1:80", "true", "x y"];
        let literal = prop_oneof![
            4 => prop::sample::select(texts.to_vec()).prop_map(|text| Json::Text(text.into())),
            3 => prop::sample::select(vec![-1.0, 0.0, 1.0, 5.0, 1.7e9, 1.9e9, 1.9e12]).prop_map(Json::Number),
            1 => any::<bool>().prop_map(Json::Bool),
            1 => Just(Json::Null),
        ];
        let names = [
            "request.method",
            "request.host",
            "request.path",
            "request.headers.a",
            "request.headers.b",
            "client.ip",
            "$flagd.timestamp",
            "request.headers.transfer-encoding",
        ];
        let name = prop::sample::select(names.to_vec());
        let variable =
            (name, prop::option::weighted(0.2, literal.clone())).prop_map(move |(name, default)| {
                op("var", [Json::Text(name.into())].into_iter().chain(default).collect())
            });
        let operand = prop_oneof![2 => variable.clone(), 2 => literal.clone(), 1 => (variable.clone(), literal.clone())
            .prop_map(move |(a, b)| op("+", vec![a, b]))];
        let comparison = prop::sample::select(vec![
            "==",
            "!=",
            "===",
            "!==",
            "<",
            "<=",
            ">",
            ">=",
            "in",
            "starts_with",
            "ends_with",
        ]);
        let list = prop::collection::vec(literal, 0..3).prop_map(Json::List);
        let atom = prop_oneof![
            6 => (comparison, operand.clone(), operand.clone()).prop_map(move |(name, a, b)| op(name, vec![a, b])),
            2 => (operand.clone(), list).prop_map(move |(item, list)| op("in", vec![item, list])),
            1 => (operand.clone(), operand.clone(), operand).prop_map(move |(a, b, c)| op("<", vec![a, b, c])),
            1 => (variable.clone(), prop::sample::select(vec!["get|head", "a|b", "GET", ".*", "/a.*", "[a-z]+"]))
                .prop_map(move |(text, pattern)| op("matches", vec![text, Json::Text(pattern.into())])),
            1 => variable.clone().prop_map(move |it| op("cidr", vec![it, Json::Text("10.0.0.0/8".into())])),
            1 => variable,
        ];
        let joined = prop::sample::select(vec!["and", "or", "if", "!", "!!"]);
        atom.prop_recursive(3, 12, 3, move |inner| {
            (joined.clone(), prop::collection::vec(inner, 1..4)).prop_map(move |(name, mut operands)| {
                if name.starts_with('!') {
                    operands.truncate(1);
                }
                op(name, operands)
            })
        })
    }

    proptest! {
        #![proptest_config(crate::laws::config(2_000))]

        #[test]
        fn what_is_told_of_every_request_holds_for_each(condition in conditions(), requests in prop::collection::vec(requests(), 8)) {
            let document = Document::default();
            let truths = Truths::new(&document, NOW_MS);
            let asker = Asker { caller: false, key: true, flag: None };
            let told = truths.of(&condition, asker);
            for request in requests {
                let holds = holds_for(&condition, &request);
                prop_assert!(told.is_none() || holds.is_none() || told == holds, "{told:?} of {condition:?} for {request:?}");
                let without = truths.without(&condition, asker, "request.headers.a");
                if request.headers[0].is_none() && let Some(without) = without {
                    prop_assert!(holds.is_none_or(|it| it == without), "{without} for {request:?}");
                }
            }
        }
    }
}
