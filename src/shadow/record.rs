//! What the process knows of a shadow: how many answers were compared, which fields differ, and on what evidence.
//!
//! Another copy of the stable version, where there is one, tells which fields differ anyway. If the new version answers
//! as such a copy would, then of the requests for which only one of the two differs half are its own: a coin, on which
//! the kernel of [`crate::guard::evidence`] bets. Without one all that can be bet on is that a field differs more often
//! than is tolerated. Of many fields some are lucky: how much evidence is asked for follows the e-BH procedure.

use std::fmt;

use crate::guard::evidence::{Evidence, Sums};
use crate::json::quoted;
use crate::shadow::field::{Kind, MAX_PATHS};
use crate::shadow::print::{Seen, SeenKind};

/// The share of reported fields that may be false, on average.
const ALPHA: f64 = 0.05;
/// How many times as often as the other copy the new version may be the one that differs.
const MARGIN: f64 = 1.25;
/// The share of requests for which a field may differ, where no other copy tells how often it does anyway.
const TOLERATED: f64 = 0.001;
/// The most fields: paths, cells, headers, status and body.
const MAX_FIELDS: usize = MAX_PATHS + 64 + 34;
const FORMAT: u64 = u64::from_le_bytes(*b"shadow-1");

/// How often a field was seen to differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// For how many requests the new version's answer differed.
    pub raw: u64,
    /// For how many of those that had two copies only that one's did.
    pub only_candidate: u64,
    /// For how many only the other copy's did.
    pub only_secondary: u64,
    /// For how many both did.
    pub both: u64,
}

impl Tally {
    fn merge(&mut self, other: Tally) {
        self.raw = self.raw.saturating_add(other.raw);
        self.only_candidate = self.only_candidate.saturating_add(other.only_candidate);
        self.only_secondary = self.only_secondary.saturating_add(other.only_secondary);
        self.both = self.both.saturating_add(other.both);
    }

    /// What of it says something about the new version, of `compared` requests.
    #[must_use]
    pub fn sums(&self, has_secondary: bool, compared: u64) -> Sums {
        let mut sums = Sums::default();
        if has_secondary {
            let all = self.only_candidate.saturating_add(self.only_secondary);
            sums.add(self.only_candidate, all, MARGIN / (1.0 + MARGIN));
        } else {
            sums.add(self.raw, compared, TOLERATED);
        }
        sums
    }

    /// What Diffy would show of it, of so many requests that had two copies.
    #[must_use]
    pub fn diffy(&self, paired: u64) -> Diffy {
        let [raw, noise] =
            [self.only_candidate, self.only_secondary].map(|only| only.saturating_add(self.both));
        Diffy::of(raw, noise, paired)
    }
}

/// The percentages that Diffy shows, and whether it would report the field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diffy {
    /// The difference of the rates, of their sum.
    pub relative: f64,
    /// The difference of the rates.
    pub absolute: f64,
    /// Whether both are above its thresholds.
    pub is_flagged: bool,
}

impl Diffy {
    /// Of so many differences, and so many between copies of the stable version, among `total` requests.
    #[must_use]
    pub fn of(raw: u64, noise: u64, total: u64) -> Diffy {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2⁵³")]
        let percent = |of: u64| if of == 0 { 0.0 } else { raw.abs_diff(noise) as f64 / of as f64 * 100.0 };
        let (relative, absolute) = (percent(raw.saturating_add(noise)), percent(total));
        Diffy { relative, absolute, is_flagged: raw > noise && relative > 20.0 && absolute > 0.03 }
    }
}

/// What one VM has compared since it last told.
#[derive(Debug, Default)]
pub struct Batch {
    /// How it counts.
    pub totals: Totals,
    /// The fields that differed.
    pub fields: Vec<Seeing>,
    /// How many fields this VM knows.
    pub known: u64,
}

/// A field that was seen to differ, and an example of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seeing {
    /// Of what kind it is.
    pub kind: Kind,
    /// What it is called.
    pub name: Box<str>,
    /// How often.
    pub tally: Tally,
    /// What the user's answer had there, and the new version's.
    pub example: [Seen; 2],
}

