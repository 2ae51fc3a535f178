//! Field names of log lines, in one place, so that a query written once keeps working.
//!
//! `tracing` macros need literal names; these constants are what the tests and the docs compare with.

/// The node a line is about.
pub const NODE: &str = "node";
/// The coordinator member a line is about.
pub const MEMBER: &str = "member";
/// The service group.
pub const GROUP: &str = "group";
/// The service.
pub const SERVICE: &str = "service";
/// The operation id.
pub const OPERATION: &str = "operation";
/// The execution id.
pub const EXECUTION: &str = "execution";
/// The request id of the caller.
pub const REQUEST: &str = "request";
/// Who asked: `user:alice`, `agent:node1`, `coordinator:2`, `system`.
pub const PRINCIPAL: &str = "principal";
/// The remote address.
pub const PEER: &str = "peer";
/// A certificate's serial number.
pub const SERIAL: &str = "serial";
/// Why: a stable lower-case word, or an `UPPER_SNAKE` refusal code.
pub const REASON: &str = "reason";
/// The gRPC method path.
pub const METHOD: &str = "method";
/// An error with its causes.
pub const ERROR: &str = "error";
/// A span of time in milliseconds.
pub const ELAPSED_MS: &str = "elapsed_ms";

/// Every name above, for the test that they are unique.
pub const ALL: &[&str] = &[
    NODE, MEMBER, GROUP, SERVICE, OPERATION, EXECUTION, REQUEST, PRINCIPAL, PEER, SERIAL, REASON, METHOD,
    ERROR, ELAPSED_MS,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        assert_eq!(super::ALL.iter().collect::<BTreeSet<_>>().len(), super::ALL.len());
    }
}
