//! Standard error that cannot fail.
//!
//! A log may lie on a full disk. `eprintln!` panics then, and so does tracing's own report of a line that was not written:
//! in the middle of whatever was worth a log line. A process must rather be silent than end for want of a listener.

use std::fmt::Display;
use std::io::{self, Write};

/// Standard error; what cannot be written is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes); // nobody to tell
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a line on standard error, if that is possible.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}"); // nobody to tell
}
