//! The copies of one VM: sent, answered, compared, and told to the process.
//!
//! No I/O and no clock: calls come out and answers go in.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::decide::Shadowed;
use crate::effects::Edit;
use crate::guard::{Process, Shared};
use crate::headers::Headers;
use crate::policy::{Policy, Rollout};
use crate::shadow::copy::{Begun, Cause, Copy, body_bytes};
use crate::shadow::field::Kind;
use crate::shadow::print::{Body, Print, Printing, Whose};
use crate::shadow::record::{Change, Record};
use crate::shadow::watch::{Watch, record_key};
use crate::shadow::{Comparison, Shadow};

/// The most bytes that are held in one VM: copies that have not been sent yet, whether their bodies have come or not,
/// and answers that have not been compared yet.
const MAX_HELD_BYTES: usize = 32 << 20;
/// How much of an answer is read at once, in bytes: streams wait meanwhile.
const PIECE_BYTES: usize = 16 << 10;
/// How long the user's answer may take after that of the copy must have come, in milliseconds.
const PATIENCE_MS: i64 = 60_000;
/// How often the process is told, in milliseconds.
const TELL_MS: i64 = 1_000;

/// The shadows of one policy name, in one VM.
#[derive(Debug, Default)]
pub struct Shadows {
    /// `mulkko/1/<policy name>/`
    place: String,
    /// By the identities of their comparisons.
    watches: HashMap<u64, Watch, RandomState>,
    exchanges: HashMap<u64, Exchange, RandomState>,
    /// What is to be sent.
    queue: VecDeque<(u64, Whose)>,
    /// What was sent, by the host's number.
    calls: HashMap<u32, Sent, RandomState>,
    /// What is all there, and must be read before it can be compared.
    unread: VecDeque<Complete>,
    held_bytes: usize,
    last: u64,
    told_ms: i64,
    /// The watches that have not told the process yet, since it was last time to.
    untold: Vec<u64>,
    events: Vec<(Arc<str>, Event)>,
}

/// Something to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request was compared; whether nothing differed.
    Compared(bool),
    /// A request has no copy, or was not compared.
    Dropped(Cause),
    /// A request is mirrored.
    Mirrored,
    /// Answers differ so.
    Differs(Kind),
    /// An answer took so many milliseconds.
    Latency(Whose, u64),
    /// So many fields are reported to differ now.
    Fields(u64),
}

/// A request that is to be copied.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'c> {
    /// Its headers, as they came.
    pub headers: &'c Headers<'c>,
    /// What is done to them.
    pub edits: &'c [Edit<'c>],
    /// Whether it has no body.
    pub is_whole: bool,
    /// The instant, in unix milliseconds.
    pub now_ms: i64,
}

/// A copy that is to be sent.
#[derive(Debug)]
pub struct Call<'c> {
    /// The request, by its number.
    pub id: u64,
    /// Whose answer it asks for.
    pub whose: Whose,
    /// Where it goes.
    pub cluster: &'c str,
    /// Names and values.
    pub headers: Vec<(&'c str, &'c str)>,
    /// The body.
    pub body: &'c [u8],
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
}

#[derive(Debug)]
struct Sent {
    id: u64,
    whose: Whose,
    at_us: u64,
}

/// A request and its copies.
#[derive(Debug)]
struct Exchange {
    watch: u64,
    /// Gone once it has been sent.
    copy: Option<Copy>,
    /// How many of the bytes that are held are its own.
    held_bytes: usize,
    primary: Answer,
    candidate: Answer,
    secondary: Option<Answer>,
    began_ms: i64,
}

#[derive(Debug)]
enum Answer {
    Awaited,
    Came(Box<Print>, u64),
    Lost(Cause),
}

impl Answer {
    fn is_awaited(&self) -> bool {
        matches!(self, Answer::Awaited)
    }
}

impl Exchange {
    fn answer(&mut self, whose: Whose) -> Option<&mut Answer> {
        match whose {
            Whose::Primary => Some(&mut self.primary),
            Whose::Candidate => Some(&mut self.candidate),
            Whose::Secondary => self.secondary.as_mut(),
        }
    }

