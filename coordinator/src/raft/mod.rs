//! Consensus: thin adapters between openraft 0.9 and our store, our wire and our state machine.
//!
//! **Job.** Turn a command into a log index and an answer, on every member the same, whatever crashes in between; tell
//! who leads; answer from which index on a read is linearizable.
//!
//! **Invariants** (reliability.md §3.2).
//! - R1 A vote, an append, a truncation and a purge return only after `fdatasync`; concurrent ones share it.
//! - R2 The committed index is durable before anything is applied ([`crate::store::CommittedFile`]).
//! - R3 The state lives in memory; applying changes state, last applied index and membership under one lock.
//! - R4 A store that does not cover what this member promised is refused ([`crate::store::StoreRefused`]).
//! - R5 Every request between members names cluster, sender and target, and the sender must be the certificate's.
//! - R6 One membership change at a time, a voter only after it caught up and stayed healthy.
//! - I-7 Members compare digests of their states; one that stands alone with its own stops and must rejoin.
//! - R8 A storage error stops the node; [`RaftNode::failed`] resolves and the process must exit non-zero.
//! - R10 A write whose end was not seen is [`ProposeError::Unknown`], never "failed".
//! - R11 A snapshot is checked whole before it touches the state.
//!
//! **Absent on purpose.** No decision depends on a clock here (the command carries its time), no command is looked
//! into, and nothing retries a write that may have been written.

mod codec;
mod config;
mod core;
mod error;
mod grpc;
mod handler;
mod log_store;
mod machine;
mod membership;
mod network;
mod node;
mod proposer;
mod reader;
mod refound;
mod replicas;
mod service;
mod snapshot_rule;
mod status;
mod succession;
mod transfer;
mod transport;
mod types;

pub use config::RaftConfig;
pub use error::{Failure, MembershipError, ProposeError, ReadError, StartError, TransferError};
pub use grpc::{Dial, GrpcTransport, Purpose};
pub use handler::{Hooks, NoHooks, PeerHandler};
pub use machine::{Machine, StateHandle};
pub use node::RaftNode;
pub use refound::{Position, Standing, decode_state, lay_down, read_back};
pub use replicas::StateDigest;
pub use service::PeerServer;
pub(crate) use service::read_header;
pub use status::{Counters, MemberRole, MemberStatus, RaftStatus, StatusWatch};
pub use transfer::Transferred;
pub use transport::{Call, Header, PeerError, PeerReply, PeerRequest, PeerStatus, Refusal, Transport};
#[cfg(test)]
mod tests;
