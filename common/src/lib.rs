//! What every Quorate binary needs. A plain list of rooms; each room's `mod.rs` says its job and what it must never do.

mod causes;
pub mod config;
pub mod expression;
pub mod saved;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod wire;

pub use causes::with_causes;
