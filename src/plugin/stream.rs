//! A stream: one request and its response.

use std::cell::OnceCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::decide::{Decisions, Proxy, Request, decide};
use crate::effects::{Edit, Effects, Response, effects};
use crate::guard::Nature;
use crate::headers::Headers;
use crate::pass::{self, Passes};
use crate::plugin::guarding::Watched;
use crate::plugin::host;
use crate::plugin::ofrep::{Taken, Waiting};
use crate::plugin::reaching::Sent;
use crate::plugin::shadowing::Copying;
use crate::plugin::shared::{InForce, Shared};
use crate::plugin::{now_ms, random};
use crate::shadow::{self, Copied};

/// One request and its response.
pub struct Stream {
    /// The id by which the host knows it.
    id: u32,
    shared: Rc<Shared>,
    response: Response,
    flags: Flags,
    /// What guards count when it has ended.
    watched: Option<Box<Watched>>,
    /// Where its variant sends it.
    sent: Option<Sent>,
    /// How they stand, for who asks.
    guards: Option<String>,
    /// What is copied and compared.
    copying: Option<Box<Copying>>,
}

/// Whether flags are asked for, and how far that is.
enum Flags {
    /// They are not: the request goes upstream.
    Unasked,
    /// The body is on its way.
    Waiting(Waiting),
    /// They were answered: nothing goes upstream.
    Answered,
}

impl Stream {
    /// A stream of the root context that shares this.
    pub fn new(id: u32, shared: Rc<Shared>) -> Stream {
        Stream {
            id,
            shared,
            response: Response::default(),
            flags: Flags::Unasked,
            watched: None,
            sent: None,
            guards: None,
            copying: None,
        }
    }

    fn request(&mut self, is_whole: bool) -> Result<(), host::Failed> {
        let shared = Rc::clone(&self.shared);
        let pairs = host::headers(MapType::HttpRequestHeaders)?;
        let mut all = Vec::with_capacity(pairs.count());
        all.extend(pairs.iter());
        let headers = Headers::of_request(all, shared.configuration.trust);
        self.flags = match Waiting::take(&shared, self.id, &headers, is_whole) {
            Taken::No => Flags::Unasked,
            Taken::Answered => Flags::Answered,
            Taken::Waiting(waiting) => Flags::Waiting(waiting),
        };
        if !matches!(self.flags, Flags::Unasked) {
            return Ok(());
        }
        let pass = headers.came("x-mulkko-pass");
        let passes = match &pass {
            Some(header) => pass::read(header, &shared.secrets.pass_keys, now_ms()),
            None => Passes::default(),
        };
        if let (true, Some(path)) = (passes.explain(), headers.value(":path"))
            && let Some(rollout) = shadow::asked(&path)
        {
            shared.send_shadow(rollout, now_ms());
            self.flags = Flags::Answered;
            return Ok(());
        }
        let (rolled_back, proxy) = (shared.rolled_back(), Host::of(&shared));
        let in_force = shared.policy();
        let request = Request {
            headers: &headers,
            passes: &passes,
            macs: in_force.as_ref().and_then(|it| it.macs.as_ref()),
            node: &shared.node,
            proxy: &proxy,
            rolled_back: rolled_back.as_deref(),
        };
        let policy = in_force.as_ref().map(|it| &*it.policy);
        let mut decisions = policy.map(|policy| decide(policy, request)).unwrap_or_default();
        let effects = effects(policy, &decisions, &request);
        let begun = Copying::begin(&shared, in_force.as_deref(), decisions.shadow, || Copied {
            headers: &headers,
            edits: &effects.edits,
            is_whole,
            now_ms: proxy.now_ms(),
        });
        self.apply(effects);
        self.copying = Copying::go_on(&shared, begun, is_whole).map(Box::new);
        self.count(in_force.as_deref(), &decisions);
        shared.metrics.count("budget_exhausted", usize::from(decisions.is_exhausted));
        shared.metrics.count("passes_refused", passes.refused + decisions.passes_refused);
        if passes.explain() {
            self.guards = Some(shared.explain_guards(&decisions));
        }
        self.sent = shared.sent(in_force.as_ref(), &decisions);
        let exposures = std::mem::take(&mut decisions.exposures);
        if !exposures.is_empty() {
            self.watched = Some(Box::new(Watched::new(exposures, Nature::of(&headers), proxy.now_ns())));
        }
        Ok(())
    }

    /// Filter state first: a header write has the route picked anew.
    fn apply(&mut self, effects: Effects<'_>) {
        // A host call that fails is counted, and the others are made all the same.
        for (name, value) in &effects.states {
            let _ = host::set_filter_state(name, value);
        }
        for edit in &effects.edits {
            let _ = match edit {
                Edit::Remove(name) => host::remove_header(MapType::HttpRequestHeaders, name),
                Edit::Set(name, value) => host::set_header(MapType::HttpRequestHeaders, name, value),
            };
        }
        if effects.edits.is_empty() && !effects.states.is_empty() {
            let _ = host::clear_route_cache();
        }
        self.shared.metrics.count("baggage_members_dropped", effects.baggage_members_dropped);
        self.shared.metrics.count("headers_dropped", effects.headers_dropped);
        self.response = effects.response;
    }

