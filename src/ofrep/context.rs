//! The context of an evaluation: the body of a request for flags, and the request itself.

use crate::budget::Budget;
use crate::decide::{Request, Values};
use crate::effects::set_cookies;
use crate::flag::{Flag, Resolution};
use crate::json::{Json, Sorted};
use crate::logic::Way;
use crate::policy::Policy;

/// What a context cannot say, because it means the request.
const OF_THE_REQUEST: [&str; 4] = ["request", "client", "node", "$flagd"];

/// What the body of a request says of whom flags are asked for: an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context(Sorted);

impl Context {
    /// Reads a body: `{"context": {…}}`. No body and no context are an empty one.
    ///
    /// # Errors
    /// What is wrong with it, in a line that quotes none of it.
    pub fn read(body: &[u8]) -> Result<Context, String> {
        let body = body.trim_ascii();
        let json = match body {
            b"" => return Ok(Context::default()),
            body => serde_json::from_slice(body).map_err(|error| format!("expected JSON: {error}"))?,
        };
        let Json::Object(members) = json else {
            return Err(format!("expected an object, found {}", json.kind()));
        };
        // Of a name that stands twice the last counts, as with most readers of JSON.
        let context = members.into_iter().rev().find(|(name, _)| &**name == "context");
        match context.map(|(_, context)| context) {
            None | Some(Json::Null) => Ok(Context::default()),
            Some(Json::Object(mut members)) => {
                members.retain(|(name, _)| !OF_THE_REQUEST.contains(&&**name));
                Ok(Context(Sorted::new(Json::Object(members))))
            }
            Some(other) => Err(format!("context: expected an object, found {}", other.kind())),
        }
    }

    /// The context without what the request that asks says itself: at the edge that goes first, however it is looked
    /// at.
    #[must_use]
    pub fn without_known(mut self, values: &Values<'_>) -> Context {
        values.known_ways(|way| self.0.follow(way).is_some()).iter().for_each(|way| self.0.remove(way));
        self
    }

    /// The member `name`.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Json> {
        self.0.member(name)
    }

    /// Where `way` leads.
    #[must_use]
    pub fn follow(&self, way: &Way) -> Option<&Json> {
        self.0.follow(way)
    }
}

/// Flags being evaluated for one request, one after the other.
pub struct Evaluating<'a> {
    policy: &'a Policy,
    request: Request<'a>,
    context: &'a Context,
    values: Values<'a>,
}

impl<'a> Evaluating<'a> {
    /// Under `policy`, for who asks with `request`.
    #[must_use]
    pub fn new(policy: &'a Policy, request: Request<'a>, context: &'a Context) -> Evaluating<'a> {
        Evaluating { policy, request, context, values: Values::new(policy, request) }
    }

    /// What a flag of the policy resolves to.
    #[must_use]
    pub fn resolve(&self, flag: &'a Flag) -> Resolution {
        self.values.resolve(flag, Some(self.context))
    }

    /// What is left of what the request may ask.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.values.budget()
    }

    /// The cookies that keep the ids that were drawn.
    #[must_use]
    pub fn cookies(self) -> Vec<String> {
        set_cookies(self.policy, &self.values.into_minted(), self.request.headers)
    }
}