    fn is_settled(&self) -> bool {
        !self.primary.is_awaited()
            && !self.candidate.is_awaited()
            && !self.secondary.as_ref().is_some_and(Answer::is_awaited)
    }
}

/// The answers to a request and its copies, all of which are there.
#[derive(Debug)]
struct Complete {
    watch: u64,
    primary: Box<Print>,
    candidate: Box<Print>,
    secondary: Option<Box<Print>>,
    held_bytes: usize,
    /// Whose JSON is still to be read, the next one last.
    unread: Vec<Whose>,
}

impl Complete {
    fn new(
        watch: u64,
        primary: Box<Print>,
        candidate: Box<Print>,
        secondary: Option<Box<Print>>,
        held_bytes: usize,
    ) -> Complete {
        let is_to_be_read = |other: &Print| primary.body.is_to_be_read(&other.body);
        let mut unread = Vec::new();
        if secondary.as_deref().is_some_and(is_to_be_read) {
            unread.push(Whose::Secondary);
        }
        if is_to_be_read(&candidate) {
            unread.push(Whose::Candidate);
        }
        if !unread.is_empty() {
            unread.push(Whose::Primary);
        }
        Complete { watch, primary, candidate, secondary, held_bytes, unread }
    }

    /// Reads a piece of what is to be read.
    fn read_piece(&mut self, watch: &mut Watch) {
        let Some(whose) = self.unread.last().copied() else { return };
        let print = match whose {
            Whose::Primary => Some(&mut self.primary),
            Whose::Candidate => Some(&mut self.candidate),
            Whose::Secondary => self.secondary.as_mut(),
        };
        let is_read = match print.map(|print| &mut print.body) {
            Some(Body::Json(json)) => json.read_on(PIECE_BYTES, whose, &mut watch.paths, &watch.comparison),
            _ => true,
        };
        if is_read {
            self.unread.pop();
        }
    }
}

impl Shadows {
    /// The shadows of a policy that the plugin calls `name`.
    #[must_use]
    pub fn new(name: &str) -> Shadows {
        Shadows { place: format!("mulkko/1/{name}/"), ..Shadows::default() }
    }

    /// Begins with a request that the shadow of a rollout picked.
    pub fn begin(&mut self, rollout: &Rollout, shadowed: Shadowed, copied: Copied<'_>) -> Begun {
        let Some(shadow) = &rollout.shadow else { return Begun::Left };
        let Some(comparison) = &shadow.comparison else {
            self.events.push((Arc::clone(&rollout.name), Event::Mirrored));
            return Begun::Left;
        };
        let (begun, event) = match self.copy(rollout, shadow, comparison, shadowed, copied) {
            Ok((id, bytes)) => return Begun::Copying(id, bytes),
            Err(Cause::Body) if comparison.mirrors_large => {
                (Begun::Mirrored(Arc::clone(&shadow.cluster)), Event::Mirrored)
            }
            Err(cause) => (Begun::Left, Event::Dropped(cause)),
        };
        self.events.push((Arc::clone(&rollout.name), event));
        begun
    }

    fn copy(
        &mut self,
        rollout: &Rollout,
        shadow: &Shadow,
        comparison: &Arc<Comparison>,
        shadowed: Shadowed,
        copied: Copied<'_>,
    ) -> Result<(u64, usize), Cause> {
        let Copied { headers, edits, is_whole, now_ms } = copied;
        let bytes = body_bytes(comparison, headers, is_whole)?;
        let new = || Watch::new(rollout, shadow, comparison, now_ms);
        let watch = self.watches.entry(comparison.identity).or_insert_with(new);
        if watch.in_flight >= comparison.max_in_flight {
            return Err(Cause::InFlight);
        }
        let copy = Copy::of(comparison, headers, edits, bytes)?;
        let held_bytes = copy.held_bytes;
        if self.held_bytes.saturating_add(held_bytes) > MAX_HELD_BYTES {
            return Err(Cause::Memory);
        }
        self.held_bytes += held_bytes;
        watch.in_flight += 1;
        self.last = self.last.wrapping_add(1);
        let exchange = Exchange {
            watch: comparison.identity,
            copy: Some(copy),
            held_bytes,
            primary: Answer::Awaited,
            candidate: Answer::Awaited,
            secondary: (shadowed.has_secondary && comparison.secondary.is_some()).then_some(Answer::Awaited),
            began_ms: now_ms,
        };
        self.exchanges.insert(self.last, exchange);
        Ok((self.last, bytes))
    }

