//! What goes in comes out, whatever it is called.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use quorate_model::{ExecutionState, Reason};

use super::*;

#[tokio::test]
async fn the_hosts_own_tar_and_zstd_open_it() {
    let place = Place::new();
    let long = "l".repeat(200);
    std::fs::create_dir_all(place.data(&format!("deep/{long}"))).expect("mkdir");
    place.put("small", b"hello");
    place.put("empty", b"");
    place.put(&format!("deep/{long}/{long}"), b"long names");
    let large: Vec<u8> =
        (0..500_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    place.put("large", &large);
    std::fs::hard_link(place.data("small"), place.data("z-second-name")).expect("link");
    symlink("../../nowhere//./x", place.data("link")).expect("symlink");
    std::fs::set_permissions(place.data("small"), std::fs::Permissions::from_mode(0o4640)).expect("chmod");
    std::fs::write(place.temp.path().join("data").join(OsStr::from_bytes(b"not\xffutf8\n%")), b"odd")
        .expect("write");

    let receipt = place.stored("b-1", place.policy()).await;
    assert_eq!(receipt.files, 5, "the second name is no file of its own");
    let out = place.temp.path().join("out");
    std::fs::create_dir(&out).expect("mkdir");
    host_tool("zstd", &["-t", &receipt.path], &out);
    let list = host_tool("tar", &["--zstd", "-tf", &receipt.path], &out);
    assert!(list.trim_end().ends_with("quorate-manifest.json"), "the manifest comes last: {list}");
    host_tool("tar", &["--zstd", "-xpf", &receipt.path], &out);

    let root = out.join(place.temp.path().strip_prefix("/").expect("absolute")).join("data");
    assert_eq!(std::fs::read(root.join("large")).expect("read"), large);
    assert_eq!(std::fs::read(root.join(format!("deep/{long}/{long}"))).expect("read"), b"long names");
    assert_eq!(std::fs::read_link(root.join("link")).expect("link"), PathBuf::from("../../nowhere//./x"));
    assert_eq!(std::fs::read(root.join(OsStr::from_bytes(b"not\xffutf8\n%"))).expect("read"), b"odd");
    let (a, b) = (std::fs::metadata(root.join("small")), std::fs::metadata(root.join("z-second-name")));
    let (a, b) = (a.expect("stat"), b.expect("stat"));
    assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4640));

    let beside = std::fs::read(place.temp.path().join("backups/b-1.manifest.json")).expect("manifest");
    assert_eq!(std::fs::read(out.join("quorate-manifest.json")).expect("manifest"), beside);
    let json: serde_json::Value = serde_json::from_slice(&beside).expect("one JSON document");
    let odd =
        json["entries"].as_array().expect("entries").iter().find(|e| e["encoded"] == true).expect("odd name");
    assert!(odd["path"].as_str().expect("text").ends_with("not%ffutf8%0a%25"), "{odd}");
    assert_eq!(json["totals"]["files"], 5);
    assert_eq!(place.stored_names(), ["b-1.manifest.json", "b-1.tar.zst"]);
    place.verify("b-1", &receipt.sha256).await.expect("whole");
}

#[tokio::test]
async fn special_files_and_the_backups_themselves_are_left_out_and_named() {
    let place = Place::new();
    place.put("file", b"x");
    host_tool("mkfifo", &["pipe"], &place.data("."));
    let _socket = std::os::unix::net::UnixListener::bind(place.data("socket")).expect("bind");
    let mut bench = bench(place.temp.path(), true);
    bench.context.backup_dir = place.data("own-backups");
    let place = Place { bench, ..place };
    std::fs::create_dir(place.data("own-backups")).expect("mkdir");
    std::fs::write(place.data("own-backups/old"), b"old").expect("write");
    let receipt = place.stored("b-1", place.policy()).await;
    assert_eq!(receipt.files, 1);
    let text = std::fs::read_to_string(place.data("own-backups/b-1.manifest.json")).expect("manifest");
    for why in ["fifo", "socket", "the folder of the backups"] {
        assert!(text.contains(&format!("\"why\":\"{why}\"")), "{why} is not in {text}");
    }
}

