//! The requests that lines of an Envoy's access log tell, as texts or as JSON.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::log_format::LogFormat;
use crate::cases::Asked;

/// Stands for a header that would tell the client's address.
pub const CLIENT: &str = ":client";

/// The request of a line, and the address of its client; `None` where the line tells none.
///
/// `fields` are fields of JSON and the headers that they tell, beside those that are called like a header.
#[must_use]
pub fn request(
    line: &str,
    format: &LogFormat,
    fields: &[(String, String)],
) -> Option<(Asked, Option<String>)> {
    if line.starts_with('{') {
        let object: BTreeMap<String, &RawValue> = serde_json::from_str(line).ok()?;
        let told = object.iter().filter_map(|(name, value)| Some((header(name, fields)?, text(value)?)));
        return asked(told.filter(|(_, value)| value != "-"));
    }
    let headers = format.headers(line)?;
    asked(headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())))
}

/// The value of a field: what stores logs may have made a number of an id. One that is null is absent.
fn text(json: &RawValue) -> Option<String> {
    match json.get().as_bytes().first()? {
        b'"' => serde_json::from_str(json.get()).ok(),
        b'n' | b'{' | b'[' => None,
        _ => Some(json.get().to_owned()),
    }
}

/// The header that a field of a log of JSON tells: by Envoy's and Istio's usual names, or by its own.
fn header(field: &str, fields: &[(String, String)]) -> Option<String> {
    if let Some((_, header)) = fields.iter().find(|(name, _)| name == field) {
        return Some(header.clone());
    }
    let name = field.to_ascii_lowercase().replace('_', "-");
    let header = match name.as_str() {
        "method" | ":method" => ":method",
        "path" | ":path" | "x-envoy-original-path" => ":path",
        "authority" | ":authority" | "host" => ":authority",
        "request-id" => "x-request-id",
        "downstream-remote-address" | "client-ip" => CLIENT,
        // Of the response, or of the connection.
        "time" | "start-time" | "protocol" | "duration" | "flags" | "code" | "cluster" => return None,
        other => other,
    };
    Some(header.to_owned())
}

/// The request with these headers; `None` without a path.
fn asked(headers: impl Iterator<Item = (String, String)>) -> Option<(Asked, Option<String>)> {
    let mut asked = Asked { method: "GET".to_owned(), path: String::new(), headers: Vec::new() };
    let mut client = None;
    for (name, value) in headers {
        match name.as_str() {
            ":method" => asked.method = value,
            ":path" => asked.path = value,
            CLIENT => client = Some(value),
            // What the proxy itself set is not what the request said.
            name if name.starts_with("x-mulkko-") => {}
            _ => asked.headers.push((name, value)),
        }
    }
    (!asked.path.is_empty()).then_some((asked, client))
}

#[cfg(test)]
mod tests {
    use super::super::log_format::DEFAULT;
    use super::*;

    #[test]
    fn values_are_told_by_their_texts() {
        let format = LogFormat::parse(DEFAULT).unwrap();
        for (value, expected) in [
            (r#""user-1""#, Some("user-1")),
            (r#""\u00fc \"x\"""#, Some("\u{fc} \"x\"")),
            ("17", Some("17")),
            ("-17", Some("-17")),
            ("1.50", Some("1.50")),
            // Beyond what a double holds.
            ("12345678901234567890123", Some("12345678901234567890123")),
            ("true", Some("true")),
            ("false", Some("false")),
            (r#""-""#, None),
            ("null", None),
            ("{}", None),
            (r#"["a"]"#, None),
        ] {
            let line = format!(r#"{{"path": "/", "x_user_id": {value}}}"#);
            let (asked, _) = request(&line, &format, &[]).unwrap();
            let found = asked.headers.iter().find(|(name, _)| name == "x-user-id");
            assert_eq!(found.map(|(_, value)| value.as_str()), expected, "{line}");
        }
    }
}
