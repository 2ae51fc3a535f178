//! The list of B-7, against a real file system.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::host::HostError;

/// A root with `data/a` inside and a secret beside it.
fn scene() -> (tempfile::TempDir, Roots, PathBuf) {
    let dir = tempfile::tempdir().expect("temp dir");
    let base = dir.path().canonicalize().expect("a real path");
    let root = base.join("root");
    std::fs::create_dir_all(root.join("data")).expect("folders");
    std::fs::write(root.join("data/a"), b"inside").expect("a file");
    std::fs::write(base.join("secret"), b"outside").expect("a file");
    let roots = Roots::new(std::slice::from_ref(&root)).expect("roots");
    (dir, roots, root)
}

fn read(roots: &Roots, path: &Path) -> Result<String, HostError> {
    let mut text = String::new();
    roots.locate(path)?.open_read()?.read_to_string(&mut text).map_err(HostError::io("read"))?;
    Ok(text)
}

#[test]
fn plain_files_are_read_written_renamed_removed() {
    let (_dir, roots, root) = scene();
    assert_eq!(read(&roots, &root.join("data/a")).expect("readable"), "inside");
    let place = roots.locate(&root.join("data/b")).expect("inside");
    place.write("x-1", b"new", Attrs { mode: 0o4640, owner: None }).expect("written");
    place.write("x-1", b"newer", Attrs { mode: 0o4640, owner: None }).expect("replaced");
    assert_eq!(place.stat().expect("there").st_mode & 0o7777, 0o640, "setuid is not set");
    let other = roots.locate(&root.join("data/c")).expect("inside");
    place.rename_to(&other).expect("renamed");
    assert!(
        other.rename_to(&roots.locate(&root.join("data/a")).expect("inside")).is_err(),
        "nothing is replaced"
    );
    assert_eq!(read(&roots, &root.join("data/c")).expect("readable"), "newer");
    other.remove().expect("removed");
    assert!(other.open_read().is_err());
    assert!(
        other.space().is_err() && place.parent().expect("a parent").0.space().expect("space").size_bytes > 0
    );
}

#[test]
fn a_dropped_temporary_file_leaves_nothing() {
    let (_dir, roots, root) = scene();
    let place = roots.locate(&root.join("data/n")).expect("inside");
    drop(place.create("op-1", Attrs::default()).expect("created"));
    std::fs::write(root.join("data/.quorate-op-2.tmp"), b"left by a crash").expect("a file");
    place.write("op-2", b"y", Attrs::default()).expect("written");
    let names: Vec<_> =
        std::fs::read_dir(root.join("data")).expect("listable").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for tag in ["", "../x", "a/b", &"x".repeat(65)] {
        assert!(place.create(tag, Attrs::default()).is_err(), "{tag:?}");
    }
}

#[test]
fn hostile_paths_are_refused_as_text() {
    let (_dir, roots, root) = scene();
    let r = root.to_str().expect("UTF-8");
    let long_name = format!("{r}/{}", "n".repeat(256));
    let long_path = format!("{r}{}", "/abc".repeat(1100));
    let bad = [
        format!("{r}/../secret"),
        format!("{r}/data/../../secret"),
        format!("{r}//data/a"),
        format!("{r}/data/a/."),
        format!("{r}/./data/a"),
        format!("{r}/data/"),
        "/etc/passwd".into(),
        "/proc/self/root/etc/passwd".into(),
        "data/a".into(),
        String::new(),
        "/".into(),
        format!("{r}x/data"),
        format!("{r}/a\0b"),
        long_name,
        long_path,
    ];
    for path in bad {
        let e = read(&roots, Path::new(&path)).expect_err(&path);
        assert!(
            matches!(e, HostError::PathOutsideRoot { .. } | HostError::InvalidPath { .. }),
            "{path}: {e:?}"
        );
    }
    let not_utf8 = root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert!(matches!(read(&roots, &not_utf8), Err(HostError::InvalidPath { .. })));
}

