//! How much of everything one message may hold. Each is far above what a real fleet needs and far below what hurts.

/// Longest reason of a change, in bytes (proto: `ChangeOptions.reason`).
pub const REASON_MAX_BYTES: usize = 512;
/// Most labels of one thing; the replicated state has the same limit.
pub const LABELS_MAX: usize = 64;
/// Longest label key or value in bytes; the replicated state has the same limit.
pub const LABEL_MAX_BYTES: usize = 128;
/// Most names and globs in a selector: as many as one page of nodes.
pub const SELECTOR_NAMES_MAX: usize = 1_000;
/// Longest glob in bytes: a name of 63 with wildcards between.
pub const GLOB_MAX_BYTES: usize = 128;
/// Most probes of one service; the replicated state has the same limit.
pub const PROBES_MAX: usize = 16;
/// Most comparisons of one HTTP probe.
pub const CHECKS_MAX: usize = 16;
/// Most accepted HTTP status codes.
pub const STATUS_CODES_MAX: usize = 32;
/// Longest URL, address, path or JSON text in a specification, in bytes.
pub const SPEC_TEXT_MAX_BYTES: usize = 1_024;
/// Most arguments of a probe's program.
pub const ARGV_MAX: usize = 64;
/// Most labels that choose a metric's series; the replicated state has the same limit.
pub const SERIES_LABELS_MAX: usize = 16;
/// Largest increase of a metric that may be asked for, in percent; the replicated state has the same limit.
pub const INCREASE_PERCENT_MAX: u32 = 100_000;
/// Longest expression of a probe, in bytes.
pub const EXPRESSION_MAX_BYTES: usize = 1_024;
/// Most paths or patterns of a backup or rotation.
pub const PATHS_MAX: usize = 64;
/// Most nodes that have their own variables in one service: the largest group has 500 members, and some spare.
pub const VARS_NODES_MAX: usize = 1_000;
/// Most variables of one instance.
pub const VARS_MAX: usize = 64;
/// Most voters or learners of one group; the replicated state has the same limit.
pub const GROUP_MEMBERS_MAX: usize = 500;
/// Longest duration anybody may ask for, in milliseconds: one year.
pub const DURATION_MAX_MS: u64 = 366 * 24 * 3_600 * 1_000;
/// Longest page token in bytes: it carries one name.
pub const PAGE_TOKEN_MAX_BYTES: usize = 256;
/// Largest page.
pub const PAGE_MAX: u32 = 1_000;
/// Longest single text in an action's outcome, in bytes, apart from the output's tail.
pub const OUTCOME_TEXT_MAX_BYTES: usize = 1_024;
/// Most findings, disks, addresses, rotated files or extra facts in one report.
pub const OUTCOME_LIST_MAX: usize = 256;
/// Most bytes of an artifact in one message between a client, or a fellow member, and a coordinator.
pub const ARTIFACT_CHUNK_MAX_BYTES: u32 = 256 * 1024;
/// Most bytes of an artifact in one message to an agent, whose messages have at most 256 KiB in all.
pub const ARTIFACT_FETCH_MAX_BYTES: u32 = 128 * 1024;
