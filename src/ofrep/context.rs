//! The context of an evaluation: the body of a request for flags, and the request itself.

use crate::decide::{Request, Values};
use crate::effects::set_cookies;
use crate::flag::{Flag, Resolution};
use crate::json::Json;
use crate::policy::Policy;

/// What a context cannot say, because it means the request.
const OF_THE_REQUEST: [&str; 4] = ["request", "client", "node", "$flagd"];

/// What the body of a request says of whom flags are asked for: an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    json: Json,
    breadth: usize,
}

impl Context {
    /// Reads a body: `{"context": {…}}`. No body and no context are an empty one.
    ///
    /// # Errors
    /// What is wrong with it, in a line that quotes none of it.
    pub fn read(body: &[u8]) -> Result<Context, String> {
        let body = body.trim_ascii();
        let json = match body {
            b"" => Json::Object(Vec::new()),
            body => serde_json::from_slice(body).map_err(|error| format!("expected JSON: {error}"))?,
        };
        let Json::Object(members) = json else {
            return Err(format!("expected an object, found {}", json.kind()));
        };
        // Of a name that stands twice the last counts, as with most readers of JSON.
        let context = members.into_iter().rev().find(|(name, _)| &**name == "context");
        match context.map(|(_, context)| context) {
            None | Some(Json::Null) => Ok(Context { json: Json::Object(Vec::new()), breadth: 0 }),
            Some(Json::Object(mut members)) => {
                members.retain(|(name, _)| !OF_THE_REQUEST.contains(&&**name));
                let json = Json::Object(members);
                Ok(Context { breadth: json.breadth(), json })
            }
            Some(other) => Err(format!("context: expected an object, found {}", other.kind())),
        }
    }

    /// The object.
    #[must_use]
    pub fn json(&self) -> &Json {
        &self.json
    }

    /// How many members the largest object in it has.
    #[must_use]
    pub fn breadth(&self) -> usize {
        self.breadth
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
        flag.resolve(&self.policy.library, &self.values.seen_by(flag, Some(self.context)))
    }

    /// The cookies that keep the ids that were drawn.
    #[must_use]
    pub fn cookies(self) -> Vec<String> {
        set_cookies(self.policy, &self.values.into_minted(), self.request.headers)
    }
}
