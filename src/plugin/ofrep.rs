//! A stream that asks for flags: what it waits for, and how it is answered.
//!
//! While it waits nothing of it is kept here: Envoy has its headers and its body, within its own limits, and they are
//! read when they are needed. Whoever opens many streams and sends no body would fill the VM otherwise.

use std::rc::Rc;

use proxy_wasm::types::{BufferType, MapType};

use crate::decide::Request;
use crate::headers::Headers;
use crate::ofrep::{Answer, Asked, Begun};
use crate::pass::Passes;
use crate::plugin::host::{self, Failed};
use crate::plugin::now_ms;
use crate::plugin::shared::{InForce, Shared};
use crate::plugin::stream::Host;

/// A request for flags whose body is on its way.
pub struct Waiting {
    /// That it waits; dropped once it is answered or gone.
    _token: Rc<()>,
    /// The policy that was in force when it came.
    in_force: Option<Rc<InForce>>,
    /// How much of its body is there.
    size: usize,
}

/// What becomes of a request.
pub enum Taken {
    /// It is not OFREP's.
    No,
    /// It was answered.
    Answered,
    /// It waits for its body.
    Waiting(Waiting),
}

impl Waiting {
    /// Takes stream `id`, with these headers, if it is OFREP's. `is_whole`: there is no body.
    pub fn take(shared: &Shared, id: u32, headers: &Headers<'_>, is_whole: bool) -> Taken {
        let Some(begun) = begin(shared, headers) else { return Taken::No };
        let in_force = shared.policy();
        let answer = match begun {
            Begun::Answered(answer) => answer,
            Begun::Asked(asked) if is_whole => answer(shared, &asked, in_force.as_deref(), headers, &[]),
            Begun::Asked(asked) => match shared.wait_for_body(id, now_ms()) {
                Some(token) => return Taken::Waiting(Waiting { _token: token, in_force, size: 0 }),
                None => asked.too_many(),
            },
        };
        shared.send(&answer);
        Taken::Answered
    }

    /// Notes that `size` bytes of the body are there; whether that is too much, and was answered so.
    pub fn grow(&mut self, shared: &Shared, size: usize) -> bool {
        self.size = size;
        let most = shared.configuration.ofrep.as_ref().map_or(0, |ofrep| ofrep.max_body_bytes);
        let is_too_much = size > most;
        if is_too_much {
            send(shared, |asked, _| asked.too_large(most));
        }
        is_too_much
    }

    /// Answers it: the body is whole.
    pub fn answer(&self, shared: &Shared) {
        let body = host::buffer(BufferType::HttpRequestBody, 0, self.size).unwrap_or_default();
        send(shared, |asked, headers| answer(shared, asked, self.in_force.as_deref(), headers, &body));
    }
}

/// Answers the current stream, whose body has not come in time.
pub fn answer_late(shared: &Shared) {
    send(shared, |asked, _| asked.too_late());
}

/// Answers the current stream, which waits for its body, by its headers.
fn send(shared: &Shared, answer: impl FnOnce(&Asked, &Headers<'_>) -> Answer) {
    let pairs = host::headers(MapType::HttpRequestHeaders);
    let trust = shared.configuration.trust;
    let headers = pairs.as_ref().map(|pairs| Headers::of_request(pairs.iter().collect(), trust));
    let answer = match headers.as_ref().map(|headers| (headers, begin(shared, headers))) {
        Ok((headers, Some(Begun::Asked(asked)))) => answer(&asked, headers),
        Ok((_, Some(Begun::Answered(answer)))) => answer,
        // What it asks cannot be read any more; the failure is counted.
        Ok((_, None)) | Err(Failed(_)) => Answer::failure(),
    };
    shared.send(&answer);
}

fn begin(shared: &Shared, headers: &Headers<'_>) -> Option<Begun> {
    let ofrep = shared.configuration.ofrep.as_ref()?;
    ofrep.begin(shared.secrets.bearer.as_ref(), shared.configuration.trust, headers)
}

fn answer(
    shared: &Shared,
    asked: &Asked,
    in_force: Option<&InForce>,
    headers: &Headers<'_>,
    body: &[u8],
) -> Answer {
    let request = Request {
        headers,
        passes: &Passes::default(),
        macs: None,
        node: &shared.node,
        proxy: &Host::of(shared),
        rolled_back: None,
    };
    asked.answer(body, in_force.map(|it| &*it.policy), request)
}
