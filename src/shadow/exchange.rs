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
use crate::shadow::print::{Print, Printing, Whose};
use crate::shadow::record::{Change, Record};
use crate::shadow::watch::{Watch, record_key};
use crate::shadow::{Comparison, Shadow};

/// The most bytes of copies that have not been sent yet, whether their bodies have come or not.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// The most bytes of answers to copies that have not been read yet.
const MAX_UNREAD_BYTES: usize = 16 << 20;
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
    /// The answers to copies that have not been read to their ends yet.
    unread: VecDeque<Unread>,
    unread_bytes: usize,
    waiting_bytes: usize,
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

/// The answer to a copy, or what is kept of its beginning, as it is being read.
#[derive(Debug)]
struct Unread {
    id: u64,
    whose: Whose,
    /// How long it took to come, in microseconds.
    us: u64,
    body: Vec<u8>,
    /// How much of that has been read.
    read: usize,
    /// How long all of it is.
    size: usize,
    printing: Printing,
}

/// A request and its copies.
#[derive(Debug)]
struct Exchange {
    watch: u64,
    /// Gone once it has been sent.
    copy: Option<Copy>,
    /// How many of the bytes that may wait are its own.
    waiting_bytes: usize,
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
        let copy = Copy::of(comparison, headers, edits)?;
        let waiting_bytes = bytes.saturating_add(copy.header_bytes());
        if self.waiting_bytes.saturating_add(waiting_bytes) > MAX_WAITING_BYTES {
            return Err(Cause::Memory);
        }
        self.waiting_bytes += waiting_bytes;
        watch.in_flight += 1;
        self.last = self.last.wrapping_add(1);
        let exchange = Exchange {
            watch: comparison.identity,
            copy: Some(copy),
            waiting_bytes,
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

    /// Whether there is something to be done at once: copies to be sent, answers to be read, or the process to be told.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !(self.queue.is_empty() && self.unread.is_empty() && self.untold.is_empty())
    }

    /// Whether anything is under way, or is to be told.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.exchanges.is_empty() || self.watches.values().any(|watch| watch.totals.compared > 0)
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
            exchange.copy = None;
            self.waiting_bytes =
                self.waiting_bytes.saturating_sub(std::mem::take(&mut exchange.waiting_bytes));
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
        let lost = match headers {
            None => Cause::Reset,
            // Envoy says so of every answer of an upstream, and not of its own in place of one.
            Some(headers) if headers.count("x-envoy-upstream-service-time") == 0 => {
                let is_late = headers.value(":status").as_deref() == Some(b"504");
                if is_late { Cause::Timeout } else { Cause::Unreachable }
            }
            Some(headers) => {
                let printing = Printing::new(&watch.comparison, headers, whose, Some(size));
                let wanted = printing.wanted().min(size);
                if self.unread_bytes.saturating_add(wanted) > MAX_UNREAD_BYTES {
                    Cause::Memory
                } else {
                    let us = now_us.saturating_sub(at_us);
                    let unread = Unread { id, whose, us, body: read(wanted), read: 0, size, printing };
                    self.unread_bytes += unread.body.len();
                    self.unread.push_back(unread);
                    // A short one is read here and now, unless others came before.
                    self.read_piece();
                    return;
                }
            }
        };
        self.settle(id, whose, Answer::Lost(lost));
    }

    /// Reads on in the answers to copies, until `is_time_up`.
    pub fn read_on(&mut self, is_time_up: &mut impl FnMut() -> bool) {
        while self.read_piece() && !is_time_up() {}
    }

    /// Reads a piece of the first answer that is not read yet; `false` where there is none.
    fn read_piece(&mut self) -> bool {
        let Some(mut unread) = self.unread.pop_front() else { return false };
        let watch = self.exchanges.get(&unread.id).and_then(|it| self.watches.get_mut(&it.watch));
        let Some(watch) = watch else {
            // It was given up.
            self.unread_bytes = self.unread_bytes.saturating_sub(unread.body.len());
            return true;
        };
        let rest = unread.body.get(unread.read..).unwrap_or_default();
        let piece = rest.get(..PIECE_BYTES).unwrap_or(rest);
        let is_last = piece.len() == rest.len();
        let size = if is_last { unread.size.saturating_sub(unread.read) } else { piece.len() };
        unread.printing.read(piece, size, &mut watch.paths, &watch.comparison);
        unread.read += piece.len();
        if !is_last {
            self.unread.push_front(unread);
            return true;
        }
        self.unread_bytes = self.unread_bytes.saturating_sub(unread.body.len());
        let print = unread.printing.end(&mut watch.paths, &watch.comparison);
        self.settle(unread.id, unread.whose, Answer::Came(Box::new(print), unread.us));
        true
    }

    /// Begins to read the user's answer.
    #[must_use]
    pub fn printing(&self, id: u64, headers: &Headers<'_>) -> Option<Printing> {
        let watch = self.watches.get(&self.exchanges.get(&id)?.watch)?;
        let length = headers.value("content-length").and_then(|it| str::from_utf8(&it).ok()?.parse().ok());
        Some(Printing::new(&watch.comparison, headers, Whose::Primary, length))
    }

    /// Reads the beginning of a part of it that has so many bytes in all.
    pub fn read(&mut self, id: u64, printing: &mut Printing, part: &[u8], size: usize) {
        if let Some(watch) = self.exchanges.get(&id).and_then(|it| self.watches.get_mut(&it.watch)) {
            printing.read(part, size, &mut watch.paths, &watch.comparison);
        }
    }

    /// The user's answer has come to its end after so many microseconds; without one it broke off.
    pub fn ended(&mut self, id: u64, printing: Option<Printing>, us: u64) {
        let Some(exchange) = self.exchanges.get(&id) else { return };
        let Some(watch) = self.watches.get_mut(&exchange.watch) else { return };
        let answer = match printing {
            Some(printing) => Answer::Came(Box::new(printing.end(&mut watch.paths, &watch.comparison)), us),
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

    fn close(&mut self, id: u64) {
        let Some(exchange) = self.exchanges.remove(&id) else { return };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(exchange.waiting_bytes);
        let Some(watch) = self.watches.get_mut(&exchange.watch) else { return };
        watch.in_flight = watch.in_flight.saturating_sub(1);
        let mut events = Vec::new();
        match (exchange.primary, exchange.candidate) {
            (Answer::Came(primary, primary_us), Answer::Came(candidate, candidate_us)) => {
                let secondary = match exchange.secondary {
                    Some(Answer::Came(secondary, us)) => {
                        events.push(Event::Latency(Whose::Secondary, us / 1_000));
                        Some(secondary)
                    }
                    Some(_) => {
                        events.push(Event::Dropped(Cause::Secondary));
                        None
                    }
                    None => None,
                };
                watch.totals.primary_us = watch.totals.primary_us.saturating_add(primary_us);
                watch.totals.candidate_us = watch.totals.candidate_us.saturating_add(candidate_us);
                events.push(Event::Latency(Whose::Primary, primary_us / 1_000));
                events.push(Event::Latency(Whose::Candidate, candidate_us / 1_000));
                watch.compare(&primary, &candidate, secondary.as_deref(), &mut events);
            }
            (Answer::Lost(cause), _) | (_, Answer::Lost(cause)) => events.push(Event::Dropped(cause)),
            _ => events.push(Event::Dropped(Cause::Primary)),
        }
        let rollout = Arc::clone(&watch.rollout);
        self.events.extend(events.into_iter().map(|event| (Arc::clone(&rollout), event)));
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
            self.untold = self.watches.keys().copied().collect();
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
