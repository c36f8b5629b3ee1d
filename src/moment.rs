//! Times as a policy writes them: how long something lasts, and when it happens.

use std::slice;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::finding::Problem;

/// How long something lasts: whole milliseconds, up to a hundred years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

impl Duration {
    /// The longest: a hundred years of 365.25 days.
    pub const LONGEST: Duration = Duration(36_525 * 86_400_000);

    /// Reads whole numbers with a unit each, the largest unit first and none twice: `1h30m`, `250ms`, `0s`.
    ///
    /// A number may be larger than its unit is usual for (`90m`); between the parts stands nothing.
    ///
    /// # Errors
    /// `expected a duration such as 1h30m, found 5`, and so for `1.5h`, `30m1h`, `1h 30m` and `-1h`;
    /// `expected a duration of at most 36525d, found 36525d1ms`.
    pub fn parse(text: &str) -> Result<Duration, Problem> {
        let total_ms = total_ms(text).ok_or_else(|| Problem::expected("a duration such as 1h30m", text))?;
        let duration = Duration(total_ms);
        if duration > Duration::LONGEST {
            return Err(Problem::expected("a duration of at most 36525d", text));
        }
        Ok(duration)
    }

    /// Reads one that is not 0.
    ///
    /// # Errors
    /// As [`Duration::parse`], and `expected a duration above 0, found 0s`.
    pub fn positive(text: &str) -> Result<Duration, Problem> {
        match Duration::parse(text)? {
            Duration(0) => Err(Problem::expected("a duration above 0", text)),
            duration => Ok(duration),
        }
    }

    /// In milliseconds: 0 to 3,155,760,000,000.
    #[must_use]
    pub fn as_ms(self) -> u64 {
        self.0
    }
}

/// A moment of the years 0 to 9999, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(i64);

impl Instant {
    /// Reads RFC 3339 with `Z` or an offset: `2026-12-01T09:00:00Z`, `2026-12-01T18:00:00.5+09:00`.
    ///
    /// What is finer than a millisecond is cut off; a leap second is the last millisecond before it ends.
    ///
    /// # Errors
    /// `expected an instant such as 2026-12-01T09:00:00Z, found 2026-12-01`, and so for a date that no calendar has, a
    /// space instead of the `T`, and years before 0 or after 9999 as UTC counts them.
    pub fn parse(text: &str) -> Result<Instant, Problem> {
        let refused = || Problem::expected("an instant such as 2026-12-01T09:00:00Z", text);
        // The reader takes any byte here, as RFC 3339 lets applications do.
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
            return Err(refused());
        }
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| refused())?;
        let unix_ms = moment.unix_timestamp() * 1_000 + i64::from(moment.millisecond());
        if (START_MS..END_MS).contains(&unix_ms) { Ok(Instant(unix_ms)) } else { Err(refused()) }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, negative before it.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        self.0
    }
}

/// 0000-01-01T00:00:00Z, the first moment that RFC 3339 can write.
const START_MS: i64 = -62_167_219_200_000;
/// 10000-01-01T00:00:00Z, the first moment that RFC 3339 cannot write.
const END_MS: i64 = 253_402_300_800_000;

/// The units of a duration and their milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The milliseconds of all parts of a duration, or `u64::MAX` where they are more; `None` for what is no duration.
fn total_ms(text: &str) -> Option<u64> {
    let mut units = UNITS.iter();
    let (mut total_ms, mut rest) = part_ms(text, &mut units)?;
    while !rest.is_empty() {
        let (part_ms, after) = part_ms(rest, &mut units)?;
        total_ms = total_ms.saturating_add(part_ms);
        rest = after;
    }
    Some(total_ms)
}

