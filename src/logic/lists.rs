//! Evaluation of the operators that make lists or go through them.

use super::coerce;
use super::eval::{Evaluation, Failure, Outcome, Scope};
use super::tree::{Each, Expr};
use super::value::{List, Object, Value};

impl<'a> Evaluation<'a, '_> {
    /// A list of expressions.
    pub(super) fn list(&mut self, items: &'a [Expr], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let mut values = Vec::new();
        for item in items {
            values.push(self.value(item, scope)?);
        }
        made(values)
    }

    /// All items of all operands; an operand that is no list is an item.
    pub(super) fn merge(&mut self, operands: &'a [Expr], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let mut values = Vec::new();
        for operand in operands {
            match self.value(operand, scope)? {
                Value::List(list) => {
                    self.budget.spend(list.len())?;
                    for item in list.iter() {
                        values.push(self.copied(item.into_owned())?);
                    }
                }
                value => values.push(value),
            }
        }
        made(values)
    }

    /// `map`, `filter`, `all`, `none`, `some`. What is no list has no items, and `all` of none is false.
    pub(super) fn each(
        &mut self,
        each: Each,
        operands: &'a [Expr; 2],
        scope: Scope<'_, 'a>,
    ) -> Outcome<Value<'a>> {
        let [list, body] = operands;
        let list = self.value(list, scope)?;
        let items = if let Value::List(list) = &list { Some(list) } else { None };
        let mut values = Vec::new();
        for item in items.into_iter().flat_map(List::iter) {
            self.budget.spend(1)?;
            let value = self.value(body, Scope::Item(&item))?;
            match (each, value.is_truthy()) {
                (Each::Map, _) => values.push(value),
                (Each::Filter, true) => values.push(self.copied(item.into_owned())?),
                (Each::All, false) | (Each::None, true) => return Ok(Value::Bool(false)),
                (Each::Some, true) => return Ok(Value::Bool(true)),
                (Each::Filter | Each::Some, false) | (Each::All, true) | (Each::None, false) => {}
            }
        }
        match each {
            Each::Map | Each::Filter => made(values),
            Each::All => Ok(Value::Bool(items.is_some_and(|list| !list.is_empty()))),
            Each::None => Ok(Value::Bool(true)),
            Each::Some => Ok(Value::Bool(false)),
        }
    }

    pub(super) fn reduce(&mut self, operands: &'a [Expr; 3], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let [list, body, start] = operands;
        let list = self.value(list, scope)?;
        let mut accumulator = self.value(start, scope)?;
        let Value::List(list) = &list else { return Ok(accumulator) };
        for item in list.iter() {
            let current = self.copied(item.into_owned())?;
            let step = Value::Object(Object::step(current, accumulator).ok_or(Failure::Exhausted)?);
            accumulator = self.value(body, Scope::Item(&step))?;
        }
        Ok(accumulator)
    }

    /// Those names that nothing, or only an empty text, stands for. A first operand that is a list has the names.
    pub(super) fn missing(&mut self, names: &'a [Expr], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let mut missing = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match self.value(name, scope)? {
                Value::List(list) if i == 0 => return self.missing_of(&list, scope).and_then(made),
                name => missing.extend(self.if_missing(name, scope)?),
            }
        }
        made(missing)
    }

    /// Those names that nothing stands for; none, if enough are there.
    pub(super) fn missing_some(
        &mut self,
        operands: &'a [Expr; 2],
        scope: Scope<'_, 'a>,
    ) -> Outcome<Value<'a>> {
        let [needed, names] = operands;
        let needed = coerce::number(&self.value(needed, scope)?);
        let names = match self.value(names, scope)? {
            Value::List(names) => names,
            name => List::made(vec![name]).ok_or(Failure::Exhausted)?,
        };
        let missing = self.missing_of(&names, scope)?;
        #[expect(clippy::cast_precision_loss, reason = "lists are far shorter than 2^52")]
        let there = (names.len() - missing.len()) as f64;
        made(if there >= needed { Vec::new() } else { missing })
    }

    fn missing_of(&mut self, names: &List<'a>, scope: Scope<'_, 'a>) -> Outcome<Vec<Value<'a>>> {
        let mut missing = Vec::new();
        for name in names.iter() {
            self.budget.spend(1)?;
            let name = self.copied(name.into_owned())?;
            missing.extend(self.if_missing(name, scope)?);
        }
        Ok(missing)
    }

    fn if_missing(&mut self, name: Value<'a>, scope: Scope<'_, 'a>) -> Outcome<Option<Value<'a>>> {
        let value = {
            let name = coerce::text(&name, self.budget)?;
            self.named(&name, scope)?
        };
        let is_missing = match value {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            _ => false,
        };
        Ok(is_missing.then_some(name))
    }
}

fn made(items: Vec<Value<'_>>) -> Outcome<Value<'_>> {
    List::made(items).map(Value::List).ok_or(Failure::Exhausted)
}