/// How many answers were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Of how many requests.
    pub compared: u64,
    /// Of those that had two copies.
    pub paired: u64,
    /// Where nothing differed.
    pub equal: u64,
    /// Where bodies could not be compared.
    pub unknown_bodies: u64,
    /// How long all users' answers took together, in microseconds.
    pub primary_us: u64,
    /// How long the new version's took.
    pub candidate_us: u64,
}

impl Totals {
    fn merge(&mut self, other: Totals) {
        for (own, more) in self.each().into_iter().zip({ other }.each()) {
            *own = own.saturating_add(*more);
        }
    }

    fn each(&mut self) -> [&mut u64; 6] {
        let Totals { compared, paired, equal, unknown_bodies, primary_us, candidate_us } = self;
        [compared, paired, equal, unknown_bodies, primary_us, candidate_us]
    }
}

/// What the process knows of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What was seen.
    pub seen: Seeing,
    /// The evidence that the new version makes it differ.
    pub evidence: Evidence,
    /// Whether that is enough.
    pub differs: bool,
}

/// What the process knows of a shadow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The comparison that it is of.
    pub identity: u64,
    /// When it was begun, in unix milliseconds.
    pub began_ms: i64,
    /// How many answers were compared.
    pub totals: Totals,
    /// How many fields are known.
    pub known: u64,
    /// The fields that have differed.
    pub fields: Vec<Found>,
}

/// A verdict on a field that has changed: an event for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The rollout.
    pub rollout: Box<str>,
    /// The field.
    pub found: Found,
    /// Of how many requests.
    pub compared: u64,
    /// Whether another copy of the stable version tells what differs anyway.
    pub has_secondary: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { rollout, found: Found { seen, evidence, differs }, compared, has_secondary } = self;
        let how = if *differs { "differs" } else { "no longer differs" };
        write!(f, "shadow of {rollout}: {} {} {how}: ", seen.kind.as_str(), quoted(&seen.name))?;
        let odds = crate::guard::Odds(evidence.log_e());
        write!(f, "for {} of {compared} requests, evidence {odds} to 1", seen.tally.raw)?;
        if *has_secondary { Ok(()) } else { f.write_str(", noise not cancelled") }
    }
}

impl Record {
    /// A record of a comparison that begins now.
    #[must_use]
    pub fn new(identity: u64, began_ms: i64) -> Record {
        Record { identity, began_ms, ..Record::default() }
    }

    /// Adds what was compared; the fields whose verdicts have changed.
    pub fn take(&mut self, batch: &Batch, has_secondary: bool) -> Vec<Found> {
        let before = self.totals.compared;
        self.totals.merge(batch.totals);
        self.known = self.known.max(batch.known);
        let of_batch = |found: &Found| {
            batch.fields.iter().find(|it| it.kind == found.seen.kind && it.name == found.seen.name)
        };
        for found in &mut self.fields {
            let tally = of_batch(found).map(|it| it.tally).unwrap_or_default();
            found.seen.tally.merge(tally);
            found.evidence.take(&tally.sums(has_secondary, batch.totals.compared));
        }
        for seen in &batch.fields {
            let is_known =
                self.fields.iter().any(|it| it.seen.kind == seen.kind && it.seen.name == seen.name);
            if is_known || self.fields.len() >= MAX_FIELDS {
                continue;
            }
            let mut evidence = Evidence::default();
            evidence.take(&seen.tally.sums(has_secondary, before.saturating_add(batch.totals.compared)));
            self.fields.push(Found { seen: seen.clone(), evidence, differs: false });
        }
        self.judge(has_secondary)
    }

