//! Parts of conditions that say the same for every request, and comparisons that hold for what is absent.

use super::expressions::{Truths, each_named, each_root, has_body, plainly};
use super::subjects::{Asker, hop_by_hop};
use super::verdicts::{never_in, verdict};
use super::{Lint, Warnings};
use crate::finding::Path;
use crate::json::Json;
use crate::logic::{Compiler, Data, Library, Value, Var, operation};
use crate::wire::Document;

/// The most variables in one comparison that are looked at.
const MOST_NAMES: usize = 20;

pub fn lint(document: &Document, truths: &Truths<'_>, warnings: &mut Warnings) {
    each_named(document, &mut |member, name, json, place| {
        let looking = Looking { truths, asker: truths.asker_of((member, name)) };
        looking.condition(json, place, None, warnings);
    });
    each_root(document, &mut |root, place| {
        let looking = Looking { truths, asker: root.asker };
        let told = root.told;
        match root.asker.flag {
            // Targeting is a value.
            Some(_) => looking.value(root.json, place, None, warnings),
            None if looking.fault(root.json).is_some_and(|(holds, _)| told.contains(&holds)) => {}
            None => looking.condition(root.json, place, None, warnings),
        }
    });
}

/// What holds where a part of a condition is looked at: others of its `and` do, others of its `or` do not.
#[derive(Clone, Copy)]
struct Beside<'k> {
    others: &'k [Json],
    /// The place of the part among them.
    except: usize,
    hold: bool,
    outer: Option<&'k Beside<'k>>,
}

struct Looking<'l, 'd> {
    truths: &'l Truths<'d>,
    asker: Asker<'l>,
}

impl Looking<'_, '_> {
    /// Looks at an expression of which only the truth counts.
    fn condition(&self, json: &Json, place: &Path<'_>, beside: Option<&Beside<'_>>, warnings: &mut Warnings) {
        if let Some((operator, _)) = operation(json)
            && let Some((holds, why)) = self.fault(json)
        {
            let place = place.field(operator);
            return report(&place, holds, why, warnings);
        }
        self.parts(json, place, beside, warnings);
    }

    /// Looks at an expression of which the value counts: a variable by itself says all that it can.
    fn value(&self, json: &Json, place: &Path<'_>, beside: Option<&Beside<'_>>, warnings: &mut Warnings) {
        match operation(json) {
            Some(("var", _)) => self.parts(json, place, beside, warnings),
            _ => self.condition(json, place, beside, warnings),
        }
    }

    /// What an expression itself, and not a part of it, says for every request.
    fn fault(&self, json: &Json) -> Option<(bool, &'static str)> {
        let (operator, operands) = operation(json)?;
        if matches!(operator, "and" | "or") {
            let is_fault = self.truths.clash(operator, operands);
            return is_fault.then_some((operator == "or", "one of its parts excludes another"));
        }
        // What asks for nothing says what it says on purpose, and of what is absent by its name `absent` tells.
        if plainly(json).is_some() || is_told(json) || operands.iter().any(is_told) {
            return None;
        }
        let verdict = verdict(&self.truths.world, json, self.asker, None)?;
        Some((verdict.holds, verdict.why))
    }

    fn parts(&self, json: &Json, place: &Path<'_>, beside: Option<&Beside<'_>>, warnings: &mut Warnings) {
        let Json::Object(members) = json else {
            if let Json::List(items) = json {
                for (i, item) in items.iter().enumerate() {
                    self.value(item, &place.item(i), beside, warnings);
                }
            }
            return;
        };
        let [(operator, written)] = &members[..] else { return };
        let place = place.field(operator);
        let operands = operation(json).map_or(&[][..], |(_, operands)| operands);
        let path = |i| if matches!(written, Json::List(_)) { place.item(i) } else { place };
        let operator = &**operator;
        match operator {
            "and" | "or" => {
                for (i, operand) in operands.iter().enumerate() {
                    let beside =
                        Beside { others: operands, except: i, hold: operator == "and", outer: beside };
                    self.condition(operand, &path(i), Some(&beside), warnings);
                }
            }
            "!" | "!!" => {
                for operand in operands {
                    self.condition(operand, &path(0), beside, warnings);
                }
            }
            "if" | "?:" => self.branches(operands, &path, beside, warnings),
            "cohort" | "$ref" => {}
            _ => {
                self.comparison(json, operator, operands, &place, beside, warnings);
                for (i, operand) in
                    operands.iter().enumerate().filter(|(i, _)| *i != 1 || !has_body(operator))
                {
                    self.value(operand, &path(i), beside, warnings);
                }
            }
        }
    }

