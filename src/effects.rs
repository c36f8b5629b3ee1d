//! What decisions do to a request: headers, filter state, baggage, cookies, and what the response tells.
//!
//! Everything is worked out here; a plugin only carries it out, filter state first, headers after it, so that the route
//! is picked anew with both in place.

use std::borrow::Cow;
use std::fmt::Write;

use crate::baggage::{self, Header, Member, Voucher};
use crate::cookie;
use crate::decide::{Decision, Decisions, Minted, Request, Trust};
use crate::headers::Headers;
use crate::mesh::{self, Macs};
use crate::policy::{Mint, Policy, Variant};

/// The cluster for routes with `cluster_header`: counts for one hop.
const CLUSTER: &str = "x-mulkko-cluster";
/// The cluster to which Envoy mirrors: counts for one hop.
pub const MIRROR: &str = "x-mulkko-mirror";
/// The passes.
const PASS: &str = "x-mulkko-pass";
/// The most headers that a request gets: the next Envoy answers 431 to one with more than a hundred.
const MOST_HEADERS: usize = 60;
/// The exported flags.
const FLAGS: &str = "x-mulkko-flags";

/// One change to the request's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// All headers of that name go.
    Remove(&'a [u8]),
    /// The header of that name, of which there is none or one, gets this value.
    Set(&'a str, Cow<'a, [u8]>),
}

/// What is done to a request and, later, to its response.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects<'a> {
    /// Filter state that is set, by the name that a host puts `wasm.` before.
    pub states: Vec<(&'a str, &'a str)>,
    /// Changes to the request's headers, in order.
    pub edits: Vec<Edit<'a>>,
    /// What the response gets.
    pub response: Response,
    /// Members that `baggage` had no room for.
    pub baggage_members_dropped: usize,
    /// Headers of rollouts and variants that are beyond what may be set.
    pub headers_dropped: usize,
}

/// What the response gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Values of `set-cookie`.
    pub cookies: Vec<String>,
    /// The value of `x-mulkko-explain`, where a pass asked for it; empty: there is none.
    pub explain: Option<String>,
}

/// The effects of `decisions`, made under `policy`, on `request`. Without a policy only what Trust removes goes.
#[must_use]
pub fn effects<'a>(policy: Option<&'a Policy>, decisions: &Decisions, request: &Request<'a>) -> Effects<'a> {
    let mut effects = Effects::default();
    let mut writing = Writing { request: *request, set: Vec::new(), removed: Vec::new(), dropped: 0 };
    let mut members = Vec::new();
    if let Some(policy) = policy {
        writing.decisions(policy, decisions, &mut effects.states, &mut members);
        writing.flags(policy, decisions);
        writing.mirror(policy, decisions);
        effects.response.cookies = writing.cookies(policy, decisions);
    }
    effects.baggage_members_dropped = writing.baggage(policy, &members);
    writing.cleaned();
    if request.trust() == Trust::Edge {
        writing.set.extend(request.passes.header().map(|passes| (PASS, Cow::Owned(passes.into_bytes()))));
    }
    if request.passes.explain() {
        effects.response.explain = Some(policy.map_or_else(String::new, |policy| explain(policy, decisions)));
    }
    effects.headers_dropped = writing.dropped;
    effects.edits = writing.edits();
    effects
}

/// The headers that a request gets.
struct Writing<'a> {
    request: Request<'a>,
    set: Vec<(&'a str, Cow<'a, [u8]>)>,
    removed: Vec<&'a [u8]>,
    /// How many were left out.
    dropped: usize,
}

impl<'a> Writing<'a> {
    /// How many headers are left for rollouts and variants: mulkko's own come first.
    fn room(&self, policy: &Policy, decisions: &Decisions) -> usize {
        let has_cluster = |decision: &Decision| {
            let variant =
                policy.rollout(decision.rollout).and_then(|rollout| rollout.variant(decision.variant));
            decision.applies && variant.is_some_and(|variant| variant.cluster.is_some())
        };
        let own = [
            !decisions.list.is_empty(),
            decisions.list.iter().any(has_cluster),
            !decisions.flags.is_empty(),
            decisions.shadow.is_some(),
            !decisions.minted.is_empty(),
            self.request.passes.header().is_some(),
        ];
        MOST_HEADERS - own.into_iter().filter(|it| *it).count()
    }

