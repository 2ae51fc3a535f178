//! Hostile paths and swapped names.

use std::io::Write;
use std::os::unix::fs::symlink;

use super::*;

fn roots() -> Vec<PathBuf> {
    vec![PathBuf::from("/srv/data"), PathBuf::from("/srv/data/deep"), PathBuf::from("/var/log")]
}

#[test]
fn only_plain_paths_beneath_a_root_are_taken() {
    let roots = roots();
    for bad in [
        "",
        "relative",
        "/srv/data/../etc",
        "/srv//data",
        "/srv/data/.",
        "/srv/data/",
        "/srv/./data",
        "/srv/data/a\0b",
    ] {
        assert!(matches!(allowed(&roots, Path::new(bad)), Err(Unfit::Malformed(_))), "{bad:?}");
    }
    for outside in ["/", "/etc/passwd", "/srv/database", "/srv", "/proc/self/root/srv/data"] {
        assert_eq!(allowed(&roots, Path::new(outside)), Err(Unfit::Outside), "{outside:?}");
    }
    let long = format!("/srv/data/{}", "x".repeat(256));
    assert!(matches!(allowed(&roots, Path::new(&long)), Err(Unfit::Malformed(_))));
    let (root, rest) = allowed(&roots, Path::new("/srv/data/deep/x")).expect("allowed");
    assert_eq!((root, rest.as_path()), (Path::new("/srv/data/deep"), Path::new("x")));
    assert_eq!(allowed(&roots, Path::new("/var/log")).expect("allowed").1, PathBuf::new());
}

#[test]
fn links_are_not_followed_at_any_component() {
    let temp = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir_all(temp.path().join("root/sub")).expect("mkdir");
    std::fs::create_dir(temp.path().join("secret")).expect("mkdir");
    std::fs::write(temp.path().join("secret/file"), "s").expect("write");
    symlink("../secret", temp.path().join("root/link")).expect("symlink");
    symlink("../../secret/file", temp.path().join("root/sub/f")).expect("symlink");
    let root = Folder::open_root(&temp.path().join("root")).expect("root");
    assert!(root.beneath(Path::new("link")).is_err());
    assert!(root.beneath(Path::new("sub/../../secret")).is_err());
    assert!(root.folder(OsStr::new("link")).is_err());
    let sub = root.beneath(Path::new("sub")).expect("a real folder");
    assert!(sub.open_read(OsStr::new("f")).is_err());
    assert!(sub.create_new(OsStr::new("f"), 0o600).is_err());
    assert_eq!(sub.look(OsStr::new("f")).expect("look").expect("there").kind, Kind::Link);
    for name in ["..", "", "a/b", "../secret/file"] {
        assert!(sub.open_read(OsStr::new(name)).is_err(), "{name:?}");
        assert!(sub.remove(OsStr::new(name)).is_err(), "{name:?}");
    }
}

#[test]
fn names_are_sorted_and_bounded() {
    let temp = tempfile::tempdir().expect("tempdir");
    for name in ["b", "a", "c"] {
        std::fs::write(temp.path().join(name), name).expect("write");
    }
    let folder = Folder::open_root(temp.path()).expect("root");
    assert_eq!(folder.names(3).expect("names"), ["a", "b", "c"]);
    assert_eq!(folder.names(2).expect_err("too many").kind(), io::ErrorKind::InvalidData);
}

#[test]
fn exchange_swaps_and_rename_new_does_not_replace() {
    let temp = tempfile::tempdir().expect("tempdir");
    std::fs::write(temp.path().join("a"), "A").expect("write");
    std::fs::write(temp.path().join("b"), "B").expect("write");
    let folder = Folder::open_root(temp.path()).expect("root");
    if folder.exchange(OsStr::new("a"), OsStr::new("b")).expect("exchange") {
        assert_eq!(std::fs::read(temp.path().join("a")).expect("read"), b"B");
    }
    let error = folder.rename_new(OsStr::new("a"), OsStr::new("b")).expect_err("b is there");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn the_front_of_a_file_is_cut_without_touching_what_follows() {
    let temp = tempfile::tempdir().expect("tempdir");
    let folder = Folder::open_root(temp.path()).expect("root");
    let mut file = folder.create_new(OsStr::new("log"), 0o600).expect("create");
    let block = usize::try_from(seen(&file).expect("seen").block_bytes).expect("a small number");
    file.write_all(&vec![b'a'; block]).expect("write");
    file.write_all(b"tail").expect("write");
    if cut_front(&file, block as u64).expect("fallocate") {
        assert_eq!(std::fs::read(temp.path().join("log")).expect("read"), b"tail");
    } else {
        assert_eq!(seen(&file).expect("seen").size, block as u64 + 4, "a refused cut must change nothing");
    }
}