    fn branches<'p>(
        &self,
        operands: &[Json],
        path: &dyn Fn(usize) -> Path<'p>,
        beside: Option<&Beside<'_>>,
        warnings: &mut Warnings,
    ) {
        for (i, operand) in operands.iter().enumerate() {
            let is_condition = i % 2 == 0 && i + 1 < operands.len();
            if is_condition {
                self.condition(operand, &path(i), beside, warnings);
                continue;
            }
            // What follows from a condition is looked at where that holds, what is left where the last does not.
            let before = i.saturating_sub(if i % 2 == 1 { 1 } else { 2 });
            let condition = operands.get(before..=before).unwrap_or_default();
            let here = Beside { others: condition, except: usize::MAX, hold: i % 2 == 1, outer: beside };
            self.value(operand, &path(i), Some(&here), warnings);
        }
    }

    /// Looks at what an operator compares.
    fn comparison(
        &self,
        json: &Json,
        operator: &str,
        operands: &[Json],
        place: &Path<'_>,
        beside: Option<&Beside<'_>>,
        warnings: &mut Warnings,
    ) {
        match (operator, operands) {
            ("in", [item, Json::List(items)]) if operation(item).is_some() => {
                let Some(subject) = self.truths.world.subject(item, self.asker, None) else { return };
                for (i, other) in items.iter().enumerate() {
                    if let Some(why) = never_in(&subject, other) {
                        let place = place.item(1);
                        report(&place.item(i), false, why, warnings);
                    }
                }
            }
            ("==" | "!=", [a, b]) => {
                let is_text =
                    |it| self.truths.world.subject(it, self.asker, None).is_some_and(|it| it.text.is_some());
                if let (Json::Bool(value), other) | (other, Json::Bool(value)) = (a, b)
                    && is_text(other)
                {
                    let message = format!(
                        "never says what the text `{value}` is: beside a boolean a text counts as a number, and `{value}` as {}",
                        u8::from(*value)
                    );
                    warnings.report(Lint::ConstantCondition, place, message);
                }
                self.arithmetic(json, place, beside, warnings);
            }
            ("<" | "<=" | ">" | ">=" | "===" | "!==", _) => self.arithmetic(json, place, beside, warnings),
            _ => {}
        }
    }

    /// Tells of a comparison of numbers that holds where one of them is absent.
    fn arithmetic(
        &self,
        json: &Json,
        place: &Path<'_>,
        beside: Option<&Beside<'_>>,
        warnings: &mut Warnings,
    ) {
        let mut names = Vec::new();
        if !is_arithmetic(json, &mut names) || names.len() > MOST_NAMES {
            return;
        }
        let may_be_absent = |name: &&str| {
            let variable = Json::Object(vec![("var".into(), Json::Text((*name).into()))]);
            let subject = self.truths.world.subject(&variable, self.asker, None);
            !never_of(name) && subject.is_none_or(|it| it.may_be_null() && it.text.is_some())
        };
        let absent = names.iter().copied().filter(may_be_absent);
        let found = absent.into_iter().find(|name| holds_without(json, name) && !self.is_asked(name, beside));
        if let Some(name) = found {
            let message = format!("also holds where `{name}` is absent, which counts as 0");
            warnings.report(Lint::AbsentIsZero, place, message);
        }
    }

    /// Whether a part is not looked at, or does not matter, where a variable is absent; or nobody can tell any more.
    fn is_asked(&self, name: &str, mut beside: Option<&Beside<'_>>) -> bool {
        while let Some(here) = beside {
            for (_, other) in here.others.iter().enumerate().filter(|(i, _)| *i != here.except) {
                let holds = self.truths.without(other, self.asker, name);
                if holds == Some(!here.hold) || !self.truths.spend(1) {
                    return true;
                }
            }
            beside = here.outer;
        }
        false
    }
}