    /// Headers, filter states and baggage members of every decision. The first to set a header or the cluster wins.
    fn decisions(
        &mut self,
        policy: &'a Policy,
        decisions: &Decisions,
        states: &mut Vec<(&'a str, &'a str)>,
        members: &mut Vec<Member<'a>>,
    ) {
        states.reserve(2 * decisions.list.len());
        let mut room = self.room(policy, decisions);
        let mut of_variants: Vec<(&'a str, Cow<'a, [u8]>)> = Vec::new();
        let mut cluster = None;
        let mut entries = mesh::Room::default();
        for decision in &decisions.list {
            let Some(rollout) = policy.rollout(decision.rollout) else { continue };
            let Some(variant) = rollout.variant(decision.variant) else { continue };
            states.push((rollout.called.state(), &variant.name));
            states.push((rollout.called.reason_state(), decision.reason.as_str()));
            let hour = || mesh::hour(self.request.proxy.now_ms());
            let mut voucher =
                |macs: &Macs| macs.voucher(policy, decision.rollout, decision.variant, hour(), &mut entries);
            members.push(Member {
                rollout: &rollout.name,
                text: rollout.member(variant),
                voucher: self.request.macs.map_or(Voucher::None, &mut voucher),
            });
            self.named(rollout.called.header(), &variant.name, &mut room);
            if decision.applies {
                self.dropped += variant_headers(variant, &mut of_variants, &mut room);
                cluster = cluster.or(variant.cluster.as_deref());
            }
        }
        self.set.append(&mut of_variants);
        self.set.extend(cluster.map(|cluster| (CLUSTER, Cow::Borrowed(cluster.as_bytes()))));
    }

    /// The header of a rollout. Where there is no room for it, what an earlier hop says otherwise does not stay either.
    fn named(&mut self, name: &'a str, variant: &'a str, room: &mut usize) {
        if *room > 0 {
            *room -= 1;
            return self.set.push((name, Cow::Borrowed(variant.as_bytes())));
        }
        self.dropped += 1;
        if self.request.headers.came(name).is_some_and(|came| *came != *variant.as_bytes()) {
            self.removed.push(name.as_bytes());
        }
    }

    /// The exported flags. Where none of them has a value, what an earlier hop says of its own does not stay either.
    fn flags(&mut self, policy: &'a Policy, decisions: &Decisions) {
        let members = decisions.flags.iter().filter_map(|(flag, resolution)| {
            let variant = policy.flag(*flag)?.variant(resolution.variant?)?;
            Some(variant.member.as_bytes())
        });
        let mut value = Vec::new();
        for member in members {
            if !value.is_empty() {
                value.extend_from_slice(b", ");
            }
            value.extend_from_slice(member);
        }
        if !value.is_empty() {
            self.set.push((FLAGS, Cow::Owned(value)));
        } else if !decisions.flags.is_empty() && self.request.headers.count(FLAGS) > 0 {
            self.removed.push(FLAGS.as_bytes());
        }
    }

    /// Where the proxy copies the request to.
    fn mirror(&mut self, policy: &'a Policy, decisions: &Decisions) {
        let rollout = decisions.shadow.and_then(|it| policy.rollout(it.rollout));
        if let Some(shadow) = rollout.and_then(|it| it.shadow.as_ref()).filter(|it| it.comparison.is_none()) {
            self.set.push((MIRROR, Cow::Borrowed(shadow.cluster.as_bytes())));
        }
    }

    /// The request's `cookie` with the minted ids, and what the browser is to keep.
    fn cookies(&mut self, policy: &'a Policy, decisions: &Decisions) -> Vec<String> {
        let mut header = None;
        for (mint, minted) in minted_ids(policy, &decisions.minted) {
            let before = header.take().or_else(|| self.request.headers.value("cookie").map(Cow::into_owned));
            header = Some(cookie::replace(before.as_deref(), &mint.cookie, &minted.id));
        }
        self.set.extend(header.map(|header| ("cookie", Cow::Owned(header))));
        set_cookies(policy, &decisions.minted, self.request.headers)
    }

