//! One member of the coordinator: the shell around `quorate_core`.

pub mod api;
pub mod artifacts;
pub mod config;
pub mod http;
pub mod leader;
pub mod leases;
pub mod listen;
pub mod member;
pub mod metrics;
pub mod observe;
pub mod options;
pub mod raft;
pub mod sessions;
pub mod store;
mod zones;
