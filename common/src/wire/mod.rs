//! Messages to things and back: the only room where proto types and model types meet.
//!
//! Job: take every message apart completely, check each field against its limit, and name the field that is wrong; and
//! write things as messages. Must never: decide, read a clock, or let a proto type through to the rest.
//!
//! One file per resource, with `read_…` (message to thing, may say [`Invalid`]) and `write_…` (thing to message, cannot
//! fail). Reading destructures the message without `..`, so that a new field does not go unnoticed.

pub mod agent;
pub mod artifact;
pub mod backup;
pub mod calendar;
pub mod config;
pub mod data;
pub mod enums;
pub mod failover;
pub mod group;
pub mod invalid;
pub mod limits;
pub mod maintenance;
pub mod number;
pub mod outcome;
pub mod policy;
pub mod preflight;
pub mod probe;
pub mod release;
pub mod rollout;
pub mod schedule;
pub mod secret;
pub mod selector;
pub mod service;
pub mod status;
pub mod text;
pub mod time;
pub mod traffic;
pub mod window;

pub use invalid::Invalid;
pub use status::Problem;