    /// The e-BH procedure: with evidence so high that of `n` fields as high as it not more than a share of [`ALPHA`]
    /// are expected to be false. Who tosses no coin, since neither copy or always both differ, does not count.
    fn judge(&mut self, has_secondary: bool) -> Vec<Found> {
        let tossed =
            |found: &&Found| found.seen.tally.only_candidate > 0 || found.seen.tally.only_secondary > 0;
        let all = if has_secondary {
            self.fields.iter().filter(tossed).count()
        } else {
            self.fields.len().max(usize::try_from(self.known).unwrap_or(0))
        };
        let mut evidence: Vec<f64> = self.fields.iter().map(|found| found.evidence.log_e()).collect();
        evidence.sort_by(|a, b| b.total_cmp(a));
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let needed = |rank: usize| (all.max(1) as f64 / (rank as f64 * ALPHA)).ln();
        let is_enough = |(rank, log_e): &(usize, &f64)| **log_e >= needed(*rank);
        let least = (1..).zip(&evidence).filter(is_enough).last().map(|(_, log_e)| *log_e);
        let mut changed = Vec::new();
        for found in &mut self.fields {
            let log_e = found.evidence.log_e();
            // What was found stays so until there is nothing to say for it any more: it would come and go in the log.
            let differs = least.is_some_and(|least| log_e >= least) || (found.differs && log_e > 0.0);
            if std::mem::replace(&mut found.differs, differs) != differs {
                changed.push(found.clone());
            }
        }
        changed
    }

    /// How many fields are reported to differ.
    #[must_use]
    pub fn reported(&self) -> u64 {
        self.fields.iter().filter(|found| found.differs).count() as u64
    }

    /// Reads what lies in shared data; what is damaged says nothing.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Record> {
        let mut reader = Reader(bytes);
        if reader.word()? != FORMAT {
            return None;
        }
        let mut record = Record::new(reader.word()?, reader.word()?.cast_signed());
        for total in record.totals.each() {
            *total = reader.word()?;
        }
        record.known = reader.word()?;
        let fields = usize::try_from(reader.word()?).ok().filter(|fields| *fields <= MAX_FIELDS)?;
        for _ in 0..fields {
            record.fields.push(reader.found()?);
        }
        reader.0.is_empty().then_some(record)
    }

    /// What lies in shared data.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut words = vec![FORMAT, self.identity, self.began_ms.cast_unsigned()];
        words.extend({ self.totals }.each().map(|total| *total));
        words.extend([self.known, self.fields.len() as u64]);
        bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
        self.fields.iter().for_each(|found| write_found(found, &mut bytes));
        bytes
    }
}

/// The kinds of what is seen, in the order of their numbers.
const SEEN: [SeenKind; 12] = [
    SeenKind::Missing,
    SeenKind::Status,
    SeenKind::Header,
    SeenKind::Bytes,
    SeenKind::Null,
    SeenKind::Boolean,
    SeenKind::Number,
    SeenKind::Text,
    SeenKind::Array,
    SeenKind::Object,
    SeenKind::Json,
    SeenKind::Other,
];

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn text(&mut self) -> Option<Box<str>> {
        let size = usize::try_from(self.word()?).ok()?;
        let (text, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        str::from_utf8(text).ok().map(Box::from)
    }

    fn seen(&mut self) -> Option<Seen> {
        let kind = *SEEN.get(usize::try_from(self.word()?).ok()?)?;
        let bytes = u32::try_from(self.word()?).ok()?;
        let text = if self.word()? == 1 { Some(self.text()?) } else { None };
        Some(Seen { kind, bytes, text })
    }

    fn found(&mut self) -> Option<Found> {
        let kind = *Kind::ALL.get(usize::try_from(self.word()?).ok()?)?;
        let name = self.text()?;
        let tally = Tally {
            raw: self.word()?,
            only_candidate: self.word()?,
            only_secondary: self.word()?,
            both: self.word()?,
        };
        let example = [self.seen()?, self.seen()?];
        let evidence = Evidence::read(&mut || self.word())?;
        let differs = self.word()? == 1;
        Some(Found { seen: Seeing { kind, name, tally, example }, evidence, differs })
    }
}

fn write_found(found: &Found, bytes: &mut Vec<u8>) {
    let Found { seen: Seeing { kind, name, tally, example }, evidence, differs } = found;
    write_word(Kind::ALL.iter().position(|it| it == kind).unwrap_or(0) as u64, bytes);
    write_text(name, bytes);
    for count in [tally.raw, tally.only_candidate, tally.only_secondary, tally.both] {
        write_word(count, bytes);
    }
    for seen in example {
        write_word(SEEN.iter().position(|it| *it == seen.kind).unwrap_or(0) as u64, bytes);
        write_word(seen.bytes.into(), bytes);
        write_word(seen.text.is_some().into(), bytes);
        seen.text.iter().for_each(|text| write_text(text, bytes));
    }
    evidence.write(&mut |word| write_word(word, bytes));
    write_word((*differs).into(), bytes);
}

