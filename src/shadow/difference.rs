//! What differs between two answers.

use crate::shadow::field::{CELLS, Field};
use crate::shadow::print::{Body, Print, Seen, SeenKind};
use crate::shadow::sketch::Sketch;

/// What differs between two answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The fields that differ, in order.
    pub fields: Vec<Field>,
    /// Whether the bodies could not be compared.
    pub is_body_unknown: bool,
}

impl Differences {
    /// Whether a field differs.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.fields.binary_search(&field).is_ok()
    }
}

/// Compares the answer of a copy with another. Where both are JSON that is not the same to the byte, both have been read.
#[must_use]
pub fn compare(one: &Print, other: &Print) -> Differences {
    let mut found = Differences::default();
    if one.status != other.status {
        found.fields.push(Field::STATUS);
    }
    for (i, (a, b)) in one.headers.iter().zip(&other.headers).enumerate() {
        if a.hash != b.hash {
            found.fields.push(Field::header(i));
        }
    }
    match (&one.body, &other.body) {
        (Body::Encoded, _) | (_, Body::Encoded) => found.is_body_unknown = true,
        (one, other) if one.is_same(other) => {}
        (Body::Json(one), Body::Json(other)) => match (one.sketch(), other.sketch()) {
            (Some(one), Some(other)) => sketches(one, other, &mut found.fields),
            _ => found.fields.push(Field::BODY),
        },
        _ => found.fields.push(Field::BODY),
    }
    found.fields.sort_unstable();
    found
}

fn sketches(one: &Sketch, other: &Sketch, found: &mut Vec<Field>) {
    for (i, (a, b)) in one.cells.iter().zip(&other.cells).enumerate().take(CELLS) {
        if a != b {
            found.push(Field::cell(i));
        }
    }
    let sum = |sketch: &Sketch, i: usize| sketch.paths.get(i)?.as_ref().map(|at| at.sum);
    for i in 0..one.paths.len().max(other.paths.len()) {
        if sum(one, i) != sum(other, i) {
            found.push(Field::path(i));
        }
    }
}

