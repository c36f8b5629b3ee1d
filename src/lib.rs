//! mulkko: progressive delivery decided inside the proxy.
//!
//! A plugin for Envoy that decides, for each request, which variant of a rollout answers and which values flags have, out
//! of one policy document.
//! This crate is the engine, which knows no proxy, and (on wasm32 only) the plugin around it. The README says what a
//! policy may say; this is the map of what makes it true.
//!
//! # The life of a request
//! 1. `plugin::stream` fetches all headers in one host call, and takes hold of the policy in force: this request sees
//!    no other.
//! 2. [`pass::read`] verifies the passes, before anything is removed.
//! 3. [`decide::decide`] finds the rollouts that match ([`matches::Index`]), and for each asks, in this order: is it
//!    disabled, passed, followed, forced, eligible ([`logic::Condition`]), held out, in its slice, whole at this
//!    instant ([`schedule::Schedule`]), and at last where its key lies ([`bucket::Seed`]). What a request holds is
//!    looked up when it is asked for, and once ([`decide::Values`]). Then the exported [`flag`]s are resolved.
//! 4. [`effects::effects`] works out what becomes of the request: headers, filter state, [`baggage`], [`cookie`]s; what
//!    [`decide::Trust`] does not believe is removed.
//! 5. `plugin::stream` carries that out, filter state first, so that the route is picked anew with all of it in place,
//!    and counts. With the response come the cookies that were minted and, for a pass that asks, the explanation.
//!
//! 6. A request that counts for a guard is counted when it has ended ([`guard::Guards::count`]).
//!
//! Without a policy, or where no rollout matches and no flag is exported, steps 4 and 5 only remove what is forged.
//!
//! A request below the prefix of [`ofrep`] goes nowhere: `plugin::ofrep` reads its body and sends the answer.
//!
//! # The life of a policy
//! 1. `plugin::root` reads the plugin configuration ([`configuration::Configuration`]). A policy that is published
//!    already, or stands inline, is in force before the first request.
//! 2. At every tick each root context looks for what another has published. The one that holds the [`lease`] also asks
//!    the config cluster, when [`update::Polling`] says so.
//! 3. Where policies must be signed, a document is first verified ([`jws::Opening`]): nothing of it is read before all of
//!    it is.
//! 4. A document is loaded a piece at a time, in turns of a few milliseconds ([`policy::Loading`]): cut into members
//!    and items of limited size, each read into its [`wire`] type and compiled. What is wrong is reported to
//!    [`finding::Findings`] with its place; the first finding refuses the document, and ends loading.
//! 5. [`update::Update`] takes the whole, or refuses it and changes nothing. A policy that was taken is published as
//!    the bytes that came ([`update::Published`]): every VM compiles for itself, since anybody may write shared data.
//! 6. The policy before it lives as long as a request holds it, and is freed in turns as well ([`policy::Parts`]), as is
//!    all else that is not needed any more.
//!
//! # The life of a verdict
//! 1. Each VM gathers the requests that it has seen end in windows of a second ([`guard::Watch`]).
//! 2. At its tick it adds closed windows to the process's case against the variant, in shared data, all of a window or
//!    nothing ([`guard::Record`]); who brings the evidence above the threshold writes the verdict beside it.
//! 3. Every VM finds it at its next tick ([`guard::Verdicts`]), and from then on [`decide::decide`] gives the default.
//! 4. It lapses when a policy of the same or a higher revision does not guard the variant any more.
//!
//! # The life of a copy
//! 1. [`decide::decide`] says whose shadow has a request copied; where the proxy is to do it, [`effects`] names the cluster.
//! 2. [`shadow::Shadows`] takes it by its headers, gathers its body, and has its copies sent at the next tick.
//! 3. Of each answer hashes are kept, and JSON ([`shadow::Printing`]); when all are there they are compared. JSON that is
//!    not the same to the byte is read first, in turns.
//! 4. Once a second a VM adds what it has seen to the process's record, in shared data, with the evidence of each field.
//!
//! # Modules
//! | job | modules |
//! |---|---|
//! | what documents may look like, and what is wrong with them | [`wire`], [`json`], [`finding`], [`configuration`] |
//! | what is true of a policy | [`policy`], [`mod@matches`], [`logic`], [`pattern`], [`schedule`], [`bucket`], [`moment`], [`flag`], [`murmur3`] |
//! | what a request holds | [`headers`], [`authority`], [`query`], [`cookie`], [`baggage`], [`pass`] |
//! | deciding, and what follows from it | [`decide`], [`effects`], [`structured`] |
//! | flags for who asks for them | [`ofrep`] |
//! | taking the traffic back | [`guard`] |
//! | what a new version would have answered | [`shadow`] |
//! | how a policy comes into force | [`update`], [`lease`] |
//! | deciding without a proxy | [`dry_run`], [`cases`] |
//! | texts that the command reads and edits | `command` |
//! | what is likely not what was meant | [`lint`] |
//! | the proxy: host calls, root contexts, streams, metrics, shared data | `plugin` |
//!
//! # Invariants
//! * Nothing outside `plugin` can see the proxy: `proxy-wasm` is a dependency of the feature `plugin` on wasm32 alone, so an
//!   engine that reached for it would not compile without it (`--no-default-features`). So its tests run, natively and as
//!   wasm, and need nothing that the command needs (the feature `command`).
//! * The engine has no clock, no randomness, no I/O and no log: instants, ids and properties come through
//!   [`decide::Proxy`], or as arguments.
//! * A decision cannot fail: [`decide::decide`] has no error to give. A policy cannot fail later: what could is refused
//!   when it is compiled.
//! * There is no policy in part. A refused document leaves nothing behind but its ETag.
//! * There is one evaluator, and one wording of each refusal ([`finding::Problem`]).
//! * Nothing is parsed for a request: no JSON of the policy is left but the values of flags, no percentage is a float,
//!   no name is looked up that the policy could resolve. (A pass is, after its signature has been verified, and so is
//!   the context for which somebody asks for flags.)
//! * Nothing of a request grows without bound: keys, texts, passes, baggage and the steps of a condition have limits,
//!   and no label of a metric comes from a request.
//! * Nothing panics: a panic kills every stream of a worker. The lints deny what does, and `unsafe` stands in
//!   `plugin::host` alone, where each host call returns a `Result`.
//! * The plugin never refuses its configuration: Envoy would not start, or be left without the filter.

pub mod authority;
pub mod baggage;
pub mod bucket;
pub mod budget;
pub mod cases;
#[cfg(all(feature = "texts", not(target_arch = "wasm32")))]
pub mod command;
pub mod configuration;
pub mod cookie;
pub mod decide;
pub mod dry_run;
pub mod effects;
pub mod finding;
pub mod flag;
pub mod forged;
pub mod guard;
pub mod headers;
pub mod json;
pub mod jws;
#[cfg(test)]
mod laws;
pub mod lease;
pub mod lint;
pub mod logic;
pub mod matches;
pub mod mesh;
pub mod missing;
pub mod moment;
pub mod murmur3;
pub mod ofrep;
pub mod pass;
pub mod pattern;
pub mod policy;
pub mod query;
pub mod schedule;
pub mod shadow;
pub mod structured;
pub mod update;
pub mod wire;

#[cfg(all(target_arch = "wasm32", feature = "command"))]
compile_error!(
    "the command runs on no wasm32: --no-default-features leaves it out, --features plugin adds the plugin"
);

#[cfg(all(target_arch = "wasm32", feature = "plugin"))]
mod plugin;