#[test]
fn links_and_special_files_are_refused_at_every_component() {
    let (dir, roots, root) = scene();
    let link = |to: &Path, at: &Path| std::os::unix::fs::symlink(to, at);
    link(&dir.path().join("secret"), &root.join("data/last")).expect("a link");
    link(dir.path(), &root.join("middle")).expect("a link");
    link(Path::new("a"), &root.join("data/harmless")).expect("a link");
    link(Path::new("/proc/self/root"), &root.join("magic")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a fifo");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    for path in ["data/last", "middle/secret", "data/harmless", "magic/etc/passwd", "fifo", "socket", "data"]
    {
        let e = read(&roots, &root.join(path)).expect_err(path);
        assert!(matches!(e, HostError::PathOutsideRoot { .. }), "{path}: {e:?}");
    }
    for path in ["middle/new", "magic/tmp/new"] {
        let place = roots.locate(&root.join(path)).expect("well-formed");
        assert!(place.write("t", b"x", Attrs::default()).is_err(), "{path}");
    }
    // Writing over a link replaces the link, not its target.
    roots
        .locate(&root.join("data/last"))
        .expect("inside")
        .write("t", b"x", Attrs::default())
        .expect("written");
    assert_eq!(std::fs::read(dir.path().join("secret")).expect("still there"), b"outside");
}

#[test]
fn a_mount_is_not_crossed() {
    let roots = Roots::new(&[PathBuf::from("/")]).expect("roots");
    let e = read(&roots, Path::new("/proc/version")).expect_err("another mount");
    assert!(matches!(e, HostError::PathOutsideRoot { .. }), "{e:?}");
}

#[test]
fn a_link_swapped_in_between_never_leads_outside() {
    let (dir, roots, root) = scene();
    std::fs::create_dir(dir.path().join("evil")).expect("a folder");
    std::fs::write(dir.path().join("evil/a"), b"outside").expect("a file");
    std::os::unix::fs::symlink(dir.path().join("evil"), root.join("link")).expect("a link");
    let (done, stop) = (Arc::new(AtomicBool::new(false)), root.clone());
    let flag = Arc::clone(&done);
    let swapper = std::thread::spawn(move || {
        let mut swaps = 0_u32;
        while !flag.load(Ordering::Relaxed) {
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                stop.join("data"),
                rustix::fs::CWD,
                stop.join("link"),
                rustix::fs::RenameFlags::EXCHANGE,
            )
            .expect("exchange");
            swaps += 1;
        }
        swaps
    });
    let (mut inside, mut refused) = (0_u32, 0_u32);
    for _ in 0..10_000 {
        match read(&roots, &root.join("data/a")) {
            Ok(text) => {
                assert_eq!(text, "inside");
                inside += 1;
            }
            Err(_) => refused += 1,
        }
    }
    done.store(true, Ordering::Relaxed);
    let swaps = swapper.join().expect("the swapper ends");
    assert!(swaps > 100 && inside > 0 && refused > 0, "swaps {swaps} inside {inside} refused {refused}");
}

#[test]
fn a_walk_is_ordered_limited_and_follows_nothing() {
    let (dir, roots, root) = scene();
    std::fs::create_dir_all(root.join("data/sub/deep")).expect("folders");
    std::fs::write(root.join("data/sub/z"), b"12345").expect("a file");
    std::os::unix::fs::symlink(dir.path(), root.join("data/out")).expect("a link");
    let place = roots.locate(&root).expect("the root itself");
    let mut seen = Vec::new();
    let mut note = |e: &WalkEntry| {
        seen.push((e.relative.clone(), e.kind, e.size_bytes));
        Ok(())
    };
    place.walk(WalkLimits::default(), &mut note).expect("walked");
    let names: Vec<&str> = seen.iter().map(|(n, ..)| n.as_str()).collect();
    assert_eq!(names, ["data", "data/a", "data/out", "data/sub", "data/sub/deep", "data/sub/z"]);
    assert_eq!((seen[2].1, seen[5].1, seen[5].2), (Kind::Link, Kind::File, 5));
    let few = WalkLimits { entries: 3, depth: 64 };
    assert!(matches!(place.walk(few, &mut |_| Ok(())), Err(HostError::TooMany { .. })));
    let flat = WalkLimits { entries: 100, depth: 1 };
    assert!(matches!(place.walk(flat, &mut |_| Ok(())), Err(HostError::TooMany { .. })));
}
