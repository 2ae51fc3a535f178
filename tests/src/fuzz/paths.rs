//! 5: a caller's path never leaves its root, and a unit's name never is an option, a path or a shell's word. The oracle for
//! paths is the kernel: `openat2` with RESOLVE_BENEATH, NO_SYMLINKS and NO_MAGICLINKS.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use quorate_agent::host::dir::{self, Folder};
use quorate_agent::host::fs::Roots;
use quorate_agent::host::systemd;
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// What stands in the file outside of the root.
const SECRET: &[u8] = b"outside";

/// A root with everything in it that could lead out.
fn place() -> &'static Path {
    static PLACE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = PLACE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub/deep")).expect("made");
        fs::write(dir.path().join("secret"), SECRET).expect("written");
        fs::write(root.join("file"), b"inside").expect("written");
        fs::write(root.join("sub/file"), b"inside").expect("written");
        for (to, name) in
            [("../secret", "out"), ("file", "in"), ("..", "up"), ("/", "slash"), ("/proc/self/root", "magic")]
        {
            std::os::unix::fs::symlink(to, root.join(name)).expect("linked");
        }
        dir
    });
    dir.path()
}

pub(super) fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    if which % 2 == 0 {
        unit(bytes);
    } else {
        path(bytes);
    }
}

fn unit(bytes: &[u8]) {
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    if systemd::check_unit_name(name).is_err() {
        return;
    }
    let (stem, kind) = name.rsplit_once('.').expect("an accepted unit has a type");
    assert!(["service", "timer", "socket"].contains(&kind), "{name:?}");
    assert!(name.len() <= 255 && !stem.is_empty() && !name.starts_with('-'), "{name:?}");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":_.@-\\".contains(&b);
    assert!(name.bytes().all(plain), "{name:?}");
}

fn path(bytes: &[u8]) {
    let root = place().join("root");
    // Absolute as it stands, or below the root.
    let asked = match bytes.first() {
        Some(b'/') => PathBuf::from(OsStr::from_bytes(bytes)),
        _ => PathBuf::from(OsStr::from_bytes(&[root.as_os_str().as_bytes(), b"/", bytes].concat())),
    };
    let roots = [root.clone()];
    if let Ok((found, rest)) = dir::allowed(&roots, &asked)
        && let (Some(parent), Some(name)) = (rest.parent(), rest.file_name())
        && let Ok(file) = Folder::open_root(found).and_then(|dir| dir.beneath(parent)?.open_read(name))
    {
        judge(&root, &rest, file);
    }
    let located = Roots::new(&roots).and_then(|roots| roots.locate(&asked)?.open_read());
    if let (Ok(file), Ok(rest)) = (located, asked.strip_prefix(&root)) {
        judge(&root, rest, file);
    }
}

/// What we opened is what the kernel finds below the root without following a link, and nothing else.
fn judge(root: &Path, rest: &Path, ours: File) {
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let root = File::open(root).expect("the root is there");
    let found: OwnedFd =
        rustix::fs::openat2(&root, rest, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), flags)
            .unwrap_or_else(|error| panic!("we opened {}, the kernel says {error}", rest.display()));
    let (ours_is, theirs) =
        (rustix::fs::fstat(&ours).expect("open"), rustix::fs::fstat(&found).expect("open"));
    assert_eq!((ours_is.st_dev, ours_is.st_ino), (theirs.st_dev, theirs.st_ino), "{}", rest.display());
    let mut text = Vec::new();
    let _ = ours.take(64).read_to_end(&mut text);
    assert_ne!(text, SECRET, "{} led out of its root", rest.display());
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let units = [
        "scribe.service",
        "-.mount",
        "--help",
        "../x.service",
        "a b.service",
        "x.service;reboot",
        "$(id).service",
        "x.service\n",
        "getty@tty1.service",
        "getty@.service",
        "dbus.service",
        "quorate-agent.service",
        "a.socket",
    ];
    let paths = [
        "file",
        "sub/file",
        "sub/deep",
        "in",
        "out",
        "up/secret",
        "slash/etc/passwd",
        "magic/etc/passwd",
        "../secret",
        "sub/../../secret",
        "./file",
        "sub//file",
        "file/",
        "file/.",
        "/etc/passwd",
        "/proc/self/root/etc/passwd",
        "\u{202e}file",
        "a\0b",
    ];
    let with = |which: u8, text: &&str| [&[which], text.as_bytes()].concat();
    units.iter().map(|text| with(0, text)).chain(paths.iter().map(|text| with(1, text))).collect()
}
