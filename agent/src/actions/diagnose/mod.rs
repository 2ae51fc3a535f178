//! `host.diagnose`: walks what an operator would look at when a service is down, and says what looks wrong (A13, M1).
//!
//! Job: units of the services here, disks, inodes, memory, load, pressure, out-of-memory kills, clock, ports, top processes;
//! each as a finding with what it rests on. Must never: change anything, show a command line or an environment (secrets live
//! there), fail as a whole because one source is unreadable, or grow without bound.

pub(super) mod exec;
mod parse;
mod plan;

pub(super) use exec::available_memory;