#[tokio::test]
async fn a_sparse_file_needs_no_room_for_its_holes() {
    let place = Place::new();
    let file = std::fs::File::create(place.data("sparse")).expect("create");
    file.set_len(64 * 1024 * 1024).expect("truncate");
    let receipt = place.stored("b-1", place.policy()).await;
    assert_eq!(receipt.content_bytes, 64 * 1024 * 1024);
    assert!(receipt.size_bytes < 1024 * 1024, "{}", receipt.size_bytes);
}

#[tokio::test]
async fn excluded_names_stay_out_and_single_files_go_in() {
    let place = Place::new();
    std::fs::create_dir(place.data("tmp")).expect("mkdir");
    for name in ["keep", "a.log", "tmp/x"] {
        place.put(name, b"x");
    }
    let exclude = vec!["*.log".to_owned(), "tmp".to_owned()];
    let receipt = place.stored("b-1", BackupPolicy { exclude, ..place.policy() }).await;
    assert_eq!(receipt.files, 1);
    let paths = vec![place.data("a.log").to_str().expect("UTF-8").to_owned()];
    let receipt = place.stored("b-2", BackupPolicy { paths, ..place.policy() }).await;
    assert_eq!(receipt.files, 1);
}

#[tokio::test]
async fn the_same_id_again_gives_the_same_receipt_and_another_request_is_refused() {
    let place = Place::new();
    place.put("file", b"x");
    let first = place.stored("b-1", place.policy()).await;
    place.put("file", b"changed since");
    let again = place.stored("b-1", place.policy()).await;
    assert_eq!((again.sha256, again.size_bytes), (first.sha256, first.size_bytes));
    let other = BackupPolicy { exclude: vec!["x".to_owned()], ..place.policy() };
    let error = place.create("b-1", other).await.expect_err("something else");
    assert_eq!(error.reason(), Reason::AlreadyExists, "{error}");
}

#[tokio::test]
async fn what_policy_disk_or_caller_forbid_leaves_nothing() {
    let mut place = Place::new();
    place.put("file", b"x");
    let paths = vec!["/etc".to_owned()];
    let error = place.create("b-1", BackupPolicy { paths, ..place.policy() }).await.expect_err("outside");
    assert_eq!((error.reason(), error.state()), (Reason::PolicyDenied, ExecutionState::Rejected));
    let gone = vec![place.data("gone").to_str().expect("UTF-8").to_owned()];
    let error =
        place.create("b-1", BackupPolicy { paths: gone, ..place.policy() }).await.expect_err("missing");
    assert_eq!(error.reason(), Reason::NotFound);
    place.bench.context.limits.reserve_bytes = u64::MAX / 2;
    let error = place.create("b-1", place.policy()).await.expect_err("full");
    assert_eq!(error.reason(), Reason::LowSpace);
    assert!(place.bench.recorder.lines().is_empty());
    assert!(place.stored_names().is_empty(), "{:?}", place.stored_names());
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed_and_parts_in_use_are_not() {
    let place = Place::new();
    place.put("file", b"x");
    let store = place.temp.path().join("backups");
    std::fs::create_dir(&store).expect("mkdir");
    for name in ["b-0.tar.zst.part", "b-1.tar.zst.part", "b-1.manifest.json.part", "b-9.manifest.json"] {
        std::fs::write(store.join(name), b"half").expect("write");
    }
    let busy = std::fs::File::create(store.join("b-7.tar.zst.part")).expect("create");
    assert!(crate::host::dir::try_lock(&busy).expect("lock"));
    place.stored("b-1", place.policy()).await;
    let names = ["b-1.manifest.json", "b-1.tar.zst", "b-7.tar.zst.part", "b-9.manifest.json"];
    assert_eq!(place.stored_names(), names);
}

#[tokio::test]
async fn every_level_gives_an_archive_that_verifies() {
    let place = Place::new();
    let text: Vec<u8> = (0..20_000_u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    place.put("log", &text);
    for level in [1, 9, 12, 19] {
        let id = format!("b-{level}");
        let receipt = place.stored(&id, BackupPolicy { level, ..place.policy() }).await;
        place.verify(&id, &receipt.sha256).await.expect("whole");
    }
}