fn report(place: &Path<'_>, holds: bool, why: &str, warnings: &mut Warnings) {
    let says = if holds { "always holds" } else { "never holds" };
    let message = if why.is_empty() { says.to_owned() } else { format!("{says}: {why}") };
    warnings.report(Lint::ConstantCondition, place, message);
}

/// Whether `absent` tells of the variable that this is.
fn is_told(json: &Json) -> bool {
    matches!(operation(json), Some(("var", [Json::Text(name), ..])) if never_of(name))
}

fn never_of(name: &str) -> bool {
    matches!(Var::built_in(name), Some(Var::Header(header)) if hop_by_hop(&header).is_some())
}

/// Whether there is nothing in an expression but numbers, variables and what calculates and compares; collects the
/// variables without a default.
fn is_arithmetic<'j>(json: &'j Json, names: &mut Vec<&'j str>) -> bool {
    match operation(json) {
        None => matches!(json, Json::Number(_)),
        Some(("var", [Json::Text(name)])) => {
            names.push(name);
            true
        }
        Some(("var", [Json::Text(_), Json::Number(_)])) => true,
        Some((
            "+" | "-" | "*" | "/" | "%" | "max" | "min" | "<" | "<=" | ">" | ">=" | "==" | "===" | "!="
            | "!==",
            operands,
        )) => operands.iter().all(|operand| is_arithmetic(operand, names)),
        Some(_) => false,
    }
}

/// Whether a comparison holds without a variable, whatever numbers the others are.
fn holds_without(json: &Json, absent: &str) -> bool {
    [-1.0, 0.0, 1.0].into_iter().any(|others| {
        // Names of variables are told apart as if each were an attribute.
        let mut compiler =
            Compiler::new(vec![absent.into()], Vec::new(), Vec::new(), crate::wire::Fractional::default());
        let compiled = compiler.targeting(json, &Path::Root, &mut crate::finding::Findings::default());
        compiled.is_some_and(|condition| condition.holds(&Library::default(), &Without { others }))
    })
}

/// A request without the attribute, and with the same number for all other variables.
struct Without {
    others: f64,
}

