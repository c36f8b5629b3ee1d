//! Command lines of curl, as they are pasted from a browser's developer tools or from a terminal.

use anyhow::{Context, Result, bail};
use clap::Parser;
use url::Url;

use crate::cases::Asked;

/// What of curl's options a decision can depend on, and those beside them that people use.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Curl {
    #[arg(required_unless_present = "named_url")]
    url: Option<String>,
    #[arg(long = "url")]
    named_url: Option<String>,
    #[arg(short = 'X', long)]
    request: Option<String>,
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    #[arg(short = 'b', long)]
    cookie: Vec<String>,
    #[arg(short = 'A', long)]
    user_agent: Option<String>,
    #[arg(short = 'e', long)]
    referer: Option<String>,
    #[arg(long)]
    oauth2_bearer: Option<String>,
    #[arg(short = 'I', long)]
    head: bool,
    #[arg(short = 'G', long)]
    get: bool,
    #[arg(long)]
    compressed: bool,
    #[arg(short = 'd', long, visible_aliases = ["data-raw", "data-binary", "data-ascii"], allow_hyphen_values = true)]
    data: Vec<String>,
    #[arg(long)]
    data_urlencode: Vec<String>,
    #[arg(long)]
    json: Vec<String>,
    #[arg(short = 'F', long, visible_alias = "form-string")]
    form: Vec<String>,
    #[arg(short = 'T', long)]
    upload_file: Option<String>,

    // How curl goes about it is nothing to a decision.
    #[arg(short = 's', long, action = clap::ArgAction::Count)]
    silent: u8,
    #[arg(short = 'S', long)]
    show_error: bool,
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[arg(short = 'i', long, visible_alias = "show-headers")]
    include: bool,
    #[arg(short = 'k', long)]
    insecure: bool,
    #[arg(short = 'L', long)]
    location: bool,
    #[arg(short = 'f', long)]
    fail: bool,
    #[arg(short = 'N', long)]
    no_buffer: bool,
    #[arg(short = 'O', long)]
    remote_name: bool,
    #[arg(short = '4', long)]
    ipv4: bool,
    #[arg(short = '6', long)]
    ipv6: bool,
    #[arg(short = '0', long = "http1.0")]
    http1_0: bool,
    #[arg(long = "http1.1")]
    http1_1: bool,
    #[arg(long)]
    http2: bool,
    #[arg(long)]
    http2_prior_knowledge: bool,
    #[arg(long)]
    http3: bool,
    #[arg(long)]
    path_as_is: bool,
    #[arg(short = 'g', long)]
    globoff: bool,
    #[arg(short = 'o', long)]
    output: Vec<String>,
    #[arg(short = 'w', long)]
    write_out: Option<String>,
    #[arg(short = 'm', long)]
    max_time: Option<String>,
    #[arg(long)]
    connect_timeout: Option<String>,
    #[arg(long)]
    retry: Option<String>,
    #[arg(long)]
    resolve: Vec<String>,
    #[arg(long)]
    connect_to: Vec<String>,
    #[arg(short = 'x', long)]
    proxy: Option<String>,
    #[arg(short = 'E', long)]
    cert: Option<String>,
    #[arg(long)]
    key: Option<String>,
    #[arg(long)]
    cacert: Option<String>,
    #[arg(short = 'u', long)]
    user: Option<String>,
    #[arg(short = 'D', long)]
    dump_header: Option<String>,
    #[arg(short = 'c', long)]
    cookie_jar: Option<String>,
}

/// A header of a command line.
///
/// # Errors
/// When it is none.
pub fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    is_name
        .then(|| (name.to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "expected `name: value`".to_owned())
}

/// The request that a command line of curl makes.
///
/// # Errors
/// When it is none, or has an option that is not known here.
pub fn asked(line: &str) -> Result<Asked> {
    let words = shlex::split(&plainly_quoted(line)).context("a quote is not closed")?;
    let curl = Curl::try_parse_from(&words).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        anyhow::anyhow!("{}", first.strip_prefix("error: ").unwrap_or(first))
    })?;
    if words.first().is_none_or(|word| word.rsplit('/').next() != Some("curl")) {
        bail!("expected a command line that begins with curl");
    }
    curl.asked()
}

impl Curl {
    fn asked(self) -> Result<Asked> {
        let url = self.url.as_ref().or(self.named_url.as_ref()).context("no URL")?;
        // curl takes a bare host for http.
        let url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        let mut url = Url::parse(&url).with_context(|| format!("URL {url}"))?;
        let has_data = !self.data.is_empty() || !self.data_urlencode.is_empty();
        if self.get {
            for data in self.data.iter().chain(&self.data_urlencode) {
                let query = url.query().map_or(String::new(), |query| format!("{query}&"));
                url.set_query(Some(&(query + data)));
            }
        }
        let method = match &self.request {
            Some(method) => method.as_str(),
            None if self.head => "HEAD",
            None if self.upload_file.is_some() => "PUT",
            None if !self.get && (has_data || !self.json.is_empty() || !self.form.is_empty()) => "POST",
            None => "GET",
        };
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Ok(Asked { method: method.to_owned(), path, headers: self.headers(&url, has_data)? })
    }

