//! Tests of the heart across its rooms: transcripts, properties, frozen bytes.

mod agents;
mod alarms;
mod approvals;
mod artifacts;
mod budget;
mod doors;
mod freezes;
mod frozen;
mod gates;
mod hooks;
mod leases;
mod liveness;
mod members;
mod samples;
mod schedules;
mod sequences;
mod transcripts;
mod windows;
mod world;
