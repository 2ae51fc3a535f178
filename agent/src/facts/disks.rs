//! Local file systems and block devices.

use std::collections::BTreeSet;
use std::io;

use quorate_model::node::Disk;

use super::metrics as m;
use super::reader::{Reader, malformed};
use super::sample::{Sample, Value};
use super::system::ROWS_MAX;

/// Types that hold no data of the host's own, or whose `statvfs` may hang for ever when a server is gone.
const LEFT_OUT: [&str; 31] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "iso9660",
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
];

/// Mounted local file systems, each device once, by mount point.
pub(super) fn mounted(r: &mut Reader) -> io::Result<Vec<Disk>> {
    const PATH: &str = "/proc/self/mountinfo";
    let text = r.text(PATH)?;
    let mut seen = BTreeSet::new();
    let mut mounts = Vec::new();
    for line in text.lines() {
        // 36 35 98:0 /root /mount/point options [optional …] - type source options
        let (left, right) = line.split_once(" - ").ok_or_else(|| malformed(PATH))?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.split(' ');
        let (Some(device), Some(mount)) = (left.get(2), left.get(4)) else { return Err(malformed(PATH)) };
        let (Some(kind), Some(source)) = (right.next(), right.next()) else { return Err(malformed(PATH)) };
        if LEFT_OUT.contains(&kind) || kind.starts_with("fuse") || !seen.insert((*device).to_owned()) {
            continue;
        }
        mounts.push((unescaped(mount), unescaped(source), kind.to_owned()));
        if mounts.len() == ROWS_MAX {
            break;
        }
    }
    mounts.sort();
    let mut disks = Vec::new();
    for (mount, device, filesystem) in mounts {
        // One that vanished or may not be looked at is left out, the others still count.
        let Ok(v) = rustix::fs::statvfs(mount.as_str()) else { continue };
        if v.f_blocks == 0 {
            continue;
        }
        disks.push(Disk {
            mount,
            device,
            filesystem,
            size_bytes: v.f_blocks.saturating_mul(v.f_frsize),
            available_bytes: v.f_bavail.saturating_mul(v.f_frsize),
            inodes: v.f_files,
            inodes_free: v.f_favail,
        });
    }
    Ok(disks)
}

/// The kernel writes blanks, tabs, newlines and backslashes as `\ooo`.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn filesystems(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    for disk in mounted(r)? {
        let values = [
            (m::FILESYSTEM_SIZE, disk.size_bytes),
            (m::FILESYSTEM_AVAILABLE, disk.available_bytes),
            (m::FILESYSTEM_INODES, disk.inodes),
            (m::FILESYSTEM_INODES_FREE, disk.inodes_free),
        ];
        for (metric, value) in values {
            let labels = vec![("mount", disk.mount.clone()), ("type", disk.filesystem.clone())];
            out.push(Sample { metric, labels, value: Value::whole(value) });
        }
    }
    Ok(())
}

pub(super) fn devices(r: &mut Reader, out: &mut Vec<Sample>) -> io::Result<()> {
    /// The kernel counts sectors of 512 bytes here, whatever the device's own sector size.
    const SECTOR_BYTES: u64 = 512;
    const PATH: &str = "/proc/diskstats";
    let text = r.text(PATH)?;
    let mut rows = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let name = *words.get(2).ok_or_else(|| malformed(PATH))?;
        let numbers: Vec<u64> = words[3..].iter().map_while(|w| w.parse().ok()).collect();
        let [reads, _, read_sectors, _, writes, _, written_sectors, _, _, busy_ms, ..] = numbers[..] else {
            return Err(malformed(PATH));
        };
        if (reads == 0 && writes == 0) || name.starts_with("loop") || name.starts_with("ram") {
            continue;
        }
        rows += 1;
        if rows > ROWS_MAX {
            break;
        }
        let values = [
            (m::DISK_READ_BYTES, Value::whole(read_sectors.saturating_mul(SECTOR_BYTES))),
            (m::DISK_WRITTEN_BYTES, Value::whole(written_sectors.saturating_mul(SECTOR_BYTES))),
            (m::DISK_READS, Value::whole(reads)),
            (m::DISK_WRITES, Value::whole(writes)),
            (m::DISK_IO_SECONDS, Value { units: busy_ms, decimals: 3 }),
        ];
        for (metric, value) in values {
            out.push(Sample::one(metric, "device", name, value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mount_points_are_undone() {
        assert_eq!(unescaped(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescaped(r"/a\04"), r"/a\04");
        assert_eq!(unescaped(r"\777"), r"\777");
        assert_eq!(unescaped(""), "");
    }
}
