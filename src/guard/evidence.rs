//! The kernel: how likely it is that a variant that is no worse would have had so many of the bad events.
//!
//! Each bad event belongs to the variant or to the default. If the variant is no worse, the odds that it is the
//! variant's are known, from its share of the traffic. Betting on higher odds, five of them at once and begun anew at
//! every batch with ever smaller stakes, is a game that nobody wins: the evidence, its capital, reaches `1/α` with a
//! probability below `α`, however long it is played and whenever it is looked at. Source: section 1.2 of the statistics
//! page of the contract.

/// How many times higher the odds are on which is bet.
pub const ODDS: [f64; BETS] = [1.25, 2.0, 5.0, 20.0, 100.0];

/// The number of bets.
pub const BETS: usize = 5;

/// What bad events say, in a form that can be added: over windows, workers and proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// How many bad events the variant had: `X`.
    pub events: u64,
    /// What each bet has cost, in nats: `D_k`, the sum over all bad events of `ln(1 + (m_k − 1)·p0)`.
    pub costs: [f64; BETS],
}

impl Sums {
    /// Adds `all` bad events of which `own` were the variant's, each of them with probability `share` if the variant is
    /// no worse. Without events, and where only one side could have had them, nothing is learnt.
    pub fn add(&mut self, own: u64, all: u64, share: f64) {
        if all == 0 || !(share > 0.0 && share < 1.0) {
            return;
        }
        self.events = self.events.saturating_add(own);
        for (cost, odds) in self.costs.iter_mut().zip(ODDS) {
            *cost += count(all) * ((odds - 1.0) * share).ln_1p();
        }
    }

    /// Adds what others have said.
    pub fn merge(&mut self, other: &Sums) {
        self.events = self.events.saturating_add(other.events);
        for (cost, more) in self.costs.iter_mut().zip(other.costs) {
            *cost += more;
        }
    }

    /// Whether nothing was learnt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Sums::default()
    }
}

/// The evidence that a variant is worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The logarithms of what the bets have become, each begun at every batch so far.
    pub(super) bets: [f64; BETS],
    /// How many batches were taken.
    pub(super) batches: u64,
    /// The logarithm of all capital now.
    pub(super) log_e: f64,
    /// Its highest value so far.
    pub(super) highest: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence { bets: [f64::NEG_INFINITY; BETS], batches: 0, log_e: 0.0, highest: 0.0 }
    }
}

impl Evidence {
    /// Takes a batch. One that says nothing changes nothing.
    pub fn take(&mut self, batch: &Sums) {
        self.take_tempered(batch, 1.0);
    }

    /// Takes a batch whose bad events may come in bursts of one side's: of up to `1/temper` at once.
    pub fn take_tempered(&mut self, batch: &Sums, temper: f64) {
        if batch.is_empty() {
            return;
        }
        self.batches = self.batches.saturating_add(1);
        let (stake, rest) = stakes(self.batches);
        let stake = stake.ln() - count(BETS as u64).ln();
        let mut log_e = rest.ln();
        for ((bet, odds), cost) in self.bets.iter_mut().zip(ODDS).zip(batch.costs) {
            *bet = log_sum(*bet, stake) + temper * (count(batch.events) * odds.ln() - cost);
            log_e = log_sum(log_e, *bet);
        }
        self.log_e = log_e;
        self.highest = self.highest.max(log_e);
    }

    /// The logarithm of the evidence; 0 before the first batch.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    /// Reads what [`Evidence::write`] has written.
    pub(crate) fn read(word: &mut impl FnMut() -> Option<u64>) -> Option<Evidence> {
        let mut evidence = Evidence::default();
        let mut number = || word().and_then(read_number);
        for bet in &mut evidence.bets {
            *bet = number()?;
        }
        (evidence.log_e, evidence.highest) = (number()?, number()?);
        evidence.batches = word()?;
        Some(evidence)
    }

    /// Writes it down, word by word.
    pub(crate) fn write(&self, word: &mut impl FnMut(u64)) {
        let numbers = self.bets.iter().chain([&self.log_e, &self.highest]);
        numbers.for_each(|number| word(number.to_bits()));
        word(self.batches);
    }

    /// The probability that a variant that is no worse ever shows evidence as high as the highest so far.
    #[must_use]
    pub fn p(&self) -> f64 {
        (-self.highest).exp().min(1.0)
    }
}

/// Infinitely little is staked before the first batch; nothing else is infinite, and nothing is no number.
pub(super) fn read_number(bits: u64) -> Option<f64> {
    Some(f64::from_bits(bits)).filter(|n| n.is_finite() || *n == f64::NEG_INFINITY)
}

/// What is newly staked at batch `j`, from 1, and what is left after it: of 1 in all.
pub(super) fn stakes(j: u64) -> (f64, f64) {
    let b = count(u64::from(j.max(1).ilog2()));
    let begun = b.exp2();
    let stake = 1.0 / (begun * (b + 1.0) * (b + 2.0));
    (stake, 1.0 / (b + 1.0) - (count(j) - begun + 1.0) * stake)
}

/// `ln(eᵃ + eᵇ)`
pub(super) fn log_sum(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY {
        return b;
    }
    if b == f64::NEG_INFINITY {
        return a;
    }
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2⁵³")]
pub(super) fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stakes_are_halved_at_every_power_of_two() {
        for (j, stake, rest) in [(1, 0.5, 0.5), (2, 1.0 / 12.0, 5.0 / 12.0), (7, 1.0 / 48.0, 0.25)] {
            let found = stakes(j);
            assert!((found.0 - stake).abs() < 1e-15 && (found.1 - rest).abs() < 1e-15, "{j}: {found:?}");
        }
        let staked: f64 = (1..=1_000_000).map(|j| stakes(j).0).sum();
        assert!(staked < 1.0 && (1.0 - staked - stakes(1_000_000).1).abs() < 1e-9);
    }

    #[test]
    fn a_batch_of_nothing_changes_nothing() {
        let mut evidence = Evidence::default();
        for (own, all, share) in [(0, 0, 0.3), (0, 4, 0.0), (4, 4, 1.0), (4, 4, f64::NAN)] {
            let mut sums = Sums::default();
            sums.add(own, all, share);
            evidence.take(&sums);
        }
        assert_eq!(evidence, Evidence::default());
    }

    #[test]
    fn sums_of_sums_say_the_same() {
        let (mut whole, mut a, mut b) = (Sums::default(), Sums::default(), Sums::default());
        a.add(2, 5, 0.1);
        b.add(1, 7, 0.3);
        whole.add(2, 5, 0.1);
        whole.add(1, 7, 0.3);
        a.merge(&b);
        assert_eq!(a, whole);
    }
}
