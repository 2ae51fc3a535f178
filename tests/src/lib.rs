//! What tests across rooms share: waiting for a predicate, finding the workspace, real fleets on loopback.
//!
//! Must never: be published, or hold a rule of the product. What is tested lives in its own crate.

pub mod cluster;
pub mod crash;
pub mod fuzz;
pub mod harness;
pub mod history;
pub mod invariants;
pub mod lab;
pub mod outside;
pub mod preload;
pub mod proxied;
pub mod proxy;
pub mod wait;
pub mod workspace;
pub mod world;
pub mod writer;