    fn headers(&self, url: &Url, has_data: bool) -> Result<Vec<(String, String)>> {
        let host = url.host_str().context("no host")?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut headers: Vec<(String, String)> = vec![(":scheme".to_owned(), url.scheme().to_owned())];
        let said: Vec<_> = self.headers.iter().map(|text| said(text)).collect::<Result<_>>()?;
        let mut add = |name: &str, value: Option<String>| {
            // What `--header` says comes in the place of curl's own.
            if !said.iter().any(|(said, _)| said.eq_ignore_ascii_case(name)) {
                headers.extend(value.map(|value| (name.to_owned(), value)));
            }
        };
        add("host", Some(host));
        add("user-agent", self.user_agent.clone());
        add("referer", self.referer.clone());
        add("accept", (!self.json.is_empty()).then(|| "application/json".to_owned()));
        add("authorization", self.oauth2_bearer.as_ref().map(|token| format!("Bearer {token}")));
        // Without `=` it is the name of a file.
        let cookies: Vec<&str> =
            self.cookie.iter().map(String::as_str).filter(|text| text.contains('=')).collect();
        add("cookie", (!cookies.is_empty()).then(|| cookies.join("; ")));
        let content = match (self.json.is_empty(), has_data && !self.get) {
            (false, _) => Some("application/json".to_owned()),
            (true, true) => Some("application/x-www-form-urlencoded".to_owned()),
            (true, false) => None,
        };
        add("content-type", content);
        headers.extend(said.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Ok(headers)
    }
}

/// A header of `--header`; without a value curl's own of that name is left out.
fn said(text: &str) -> Result<(String, Option<String>)> {
    if let Some(name) = text.strip_suffix(';')
        && !name.contains(':')
    {
        return Ok((name.to_owned(), Some(String::new())));
    }
    let (name, value) = header(text).map_err(|problem| anyhow::anyhow!("header {text:?}: {problem}"))?;
    Ok((name, Some(value).filter(|value| !value.is_empty())))
}

/// The line with its `$'…'`, as browsers write what has a `!` or a control character, in plain quotes.
fn plainly_quoted(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    let mut quote = None;
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, '$') if rest.peek() == Some(&'\'') => {
                rest.next();
                let text = unescaped(&mut rest);
                // Quoting fails on NUL alone, which no header or URL has.
                plain += &shlex::try_quote(&text).unwrap_or_default();
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                match rest.next() {
                    // The line goes on.
                    Some('\n') => {}
                    Some('\r') if rest.next_if_eq(&'\n').is_some() => {}
                    next => plain.extend([Some(c), next].into_iter().flatten()),
                }
                continue;
            }
            _ => {}
        }
        plain.push(c);
    }
    plain
}

/// The text up to the closing quote of `$'…'`.
fn unescaped(rest: &mut impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '\'' => break,
            '\\' => match rest.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some('u') => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).ok();
                    text.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                Some('x') => {
                    let digits: String = rest.by_ref().take(2).collect();
                    text.push(
                        u8::from_str_radix(&digits, 16).map_or(char::REPLACEMENT_CHARACTER, char::from),
                    );
                }
                other => text.extend(other),
            },
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn command_lines_of_browsers_and_terminals_are_understood() {
        for (line, expected) in [
            ("curl shop.example.com", "GET / :scheme=http host=shop.example.com"),
            ("/usr/bin/curl -sSf https://a:8443/x?y=1#z", "GET /x?y=1 :scheme=https host=a:8443"),
            ("curl -XPUT -HHost:b http://a/", "PUT / :scheme=http Host=b"),
            ("curl -I --url http://a/b", "HEAD /b :scheme=http host=a"),
            (
                "curl http://a/ -d x=1 --data-raw '-y'",
                "POST / :scheme=http host=a content-type=application/x-www-form-urlencoded",
            ),
            ("curl -G http://a/?q=0 -d x=1", "GET /?q=0&x=1 :scheme=http host=a"),
            (
                "curl --json '{}' http://a/",
                "POST / :scheme=http host=a accept=application/json content-type=application/json",
            ),
            (
                "curl -b 'mulkko_id=u1' --cookie b=2 http://a/",
                "GET / :scheme=http host=a cookie=mulkko_id=u1; b=2",
            ),
            ("curl -b jar.txt http://a/", "GET / :scheme=http host=a"),
            (
                "curl -A me -e you -H 'user-agent: it' http://a/",
                "GET / :scheme=http host=a referer=you user-agent=it",
            ),
            (
                "curl -H 'x-empty;' -H 'accept:' --json 1 http://a/",
                "POST / :scheme=http host=a content-type=application/json x-empty=",
            ),
            (
                "curl 'http://a/checkout' \\\n  -H 'accept: */*' \\\n  -H $'x-note: it\\'s \\u0021' \\\n  --compressed",
                "GET /checkout :scheme=http host=a accept=*/* x-note=it's !",
            ),
        ] {
            let asked = asked(line).unwrap();
            let headers = asked.headers.iter().map(|(name, value)| format!(" {name}={value}"));
            let found = format!("{} {}{}", asked.method, asked.path, headers.collect::<String>());
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_line_of_curl_is_refused() {
        for (line, expected) in [
            ("curl 'http://a", "a quote is not closed"),
            ("wget http://a", "expected a command line that begins with curl"),
            ("curl --no-such-option http://a", "unexpected argument '--no-such-option' found"),
            ("curl -H nothing http://a", "header \"nothing\": expected `name: value`"),
            ("curl http://", "URL http://: empty host"),
        ] {
            assert_eq!(format!("{:#}", asked(line).unwrap_err()), expected, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_line_panics(line in "curl [a-zA-Z0-9 :/'\"$\\\\?#%\\[\\]{}=;-]{0,60}", any in any::<String>()) {
            let _ = asked(&line);
            let _ = asked(&any);
        }

        #[test]
        fn quoted_text_comes_back(text in "[ -~]{0,40}") {
            let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
            let words = shlex::split(&plainly_quoted(&format!("curl $'{escaped}' \"it's\" 'a\"b'"))).unwrap();
            prop_assert_eq!(words, ["curl", &text, "it's", "a\"b"]);
        }
    }
}