    /// `baggage` with a member for each decision; how many it had no room for.
    fn baggage(&mut self, policy: Option<&Policy>, members: &[Member<'_>]) -> usize {
        let inbound = self.request.headers.value("baggage");
        let lacks = |name: &str| policy.is_none_or(|policy| policy.rollout_named(name).is_none());
        let has_keys = self.request.macs.is_some_and(Macs::has_keys);
        let rewritten = baggage::rewrite(inbound.as_deref(), members, has_keys.then_some(&lacks));
        match rewritten.header {
            Header::Unchanged => {}
            Header::Removed => self.removed.push(b"baggage"),
            Header::Set(value) => self.set.push(("baggage", Cow::Owned(value))),
        }
        rewritten.dropped
    }

    /// What is left of headers of which members are not believed, where nothing else is set.
    fn cleaned(&mut self) {
        for (name, rest) in self.request.headers.cleaned() {
            let is_done =
                self.set.iter().any(|(set, _)| set.as_bytes() == *name) || self.removed.contains(name);
            match str::from_utf8(name) {
                _ if is_done => {}
                Ok(name) if !rest.is_empty() => self.set.push((name, Cow::Borrowed(rest))),
                _ => self.removed.push(name),
            }
        }
    }

    /// The fewest changes that leave the request with the headers set, and without those that go.
    fn edits(mut self) -> Vec<Edit<'a>> {
        let headers = self.request.headers;
        let is_set = |name: &[u8]| self.set.iter().any(|(set, _)| set.as_bytes() == name);
        let mut forged: Vec<&[u8]> = headers.forged().filter(|name| !is_set(name)).collect();
        self.removed.append(&mut forged);
        // Each as often as it came, which may be often.
        self.removed.sort_unstable();
        self.removed.dedup();
        let mut edits: Vec<Edit<'a>> = self.removed.into_iter().map(Edit::Remove).collect();
        for (name, value) in self.set {
            match headers.count(name) {
                0 => {}
                1 if headers.came(name).as_ref() == Some(&value) => continue,
                1 => {}
                // Setting a header replaces the first of its name only.
                _ => edits.push(Edit::Remove(name.as_bytes())),
            }
            edits.push(Edit::Set(name, value));
        }
        edits
    }
}

/// The values of `set-cookie` that keep ids which were drawn for a request.
#[must_use]
pub fn set_cookies(policy: &Policy, minted: &[Minted], headers: &Headers<'_>) -> Vec<String> {
    let is_secure = || headers.value(":scheme").is_some_and(|scheme| &*scheme == b"https");
    let cookies = minted_ids(policy, minted)
        .map(|(mint, minted)| cookie::set_cookie(&mint.cookie, &minted.id, mint.max_age_s, is_secure()));
    cookies.collect()
}

fn minted_ids<'m>(policy: &'m Policy, minted: &'m [Minted]) -> impl Iterator<Item = (&'m Mint, &'m Minted)> {
    minted.iter().filter_map(|minted| Some((policy.keys.get(minted.key.0)?.mint.as_ref()?, minted)))
}

/// The headers of a variant, less those that an earlier one has set; how many of them found no room.
fn variant_headers<'a>(
    variant: &'a Variant,
    set: &mut Vec<(&'a str, Cow<'a, [u8]>)>,
    room: &mut usize,
) -> usize {
    let mut headers = variant.headers.iter();
    while *room > 0 {
        let Some((name, value)) = headers.next() else { return 0 };
        if !set.iter().any(|(earlier, _)| *earlier == &**name) {
            *room -= 1;
            set.push((name, Cow::Borrowed(value.as_bytes())));
        }
    }
    headers.len()
}

/// The decisions as a dictionary of RFC 9651: `checkout-v2="stable";reason=SPLIT;bucket=1432957083`.
#[must_use]
pub fn explain(policy: &Policy, decisions: &Decisions) -> String {
    let mut text = String::new();
    for decision in &decisions.list {
        let Some(rollout) = policy.rollout(decision.rollout) else { continue };
        let Some(variant) = rollout.variant(decision.variant) else { continue };
        let comma = if text.is_empty() { "" } else { ", " };
        let (name, reason) = (&rollout.name, decision.reason);
        // Writing to a String does not fail.
        let _ = write!(text, "{comma}{name}=\"{}\";reason={reason}", variant.name);
        if let Some(bucket) = decision.bucket {
            let _ = write!(text, ";bucket={}", bucket.0);
        }
    }
    text
}
