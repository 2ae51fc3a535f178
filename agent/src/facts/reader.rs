//! Reads small kernel files into one buffer that is used again and again.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::host::proc;

/// Longest file read. `/proc/stat` of a host with 512 cores and 4,096 interrupts is about 100 KiB.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// A reader below a root folder: `/` in production, a made-up tree in tests.
pub(super) struct Reader {
    root: PathBuf,
    buffer: Vec<u8>,
}

impl Reader {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), buffer: Vec::with_capacity(8 * 1024) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file as text. Kernel files are ASCII but for names, which a human may have chosen: invalid UTF-8 is an error.
    pub(super) fn text(&mut self, path: &str) -> io::Result<&str> {
        let whole = self.root.join(path.trim_start_matches('/'));
        self.whole(&whole, path)
    }

    /// A table of the host's network as text; see [`proc::net_table`].
    pub(super) fn net_table(&mut self, table: &str) -> io::Result<&str> {
        let whole = proc::net_table(&self.root, table);
        self.whole(&whole, &format!("/proc/net/{table}"))
    }

    fn whole(&mut self, whole: &Path, path: &str) -> io::Result<&str> {
        self.buffer.clear();
        let read = File::open(whole).and_then(|f| f.take(FILE_MAX_BYTES).read_to_end(&mut self.buffer));
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{path}: {e}"));
        read.map_err(named)?;
        std::str::from_utf8(&self.buffer)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: it is not UTF-8")))
    }
}

/// The first whole number of a text, for files that hold nothing else.
pub(super) fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `12.34` in hundredths.
pub(super) fn hundredths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.')?;
    if rest.len() != 2 {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(rest.parse().ok()?)
}

pub(super) fn malformed(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}: it is malformed"))
}
