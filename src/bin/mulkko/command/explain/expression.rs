//! Expressions as people read them: `region == "kr"` for `{"==": [{"var": "region"}, "kr"]}`.

use mulkko::json::Json;
use mulkko::logic::operation;
use serde_json::json;

/// The longest text of a condition that is shown.
const LONGEST: usize = 100;

/// The start of a text that is too long to be shown.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The expression on one line.
pub fn text(json: &Json) -> String {
    let Some((operator, operands)) = operation(json) else { return literal(json) };
    let inner = |json: &Json| match operation(json) {
        Some(("and" | "or", _)) => format!("({})", text(json)),
        _ => text(json),
    };
    match (operator, operands) {
        ("var", [Json::Text(name), ..]) => name.to_string(),
        ("cohort" | "$ref" | "flag", [Json::Text(name)]) => {
            format!("{} {name}", operator.trim_start_matches('$'))
        }
        ("!" | "!!", [operand]) => format!("{operator}{}", inner(operand)),
        (
            "and" | "or" | "in" | "==" | "===" | "!=" | "!==" | "<" | "<=" | ">" | ">=" | "+" | "-" | "*"
            | "/" | "%",
            [_, _, ..],
        ) => operands.iter().map(inner).collect::<Vec<_>>().join(&format!(" {operator} ")),
        _ => format!("{operator}({})", operands.iter().map(text).collect::<Vec<_>>().join(", ")),
    }
}

fn literal(json: &Json) -> String {
    plain(json).to_string()
}

fn plain(json: &Json) -> serde_json::Value {
    match json {
        Json::Null => json!(null),
        Json::Bool(value) => json!(value),
        Json::Number(value) => number(*value),
        Json::Text(text) => json!(text),
        Json::List(items) => items.iter().map(plain).collect(),
        Json::Object(members) => {
            members.iter().map(|(name, value)| (name.to_string(), plain(value))).collect()
        }
    }
}

/// A number as JSON writes it, whole ones without a point; one that JSON cannot write, as a text.
pub fn number(number: f64) -> serde_json::Value {
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        return json!(number as i64);
    }
    if number.is_finite() { json!(number) } else { json!(number.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_read_as_they_are_said() {
        for (json, expected) in [
            (r#"{"==": [{"var": "region"}, "kr"]}"#, r#"region == "kr""#),
            (
                r#"{"and": [{"cohort": "staff"}, {"or": [true, {"!": {"var": "a"}}]}]}"#,
                "cohort staff and (true or !a)",
            ),
            (r#"{"sem_ver": [{"var": ["v", "1.0.0"]}, ">=", "3.2.0"]}"#, r#"sem_ver(v, ">=", "3.2.0")"#),
            (r#"{"in": ["a", ["a", "b"]]}"#, r#""a" in ["a","b"]"#),
            (r#"{"<": [1, {"var": "n"}, 2.5]}"#, "1 < n < 2.5"),
            (r#"{"-": 1}"#, "-(1)"),
            ("7", "7"),
            ("{}", "{}"),
        ] {
            assert_eq!(text(&serde_json::from_str(json).unwrap()), expected);
        }
    }
}
