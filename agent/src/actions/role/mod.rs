//! `role.promote`: an instance is made the primary by a hook that the host declares, under a lease that lives.
//!
//! Must never: begin without a lease of this execution's own epoch that lives long enough, let the hook go on once the lease is
//! over, or call a promotion done whose lease is not live any more.

pub(super) mod exec;
mod plan;

#[cfg(test)]
mod tests;
