//! `log.rotate`: move full logs aside, keep some, lose nothing (I-23).
//!
//! Job: bring a log's rotated files `x.1`, `x.2.gz` … up to date by steps that each leave a state from which the next run
//! goes on. Must never: delete or truncate what a process still writes to, follow a link, or rotate in a folder where anybody
//! may swap names.
//!
//! What is guaranteed:
//! - **Renaming** (the default): no byte is lost, whatever the writer does and wherever a crash falls. The new log is made
//!   beside the old one and both swap names in one system call, so the log is never missing. The old file keeps its inode
//!   and is deleted or replaced by its compressed form only once no process has it open for writing. Where the helper may
//!   not look into every process (it does so as root), a file that did not change while it was compressed counts as left.
//! - **Copying** (`copy_truncate`): whole blocks at the front of the log are copied, synced, and then cut off in one system
//!   call (`FALLOC_FL_COLLAPSE_RANGE`) while writers go on appending: no byte is lost either. What does not fill a block
//!   stays in the log, so a line may begin in one file and end in the next, and a log of less than a block is not rotated.
//!   ext4 and xfs can do this. **On other file systems** the log is truncated when it is as long as its copy: bytes written
//!   in the instant between that look and the truncation are lost, as with every copytruncate; the outcome then says so.
//!   A writer that does not append (`O_APPEND`) leaves a hole of zeros after either.

pub(super) mod exec;
mod find;
mod log;
mod pack;
mod plan;

#[cfg(test)]
mod tests;
