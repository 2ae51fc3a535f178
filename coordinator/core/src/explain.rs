//! Why something waits or was refused, and who holds what.

use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{Refusal, Timestamp};
use serde::{Deserialize, Serialize};

use crate::observations::Observations;
use crate::state::State;

/// An answer to "why?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What the id is: `operations/r-…`, `nodes/node3`, `groups/ledger`, …
    pub subject: String,
    /// Its state, one word.
    pub state: String,
    /// One sentence.
    pub headline: String,
    /// Facts, subject and text.
    pub facts: Vec<(String, String)>,
    /// What would refuse its next step now, if anything.
    pub refusal: Option<Refusal>,
    /// What to do; empty when nothing is.
    pub hint: String,
}

/// Why the thing with this id waits; none when there is no such thing. `id` may be the last part of a resource name.
#[must_use]
pub fn explain(state: &State, obs: &Observations, id: &str, now: Timestamp) -> Option<Explanation> {
    let _ = (state, obs, id, now);
    None
}