impl Data for Without {
    fn var<'s>(&'s self, var: &Var) -> Value<'s> {
        match var {
            Var::Attribute(_) => Value::Null,
            // Larger than what is written beside it, as the clock is.
            Var::Timestamp => Value::Number(1e10),
            _ => Value::Number(self.others),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::lint::{Hops, Lint, lint};
    use crate::policy::{Clusters, Policy};

    /// 2026-12-01T00:00:00Z.
    const NOW_MS: i64 = 1_796_083_200_000;

    /// What is told of a condition that is part of another.
    #[track_caller]
    fn told(condition: &Value, lint_name: Lint) -> Vec<String> {
        let document = json!({
            "attributes": {"region": [{"header": "x-region"}]},
            "cohorts": {
                "kr": {"==": [{"var": "region"}, "kr"]},
                "has-age": {"!!": {"var": "request.headers.x-age"}}
            },
            "flags": {
                "cart": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"},
                "size": {"state": "ENABLED", "variants": {"s": 20, "l": 100}, "defaultVariant": "s"}
            },
            "rollouts": [{
                "name": "a", "variants": {"x": {}, "y": {}}, "default": "x",
                "strategy": {"blueGreen": {"active": "y", "previous": "x"}},
                "when": {"if": [condition, {"var": "request.query.q"}, false]}
            }]
        });
        let text = document.to_string();
        let policy = Policy::parse(text.as_bytes(), &Clusters::default())
            .unwrap_or_else(|found| panic!("{condition}: {found:?}"));
        let whole = serde_json::from_str(&text).unwrap();
        let found =
            lint(&whole, &policy, NOW_MS, Hops::default()).into_iter().filter(|it| it.lint == lint_name);
        let place = |place: &str| place.trim_start_matches("rollouts[0].when.if[0].").to_owned();
        found.map(|it| format!("{}: {}", place(&it.place), it.message)).collect()
    }

    #[test]
    fn what_says_the_same_for_every_request_is_told() {
        let var = |name: &str| json!({ "var": name });
        let header = || var("request.headers.x-a");
        let (method, host, path) = (|| var("request.method"), || var("request.host"), || var("request.path"));
        let (ip, clock) = (|| var("client.ip"), || var("$flagd.timestamp"));
        const KINDS: &str = "never holds: a text is never the same as a number or a boolean";
        const CASE: &str = "never holds: methods are words in upper case";
        const HOST: &str = "never holds: a host is in lower case, without port and final dot";
        const IP: &str = "never holds: it is an address without port and prefix, as Envoy writes it";
        const CLASH: &str = "one of its parts excludes another";
        for (condition, place, message) in [
            (json!({"==": [method(), "get"]}), "==", CASE),
            (json!({"===": ["Get", method()]}), "===", CASE),
            (json!({"!=": [method(), "post"]}), "!=", "always holds: methods are words in upper case"),
            (json!({"in": [method(), ["get", "head"]]}), "in", CASE),
            (json!({"in": [method(), ["GET", "head"]]}), "in[1][1]", CASE),
            (json!({"matches": [method(), "get|head"]}), "matches", CASE),
            (json!({"matches": [method(), "^(?:get|head)$"]}), "matches", CASE),
            (json!({"starts_with": [method(), "p"]}), "starts_with", CASE),
            (json!({"in": ["et", method()]}), "in", CASE),
            (json!({"==": [host(), "Shop.example.com"]}), "==", HOST),
            (json!({"==": [host(), "shop.example.com:443"]}), "==", HOST),
            (json!({"==": [host(), "shop.example.com."]}), "==", HOST),
            (json!({"in": [host(), ["shop.example.com", "API.example.com"]]}), "in[1][1]", HOST),
            (json!({"ends_with": [host(), ".Example.com"]}), "ends_with", HOST),
            (json!({"ends_with": [host(), ":8080"]}), "ends_with", HOST),
            (json!({"matches": [host(), r"Shop\.example\.com"]}), "matches", HOST),
            (json!({"==": [path(), "checkout"]}), "==", "never holds: every path begins with `/`"),
            (
                json!({"starts_with": [path(), "checkout"]}),
                "starts_with",
                "never holds: every path begins with `/`",
            ),
            (
                json!({"==": [path(), "/a?b=1"]}),
                "==",
                "never holds: the path has no query (`queryParams` and `request.query` see that)",
            ),
            (json!({"<": [path(), 5]}), "<", "never holds: it is no number"),
            (json!({"cidr": [path(), "10.0.0.0/8"]}), "cidr", "never holds: it is no address"),
            (json!({"==": [ip(), "10.0.0.0/8"]}), "==", IP),
            (json!({"==": [ip(), "10.0.0.1:80"]}), "==", IP),
            (json!({"in": [ip(), ["::1", "2001:DB8::1"]]}), "in[1][1]", IP),
            (json!({"===": [header(), 5]}), "===", KINDS),
            (json!({"===": [true, header()]}), "===", KINDS),
            (
                json!({"!==": [header(), 5]}),
                "!==",
                "always holds: a text is never the same as a number or a boolean",
            ),
            (json!({"in": [header(), [1, 2, 3]]}), "in", KINDS),
            (json!({"in": [header(), ["1", 2]]}), "in[1][1]", KINDS),
            (json!({"in": [var("request.query.n"), [true]]}), "in", KINDS),
            (json!({"===": [var("request.cookies.n"), 1]}), "===", KINDS),
            (json!({"===": [var("region"), 1]}), "===", KINDS),
            (json!({"===": [var("node.zone"), 1]}), "===", KINDS),
            (json!({"===": [{"var": ["request.headers.x-a", "0"]}, 0]}), "===", KINDS),
            (
                json!({"==": [header(), true]}),
                "==",
                "never says what the text `true` is: beside a boolean a text counts as a number, and `true` as 1",
            ),
            (
                json!({"==": [header(), " web"]}),
                "==",
                "never holds: headers arrive without spaces around them",
            ),
            (json!({"in": [null, header()]}), "in", "never holds: null is part of no text"),
            (json!({"==": [var("region"), ""]}), "==", "never holds: what is empty counts as absent"),
            (
                json!({"some": [header(), {"==": [{"var": ""}, "a"]}]}),
                "some",
                "never holds: a text has no items",
            ),
            (json!({"==": [{"cohort": "kr"}, "true"]}), "==", "never holds"),
            (json!({"===": [{"cohort": "kr"}, 1]}), "===", "never holds"),
            (json!({"==": [{"flag": "cart"}, "on"]}), "==", "never holds"),
            (json!({"==": [{"flag": "size"}, "s"]}), "==", "never holds"),
            (json!({"===": [{"flag": "size"}, "20"]}), "===", "never holds"),
            (json!({"==": [var("targetingKey"), "u"]}), "==", "never holds"),
            (json!({"==": [var("$flagd.flagKey"), "cart"]}), "==", "never holds"),
            (json!({"<": [clock(), 1_900_000_000_000_i64]}), "<", "always holds"),
            (
                json!({">=": [clock(), 1_900_000_000_000_i64]}),
                ">=",
                "never holds: the clock counts seconds, not milliseconds",
            ),
            (json!({"<": [clock(), 1_700_000_000]}), "<", "never holds: that instant is over"),
            (json!({">": [clock(), "2026-12-01T00:00:00Z"]}), ">", "never holds: it is no number"),
            (json!({"starts_with": [clock(), "17"]}), "starts_with", "never holds: it is no text"),
            (json!({"!": method()}), "!.var", "always holds: every request has it"),
            (json!({"and": [{"==": [host(), "a"]}, {"==": [host(), "b"]}]}), "and", CLASH),
            (json!({"and": [{"cohort": "kr"}, {"==": [var("region"), "us"]}]}), "and", CLASH),
            (json!({"and": [{"==": [host(), "a.b"]}, {"ends_with": [host(), ".c"]}]}), "and", CLASH),
            (json!({"and": [{">": [header(), 5]}, {"<": [header(), 3]}]}), "and", CLASH),
            (json!({"and": [header(), {"!": header()}]}), "and", CLASH),
            (json!({"or": [{"!=": [method(), "GET"]}, {"!=": [method(), "POST"]}]}), "or", CLASH),
        ] {
            let message = match message {
                CLASH => format!("{} holds: {CLASH}", if place == "or" { "always" } else { "never" }),
                message => message.to_owned(),
            };
            assert_eq!(
                told(&condition, Lint::ConstantCondition),
                [format!("{place}: {message}")],
                "{condition}"
            );
        }
    }

    #[test]
    fn what_depends_on_the_request_is_not_told() {
        let var = |name: &str| json!({ "var": name });
        let header = || var("request.headers.x-a");
        let method = || var("request.method");
        for condition in [
            json!({"==": [header(), 5]}),
            json!({"==": [header(), "true"]}),
            json!({"===": [header(), "5"]}),
            json!({"===": [header(), null]}),
            json!({"===": [{"var": ["request.headers.x-a", 0]}, 0]}),
            json!({"in": [header(), ["a", null]]}),
            json!({"in": [5, header()]}),
            json!({"in": [header(), "a,b"]}),
            json!({"<": [header(), "m"]}),
            json!({"in": [method(), ["GET", "PURGE", "M-SEARCH"]]}),
            json!({"matches": [method(), "(?i)get"]}),
            json!({"matches": [method(), "P.*"]}),
            json!({"==": [var("request.host"), "10.0.0.1"]}),
            json!({"==": [var("request.host"), "[::1]"]}),
            json!({"==": [var("request.host"), ""]}),
            json!({"ends_with": [var("request.host"), ".example.com"]}),
            json!({"==": [var("request.headers.host"), "Shop.example.com:8080"]}),
            json!({"==": [var("request.path"), "*"]}),
            json!({"ends_with": [var("request.path"), ".js"]}),
            json!({"in": ["Mobile", header()]}),
            json!({"starts_with": [var("client.ip"), "10."]}),
            json!({"==": [var("client.ip"), "::ffff:10.0.0.1"]}),
            json!({"==": [var("request.query.q"), " a "]}),
            json!({"==": [{"flag": "cart"}, true]}),
            json!({"==": [{"flag": "size"}, 20]}),
            json!({"flag": "cart"}),
            json!({"==": [{"cohort": "kr"}, false]}),
            json!({">=": [var("$flagd.timestamp"), 1_900_000_000]}),
            json!({"==": [{"%": [var("$flagd.timestamp"), 2]}, 0]}),
            json!({"or": [{"!=": [method(), "GET"]}, {"==": [header(), "a"]}]}),
            json!({"and": [{">": [header(), 3]}, {"<": [header(), 5]}]}),
            json!({"or": [{"<": [header(), 5]}, {">=": [header(), 5]}]}),
            json!({"and": [{"starts_with": [header(), "a"]}, {"ends_with": [header(), "b"]}]}),
            json!({"and": [{"in": [header(), ["ab", "b"]]}, {"starts_with": [header(), "a"]}]}),
            json!({"and": [{"==": [header(), "a"]}, {"==": [var("region"), "b"]}]}),
            json!({"if": [header(), {"==": [var("region"), "b"]}, false]}),
            json!({"some": [["a", "b"], {"in": [{"var": ""}, "ab"]}]}),
            json!({"some": [{"missing": ["request.headers.x-a"]}, {"var": ""}]}),
        ] {
            assert_eq!(told(&condition, Lint::ConstantCondition), [""; 0], "{condition}");
            assert_eq!(told(&condition, Lint::Absent), [""; 0], "{condition}");
        }
    }

    #[test]
    fn a_comparison_that_takes_what_is_absent_for_zero_is_told() {
        let age = || json!({"var": "request.headers.x-age"});
        for condition in [
            json!({"<": [age(), 18]}),
            json!({"<=": [age(), 0]}),
            json!({">": [18, age()]}),
            json!({">": [age(), -1]}),
            json!({"<=": [0, age(), 17]}),
            json!({"<": [{"*": [age(), 12]}, 200]}),
            json!({"<": [age(), {"var": "$flagd.timestamp"}]}),
            json!({"<": [age(), {"var": "request.query.age"}]}),
            json!({"===": [{"%": [age(), 2]}, 0]}),
            json!({"and": [{"==": [{"var": "region"}, "kr"]}, {"<": [age(), 18]}]}),
            json!({"or": [{"==": [age(), "x"]}, {"<": [age(), 18]}]}),
            json!({"if": [{"cohort": "kr"}, {"<": [age(), 18]}, false]}),
        ] {
            let found = told(&condition, Lint::AbsentIsZero);
            assert!(
                matches!(&found[..], [one] if one.ends_with("also holds where `request.headers.x-age` is absent, which counts as 0")),
                "{condition}: {found:?}"
            );
        }
        for condition in [
            json!({">": [age(), 18]}),
            json!({">=": [age(), 1]}),
            json!({"<": [age(), -1]}),
            json!({"<": [age(), "m"]}),
            json!({"<": [{"var": ["request.headers.x-age", 99]}, 18]}),
            json!({"<": [{"var": "$flagd.timestamp"}, 1_900_000_000]}),
            json!({"==": [age(), 0]}),
            json!({"<": [1, age(), 17]}),
            json!({"and": [age(), {"<": [age(), 18]}]}),
            json!({"and": [{"<": [age(), 18]}, {"!!": [age()]}]}),
            json!({"and": [{"and": [{"!=": [age(), null]}, {"cohort": "kr"}]}, {"<": [age(), 18]}]}),
            json!({"and": [{"cohort": "has-age"}, {"<": [age(), 18]}]}),
            json!({"and": [{"!": {"missing": ["request.headers.x-age"]}}, {"<": [age(), 18]}]}),
            json!({"and": [{">": [age(), 10]}, {"<": [age(), 18]}]}),
            json!({"or": [{"!": age()}, {"<": [age(), 18]}]}),
            json!({"if": [age(), {"<": [age(), 18]}, false]}),
            json!({"if": [{"!": age()}, false, {"<": [age(), 18]}]}),
            json!({"sem_ver": [age(), "<", "3.0.0"]}),
        ] {
            assert_eq!(told(&condition, Lint::AbsentIsZero), [""; 0], "{condition}");
        }
    }
}
