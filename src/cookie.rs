//! Cookies: reading one, putting one in its place, and the text that sets one in a browser.

/// The value of the first cookie called `name`, as written.
///
/// Pairs are divided by `;` and trimmed. A value may hold `=` and keeps its quotes; a name is taken as it stands, case
/// and all, and a pair without `=` has none.
#[must_use]
pub fn find<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    header.split(is_divider).find_map(|pair| value_of(pair, name))
}

/// A `cookie` header in which `name` has this value and no other.
///
/// All cookies of that name go, `name=value` comes last, and the other cookies stay as they are.
#[must_use]
pub fn replace(header: Option<&[u8]>, name: &str, value: &str) -> Vec<u8> {
    let header = header.unwrap_or_default();
    let mut cookies = Vec::with_capacity(header.len() + name.len() + value.len() + 3);
    let mut is_first = true;
    for pair in header.split(is_divider).filter(|pair| value_of(pair, name).is_none()) {
        if !is_first {
            cookies.push(b';');
        }
        is_first = false;
        // Without the cookie before it this one would start the header, and a header does not start with a space.
        cookies.extend_from_slice(if cookies.is_empty() { pair.trim_ascii_start() } else { pair });
    }
    cookies.truncate(cookies.trim_ascii_end().len());
    if !cookies.is_empty() {
        cookies.extend_from_slice(b"; ");
    }
    cookies.extend_from_slice(name.as_bytes());
    cookies.push(b'=');
    cookies.extend_from_slice(value.as_bytes());
    cookies
}

/// The `set-cookie` that makes a browser keep `name` for `max_age_s` seconds on the whole site, out of reach of its
/// scripts, and (`secure`) over TLS only.
///
/// `name` has to be a name ([`is_token`](crate::headers::is_token)) and `value` text without space, comma, semicolon, quotes and backslash: both
/// stand there as they are.
#[must_use]
pub fn set_cookie(name: &str, value: &str, max_age_s: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Max-Age={max_age_s}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

fn is_divider(byte: &u8) -> bool {
    *byte == b';'
}

/// The value of `pair`, if that is what it is called.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_cookie_of_a_name_is_found() {
        for (header, value) in [
            (&b"id=1"[..], Some(&b"1"[..])),
            (b"a=0; id=1; id=2", Some(b"1")),
            (b"a=0;id=1;b=2", Some(b"1")),
            (b"\t id=1 \t;b=2", Some(b"1")),
            (b"id=a=b==", Some(b"a=b==")),
            (b"id=\"q r\"", Some(b"\"q r\"")),
            (b"id=", Some(b"")),
            (b"id=; id=1", Some(b"")),
            (b"id=\xff\x00", Some(b"\xff\x00")),
            (b"", None),
            (b"id", None),
            (b"id; x", None),
            (b"id =1", None),
            (b"ID=1; xid=2; id2=3; x=id=4", None),
            (b";;=;==;", None),
        ] {
            assert_eq!(find(header, "id"), value, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn a_replaced_cookie_comes_last_and_the_others_stay() {
        for (header, expected) in [
            (None, &b"id=new"[..]),
            (Some(&b""[..]), b"id=new"),
            (Some(b" "), b"id=new"),
            (Some(b"id=old"), b"id=new"),
            (Some(b"a=1"), b"a=1; id=new"),
            (Some(b"a=1; id=old; b=2"), b"a=1; b=2; id=new"),
            (Some(b"id=old; a=1"), b"a=1; id=new"),
            (Some(b"id=old; id=older;a=1 ;id=oldest"), b"a=1; id=new"),
            (Some(b"a=1;b=\"x y\";  c=\xff; id; ID=1"), b"a=1;b=\"x y\";  c=\xff; id; ID=1; id=new"),
            (Some(b"a=1;;b=2"), b"a=1;;b=2; id=new"),
        ] {
            assert_eq!(
                replace(header, "id", "new").escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_cookie_is_set_for_the_site_and_not_for_scripts() {
        assert_eq!(set_cookie("id", "x", 60, false), "id=x; Max-Age=60; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(set_cookie("id", "x", 0, true), "id=x; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure");
    }

    #[test]
    fn a_cookie_header_of_64_kb_is_read() {
        let header = [b";a=1".repeat(16_384), b"; id=1".to_vec()].concat();
        assert_eq!(find(&header, "id"), Some(&b"1"[..]));
        assert_eq!(find(&replace(Some(&header), "id", "2"), "id"), Some(&b"2"[..]));
    }

    fn header() -> impl Strategy<Value = Vec<u8>> {
        let piece = proptest::sample::select(vec!["id", "id=1", "; ", ";", "=", " ", "a=b", "é"]);
        prop_oneof![
            proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..64),
        ]
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn what_was_replaced_is_found_and_the_rest_is_left(header in header(), value in "[!-+--:<-~]{0,16}") {
            let replaced = replace(Some(&header), "id", &value);
            prop_assert_eq!(find(&replaced, "id"), Some(value.as_bytes()));
            prop_assert_eq!(others(&replaced), others(&header));
        }
    }

    /// The cookies that are not `id`, and not blank: a blank start or end is trimmed.
    fn others(header: &[u8]) -> Vec<&[u8]> {
        let pairs = header.split(is_divider).map(<[u8]>::trim_ascii);
        pairs.filter(|pair| !pair.is_empty() && value_of(pair, "id").is_none()).collect()
    }
}
