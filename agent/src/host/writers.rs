//! Who has a file open for writing, and what a user name means: what log rotation must know before it removes anything.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::{fs, proc};

/// Longest `/etc/passwd` or `/etc/group` read: 4 MiB is some 50,000 users.
const ACCOUNTS_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Files found open for writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// Device and inode, as [`super::dir::Seen::identity`].
    pub held: BTreeSet<(u64, u64)>,
    /// Every process could be looked into. Without the right to, a writer can go unseen.
    pub complete: bool,
}

/// Which of the files some process has open for writing now.
///
/// # Errors
/// When `/proc` can not be listed.
pub fn writers(wanted: &BTreeSet<(u64, u64)>) -> io::Result<Writers> {
    let mut found = Writers { held: BTreeSet::new(), complete: true };
    if wanted.is_empty() {
        return Ok(found);
    }
    for pid in proc::pids()? {
        match one_process(pid, wanted, &mut found.held) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => found.complete = false,
            // It ended while it was looked at.
            Err(_) => {}
        }
    }
    Ok(found)
}

fn one_process(pid: u32, wanted: &BTreeSet<(u64, u64)>, held: &mut BTreeSet<(u64, u64)>) -> io::Result<()> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let name = entry?.file_name();
        let fd = Path::new("/proc").join(pid.to_string()).join("fd").join(&name);
        let Ok(s) = rustix::fs::statx(CWD, &fd, AtFlags::empty(), StatxFlags::INO) else { continue };
        let identity = (u64::from(s.stx_dev_major) << 32 | u64::from(s.stx_dev_minor), s.stx_ino);
        if !wanted.contains(&identity) || held.contains(&identity) {
            continue;
        }
        let info = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(&name);
        let Ok(text) = fs::read_limited(&info, 64 * 1024) else { continue };
        let text = String::from_utf8_lossy(&text);
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
        // The two lowest bits are the access mode; 0 is read only. What cannot be read counts as a writer.
        if flags.is_none_or(|flags| flags & 3 != 0) {
            held.insert(identity);
        }
    }
    Ok(())
}

/// The numbers of `user:group`, by name from `/etc/passwd` and `/etc/group`, or as numbers. Network directories are not asked.
///
/// # Errors
/// When a file can not be read, the text has another form, or there is no such name.
pub fn owner(text: &str) -> io::Result<(u32, u32)> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let (user, group) = text.split_once(':').ok_or_else(|| bad(format!("{text:?} is not user:group")))?;
    let number = |name: &str, file: &str| {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let all = fs::read_limited(Path::new(file), ACCOUNTS_MAX_BYTES)?;
        let all = String::from_utf8_lossy(&all);
        let line = all.lines().find(|line| line.split(':').next() == Some(name));
        let id = line.and_then(|line| line.split(':').nth(2)).and_then(|id| id.parse().ok());
        id.ok_or_else(|| bad(format!("{name:?} is not in {file}")))
    };
    Ok((number(user, "/etc/passwd")?, number(group, "/etc/group")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dir;

    #[test]
    fn a_writer_is_found_and_a_reader_is_none() {
        let temp = tempfile::tempdir().expect("tempdir");
        let file = std::fs::File::create(temp.path().join("a")).expect("create");
        let identity = dir::seen(&file).expect("seen").identity();
        let wanted = BTreeSet::from([identity]);
        assert!(writers(&wanted).expect("proc").held.contains(&identity));
        drop(file);
        let _reader = std::fs::File::open(temp.path().join("a")).expect("open");
        assert!(!writers(&wanted).expect("proc").held.contains(&identity));
    }

    #[test]
    fn owners_have_numbers_or_are_refused() {
        assert_eq!(owner("root:root").expect("known everywhere"), (0, 0));
        assert_eq!(owner("12:34").expect("numbers"), (12, 34));
        for bad in ["root", "", "no-such-user-here:root", "root:no-such-group-here"] {
            assert!(owner(bad).is_err(), "{bad:?}");
        }
    }
}
