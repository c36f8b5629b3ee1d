//! When the config cluster is asked next.

use crate::configuration::Source;

/// Failures back off to at most this many polls...
const MOST_POLLS: i64 = 8;
/// ...and at most this long, in milliseconds, where a poll is shorter.
const LONGEST_BACK_OFF_MS: i64 = 60_000;
/// An answer that is overdue by this, in milliseconds, will not come: the call is lost.
const LOST_MS: i64 = 5_000;

/// What a fetch brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A document; whether its ETag is another than the one that was asked with.
    Document {
        /// It is.
        is_new: bool,
    },
    /// That there is none.
    Unchanged,
    /// Nothing: the fetch failed.
    Failed,
}

/// The pace of fetches: one at a time, every poll, faster with news and slower with failures.
#[derive(Debug)]
pub struct Polling {
    poll_ms: i64,
    wait_ms: i64,
    timeout_ms: i64,
    due_ms: i64,
    sent_ms: Option<i64>,
    failures: u32,
}

impl Polling {
    /// Polls `source`, the first time at once.
    #[must_use]
    pub fn new(source: &Source) -> Polling {
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let wait_ms = ms(source.wait_s.saturating_mul(1_000));
        let timeout_ms = wait_ms.saturating_add(ms(source.timeout_ms));
        Polling { poll_ms: ms(source.poll_ms), wait_ms, timeout_ms, due_ms: 0, sent_ms: None, failures: 0 }
    }

    /// How long a fetch may take, in milliseconds.
    #[must_use]
    pub fn timeout_ms(&self) -> i64 {
        self.timeout_ms
    }

    /// Asks at the next opportunity: this root context has just become the one that fetches.
    pub fn restart(&mut self, now_ms: i64) {
        self.due_ms = now_ms;
        self.failures = 0;
    }

    /// Whether to fetch now. A due time that is further off than any wait means that the clock was set back.
    #[must_use]
    pub fn is_due(&self, now_ms: i64) -> bool {
        let clock_set_back = self.due_ms > now_ms.saturating_add(self.longest_ms());
        self.sent_ms.is_none() && (now_ms >= self.due_ms || clock_set_back)
    }

    /// Takes down that a fetch was sent.
    pub fn sent(&mut self, now_ms: i64) {
        self.sent_ms = Some(now_ms);
    }

    /// Whether the answer to a fetch is overdue so far that it will not come.
    #[must_use]
    pub fn is_lost(&self, now_ms: i64) -> bool {
        let patience_ms = self.timeout_ms.saturating_add(LOST_MS);
        self.sent_ms.is_some_and(|sent_ms| (now_ms.saturating_sub(sent_ms)).abs() > patience_ms)
    }

    /// Takes down what a fetch brought at `now_ms`. `random` spreads the proxies of a fleet.
    pub fn answered(&mut self, news: News, now_ms: i64, random: u32) {
        let waited_ms = self.sent_ms.take().map_or(0, |sent_ms| now_ms.saturating_sub(sent_ms));
        self.failures = if news == News::Failed { self.failures.saturating_add(1) } else { 0 };
        let at_once = self.wait_ms > 0
            && match news {
                News::Document { is_new } => is_new,
                News::Unchanged => waited_ms >= self.wait_ms / 2,
                News::Failed => false,
            };
        self.due_ms = match news {
            _ if at_once => now_ms,
            News::Failed => now_ms.saturating_add(self.back_off_ms(random)),
            // From the instant at which this one was due, so that the pace is kept; a server that is slower than the
            // pace gets half of it to breathe.
            _ if self.wait_ms == 0 => {
                let paced_ms = self.due_ms.saturating_add(self.jittered_ms(random));
                paced_ms
                    .clamp(now_ms.saturating_add(self.poll_ms / 2), now_ms.saturating_add(self.poll_ms * 2))
            }
            _ => now_ms.saturating_add(self.jittered_ms(random)),
        };
    }

    /// A poll, give or take 10 %.
    fn jittered_ms(&self, random: u32) -> i64 {
        let fifth = self.poll_ms / 5;
        self.poll_ms - fifth / 2 + scaled(fifth, random)
    }

