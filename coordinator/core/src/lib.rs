//! The heart of Quorate: replicated state, what changes it, what says no, what plans, what notices that it is time.
//!
//! Job: given an ordered log of [`Entry`], every replica reaches the same [`State`] and gives the same [`Answer`].
//! Must never: do IO, read a clock, draw randomness, use floats, or iterate in hash order. Time comes in with
//! [`Entry::at`], ids come in with the command, readings come in as evidence.
//!
//! **Architecture Invariant:** [`mod@apply`] and [`safety`] are what replicas must agree on; they never use [`mod@plan`],
//! [`mod@next`] or [`mod@desired`], which are heuristics of the leader and may change between releases.
//!
//! # How to add a command
//!
//! 1. Add a variant to its family in `command/`; every field it needs comes with it (ids minted by the proposer, time from
//!    the entry, readings as evidence). Name it in [`Command::name`].
//! 2. Handle it in the family's file in `apply/`: check first, change second, so that a refusal leaves no trace. Return a
//!    note for the audit when something changed.
//! 3. If a caller may repeat it with a request id, see [`Command::intent`]: ids that the proposer mints are masked there.
//! 4. Add it to `tests/golden.rs`, run with `UPDATE=1`, commit the new frozen bytes. Frozen lines are never edited.
//! 5. A new field on a released type carries `#[serde(default, skip_serializing_if = …)]`, so that old bytes read and the
//!    digests of old values stay what they were. A changed *behaviour* of `apply` goes behind `settings.level`.
#![no_std]
#![cfg_attr(
    not(test),
    warn(
        clippy::wildcard_enum_match_arm, // a new state or action must make someone decide
        clippy::arithmetic_side_effects, // an overflow would panic on every replica at once
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::float_arithmetic // floats round differently between machines
    )
)]

extern crate alloc;

pub mod apply;
pub mod command;
pub mod desired;
pub mod expand;
pub mod explain;
pub mod hash;
pub mod next;
pub mod observations;
pub mod plan;
pub mod safety;
pub mod state;

pub use apply::{Answer, apply};
pub use command::{Command, Entry, Origin};
pub use desired::{Desired, desired};
pub use explain::{Explanation, explain};
pub use hash::Hash;
pub use observations::Observations;
pub use state::State;
pub use state::plan::{Plan, PlanRequest};
