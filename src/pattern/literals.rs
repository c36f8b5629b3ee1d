//! What is plain to see of a pattern: the texts that stand in it as they are.
//!
//! The matcher takes time for each byte and each state. Most patterns of policies name a few texts, `.*(bot|crawler).*`:
//! looking for those first tells most requests apart, and all of them where the pattern says no more than that.

use std::iter::Peekable;
use std::str::Chars;

/// Bytes of a text that are searched for another one in one step of a budget.
const SEARCHED_BYTES: usize = 16;
/// The most texts that are looked for one by one.
const MOST_TEXTS: usize = 32;
/// The most bytes that they have together.
const MOST_BYTES: usize = 1_024;
/// How deep groups are read that stand in each other.
const DEEPEST: usize = 8;

/// Texts of which a text must hold one, if a pattern is to match it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literals {
    texts: Box<[Box<str>]>,
    /// Whether lower and upper case are the same; the texts are in lower case then.
    ignores_case: bool,
    place: Place,
}

/// Where one of them must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Somewhere; what else must be the matcher knows.
    Somewhere,
    /// There alone: anything may be before it, and after it, and nothing else must be.
    Exactly { after_any: bool, before_any: bool },
}

impl Literals {
    /// Those of a pattern that compiles; none where it is not plain to see.
    pub(super) fn of(pattern: &str) -> Option<Literals> {
        let (pattern, ignores_case) = match pattern.strip_prefix("(?i)") {
            Some(rest) => (rest, true),
            None => (pattern, false),
        };
        let mut chars = pattern.chars().peekable();
        let sequences = alternatives(&mut chars, 0)?;
        // What is left is a parenthesis that nothing opens, which does not compile.
        let is_whole = chars.next().is_none();
        let (place, texts) = exactly(&sequences)
            .or_else(|| Some((Place::Somewhere, of_each(&sequences, &|it| needed(it))?)))
            .filter(|_| is_whole)?;
        let texts = texts.into_iter().map(|text| match ignores_case {
            true => text.to_ascii_lowercase().into(),
            false => text.into(),
        });
        Some(Literals { texts: texts.collect(), ignores_case, place })
    }

    /// What looking for them in a text of so many bytes takes, in steps of a budget.
    pub(super) fn steps(&self, bytes: usize) -> usize {
        1 + self.texts.len() * (1 + bytes / SEARCHED_BYTES)
    }

    /// Whether the pattern matches `text`, if that can be told without the matcher.
    pub(super) fn tell(&self, text: &str) -> Option<bool> {
        let lower;
        let text = if self.ignores_case {
            lower = text.to_ascii_lowercase();
            &lower
        } else {
            text
        };
        let mut texts = self.texts.iter().map(|it| &**it);
        match self.place {
            Place::Somewhere => {
                if texts.any(|it| text.contains(it)) {
                    None
                } else {
                    Some(false)
                }
            }
            // `.` is every character but this one.
            Place::Exactly { after_any, before_any } if (after_any || before_any) && text.contains('\n') => {
                None
            }
            Place::Exactly { after_any, before_any } => Some(texts.any(|it| match (after_any, before_any) {
                (false, false) => text == it,
                (true, false) => text.ends_with(it),
                (false, true) => text.starts_with(it),
                (true, true) => text.contains(it),
            })),
        }
    }
}

/// A part of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Char(char),
    /// `.*`
    Any,
    /// One of these follows.
    Group(Vec<Vec<Repeated>>),
    /// Something else.
    Other,
}

/// A part, and how often it stands there.
#[derive(Debug, PartialEq, Eq)]
struct Repeated {
    part: Part,
    /// Whether it must be there.
    is_needed: bool,
    /// Whether it is there once, and no more.
    is_once: bool,
}