fn write_word(word: u64, bytes: &mut Vec<u8>) {
    bytes.extend(word.to_le_bytes());
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    write_word(text.len() as u64, bytes);
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn vectors() -> Option<Value> {
        let folder = std::env::var("MULKKO_SUITES").unwrap_or_else(|_| "../shared/suites".to_owned());
        let text = std::fs::read_to_string(format!("{folder}/statistics/vectors.json"));
        if text.is_err() {
            println!("skipped: there is no {folder}/statistics/vectors.json");
        }
        Some(serde_json::from_str(&text.ok()?).unwrap())
    }

    fn numbers(value: &Value) -> Vec<u64> {
        value.as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect()
    }

    #[test]
    fn evidence_is_what_the_vectors_say() {
        let Some(vectors) = vectors() else { return };
        for vector in vectors["G_diff"].as_array().unwrap() {
            let mut evidence = Evidence::default();
            for (batch, expected) in
                vector["batches"].as_array().unwrap().iter().zip(vector["log_e"].as_array().unwrap())
            {
                let [only_candidate, only_secondary] = numbers(batch)[..] else { panic!("{batch}") };
                let tally = Tally { only_candidate, only_secondary, ..Tally::default() };
                evidence.take(&tally.sums(true, 1_000));
                let found = evidence.log_e();
                assert!((found - expected.as_f64().unwrap()).abs() < 1e-6, "{}: {found}", vector["name"]);
            }
        }
    }

    #[test]
    fn percentages_are_diffys() {
        let Some(vectors) = vectors() else { return };
        for vector in vectors["G_diffy"].as_array().unwrap() {
            let count = |name| vector[name].as_u64().unwrap();
            let found = Diffy::of(count("raw"), count("noise"), count("total"));
            assert!((found.relative - vector["rel"].as_f64().unwrap()).abs() < 1e-6, "{vector}: {found:?}");
            assert!((found.absolute - vector["abs"].as_f64().unwrap()).abs() < 1e-6, "{vector}: {found:?}");
            assert_eq!(found.is_flagged, vector["flagged"].as_bool().unwrap(), "{vector}");
        }
    }

    fn seeing(name: &str, tally: Tally) -> Seeing {
        let text = Seen { kind: SeenKind::Text, bytes: 3, text: Some("abc".into()) };
        Seeing { kind: Kind::Json, name: name.into(), tally, example: [text, Seen::default()] }
    }

    fn batch(compared: u64, fields: &[(&str, [u64; 4])]) -> Batch {
        let tally = |[raw, only_candidate, only_secondary, both]: [u64; 4]| Tally {
            raw,
            only_candidate,
            only_secondary,
            both,
        };
        Batch {
            totals: Totals { compared, paired: compared, ..Totals::default() },
            fields: fields.iter().map(|(name, counts)| seeing(name, tally(*counts))).collect(),
            known: 20,
        }
    }

    fn reported(record: &Record) -> Vec<&str> {
        record.fields.iter().filter(|it| it.differs).map(|it| &*it.seen.name).collect()
    }

    #[test]
    fn a_field_that_only_the_new_version_changes_is_found_beside_noise() {
        let mut record = Record::new(1, 0);
        for i in 0..10 {
            let changed =
                record.take(&batch(20, &[("/now", [20, 0, 0, 20]), ("/total", [1, 1, 0, 0])]), true);
            assert_eq!(changed.len(), usize::from(reported(&record) == ["/total"] && i == 7), "{i}");
        }
        assert_eq!(reported(&record), ["/total"]);
    }

    #[test]
    fn what_has_no_second_copy_yet_says_nothing() {
        let mut record = Record::new(1, 0);
        record.take(&batch(1, &[("/now", [1, 0, 0, 0])]), true);
        assert_eq!(reported(&record), [""; 0]);
    }

    #[test]
    fn what_differs_between_copies_as_often_is_noise() {
        let mut record = Record::new(1, 0);
        for _ in 0..500 {
            record.take(&batch(10, &[("/now", [10, 0, 0, 10]), ("/id", [2, 1, 1, 1])]), true);
        }
        assert_eq!(reported(&record), [""; 0]);
    }

    #[test]
    fn without_another_copy_the_rate_is_judged() {
        let mut record = Record::new(1, 0);
        for _ in 0..20 {
            record.take(&batch(10, &[]), false);
        }
        record.take(&batch(10, &[("/now", [1, 0, 0, 0])]), false);
        assert_eq!(reported(&record), [""; 0]);
        for _ in 0..5 {
            record.take(&batch(10, &[("/now", [1, 0, 0, 0])]), false);
        }
        assert_eq!(reported(&record), ["/now"]);
        for _ in 0..5_000 {
            record.take(&batch(100, &[]), false);
        }
        assert_eq!(reported(&record), [""; 0]);
    }

    #[test]
    fn more_fields_need_more_evidence() {
        let take = |names: &[&str], events| {
            let mut record = Record::new(1, 0);
            let fields: Vec<_> = names.iter().map(|name| (*name, [events, events, 0, 0])).collect();
            let noise: Vec<_> = (0..40).map(|i| format!("/{i}")).collect();
            let noise = noise.iter().map(|name| (name.as_str(), [1, 0, 1, 0]));
            record.take(&batch(200, &fields.into_iter().chain(noise).collect::<Vec<_>>()), true);
            reported(&record).len()
        };
        assert_eq!(take(&["/a"], 12), 0);
        assert_eq!(take(&["/a"], 30), 1);
        // As many that are as high: few of them can be false.
        assert_eq!(
            take(
                &[
                    "/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i", "/j", "/k", "/l", "/m", "/n", "/o",
                    "/p", "/q", "/r", "/s", "/t"
                ],
                12
            ),
            20
        );
    }

    /// Forty fields that differ anyway, each in its own share of the answers, under 5,000 comparisons: that any of them is
    /// ever reported is as unlikely as e-BH says.
    #[test]
    fn noise_of_many_fields_is_hardly_ever_reported() {
        const RUNS: u64 = 200;
        let mut dice = 0_u64;
        let mut toss = || {
            dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
            crate::bucket::fmix64(dice)
        };
        let names: Vec<String> = (0..40).map(|i| format!("/{i}")).collect();
        let mut runs_with_reports = 0;
        for _ in 0..RUNS {
            let mut record = Record::new(1, 0);
            let is_reported = (0..50).any(|_| {
                let of_batch = names.iter().zip(1..).map(|(name, often)| {
                    let [mut only_candidate, mut only_secondary] = [0, 0];
                    for _ in 0..100 {
                        if toss() % 100 < often {
                            *if toss() % 2 == 0 { &mut only_candidate } else { &mut only_secondary } += 1;
                        }
                    }
                    (name.as_str(), [only_candidate, only_candidate, only_secondary, 0])
                });
                record.take(&batch(100, &of_batch.collect::<Vec<_>>()), true);
                record.reported() > 0
            });
            runs_with_reports += u64::from(is_reported);
        }
        assert!(runs_with_reports <= RUNS / 20, "{runs_with_reports} of {RUNS}");
        println!("{runs_with_reports} of {RUNS} runs report a field");
    }

    #[test]
    fn records_read_back() {
        let mut record = Record::new(7, -1);
        record.take(&batch(10, &[("/a", [1, 1, 0, 0]), ("물꼬", [0, 0, 1, 0])]), true);
        let bytes = record.bytes();
        assert_eq!(Record::read(&bytes), Some(record));
        assert_eq!(Record::read(&[]), None);
        for end in 0..bytes.len() {
            assert_eq!(Record::read(&bytes[..end]), None, "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..300) {
            let _ = Record::read(&bytes);
            let mut record = Record::new(7, -1);
            record.take(&batch(10, &[("/a", [1, 1, 0, 0])]), true);
            let mut damaged = record.bytes();
            for (byte, damage) in damaged.iter_mut().skip(at).zip(&bytes) {
                *byte = *damage;
            }
            if let Some(mut read) = Record::read(&damaged) {
                read.take(&batch(u64::MAX, &[("/a", [u64::MAX; 4])]), true);
                let _ = read.bytes();
            }
        }
    }
}