    fn count(&self, in_force: Option<&InForce>, decisions: &Decisions) {
        let Some(in_force) = in_force else { return };
        for decision in &decisions.list {
            self.shared.count(in_force, decision);
        }
        for (flag, resolution) in &decisions.flags {
            self.shared.count_flag(in_force, *flag, *resolution);
        }
    }

    /// A part of the response has come, with its end or without.
    fn response_goes_on(&mut self, is_end: bool) {
        if let (true, Some(watched)) = (is_end, &mut self.watched) {
            watched.whole();
        }
        if is_end && let Some(copying) = self.copying.take() {
            copying.ended(&self.shared);
        }
    }

    /// Whether the request goes on upstream.
    fn action(&self) -> Action {
        if let Flags::Unasked = self.flags { Action::Continue } else { Action::Pause }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        // Without its headers a request goes on as it came; the failure is counted.
        let _ = self.request(end_of_stream);
        self.shared.count_failures();
        self.action()
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Flags::Waiting(waiting) = &mut self.flags {
            let is_too_much = waiting.grow(&self.shared, size);
            if !is_too_much && end_of_stream {
                waiting.answer(&self.shared);
            }
            if is_too_much || end_of_stream {
                self.flags = Flags::Answered;
            }
        }
        if let Some(copying) = &mut self.copying {
            copying.request_body(&self.shared, size, end_of_stream);
        }
        self.action()
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if let Flags::Waiting(waiting) = &self.flags {
            waiting.answer(&self.shared);
            self.flags = Flags::Answered;
        }
        if let Flags::Answered = self.flags {
            return Action::Pause;
        }
        if let Some(copying) = &mut self.copying {
            copying.complete(&self.shared);
        }
        if let Ok(pairs) = host::headers(MapType::HttpRequestTrailers) {
            let trailers = Headers::of_request(pairs.iter().collect(), self.shared.configuration.trust);
            for name in trailers.forged() {
                let _ = host::remove_header(MapType::HttpRequestTrailers, name);
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        if let Some(watched) = &mut self.watched {
            watched.response();
        }
        if let Some(copying) = &mut self.copying {
            copying.response(&self.shared);
        }
        self.response_goes_on(end_of_stream);
        let response = std::mem::take(&mut self.response);
        for cookie in &response.cookies {
            let _ = host::add_header(MapType::HttpResponseHeaders, "set-cookie", cookie.as_bytes());
        }
        for (name, value) in [("x-mulkko-explain", response.explain), ("x-mulkko-guard", self.guards.take())]
        {
            let Some(value) = value else { continue };
            let _ = host::remove_header(MapType::HttpResponseHeaders, name.as_bytes());
            if !value.is_empty() {
                let _ = host::set_header(MapType::HttpResponseHeaders, name, value.as_bytes());
            }
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(copying) = &mut self.copying {
            copying.response_body(&self.shared, size);
        }
        self.response_goes_on(end_of_stream);
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.response_goes_on(true);
        Action::Continue
    }

    fn on_log(&mut self) {
        if let Some(copying) = self.copying.take() {
            copying.broke_off(&self.shared);
        }
        if let Some(watched) = self.watched.take() {
            self.shared.count_ended(&watched);
        }
        if let Some(sent) = self.sent.take() {
            self.shared.has_ended(&sent);
        }
    }
}

/// The host of the stream that is being served, during one callback.
pub struct Host<'s> {
    shared: &'s Shared,
    now_ns: OnceCell<u64>,
}

impl Host<'_> {
    /// The host of a stream of the root context that shares this.
    pub fn of(shared: &Shared) -> Host<'_> {
        Host { shared, now_ns: OnceCell::new() }
    }

    /// The wall clock, in unix nanoseconds; read once.
    pub fn now_ns(&self) -> u64 {
        *self.now_ns.get_or_init(|| host::now_ns().unwrap_or(0))
    }
}

impl Proxy for Host<'_> {
    fn property(&self, path: &[Box<str>]) -> Option<Vec<u8>> {
        host::property(path.join("\0").as_bytes()).ok().flatten()
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        host::property(b"source\0address").ok().flatten()
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.now_ns() / 1_000_000).unwrap_or(0)
    }

    fn draw_id(&self) -> String {
        format!("{:016x}{:016x}", random(), random())
    }

    fn lacks_cluster(&self, cluster: &str) -> bool {
        self.shared.lacks_cluster(cluster, || self.now_ms())
    }
}
