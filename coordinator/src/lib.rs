//! One member of the coordinator: the shell around `quorate_core`.

pub mod listen;
pub mod raft;
pub mod store;