impl Print {
    /// What is told of a field.
    #[must_use]
    pub fn seen(&self, field: Field) -> Seen {
        use crate::shadow::field::Which;
        let body = match &self.body {
            Body::Encoded => Seen::default(),
            Body::Bytes { length, .. } => Seen::sized(SeenKind::Bytes, *length),
            Body::Json(json) => Seen::sized(SeenKind::Json, json.text().len() as u64),
        };
        match (field.which(), &self.body) {
            (Which::Status, _) => Seen::sized(SeenKind::Status, self.status.into()),
            (Which::Header(i), _) => self.headers.get(i).map(|it| it.seen.clone()).unwrap_or_default(),
            (Which::Body, _) => body,
            (Which::Cell(_), _) => Seen::sized(SeenKind::Other, 0),
            (Which::Path(i), Body::Json(json)) => {
                let at = json.sketch().and_then(|sketch| sketch.paths.get(i)?.as_ref());
                at.map(|at| at.seen.clone()).unwrap_or_default()
            }
            (Which::Path(_), _) => Seen::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;
    use crate::shadow::Comparison;
    use crate::shadow::print::{Printing, Whose};
    use crate::shadow::sketch::Paths;
    use crate::shadow::tests::comparison;

    fn print(headers: &[(&str, &str)], body: &[u8]) -> Print {
        let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let mut printing = Printing::new(&comparison(), &Headers::new(pairs), None);
        body.chunks(7).for_each(|part| printing.take(part, part.len()));
        printing.end()
    }

    /// Reads its JSON, if it is that, in pieces of so many bytes.
    fn read(print: &mut Print, piece: usize, whose: Whose, paths: &mut Paths) {
        if let Body::Json(json) = &mut print.body {
            while !json.read_on(piece, whose, paths, &comparison()) {}
        }
    }

    type Response<'r> = (&'r [(&'r str, &'r str)], &'r [u8]);

    /// What differs, by name.
    fn found(one: Response<'_>, other: Response<'_>) -> Vec<String> {
        let mut paths = Paths::default();
        let (mut a, mut b) = (print(one.0, one.1), print(other.0, other.1));
        read(&mut a, 5, Whose::Primary, &mut paths);
        read(&mut b, 1_000, Whose::Candidate, &mut paths);
        let found = compare(&a, &b);
        let named = found.fields.iter().map(|field| field.name(&comparison(), &paths));
        named.chain(found.is_body_unknown.then(|| "?".to_owned())).collect()
    }

    const JSON: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/json; charset=utf-8")];

    #[test]
    fn differences_are_named() {
        let json = |a: &str, b: &str| found((JSON, a.as_bytes()), (JSON, b.as_bytes()));
        for (a, b, expected) in [
            (r#"{"a":1,"b":[1,2]}"#, r#"{"b":[2,1],"a":1}"#, &[][..]),
            (r#"{"a":1}"#, r#"{"a":2}"#, &["/a"]),
            (r#"{"a":1,"b":{"c":null}}"#, r#"{"a":1,"b":{}}"#, &["/b/c", "/b"]),
            (r#"{"a":[{"b":1},{"b":2}]}"#, r#"{"a":[{"b":1},{"b":3}]}"#, &["/a/*/b"]),
            (r#"{"meta":{"now":1},"a":1}"#, r#"{"meta":2,"a":1}"#, &[]),
            (r#"{"a":1}"#, r#"{"a":1"#, &["body"]),
            (r#"{"a":1}"#, "", &["body"]),
        ] {
            assert_eq!(json(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_json_is_compared_as_bytes() {
        let text: &[(&str, &str)] = &[(":status", "200")];
        assert_eq!(found((text, b"abc"), (text, b"abc")), [""; 0]);
        assert_eq!(found((text, b"abc"), (text, b"abd")), ["body"]);
        let (long, longer) = ([b'a'; 2_000], [b'a'; 2_001]);
        assert_eq!(found((text, &long), (text, &long)), [""; 0]);
        assert_eq!(found((text, &long), (text, &longer)), ["body"]);
        assert_eq!(found((JSON, &long), (JSON, &longer)), ["body"]);
    }

    #[test]
    fn statuses_and_headers_are_compared() {
        let one: &[(&str, &str)] = &[(":status", "200"), ("x-a", "1"), ("date", "today")];
        assert_eq!(found((one, b""), (&[(":status", "503"), ("x-a", "1")], b"")), ["status"]);
        assert_eq!(found((one, b""), (&[(":status", "200"), ("x-a", "2")], b"")), ["x-a"]);
        assert_eq!(found((one, b""), (&[(":status", "200")], b"")), ["x-a"]);
        let cookie =
            |a, b| found((&[("set-cookie", a)] as &[(&str, &str)], &b""[..]), (&[("set-cookie", b)], b""));
        assert_eq!(cookie("id=1; Path=/", "id=2; Path=/"), [""; 0]);
        assert_eq!(cookie("id=1", "sid=1"), ["set-cookie"]);
    }

    #[test]
    fn what_is_encoded_is_not_compared() {
        let gzip: &[(&str, &str)] = &[(":status", "200"), ("content-encoding", "gzip")];
        let plain: &[(&str, &str)] = &[(":status", "200"), ("content-encoding", "identity")];
        assert_eq!(found((gzip, b"abc"), (plain, b"abc")), ["?"]);
        assert_eq!(found((gzip, b""), (plain, b"")), [""; 0]);
    }

    #[test]
    fn what_is_not_told_by_name_differs_in_its_cell() {
        let many = |changed: usize| {
            let members = (0..1_000).map(|i| format!("\"{i}\":{}", u8::from(i == changed)));
            format!("[{{{}}}]", members.collect::<Vec<_>>().join(","))
        };
        let comparison = Comparison { max_body_bytes: 100_000, ..comparison() };
        let mut paths = Paths::default();
        let mut print = |whose, text: &str| {
            let pairs = JSON.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            let mut printing = Printing::new(&comparison, &Headers::new(pairs), Some(text.len()));
            printing.take(text.as_bytes(), text.len());
            let mut print = printing.end();
            read(&mut print, 1_000, whose, &mut paths);
            print
        };
        // A shadow cannot use up all names.
        let invented = print(Whose::Candidate, &many(1_000));
        let (a, b) = (print(Whose::Primary, &many(1_000)), print(Whose::Candidate, &many(999)));
        let named = print(Whose::Candidate, &many(100));
        drop(invented);
        let found =
            |b| compare(&a, b).fields.into_iter().map(|it| it.name(&comparison, &paths)).collect::<Vec<_>>();
        assert_eq!(found(&named), ["/*/100"]);
        let [cell] = &found(&b)[..] else { panic!("{:?}", found(&b)) };
        assert!(cell.starts_with("other paths, "), "{cell}");
        assert_eq!(paths.len(), super::super::field::MAX_PATHS);
    }
}