/// Reads what `|` divides, up to the end or to a parenthesis that closes; nothing where that takes more than a look.
fn alternatives(chars: &mut Peekable<Chars<'_>>, depth: usize) -> Option<Vec<Vec<Repeated>>> {
    let mut all = vec![Vec::new()];
    while let Some(c) = chars.next_if(|c| *c != ')') {
        if c == '|' {
            all.push(Vec::new());
            continue;
        }
        let part = part(c, chars, depth)?;
        let read = repeated(part, chars)?;
        all.last_mut()?.push(read);
    }
    Some(all)
}

fn part(c: char, chars: &mut Peekable<Chars<'_>>, depth: usize) -> Option<Part> {
    Some(match c {
        '(' if depth < DEEPEST => {
            if chars.next_if_eq(&'?').is_some() && chars.next() != Some(':') {
                // A name, or flags, which change what all else means.
                return None;
            }
            let sequences = alternatives(chars, depth + 1)?;
            chars.next_if_eq(&')')?;
            Part::Group(sequences)
        }
        '[' => {
            class(chars)?;
            Part::Other
        }
        '\\' => match chars.next()? {
            // Where words begin and end.
            '<' | '>' => Part::Other,
            c if c.is_ascii_punctuation() => Part::Char(c),
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'n' | 't' | 'r' | 'A' | 'z' => Part::Other,
            _ => return None,
        },
        '^' | '$' | '.' => Part::Other,
        '(' | '{' | '}' | ']' | '*' | '+' | '?' => return None,
        c => Part::Char(c),
    })
    .map(|it| if c == '.' && chars.peek() == Some(&'*') { Part::Any } else { it })
}

/// Reads a class up to its end; nothing where brackets stand in it.
fn class(chars: &mut Peekable<Chars<'_>>) -> Option<()> {
    chars.next_if_eq(&'^');
    if chars.peek() == Some(&']') {
        return None;
    }
    loop {
        match chars.next()? {
            ']' => return Some(()),
            '[' => return None,
            '\\' => _ = chars.next()?,
            _ => {}
        }
    }
}

/// Reads how often a part stands there. More than one such mark makes it no more often than they say.
fn repeated(part: Part, chars: &mut Peekable<Chars<'_>>) -> Option<Repeated> {
    let mut read = Repeated { part, is_needed: true, is_once: true };
    if read.part == Part::Any && chars.next_if_eq(&'*').is_some() {
        // With a `?` it is the same for who asks only whether.
        chars.next_if_eq(&'?');
        read = Repeated { is_needed: false, is_once: false, ..read };
        // Repeated again it may be anything else.
        return (!matches!(chars.peek(), Some('*' | '+' | '?' | '{'))).then_some(read);
    }
    while let Some(mark) = chars.next_if(|c| matches!(c, '*' | '+' | '?' | '{')) {
        read.is_once = false;
        match mark {
            '+' => {}
            '{' => {
                let least = chars.next()?;
                read.is_needed &= matches!(least, '1'..='9');
                while chars.next()? != '}' {}
            }
            _ => read.is_needed = false,
        }
    }
    Some(read)
}

/// The texts of each of these, where each has some and they are not too many.
fn of_each(
    sequences: &[Vec<Repeated>],
    of: &dyn Fn(&[Repeated]) -> Option<Vec<String>>,
) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for sequence in sequences {
        all.append(&mut of(sequence)?);
        if all.len() > MOST_TEXTS || all.iter().map(String::len).sum::<usize>() > MOST_BYTES {
            return None;
        }
    }
    Some(all)
}

/// Texts of which one must be in what this matches: of those that there are, the longest.
fn needed(sequence: &[Repeated]) -> Option<Vec<String>> {
    let mut best: Option<Vec<String>> = None;
    let mut offer = |texts: Vec<String>| {
        let least = |texts: &[String]| texts.iter().map(String::len).min().unwrap_or(0);
        if least(&texts) > best.as_deref().map_or(0, least) {
            best = Some(texts);
        }
    };
    let mut run = String::new();
    for Repeated { part, is_needed, is_once } in sequence {
        if let (Part::Char(c), true) = (part, *is_needed) {
            run.push(*c);
            if *is_once {
                continue;
            }
        }
        offer(vec![std::mem::take(&mut run)]);
        if let (Part::Group(sequences), true) = (part, *is_needed) {
            of_each(sequences, &|it| needed(it)).into_iter().for_each(&mut offer);
        }
    }
    offer(vec![run]);
    best
}

