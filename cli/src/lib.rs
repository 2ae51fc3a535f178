//! The command line of Quorate, and `quorate dev`, the local fleet.

pub mod dev;
