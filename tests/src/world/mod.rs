//! The simulated world: real coordinators (Raft, leader loops, API, sessions) over a simulated network, on disks that lose
//! what had no barrier, under faults that a seed chooses. One process per seed; the same seed has to give the same trace,
//! byte for byte, which the gate checks with twenty seeds.
//!
//! Job: run one seed, keep what happened ([`evidence::Evidence`]), let [`crate::invariants`] judge it. Must never: decide
//! by a real clock or by unseeded randomness, skip a fault and call the run a pass, or look away when a member stops.
//!
//! A run has three phases: birth (a member makes the cluster, two or four more join), safety (load and faults), quiet (no
//! faults; everything must end, everybody must agree). It is *true* when no invariant is broken and the faults and the
//! load that were planned really happened; *unknown* when they did not.

pub mod agents;
pub mod board;
mod build;
pub mod clients;
pub mod entropy;
pub mod evidence;
pub mod faults;
pub mod kills;
pub mod machine;
pub mod member;
pub mod net;
pub mod operator;
pub mod post;
pub mod run;
pub mod shelf;
pub mod trace;