/// The texts that a pattern is, and where, if it says no more than that.
fn exactly(sequences: &[Vec<Repeated>]) -> Option<(Place, Vec<String>)> {
    let is_any = |it: &&Repeated| it.part == Part::Any;
    let (after_any, before_any, texts) = match sequences {
        [sequence] => {
            let before = sequence.iter().take_while(is_any).count();
            let after = sequence.iter().skip(before).rev().take_while(is_any).count();
            let middle = sequence.get(before..sequence.len() - after)?;
            (before > 0, after > 0, spelt(middle)?)
        }
        sequences => (false, false, of_each(sequences, &|it| spelt(it))?),
    };
    Some((Place::Exactly { after_any, before_any }, texts))
}

/// All texts that a sequence of characters and groups of such is.
fn spelt(sequence: &[Repeated]) -> Option<Vec<String>> {
    let mut texts = vec![String::new()];
    for it in sequence {
        match &it.part {
            _ if !it.is_once => return None,
            Part::Char(c) => texts.iter_mut().for_each(|text| text.push(*c)),
            Part::Group(sequences) => {
                let ends = of_each(sequences, &|it| spelt(it))?;
                let with =
                    |start: &String| ends.iter().map(|end| format!("{start}{end}")).collect::<Vec<_>>();
                texts = texts.iter().flat_map(with).collect();
            }
            Part::Any | Part::Other => return None,
        }
        if texts.len() > MOST_TEXTS || texts.iter().map(String::len).sum::<usize>() > MOST_BYTES {
            return None;
        }
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_to_see_is_seen() {
        for (pattern, expected) in [
            ("", Some("= [\"\"]")),
            ("abc", Some("= [\"abc\"]")),
            (r"/a\.b", Some("= [\"/a.b\"]")),
            ("GET|POST", Some("= [\"GET\", \"POST\"]")),
            (".*(bot|crawler|spider).*", Some("*=* [\"bot\", \"crawler\", \"spider\"]")),
            ("(?i).*Bot.*", Some("i*=* [\"bot\"]")),
            (r".*@example\.com", Some("*= [\"@example.com\"]")),
            ("/v1/(a|b)(c|d).*", Some("=* [\"/v1/ac\", \"/v1/ad\", \"/v1/bc\", \"/v1/bd\"]")),
            ("/v[0-9]+/users", Some("? [\"/users\"]")),
            (".*bot[0-9]*.*", Some("? [\"bot\"]")),
            ("ab+c", Some("? [\"ab\"]")),
            ("ab?c", Some("? [\"a\"]")),
            ("(ab|c)+d?", Some("? [\"ab\", \"c\"]")),
            ("a{0}bc", Some("? [\"bc\"]")),
            ("(ab|.)", None),
            ("a|", Some("= [\"a\", \"\"]")),
            ("(?x) a", None),
            ("(?<n>a)", None),
            (r"\x41", None),
            (r"\bfoo\b", None),
            ("[a]", None),
            (".*", Some("*= [\"\"]")),
        ] {
            let shown = Literals::of(pattern).map(|it| {
                let case = if it.ignores_case { "i" } else { "" };
                let place = match it.place {
                    Place::Somewhere => "?".to_owned(),
                    Place::Exactly { after_any, before_any } => {
                        format!("{}={}", if after_any { "*" } else { "" }, if before_any { "*" } else { "" })
                    }
                };
                format!("{case}{place} {:?}", it.texts)
            });
            assert_eq!(shown.as_deref(), expected, "{pattern}");
        }
    }
}
