//! One member of the coordinator: the shell around `quorate_core`.

pub mod api;
pub mod http;
pub mod listen;
pub mod metrics;
pub mod raft;
pub mod store;