    /// Twice a poll after the first failure, then twice as long each time; the second half by chance.
    fn back_off_ms(&self, random: u32) -> i64 {
        let polls = (1_i64 << self.failures.min(16)).min(MOST_POLLS);
        let whole = self.poll_ms.saturating_mul(polls).min(LONGEST_BACK_OFF_MS.max(self.poll_ms));
        whole / 2 + scaled(whole - whole / 2, random)
    }

    fn longest_ms(&self) -> i64 {
        self.poll_ms.saturating_mul(MOST_POLLS).max(LONGEST_BACK_OFF_MS)
    }
}

/// `random` of 2³² of `ms`.
fn scaled(ms: i64, random: u32) -> i64 {
    i64::try_from((i128::from(ms) * i128::from(random)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const HALF: u32 = 1 << 31;

    fn polling(poll_ms: u64, wait_s: u64) -> Polling {
        let text = |text: &str| text.into();
        let source = Source {
            cluster: text("config"),
            authority: text("config"),
            path: text("/"),
            poll_ms,
            wait_s,
            timeout_ms: 2_000,
            token: None,
        };
        Polling::new(&source)
    }

    /// Sends at `NOW`, is answered `after_ms` later, and says how long after that the next is due.
    fn next(mut polling: Polling, news: News, after_ms: i64, random: u32) -> i64 {
        assert!(polling.is_due(NOW));
        polling.restart(NOW);
        polling.sent(NOW);
        assert!(!polling.is_due(NOW + 1_000_000));
        polling.answered(news, NOW + after_ms, random);
        polling.due_ms - NOW - after_ms
    }

    #[test]
    fn polls_keep_their_pace_and_jitter_by_ten_percent() {
        for (news, after_ms, random, expected) in [
            (News::Unchanged, 0, 0, 900),
            (News::Unchanged, 0, HALF, 1_000),
            (News::Unchanged, 0, u32::MAX, 1_099),
            (News::Unchanged, 100, HALF, 900),
            (News::Document { is_new: true }, 100, HALF, 900),
            (News::Unchanged, 950, HALF, 500),
        ] {
            assert_eq!(
                next(polling(1_000, 0), news, after_ms, random),
                expected,
                "{news:?} {after_ms} {random}"
            );
        }
    }

    #[test]
    fn a_long_poll_with_news_or_at_its_end_is_followed_at_once() {
        for (news, after_ms, expected) in [
            (News::Document { is_new: true }, 10, 0),
            (News::Document { is_new: false }, 10, 1_000),
            (News::Unchanged, 30_000, 0),
            (News::Unchanged, 15_000, 0),
            (News::Unchanged, 14_999, 1_000),
            (News::Failed, 30_000, 1_500),
        ] {
            assert_eq!(next(polling(1_000, 30), news, after_ms, HALF), expected, "{news:?} {after_ms}");
        }
    }

    #[test]
    fn failures_back_off() {
        let mut polling = polling(1_000, 0);
        let mut now_ms = NOW;
        for expected in [1_500, 3_000, 6_000, 6_000] {
            polling.sent(now_ms);
            polling.answered(News::Failed, now_ms, HALF);
            assert_eq!(polling.due_ms - now_ms, expected);
            now_ms = polling.due_ms;
        }
        polling.sent(now_ms);
        polling.answered(News::Unchanged, now_ms, HALF);
        assert_eq!(polling.due_ms - now_ms, 1_000, "one success, and the pace is back");
    }

    #[test]
    fn an_answer_that_never_comes_is_given_up() {
        let mut polling = polling(1_000, 30);
        polling.sent(NOW);
        for (after_ms, expected) in [(0, false), (37_000, false), (37_001, true), (-37_001, true)] {
            assert_eq!(polling.is_lost(NOW + after_ms), expected, "{after_ms}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_fetches() {
        let mut polling = polling(1_000, 0);
        polling.restart(NOW);
        polling.sent(NOW);
        polling.answered(News::Unchanged, NOW, HALF);
        assert!(!polling.is_due(NOW));
        assert!(polling.is_due(NOW - 3_600_000));
    }
}
