//! A stream that asks for flags: what it waits for, and how it is answered.

use std::rc::Rc;

use proxy_wasm::types::BufferType;

use crate::decide::Request;
use crate::headers::Headers;
use crate::ofrep::{Asked, Begun};
use crate::pass::Passes;
use crate::plugin::host::{self, Pairs};
use crate::plugin::now_ms;
use crate::plugin::shared::{InForce, Shared};
use crate::plugin::stream::Host;

/// A request for flags whose body is on its way.
pub struct Waiting {
    asked: Rc<Asked>,
    /// Its headers.
    pairs: Pairs,
    /// As much of its body as is there.
    body: Vec<u8>,
    /// The policy that was in force when it came.
    in_force: Option<Rc<InForce>>,
}

/// What becomes of a request.
pub enum Taken {
    /// It is not OFREP's.
    No(Pairs),
    /// It was answered.
    Answered,
    /// It waits for its body.
    Waiting(Waiting),
}

impl Waiting {
    /// Takes a request with these headers that is OFREP's. `is_whole`: there is no body.
    pub fn take(shared: &Shared, id: u32, pairs: Pairs, is_whole: bool) -> Taken {
        let Some(ofrep) = &shared.configuration.ofrep else { return Taken::No(pairs) };
        let trust = shared.configuration.trust;
        let begun = {
            let headers = Headers::new(pairs.iter().collect());
            ofrep.begin(shared.secrets.bearer.as_ref(), trust, &headers)
        };
        let asked = match begun {
            None => return Taken::No(pairs),
            Some(Begun::Answered(answer)) => {
                shared.send(&answer);
                return Taken::Answered;
            }
            Some(Begun::Asked(asked)) => Rc::new(asked),
        };
        let waiting = Waiting { asked, pairs, body: Vec::new(), in_force: shared.policy() };
        if is_whole {
            waiting.answer(shared);
            return Taken::Answered;
        }
        shared.wait_for_body(id, &waiting.asked, now_ms());
        Taken::Waiting(waiting)
    }

    /// Takes what has come of the body, which is `size` bytes by now; whether it is too much, and was answered so.
    pub fn read(&mut self, shared: &Shared, size: usize) -> bool {
        let most = shared.configuration.ofrep.as_ref().map_or(0, |ofrep| ofrep.max_body_bytes);
        if size > most {
            shared.send(&self.asked.too_large(most));
            return true;
        }
        let start = self.body.len();
        let news = host::buffer(BufferType::HttpRequestBody, start, size.saturating_sub(start));
        self.body.extend(news.unwrap_or_default());
        false
    }

    /// Answers it: the body is whole.
    pub fn answer(&self, shared: &Shared) {
        let headers = Headers::new(self.pairs.iter().collect());
        let request = Request {
            headers: &headers,
            passes: &Passes::default(),
            trust: shared.configuration.trust,
            node: &shared.node,
            proxy: &Host,
        };
        let policy = self.in_force.as_ref().map(|it| &*it.policy);
        shared.send(&self.asked.answer(&self.body, policy, request));
    }
}