/// The milliseconds of the part that `text` starts with, and what follows it.
///
/// Takes its unit, and all larger ones, out of `units`: none stands twice or after a smaller one.
fn part_ms<'a>(text: &'a str, units: &mut slice::Iter<'_, (&str, u64)>) -> Option<(u64, &'a str)> {
    let (number, rest) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
    let (unit, after) = rest.split_at_checked(rest.bytes().take_while(u8::is_ascii_alphabetic).count())?;
    let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
    if number.is_empty() {
        return None;
    }
    // Only digits are left here: what does not parse is too large.
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    Some((number.saturating_mul(*unit_ms), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_add_up_their_parts() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("5s", 5_000),
            ("90m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1m1ms", 60_001),
            ("01h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("365d", 31_536_000_000),
            ("36525d", 3_155_760_000_000),
            ("3155760000000ms", 3_155_760_000_000),
        ] {
            assert_eq!(Duration::parse(text).map(Duration::as_ms), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "5", "h", "1", "1h30", "1.5h", "-1h", "+1h", "1h 30m", " 1h", "1h ", "30m1h", "1h1h",
            "1ms1s", "1H", "1w", "1µs", "1min", "1hm", "h1", "٥s", "1e3s", "P1D", "null",
        ] {
            let found = if text.is_empty() { "nothing" } else { text };
            let refusal = format!("expected a duration such as 1h30m, found {found}");
            assert_eq!(Duration::parse(text).unwrap_err().to_string(), refusal);
        }
    }

    #[test]
    fn durations_over_a_hundred_years_are_refused() {
        for text in ["36526d", "36525d1ms", "18446744073709551615d", "99999999999999999999999ms"] {
            let refusal = format!("expected a duration of at most 36525d, found {text}");
            assert_eq!(Duration::parse(text).unwrap_err().to_string(), refusal);
        }
    }

    #[test]
    fn instants_are_read_with_their_offset() {
        for (text, unix_ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("1970-01-01T00:00:00.0019999Z", 1),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T19:00:00-05:00", 0),
            ("2026-12-01T09:00:00Z", 1_796_115_600_000),
            ("2026-12-01t09:00:00z", 1_796_115_600_000),
            ("2026-12-01T18:00:00.5+09:00", 1_796_115_600_500),
            ("2026-12-01T09:00:00-00:00", 1_796_115_600_000),
            ("2028-02-29T00:00:00Z", 1_835_395_200_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(Instant::parse(text).map(Instant::unix_ms), Ok(unix_ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "tomorrow",
            "1796115600",
            "2026-12-01",
            "2026-12-01T09:00Z",
            "2026-12-01T09:00:00",
            "2026-12-01 09:00:00Z",
            "2026-12-01T09:00:00 Z",
            "2026-12-01T09:00:00Z ",
            "2026-12-01T09:00:00.Z",
            "2026-12-01T09:00:00+0900",
            "2026-12-01T09:00:00+24:00",
            "2026-12-01T24:00:00Z",
            "2026-12-01T09:00:60Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "12026-12-01T09:00:00Z",
            "-2026-12-01T09:00:00Z",
            "2026-12-0é09:00:00Z",
        ] {
            let found = if text.is_empty() { "nothing" } else { text };
            let refusal = format!("expected an instant such as 2026-12-01T09:00:00Z, found {found}");
            assert_eq!(Instant::parse(text).unwrap_err().to_string(), refusal);
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_text_makes_the_readers_panic(
            text in "([0-9]{0,20}(ms|s|m|h|d|é)){0,6}|[-+:.TZ0-9]{0,30}|\\PC{0,40}",
        ) {
            let _ = (Duration::parse(&text), Instant::parse(&text));
        }

        #[test]
        fn nearly_an_instant_does_not_make_the_reader_panic(
            date in "[0-9]{4}-[01][0-9]-[0-3][0-9]",
            time in "[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,40})?",
            offset in "Z|[-+][0-9]{2}:[0-9]{2}",
        ) {
            let _ = Instant::parse(&format!("{date}T{time}{offset}"));
        }

        #[test]
        fn a_duration_is_the_sum_of_its_parts(
            d in 0u64..36_000, h in 0u64..99, m in 0u64..99, s in 0u64..99, ms in 0u64..9_999,
        ) {
            let text = format!("{d}d{h}h{m}m{s}s{ms}ms");
            let sum = (((d * 24 + h) * 60 + m) * 60 + s) * 1_000 + ms;
            prop_assert_eq!(Duration::parse(&text).map(Duration::as_ms), Ok(sum));
        }

        #[test]
        fn an_offset_moves_an_instant_by_itself(day in 2..28, hour in 0i64..24, minute in 0i64..60) {
            let unix_ms = |text: String| Instant::parse(&text).unwrap().unix_ms();
            let utc_ms = unix_ms(format!("2026-12-{day:02}T09:00:00Z"));
            let east_ms = unix_ms(format!("2026-12-{day:02}T09:00:00+{hour:02}:{minute:02}"));
            prop_assert_eq!(utc_ms - east_ms, (hour * 60 + minute) * 60_000);
        }
    }
}
