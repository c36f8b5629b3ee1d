//! Feature flags: flagd's definitions, compiled, and what they resolve to.

use crate::decide::Reason;
use crate::json::Json;
use crate::logic::{Condition, Data, Failure, Library, Value};

/// A flag, by its place in the document.
pub type FlagId = u32;

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// Its key.
    pub key: Box<str>,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// Its values, in document order.
    pub variants: Box<[Variant]>,
    /// The variant where targeting names none; without one the caller's own default applies.
    pub default: Option<VariantIndex>,
    /// Which variant.
    pub targeting: Option<Condition>,
    /// What is told about it, that of the whole document included: a JSON object.
    pub metadata: Box<str>,
    /// Whether clients from outside may ask for it.
    pub public: bool,
}

/// A variant of a flag, by its place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VariantIndex(pub u16);

/// A named value of a flag.
#[derive(Debug)]
pub struct Variant {
    /// Its name.
    pub name: Box<str>,
    /// Its value, as conditions see it.
    pub value: Json,
    /// Its value as the document writes it, without spaces between.
    pub json: Box<str>,
    /// The member of `x-mulkko-flags` that tells it; empty unless the flag is exported.
    pub member: Box<str>,
}

/// What a flag resolves to, for one request or context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resolution {
    /// The variant; without one the caller's own default applies.
    pub variant: Option<VariantIndex>,
    /// Why: `STATIC`, `TARGETING_MATCH`, `DEFAULT` or `DISABLED`. Or why not.
    pub why: Result<Reason, Error>,
    /// Whether `fractional` was to hash a targeting key that is not there. flagd goes on with null then, OFREP has an
    /// error for it.
    pub lacks_key: bool,
}

/// Why a flag resolves to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// Its targeting refers to an evaluator that is not there.
    Parse,
    /// Its targeting names a variant that it lacks.
    NoSuchVariant,
    /// The budget of the request was used up before its targeting had a value.
    Exhausted,
}

impl Error {
    /// OpenFeature's code for it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Error::Parse => "PARSE_ERROR",
            Error::NoSuchVariant | Error::Exhausted => "GENERAL",
        }
    }
}

impl Flag {
    /// Resolves it, as flagd does.
    ///
    /// `library` is that of its policy. What `data` says is what targeting sees.
    #[must_use]
    pub fn resolve(&self, library: &Library, data: &dyn Data) -> Resolution {
        let resolved = |variant, reason| Resolution { variant, why: Ok(reason), lacks_key: false };
        let of_default = |reason| match self.default {
            Some(variant) => resolved(Some(variant), reason),
            None => resolved(None, Reason::Default),
        };
        if !self.enabled {
            return resolved(None, Reason::Disabled);
        }
        let Some(targeting) = &self.targeting else { return of_default(Reason::Static) };
        let evaluated = targeting.evaluated(library, data);
        let resolution = match evaluated.value {
            Ok(Value::Null) => of_default(Reason::Default),
            Ok(name) => match self.named(&name) {
                Some(variant) => resolved(Some(variant), Reason::TargetingMatch),
                None => Resolution { variant: None, why: Err(Error::NoSuchVariant), lacks_key: false },
            },
            Err(failure) => {
                let error = match failure {
                    Failure::Exhausted => Error::Exhausted,
                    Failure::UnknownEvaluator => Error::Parse,
                };
                Resolution { variant: None, why: Err(error), lacks_key: false }
            }
        };
        Resolution { lacks_key: evaluated.lacks_key, ..resolution }
    }

    /// The variant that a value names: by its text, so that `true` names `true`.
    fn named(&self, name: &Value<'_>) -> Option<VariantIndex> {
        let name = name.name()?;
        let i = self.variants.iter().position(|variant| *variant.name == *name)?;
        u16::try_from(i).ok().map(VariantIndex)
    }

    /// The variant of that number.
    #[must_use]
    pub fn variant(&self, index: VariantIndex) -> Option<&Variant> {
        self.variants.get(usize::from(index.0))
    }
}
