//! The command line of Quorate, and `quorate dev`, the local fleet.
//!
//! Job: read flags, call the API, show the answer. Must never: decide what is safe; a client asks, the coordinators decide.

pub mod args;
pub mod cli;
pub mod client;
pub mod commands;
pub mod confirm;
pub mod context;
pub mod dev;
pub mod failure;
pub mod files;
pub mod render;
pub mod tls;
pub mod watch;
