//! The crash suite's tools: a shim that knows what a power cut would leave, loads, and their checks.
//!
//! README.md in this folder says how it works and why the shim's calls, not failpoints in the product, enumerate the
//! moments of a crash. Must never: be linked into anything that is shipped, or call a state good that was not opened.

pub mod coordinator_load;
pub mod journal_load;
pub mod log_load;
pub mod place;
pub mod rng;
pub mod run;
pub mod shim;
pub mod store_load;