    /// The request has come to its end, with this body: its copies can be sent.
    pub fn complete(&mut self, id: u64, body: Vec<u8>) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Some(copy) = &mut exchange.copy else { return };
        copy.body = body;
        self.queue.push_back((id, Whose::Candidate));
        if exchange.secondary.is_some() {
            self.queue.push_back((id, Whose::Secondary));
        }
    }

    /// Whether there is something to be done soon: copies to be sent, answers to be read, or the process to be told.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !(self.queue.is_empty() && self.unread.is_empty() && self.untold.is_empty())
    }

    /// Whether anything is under way, or is to be counted or told.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !(self.exchanges.is_empty() && self.events.is_empty())
            || self.watches.values().any(|watch| watch.totals.compared > 0)
    }

    /// The next copy that is to be sent. What became of it [is to be said](Self::sent).
    pub fn next_call(&mut self) -> Option<Call<'_>> {
        // Some may have been given up since.
        while self.queue.front().is_some_and(|(id, _)| !self.exchanges.contains_key(id)) {
            self.queue.pop_front();
        }
        let (id, whose) = self.queue.pop_front()?;
        let exchange = self.exchanges.get(&id)?;
        let copy = exchange.copy.as_ref()?;
        let watch = self.watches.get(&exchange.watch)?;
        let cluster = match (whose, &watch.comparison.secondary) {
            (Whose::Secondary, Some(secondary)) => &secondary.cluster,
            _ => &watch.cluster,
        };
        Some(Call {
            id,
            whose,
            cluster,
            headers: copy.headers(whose),
            body: &copy.body,
            timeout_ms: watch.comparison.timeout_ms,
        })
    }

    /// A copy was sent, and has this number now; or it was not.
    pub fn sent(&mut self, id: u64, whose: Whose, call: Result<u32, Cause>, now_us: u64) {
        match call {
            Ok(call) => _ = self.calls.insert(call, Sent { id, whose, at_us: now_us }),
            Err(cause) => self.settle(id, whose, Answer::Lost(cause)),
        }
        // The secondary's is next in the queue, if there is one.
        let is_last = self.queue.front().is_none_or(|(next, _)| *next != id);
        if is_last && let Some(exchange) = self.exchanges.get_mut(&id) {
            let sent = exchange.copy.take().map_or(0, |copy| copy.held_bytes);
            self.hold(id, sent, 0);
        }
    }

    /// Whether a call is one of these.
    #[must_use]
    pub fn has_sent(&self, call: u32) -> bool {
        self.calls.contains_key(&call)
    }

    /// The answer to a copy: its headers, none where it broke off, its length, and how to read its beginning.
    pub fn answered(
        &mut self,
        call: u32,
        headers: Option<&Headers<'_>>,
        size: usize,
        read: impl FnOnce(usize) -> Vec<u8>,
        now_us: u64,
    ) {
        let Some(Sent { id, whose, at_us }) = self.calls.remove(&call) else { return };
        let watch = self.exchanges.get(&id).and_then(|exchange| self.watches.get(&exchange.watch));
        let Some(watch) = watch else { return };
        let answer = match headers {
            None => Answer::Lost(Cause::Reset),
            // Envoy says so of every answer of an upstream, and not of its own in place of one.
            Some(headers) if headers.count("x-envoy-upstream-service-time") == 0 => {
                let is_late = headers.value(":status").as_deref() == Some(b"504");
                Answer::Lost(if is_late { Cause::Timeout } else { Cause::Unreachable })
            }
            Some(headers) => {
                let mut printing = Printing::new(&watch.comparison, headers, Some(size));
                let wanted = printing.wanted().min(size);
                if self.held_bytes.saturating_add(wanted) > MAX_HELD_BYTES {
                    Answer::Lost(Cause::Memory)
                } else {
                    printing.take(&read(wanted), size);
                    self.hold(id, 0, printing.held_bytes());
                    Answer::Came(Box::new(printing.end()), now_us.saturating_sub(at_us))
                }
            }
        };
        self.settle(id, whose, answer);
    }

    /// Begins to read the user's answer.
    #[must_use]
    pub fn printing(&self, id: u64, headers: &Headers<'_>) -> Option<Printing> {
        let watch = self.watches.get(&self.exchanges.get(&id)?.watch)?;
        let length = headers.value("content-length").and_then(|it| str::from_utf8(&it).ok()?.parse().ok());
        Some(Printing::new(&watch.comparison, headers, length))
    }

    /// Takes the beginning of a part of it that has so many bytes in all.
    pub fn take(&mut self, id: u64, printing: &mut Printing, part: &[u8], size: usize) {
        if !self.exchanges.contains_key(&id) {
            // It was given up.
            printing.let_go();
            return;
        }
        let before = printing.held_bytes();
        printing.take(part, size);
        self.hold(id, before, printing.held_bytes());
        if self.held_bytes > MAX_HELD_BYTES {
            printing.let_go();
            self.settle(id, Whose::Primary, Answer::Lost(Cause::Memory));
        }
    }

    /// Of a request's answer another number of bytes is held than before.
    fn hold(&mut self, id: u64, before: usize, bytes: usize) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        exchange.held_bytes = exchange.held_bytes.saturating_sub(before).saturating_add(bytes);
        self.held_bytes = self.held_bytes.saturating_sub(before).saturating_add(bytes);
    }

    /// The user's answer has come to its end after so many microseconds; without one it broke off.
    pub fn ended(&mut self, id: u64, printing: Option<Printing>, us: u64) {
        let answer = match printing {
            Some(printing) => Answer::Came(Box::new(printing.end()), us),
            None => Answer::Lost(Cause::Primary),
        };
        self.settle(id, Whose::Primary, answer);
    }

    /// Takes an answer; compares when it was the last.
    fn settle(&mut self, id: u64, whose: Whose, answer: Answer) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Some(awaited) = exchange.answer(whose).filter(|it| it.is_awaited()) else { return };
        *awaited = answer;
        // Nothing will be compared: what is under way is not waited for.
        let is_lost =
            matches!(exchange.primary, Answer::Lost(_)) || matches!(exchange.candidate, Answer::Lost(_));
        if is_lost || exchange.is_settled() {
            self.close(id);
        }
    }

    /// Ends a request that is waited for: its answers are all there, or will not be compared.
    fn close(&mut self, id: u64) {
        let Some(exchange) = self.exchanges.remove(&id) else { return };
        let Exchange { watch: identity, held_bytes, primary, candidate, secondary, .. } = exchange;
        let Some(watch) = self.watches.get_mut(&identity) else { return };
        let rollout = Arc::clone(&watch.rollout);
        let mut tell = |event| self.events.push((Arc::clone(&rollout), event));
        let (primary, candidate) = match (primary, candidate) {
            (Answer::Came(primary, primary_us), Answer::Came(candidate, candidate_us)) => {
                watch.totals.primary_us = watch.totals.primary_us.saturating_add(primary_us);
                watch.totals.candidate_us = watch.totals.candidate_us.saturating_add(candidate_us);
                tell(Event::Latency(Whose::Primary, primary_us / 1_000));
                tell(Event::Latency(Whose::Candidate, candidate_us / 1_000));
                (primary, candidate)
            }
            (Answer::Lost(cause), _) | (_, Answer::Lost(cause)) => {
                tell(Event::Dropped(cause));
                return self.release(identity, held_bytes);
            }
            _ => {
                tell(Event::Dropped(Cause::Primary));
                return self.release(identity, held_bytes);
            }
        };
        let secondary = match secondary {
            Some(Answer::Came(secondary, us)) => {
                tell(Event::Latency(Whose::Secondary, us / 1_000));
                Some(secondary)
            }
            Some(_) => {
                tell(Event::Dropped(Cause::Secondary));
                None
            }
            None => None,
        };
        let complete = Complete::new(identity, primary, candidate, secondary, held_bytes);
        if complete.unread.is_empty() {
            self.compare(&complete);
        } else {
            self.unread.push_back(complete);
        }
    }

    /// Nothing is held any more for a request.
    fn release(&mut self, watch: u64, held_bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(held_bytes);
        if let Some(watch) = self.watches.get_mut(&watch) {
            watch.in_flight = watch.in_flight.saturating_sub(1);
        }
    }

    /// Reads on in answers that are to be compared, until `is_time_up`.
    pub fn read_on(&mut self, mut is_time_up: impl FnMut() -> bool) {
        while let Some(mut complete) = self.unread.pop_front() {
            if let Some(watch) = self.watches.get_mut(&complete.watch) {
                complete.read_piece(watch);
            }
            if complete.unread.is_empty() {
                self.compare(&complete);
            } else {
                self.unread.push_front(complete);
            }
            if is_time_up() {
                break;
            }
        }
    }

    fn compare(&mut self, complete: &Complete) {
        self.release(complete.watch, complete.held_bytes);
        let Some(watch) = self.watches.get_mut(&complete.watch) else { return };
        let Complete { primary, candidate, secondary, .. } = complete;
        let events = watch.compare(primary, candidate, secondary.as_deref());
        let rollout = &watch.rollout;
        self.events.extend(events.map(|event| (Arc::clone(rollout), event)));
    }

    /// What is to be counted since this was last asked.
    pub fn take_events(&mut self) -> Vec<(Arc<str>, Event)> {
        std::mem::take(&mut self.events)
    }

    /// Gives up what takes too long, and tells the process what was compared, until `is_time_up`; the verdicts that have
    /// changed.
    pub fn tick(
        &mut self,
        now_ms: i64,
        policy: &Policy,
        process: &dyn Process,
        mut is_time_up: impl FnMut() -> bool,
    ) -> Vec<Change> {
        // A clock that was set back must not stop it.
        if !(0..TELL_MS).contains(&now_ms.saturating_sub(self.told_ms)) {
            self.told_ms = now_ms;
            self.give_up(now_ms);
            // Who has not had its turn yet comes before who would have another.
            if self.untold.is_empty() {
                self.untold = self.watches.keys().copied().collect();
            }
        }
        let shared = Shared { place: &self.place, process };
        let mut changes = Vec::new();
        while let Some(identity) = self.untold.pop() {
            let Some(watch) = self.watches.get_mut(&identity) else { continue };
            if watch.totals.compared > 0
                && let Some((fields, changed)) = watch.tell(shared, now_ms)
            {
                self.events.push((Arc::clone(&watch.rollout), Event::Fields(fields)));
                changes.extend(changed);
            }
            let is_used = watch.in_flight > 0 || watch.totals.compared > 0;
            if !is_used && !watch.is_of(policy) {
                self.events.push((Arc::clone(&watch.rollout), Event::Fields(0)));
                self.watches.remove(&identity);
            }
            if is_time_up() {
                break;
            }
        }
        changes
    }

    /// Gives up what takes too long.
    fn give_up(&mut self, now_ms: i64) {
        let late = self.exchanges.iter().filter(|(_, exchange)| {
            let timeout_ms = self.watches.get(&exchange.watch).map_or(0, |it| it.comparison.timeout_ms);
            let most_ms = i64::try_from(timeout_ms).unwrap_or(0) + PATIENCE_MS;
            !(0..most_ms).contains(&now_ms.saturating_sub(exchange.began_ms))
        });
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close(id);
        }
    }

    /// What the process knows of a rollout's shadow.
    #[must_use]
    pub fn record(&self, rollout: &Rollout, process: &dyn Process) -> Option<Record> {
        let identity = rollout.shadow.as_ref()?.comparison.as_ref()?.identity;
        let (bytes, _) = process.read(&record_key(&self.place, &rollout.name))?;
        Record::read(&bytes).filter(|record| record.identity == identity)
    }
}

#[cfg(test)]
mod tests;
