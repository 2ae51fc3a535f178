//! The vocabulary of Quorate: ids, time, counts, names, actions, outcomes, refusals, error codes.
//!
//! Job: give every thing one name and one type, for all crates, on disk and in memory.
//! Must never: do IO, read a clock, draw randomness, use floats, or decide anything. What decides is `quorate-core`.
//!
//! **Architecture Invariant:** these types are what is written to disk (MessagePack with field names) and what crosses
//! the edge through `quorate_common::wire`. A field that was released is never renamed; new fields carry `#[serde(default)]`.
#![no_std]
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

extern crate alloc;

#[macro_use]
mod enums;

pub mod action;
pub mod alert;
pub mod approval;
pub mod artifact;
pub mod backup;
pub mod calendar;
pub mod config;
pub mod data;
pub mod group;
pub mod id;
pub mod lease;
pub mod maintenance;
pub mod node;
pub mod number;
pub mod observe;
pub mod operation;
pub mod outcome;
pub mod preflight;
pub mod principal;
pub mod probe;
pub mod reason;
pub mod refusal;
pub mod release;
pub mod rollout;
pub mod schedule;
pub mod secret;
pub mod selector;
pub mod service;
pub mod session;
pub mod time;
pub mod traffic;
pub mod window;

pub use action::{ActionKind, ActionOutcome, ActionSpec, RiskClass};
pub use approval::{ApprovalState, Approvers, InvalidPolicy, PolicySpec};
pub use artifact::{ArtifactSpec, InvalidArtifact};
pub use calendar::{FreezeSpec, FreezeState, InvalidFreeze};
pub use config::{ConfigApply, ConfigSpec};
pub use data::{DataSpec, DataVerb};
pub use group::{
    AlarmLevel, BftRounding, GroupSpec, GroupState, InstanceRole, MembershipSpec, MembershipVerb,
    MissingVoter, QuorumPolicy, Sync,
};
pub use id::*;
pub use lease::{
    FailoverSpec, FailoverState, HeldLease, LeaseAnswer, LeaseHold, LeaseRenewal, LeaseState, LeaseTimes,
};
pub use maintenance::{MaintenanceSpec, SilenceSpec};
pub use node::{Drain, NodeStatus, Scheduling};
pub use number::Millionths;
pub use observe::{InstanceReading, Listed, ProbeReading};
pub use operation::{
    ConditionReason, ExecutionState, ObligationState, OperationKind, OperationState, StepKind, StepState,
    WaveState,
};
pub use preflight::{PreflightSpec, Required};
pub use principal::{AccessRole, Principal, Role};
pub use probe::{Comparison, ProbeKind, ProbeSpec};
pub use reason::Reason;
pub use refusal::{OutMember, OutReason, Refusal};
pub use release::{Install, Release, ReleaseReceipt};
pub use rollout::{MigrationChoice, OnFailure, Promotion, Share, WavePolicy};
pub use schedule::{InvalidSchedule, MissedPolicy, Overlap, RunResult, ScheduleSpec};
pub use secret::{SecretSource, SecretSpec, SecretVerb};
pub use selector::{Selector, SelectorError};
pub use service::{Driver, HandoverSpec, InstanceState, MigrateSpec, MigrateWhen, ServiceSpec};
pub use time::{DurationMs, Timestamp};
pub use traffic::{OnTimeout, TrafficReceipt, TrafficSpec};
pub use window::{InvalidWindow, Occurrence, Recurrence, WindowSpec, WindowState};
