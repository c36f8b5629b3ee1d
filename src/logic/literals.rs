//! Compiling the operators that read literals in their own way: names, versions, networks, patterns.

use super::coerce::number_text;
use super::compile::{At, Expressions, Part, Scope, operands_of};
use super::library::{Unknown, Use};
use super::networks::{Networks, parse_network};
use super::sem_ver::{Comparison, Version, Written};
use super::tree::{Binary, Expr, Given, SemVer};
use super::var::Way;
use crate::finding::{Path, Problem};
use crate::json::Json;
use crate::pattern::Pattern;

/// The most names that a variable may lead through: contexts nest no deeper.
pub(crate) const MOST_LEVELS: usize = 128;

impl Expressions<'_> {
    pub(super) fn affix(&mut self, operator: Binary, operands: &Json, at: At<'_>) -> Option<Expr> {
        if at.part == Part::Targeting
            && !matches!(operands_of(operands), [a, b] if may_be_text(a) && may_be_text(b))
        {
            return self.null(operands, at);
        }
        let texts = operands_of(operands).iter().enumerate().filter(|(_, operand)| !may_be_text(operand));
        let mut refused = false;
        for (i, operand) in texts {
            self.findings.report(&at.path.item(i), Problem::expected("a text", operand.kind()));
            refused = true;
        }
        self.binary(operator, operands, at).filter(|_| !refused)
    }

    pub(super) fn sem_ver(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        if at.part == Part::Targeting && !can_compare(operands_of(operands)) {
            return self.null(operands, at);
        }
        let [version, comparison, target] = self.written(operands, "3 operands", at)?;
        let version = self.version(version, at.path(&at.path.item(0)));
        let comparison = self.comparison(comparison, at.path(&at.path.item(1)));
        let target = self.version(target, at.path(&at.path.item(2)));
        Some(Expr::SemVer(Box::new(SemVer {
            version: version?,
            comparison: comparison?,
            target: target?,
            also: Vec::new(),
        })))
    }

    fn version(&mut self, json: &Json, at: At<'_>) -> Option<Given<Written>> {
        let number;
        let text = match json {
            Json::Object(_) => return self.expression(json, at).map(Given::Computed),
            Json::Text(text) => text,
            Json::Number(value) => {
                number = number_text(*value);
                number.as_str()
            }
            _ => return self.refuse(at.path, Problem::expected("a version", json.kind())),
        };
        match Version::parse(text) {
            Some(version) => Some(Given::Literal(version.written())),
            None => self.refuse(at.path, Problem::expected("a version", text)),
        }
    }

    fn comparison(&mut self, json: &Json, at: At<'_>) -> Option<Given<Comparison>> {
        let found = match json {
            Json::Object(_) => return self.expression(json, at).map(Given::Computed),
            Json::Text(text) => match Comparison::parse(text) {
                Some(comparison) => return Some(Given::Literal(comparison)),
                None => text,
            },
            _ => json.kind(),
        };
        self.refuse(at.path, Problem::expected(Comparison::EXPECTED, found))
    }

    pub(super) fn cidr(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        let [address, networks] = self.written(operands, "an address and its networks", at)?;
        let networks = self.networks(networks, &at.path.item(1));
        let path = at.path.item(0);
        let address = self.expression(address, at.path(&path));
        Some(Expr::InNetworks(address?.into(), networks?))
    }

    fn networks(&mut self, json: &Json, path: &Path<'_>) -> Option<Networks> {
        let Json::List(items) = json else {
            return self.network(json, path).map(|network| Networks::new(&[network]));
        };
        let mut networks = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            if self.findings.is_full() {
                return None;
            }
            networks.extend(self.network(item, &path.item(i)));
        }
        (networks.len() == items.len()).then(|| Networks::new(&networks))
    }

    fn network(&mut self, json: &Json, path: &Path<'_>) -> Option<ipnet::IpNet> {
        let Json::Text(text) = json else {
            return self.refuse(path, Problem::expected("a network", json.kind()));
        };
        match parse_network(text) {
            Some(network) => Some(network),
            None => self.refuse(path, Problem::expected("a network", text)),
        }
    }

    pub(super) fn matches(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        let [text, pattern] = self.written(operands, "a text and a pattern", at)?;
        let path = at.path.item(1);
        let pattern = match pattern {
            Json::Text(pattern) => {
                let compiled = Pattern::compile(pattern, self.findings);
                self.findings.reported(compiled, &path)
            }
            _ => self.refuse(&path, Problem::expected("a regular expression", pattern.kind())),
        };
        let path = at.path.item(0);
        let text = self.expression(text, at.path(&path));
        Some(Expr::Matches(text?.into(), pattern?))
    }

    pub(super) fn cohort(&mut self, name: &Json, at: At<'_>) -> Option<Expr> {
        let Json::Text(name) = name else {
            return self.refuse(at.path, Problem::expected("the name of a cohort", name.kind()));
        };
        let Some(&id) = self.names.cohorts.get(name) else {
            return self.refuse_unknown("cohort", name, at);
        };
        self.uses.push(Use::Cohort { id, above: at.level - 1 });
        Some(Expr::Cohort(id))
    }

    pub(super) fn evaluator(&mut self, name: &Json, at: At<'_>) -> Option<Expr> {
        let Json::Text(name) = name else {
            return self.refuse(at.path, Problem::expected("the name of an evaluator", name.kind()));
        };
        let Some(&evaluator) = self.names.evaluators.get(name) else {
            if at.part == Part::Targeting {
                return Some(Expr::UnknownEvaluator);
            }
            return self.refuse_unknown("evaluator", name, at);
        };
        let id = self.wanted.id((evaluator, at.scope, at.part.of_evaluator()));
        self.uses.push(Use::Evaluator { id, above: at.level - 1 });
        Some(Expr::Evaluator(id))
    }

    pub(super) fn flag(&mut self, key: &Json, at: At<'_>) -> Option<Expr> {
        if at.part != Part::When {
            let problem = Problem::expected("no `flag`: only a rollout's `when` may ask for one", "one");
            return self.refuse(at.path, problem);
        }
        let Json::Text(key) = key else {
            return self.refuse(at.path, Problem::expected("the key of a flag", key.kind()));
        };
        match self.names.flags.get(key) {
            Some(&flag) => Some(Expr::Flag(flag)),
            None => self.refuse_unknown("flag", key, at),
        }
    }

    /// Null, which is what an operator gives in a flag's targeting that cannot do with its literals. All the same its
    /// operands are looked at.
    pub(super) fn null(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        self.each_of(operands_of(operands), at, None).map(|_| Expr::Literal(Json::Null))
    }

    pub(super) fn var(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        let (name, default) = match operands_of(operands) {
            [] => (&Json::Null, None),
            [name] => (name, None),
            [name, default] => (name, Some(default)),
            more => return self.refuse_count("a name and a default", more.len(), at),
        };
        let in_list = matches!(operands, Json::List(_));
        let name_path = if in_list { at.path.item(0) } else { *at.path };
        let var = self.named(name, at.path(&name_path));
        match default {
            None => var,
            Some(default) => {
                let default = self.expression(default, at.path(&at.path.item(1)));
                Some(Expr::Default(Box::new([var?, default?])))
            }
        }
    }

    pub(super) fn missing(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        match operands {
            Json::List(items) if matches!(items.first(), Some(Json::List(_))) => {
                let (first, path) = (items.first().unwrap_or(&Json::Null), at.path.item(0));
                self.look_up_all(first, at.path(&path));
            }
            names => self.look_up_all(names, at),
        }
        self.any(operands, at).map(Expr::Missing)
    }

    pub(super) fn missing_some(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        if let [_, names] = operands_of(operands) {
            self.look_up_all(names, at.path(&at.path.item(1)));
        }
        self.exactly(operands, at).map(Expr::MissingSome)
    }

    /// Looks up the names of one list, or one name.
    fn look_up_all(&mut self, names: &Json, at: At<'_>) {
        for (i, name) in operands_of(names).iter().enumerate() {
            let item = at.path.item(i);
            let path = if matches!(names, Json::List(_)) { &item } else { at.path };
            match name {
                Json::Text(name) => self.look_up(name, at.path(path)),
                Json::Number(number) => self.look_up(&number_text(*number), at.path(path)),
                _ => {}
            }
        }
    }

    /// Takes down a name that no request has. Targeting is not only evaluated for requests, and bodies look into items.
    fn look_up(&mut self, name: &str, at: At<'_>) {
        let is_of_requests = at.scope == Scope::Data && at.part != Part::Targeting;
        if is_of_requests && self.unknown.is_none() && self.names.attributes.unknown(name).is_some() {
            self.unknown = Some(Unknown { name: name.into(), place: at.path.to_string().into() });
        }
    }

    fn named(&mut self, name: &Json, at: At<'_>) -> Option<Expr> {
        let number;
        let name = match name {
            Json::Object(_) => return self.expression(name, at).map(|name| Expr::Computed(name.into())),
            Json::Null => "",
            Json::Text(name) => name,
            Json::Number(value) => {
                number = number_text(*value);
                &number
            }
            _ => return self.refuse(at.path, Problem::expected("the name of a variable", name.kind())),
        };
        let levels = name.split('.').count();
        if levels > MOST_LEVELS {
            return self.refuse(at.path, Problem::over_limit("names between dots", MOST_LEVELS, levels));
        }
        if name.starts_with("$flagd.") && !matches!(name, "$flagd.flagKey" | "$flagd.timestamp") {
            return self.refuse(at.path, Problem::expected("$flagd.flagKey or $flagd.timestamp", name));
        }
        self.look_up(name, at);
        Some(match at.scope {
            Scope::Data => Expr::Var(self.names.attributes.var(name)),
            Scope::Item => Expr::Item(Way::new(name)),
        })
    }

    /// The operands as they are written, where literals are read in the operator's own way.
    fn written<'j, const N: usize>(
        &mut self,
        operands: &'j Json,
        expected: &'static str,
        at: At<'_>,
    ) -> Option<&'j [Json; N]> {
        let operands = operands_of(operands);
        match operands.try_into() {
            Ok(operands) => Some(operands),
            Err(_) => self.refuse_count(expected, operands.len(), at),
        }
    }
}

/// Whether `sem_ver` can do with what of its operands is literal.
fn can_compare(operands: &[Json]) -> bool {
    let is_version = |json: &Json| match json {
        Json::Object(_) => true,
        Json::Text(text) => Version::parse(text).is_some(),
        Json::Number(value) => Version::parse(&number_text(*value)).is_some(),
        _ => false,
    };
    let is_comparison = |json: &Json| match json {
        Json::Object(_) => true,
        Json::Text(text) => Comparison::parse(text).is_some(),
        _ => false,
    };
    matches!(operands, [a, sign, b] if is_version(a) && is_comparison(sign) && is_version(b))
}

fn may_be_text(json: &Json) -> bool {
    matches!(json, Json::Text(_) | Json::Object(_))
}
