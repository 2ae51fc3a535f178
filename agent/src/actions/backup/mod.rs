//! `backup.create` and `backup.verify`: a copy that is proved before anybody may call it good (I-22).
//!
//! Job: read a tree consistently, write it as `tar` + zstd with a manifest of every file's sha256, sync it, read it again in
//! full, and only then give it its name. Must never: follow a link, publish what was not verified, replace an existing
//! archive, or leave writes paused: the undo is an obligation before the pause begins.
//!
//! **Architecture Invariant:** a file called `<id>.tar.zst` was complete, synced and verified when it got that name. All
//! else is `.part`, and removed.
//!
//! Consistency (X9): every entry's size, times, mode and inode are noted when it is read and compared with a second walk
//! after the last byte, before writes resume. One difference, and the attempt is thrown away; it is done once more, then it
//! is a failed backup that names the file. So the copy is of one moment, or there is none.

mod copy;
mod create;
pub(super) mod exec;
mod manifest;
mod member;
mod plan;
mod store;
mod verify;
mod walk;
mod writer;

#[cfg(test)]
mod tests;
