//! Regular expressions that are a prefix or a text.

use super::expressions::{each, each_whole};
use super::{Lint, Warnings};
use crate::finding::Path;
use crate::json::Json;
use crate::wire::{Document, PathMatchType, ValueMatch, ValueMatchType};

/// What a regular expression matches that is none.
#[derive(Debug, PartialEq, Eq)]
enum Plain {
    /// This text.
    Text(String),
    /// What begins with this text.
    Prefix(String),
    /// This text, and what has a `/` after it.
    Segments(String),
}

pub fn lint(document: &Document, warnings: &mut Warnings) {
    let rollouts = Path::Root.field("rollouts");
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        let place = rollouts.item(i);
        let matches = place.field("matches");
        for (i, entry) in rollout.matches.iter().enumerate() {
            let place = matches.item(i);
            let path = entry.path.as_ref().filter(|path| path.kind == PathMatchType::RegularExpression);
            if let Some(plain) = path.and_then(|path| plain(path.value.as_deref()?)) {
                warnings.report(Lint::NeedlessPattern, &place.field("path").field("value"), of_path(&plain));
            }
            of_values(&entry.headers, &place.field("headers"), warnings);
            of_values(&entry.query_params, &place.field("queryParams"), warnings);
        }
    }
    each_whole(document, &mut |json, place| {
        each(json, place, &mut |operator, operands, place| {
            if let ("matches", [_, Json::Text(pattern)]) = (operator, operands)
                && let Some(plain) = plain(pattern)
            {
                warnings.report(Lint::NeedlessPattern, &place.item(1), of_condition(&plain));
            }
        });
    });
}

fn of_values(values: &[ValueMatch], place: &Path<'_>, warnings: &mut Warnings) {
    let patterns = values.iter().enumerate().filter(|(_, it)| it.kind == ValueMatchType::RegularExpression);
    for (i, it) in patterns {
        if let Some(Plain::Text(text)) = plain(&it.value) {
            let message = format!("is a text: `Exact` \"{text}\" says the same");
            warnings.report(Lint::NeedlessPattern, &place.item(i).field("value"), message);
        }
    }
}

fn of_path(plain: &Plain) -> String {
    match plain {
        Plain::Text(text) => format!("is a text: `Exact` \"{text}\" says the same"),
        Plain::Segments(text) => format!("is a prefix: `PathPrefix` \"{text}\" says the same"),
        Plain::Prefix(text) => {
            let text = text.strip_suffix('/').filter(|text| !text.is_empty()).unwrap_or(text);
            format!("is a prefix: `PathPrefix` \"{text}\" takes it with whole segments")
        }
    }
}

fn of_condition(plain: &Plain) -> String {
    match plain {
        Plain::Text(text) => format!("is a text: `==` \"{text}\" says the same"),
        Plain::Segments(text) | Plain::Prefix(text) => {
            format!("is a prefix: `starts_with` \"{text}\" takes it as it is")
        }
    }
}

/// What `pattern` matches, where that is a text or all that begins with one.
fn plain(pattern: &str) -> Option<Plain> {
    let start = ["^", r"\A"].iter().find_map(|anchor| pattern.strip_prefix(anchor)).unwrap_or(pattern);
    let whole = ["$", r"\z"].iter().find_map(|anchor| start.strip_suffix(anchor)).unwrap_or(start);
    for (tail, plain) in [
        ("(/.*)?", Plain::Segments as fn(String) -> Plain),
        ("(?:/.*)?", Plain::Segments),
        ("(|/.*)", Plain::Segments),
        ("(.*)", Plain::Prefix),
        (".*", Plain::Prefix),
    ] {
        if let Some(head) = whole.strip_suffix(tail) {
            return literal(head).filter(|text| !text.is_empty()).map(plain);
        }
    }
    literal(whole).map(Plain::Text)
}

/// The text of a pattern without any operator.
pub(super) fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => text.push(rest.next().filter(char::is_ascii_punctuation)?),
            '.' | '[' | ']' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '|' | '^' | '$' => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pattern_is_told_from_what_is() {
        let text = |text: &str| Some(Plain::Text(text.to_owned()));
        let prefix = |text: &str| Some(Plain::Prefix(text.to_owned()));
        let segments = |text: &str| Some(Plain::Segments(text.to_owned()));
        for (pattern, expected) in [
            ("/checkout", text("/checkout")),
            ("^/checkout$", text("/checkout")),
            (r"v1\.2", text("v1.2")),
            ("/checkout.*", prefix("/checkout")),
            ("/checkout/.*", prefix("/checkout/")),
            ("^/checkout(.*)$", prefix("/checkout")),
            ("/checkout(/.*)?", segments("/checkout")),
            ("/cart/[0-9]+", None),
            ("/a.c", None),
            ("/a.*b", None),
            ("(?i)/a.*", None),
            (".*", None),
            (r"\d.*", None),
            ("", text("")),
        ] {
            assert_eq!(plain(pattern), expected, "{pattern}");
        }
    }
}
