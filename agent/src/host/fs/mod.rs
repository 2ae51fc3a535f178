//! Files: our own state files, and paths that a caller names.
//!
//! Job: let actions read, write and list below the roots that the host's own configuration names, and nowhere else.
//! Must never: follow a symbolic link, cross a mount, open what is not a regular file, or check a path and then use it
//! by name again (I-29, B-7). Reason: everything here may run as root on paths that another user of the host prepares.
//!
//! How: `openat2` with `RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS|NO_XDEV` below a root opened afresh each time; a file is first
//! opened as a mere handle (`O_PATH`), looked at, and then opened through that handle, so nothing is opened by a name
//! that could have been swapped meanwhile, and no FIFO or device is ever really opened.

mod own;
mod roots;
mod walk;
mod write;

#[cfg(test)]
mod tests;

pub use own::{read_limited, replace_same, write_atomic};
pub use roots::{Place, ROOTS_MAX, Roots, Space, check_path};
pub use walk::{Kind, WalkEntry, WalkLimits};
pub use write::{Attrs, TempFile};
