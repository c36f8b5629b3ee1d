//! How a stream is copied and its answer read, and how copies are sent and their answers come.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::types::{BufferType, MapType};

use crate::decide::Shadowed;
use crate::effects::MIRROR;
use crate::headers::Headers;
use crate::plugin::guarding::Host;
use crate::plugin::host;
use crate::plugin::metrics::Metrics;
use crate::plugin::shared::{InForce, Shared};
use crate::shadow::{Begun, Call, Cause, Copied, Event, Printing};

/// A request that is copied, and its answer.
pub struct Copying {
    /// Its number.
    id: u64,
    /// What has come of its body.
    body: Vec<u8>,
    most: usize,
    /// When it was complete, in unix nanoseconds.
    complete_ns: Option<u64>,
    /// What is read of the answer.
    printing: Option<Printing>,
}

impl Copying {
    /// Begins with a request that the shadow of a rollout may have picked.
    pub fn begin<'c>(
        shared: &Shared,
        in_force: Option<&InForce>,
        shadowed: Option<Shadowed>,
        copied: impl FnOnce() -> Copied<'c>,
    ) -> Begun {
        let picked =
            shadowed.and_then(|shadowed| Some((in_force?.policy.rollout(shadowed.rollout)?, shadowed)));
        picked.map_or(Begun::Left, |(rollout, shadowed)| {
            let begun = shared.shadows.borrow_mut().begin(rollout, shadowed, copied());
            shared.tick_for_shadows();
            begun
        })
    }

    /// Does what was begun.
    pub fn go_on(shared: &Rc<Shared>, begun: Begun, is_whole: bool) -> Option<Copying> {
        match begun {
            Begun::Copying(id, most) => {
                let mut copying = Copying { id, body: Vec::new(), most, complete_ns: None, printing: None };
                if is_whole {
                    copying.complete(shared);
                }
                Some(copying)
            }
            Begun::Mirrored(cluster) => {
                let _ = host::set_header(MapType::HttpRequestHeaders, MIRROR, cluster.as_bytes());
                None
            }
            Begun::Left => None,
        }
    }

    /// A part of the request's body has come.
    pub fn request_body(&mut self, shared: &Shared, size: usize, is_end: bool) {
        let room = self.most.saturating_sub(self.body.len());
        if size > 0 && room > 0 {
            let part = host::buffer(BufferType::HttpRequestBody, 0, size.min(room)).unwrap_or_default();
            self.body.extend_from_slice(&part);
        }
        if is_end {
            self.complete(shared);
        }
    }

    /// The request has come to its end.
    pub fn complete(&mut self, shared: &Shared) {
        if self.complete_ns.is_none() {
            self.complete_ns = Some(host::now_ns().unwrap_or(0));
            shared.shadows.borrow_mut().complete(self.id, std::mem::take(&mut self.body));
            shared.tick_for_shadows();
        }
    }

    /// The headers of the answer have come.
    pub fn response(&mut self, shared: &Shared) {
        let Ok(pairs) = host::headers(MapType::HttpResponseHeaders) else { return };
        self.printing = shared.shadows.borrow().printing(self.id, &Headers::new(pairs.iter().collect()));
    }

    /// A part of the answer's body has come.
    pub fn response_body(&mut self, shared: &Shared, size: usize) {
        let Some(printing) = &mut self.printing else { return };
        let part = match printing.wanted().min(size) {
            0 => Vec::new(),
            wanted => host::buffer(BufferType::HttpResponseBody, 0, wanted).unwrap_or_default(),
        };
        shared.shadows.borrow_mut().take(self.id, printing, &part, size);
    }

    /// The answer has come to its end, or the stream has: without one.
    pub fn ended(mut self, shared: &Shared) {
        // Who answers before the request is complete has not seen what the copy would have.
        let printing = self.printing.take().filter(|_| self.complete_ns.is_some());
        let us = host::now_ns().unwrap_or(0).saturating_sub(self.complete_ns.unwrap_or(0)) / 1_000;
        shared.shadows.borrow_mut().ended(self.id, printing, us);
        shared.tick_for_shadows();
    }

    /// The stream has ended without all of the answer.
    pub fn broke_off(mut self, shared: &Shared) {
        self.printing = None;
        self.ended(shared);
    }
}

/// How long one turn may last, in nanoseconds: less than for what cannot wait, since streams wait meanwhile.
const TURN_NS: u64 = 1_000_000;

/// Sends the copies that wait for it and reads answers, for a turn; counts what has happened and tells the process of it.
pub fn tick(shared: &Shared, now_ms: i64) {
    let start_ns = host::now_ns().unwrap_or(0);
    let is_time_up = || host::now_ns().is_ok_and(|now| now.saturating_sub(start_ns) >= TURN_NS);
    let mut shadows = shared.shadows.borrow_mut();
    while let Some(call) = shadows.next_call() {
        let (id, whose) = (call.id, call.whose);
        let sent = send(&call);
        shadows.sent(id, whose, sent, host::now_ns().unwrap_or(0) / 1_000);
        if is_time_up() {
            break;
        }
    }
    shadows.read_on(is_time_up);
    let in_force = shared.policy();
    let changes = in_force
        .map(|it| shadows.tick(now_ms, &it.policy, &Host(&shared.metrics), is_time_up))
        .unwrap_or_default();
    for (rollout, event) in shadows.take_events() {
        count(&shared.metrics, &rollout, event);
    }
    for change in changes {
        log::warn!("{}: {change}", shared.configuration.name);
    }
}

fn send(call: &Call<'_>) -> Result<u32, Cause> {
    let timeout = Duration::from_millis(call.timeout_ms);
    let body = Some(call.body).filter(|body| !body.is_empty());
    host::call(call.cluster, call.headers.clone(), body, timeout)
        .map_err(|failed| if failed == host::BAD_ARGUMENT { Cause::NoCluster } else { Cause::Unavailable })
}

/// Takes the answer to a call, if that is a copy's.
pub fn answered(shared: &Shared, call: u32, headers: usize, body_size: usize) -> bool {
    if !shared.shadows.borrow().has_sent(call) {
        return false;
    }
    let pairs = if headers == 0 { None } else { host::headers(MapType::HttpCallResponseHeaders).ok() };
    let headers = pairs.as_ref().map(|pairs| Headers::new(pairs.iter().collect()));
    let read = |most| match most {
        0 => Vec::new(),
        most => host::buffer(BufferType::HttpCallResponseBody, 0, most).unwrap_or_default(),
    };
    let now_us = host::now_ns().unwrap_or(0) / 1_000;
    shared.shadows.borrow_mut().answered(call, headers.as_ref(), body_size, read, now_us);
    shared.tick_for_shadows();
    true
}

fn count(metrics: &Metrics, rollout: &str, event: Event) {
    let dropped = match event {
        Event::Compared(true) => return metrics.shadow_request(rollout, "equal"),
        Event::Compared(false) => return metrics.shadow_request(rollout, "different"),
        Event::Mirrored => return metrics.shadow_request(rollout, "mirrored"),
        Event::Differs(kind) => return metrics.shadow_difference(rollout, kind.as_str()),
        Event::Latency(whose, ms) => return metrics.shadow_latency(rollout, whose.as_str(), ms),
        Event::Fields(fields) => return metrics.shadow_fields(rollout, fields),
        Event::Dropped(cause) => cause,
    };
    metrics.shadow_dropped(rollout, dropped.as_str());
    if dropped != Cause::Secondary {
        metrics.shadow_request(rollout, "dropped");
    }
}
