//! Formats of Envoy's access log, read backwards: which part of a line is which header.

use anyhow::{Result, bail};

use super::access_log::CLIENT;

/// What Envoy writes where its configuration says no format.
pub const DEFAULT: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% "#,
    r#"%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "#,
    r#""%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%""#,
);

/// A format in its parts.
#[derive(Clone, Debug)]
pub struct LogFormat {
    /// What stands before the first command.
    start: String,
    /// Each command's header, if it tells one, and what stands after it.
    commands: Vec<(Option<String>, String)>,
}

impl LogFormat {
    /// The parts of a format string.
    ///
    /// # Errors
    /// When a `%` is not closed, two commands have nothing between them, or none tells a header.
    pub fn parse(format: &str) -> Result<LogFormat> {
        let mut pieces = format.split('%');
        let mut start = pieces.next().unwrap_or_default().to_owned();
        let mut commands: Vec<(Option<String>, String)> = Vec::new();
        while let Some(command) = pieces.next() {
            let Some(after) = pieces.next() else { bail!("`%{command}` is not closed") };
            let last = commands.last_mut().map_or(&mut start, |(_, after)| after);
            if command.is_empty() {
                // `%%` is a percent sign.
                *last += &format!("%{after}");
            } else if last.is_empty() && !commands.is_empty() {
                bail!(
                    "nothing stands between `%{command}%` and what is before it: no line can be told apart"
                );
            } else {
                commands.push((header(command), after.to_owned()));
            }
        }
        if !commands.iter().any(|(header, _)| header.is_some()) {
            bail!("it has no `%REQ(…)%`");
        }
        Ok(LogFormat { start, commands })
    }

    /// The headers that a line tells; `None` where it is not of this format.
    #[must_use]
    pub fn headers<'l>(&'l self, line: &'l str) -> Option<Vec<(&'l str, &'l str)>> {
        let mut rest = line.strip_prefix(&*self.start)?;
        let mut headers = Vec::new();
        for (i, (header, after)) in self.commands.iter().enumerate() {
            let is_last = i + 1 == self.commands.len();
            let end = if is_last { rest.strip_suffix(&**after)?.len() } else { rest.find(&**after)? };
            let (value, left) = rest.split_at_checked(end)?;
            rest = left.get(after.len()..)?;
            // A header that the request did not have is written as `-`.
            headers.extend(header.as_deref().filter(|_| value != "-").map(|header| (header, value)));
        }
        Some(headers)
    }
}

/// The header of `REQ(X?Y):Z`: the one that stays when Envoy rewrites a path is told as the path.
fn header(command: &str) -> Option<String> {
    if command.starts_with("DOWNSTREAM_REMOTE_ADDRESS") {
        return Some(CLIENT.to_owned());
    }
    let named = command.strip_prefix("REQ(")?;
    let (names, _) = named.split_once(')')?;
    let name = names.rsplit('?').next()?.to_ascii_lowercase();
    Some(if name == "x-envoy-original-path" { ":path".to_owned() } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_their_format() {
        let line = concat!(
            r#"[2026-11-23T18:00:00.000Z] "GET /checkout?a=%20b HTTP/1.1" 200 - 0 3 1 0 "-" "Mozilla/5.0 (X11; x)" "#,
            r#""3f2c" "shop.example.com:8080" "127.0.0.1:80""#
        );
        let expected = [
            (":method", "GET"),
            (":path", "/checkout?a=%20b"),
            ("user-agent", "Mozilla/5.0 (X11; x)"),
            ("x-request-id", "3f2c"),
            (":authority", "shop.example.com:8080"),
        ];
        assert_eq!(LogFormat::parse(DEFAULT).unwrap().headers(line).unwrap(), expected);
        for (format, line, expected) in [
            ("%REQ(X-USER-ID)% %PROTOCOL%", "u1 HTTP/2", Some(vec![("x-user-id", "u1")])),
            ("100%% %REQ(A):3%|", "100% abc|", Some(vec![("a", "abc")])),
            ("%REQ(A)%\t%REQ(B)%", "-\tb", Some(vec![("b", "b")])),
            ("%REQ(A)% x", "abc", None),
            ("<%REQ(A)%", "abc", None),
            (
                "%REQ(A)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "- 10.1.2.3",
                Some(vec![(CLIENT, "10.1.2.3")]),
            ),
        ] {
            assert_eq!(LogFormat::parse(format).unwrap().headers(line), expected, "{format}");
        }
    }

    #[test]
    fn formats_that_tell_nothing_are_refused() {
        for (format, expected) in [
            ("%REQ(A)% %B", "`%B` is not closed"),
            (
                "%REQ(A)%%REQ(B)%",
                "nothing stands between `%REQ(B)%` and what is before it: no line can be told apart",
            ),
            ("%PROTOCOL%", "it has no `%REQ(…)%`"),
        ] {
            assert_eq!(LogFormat::parse(format).unwrap_err().to_string(), expected);
        }
    }
}
