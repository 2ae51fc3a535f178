//! Archives as they come and as they are made to hurt.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use quorate_model::{Install, Reason, Release};

use super::{activate, arrive, host, release, stage};
use crate::actions::execute;

/// One member.
#[derive(Clone)]
struct M {
    path: &'static str,
    kind: u8,
    mode: u32,
    content: Vec<u8>,
    link: &'static str,
}

fn file(path: &'static str) -> M {
    M { path, kind: b'0', mode: 0o644, content: path.as_bytes().to_vec(), link: "" }
}

fn folder(path: &'static str) -> M {
    M { path, kind: b'5', mode: 0o755, content: Vec::new(), link: "" }
}

fn link(path: &'static str, to: &'static str) -> M {
    M { path, kind: b'2', mode: 0o777, content: Vec::new(), link: to }
}

/// Bytes of an archive, names exactly as given.
fn tar(members: &[M]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for m in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..m.path.len()].copy_from_slice(m.path.as_bytes());
        header.as_old_mut().linkname[..m.link.len()].copy_from_slice(m.link.as_bytes());
        header.as_old_mut().linkflag = [m.kind];
        header.set_size(m.content.len() as u64);
        header.set_mode(m.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&m.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).unwrap()
}

fn pax(pairs: &[(&str, &str)], kind: u8) -> M {
    let mut content = Vec::new();
    for (key, value) in pairs {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length.to_string().len() + rest.len() != length {
            length = length.to_string().len() + rest.len();
        }
        content.extend_from_slice(format!("{length}{rest}").as_bytes());
    }
    M { path: "pax", kind, mode: 0o644, content, link: "" }
}

fn archive(root: &Path, version: &str, bytes: &[u8]) -> Release {
    let install = Install::Archive { dir: root.join("opt").display().to_string() };
    Release { install, ..release(root, version, bytes) }
}

#[tokio::test]
async fn a_plain_archive_is_laid_out_however_it_is_packed() {
    let long = "long/".to_owned() + &"n".repeat(150);
    let named = M {
        path: "././@LongLink",
        kind: b'L',
        mode: 0o644,
        content: format!("{long}\0").into_bytes(),
        link: "",
    };
    let members = [
        pax(&[("comment", "of git")], b'g'),
        folder("./"),
        folder("./bin/"),
        M { mode: 0o777, ..file("./bin/ledger") },
        file("share/doc/readme"),
        folder("share/"),
        link("share/doc/tool", "../../bin/ledger"),
        link("latest", "share/doc"),
        named,
        file("cut"),
        pax(&[("path", "pax/ä"), ("mtime", "1.5")], b'x'),
        file("other"),
    ];
    let plain = tar(&members);
    for (version, bytes) in [("1", plain.clone()), ("2", gzip(&plain)), ("3", zstd(&plain))] {
        let (dir, mut b) = host(true);
        let one = archive(dir.path(), version, &bytes);
        arrive(dir.path(), &one, &bytes);
        execute(&b.context, &stage(&one)).await.unwrap_or_else(|e| panic!("{version}: {}", e.message()));
        b.context.execution = quorate_model::ExecutionId::new("x-2").unwrap();
        execute(&b.context, &activate(&one)).await.expect("activated");
        let current = dir.path().join("opt/current");
        assert_eq!(fs::read(current.join("bin/ledger")).unwrap(), b"./bin/ledger");
        assert_eq!(fs::read(current.join("latest/tool")).unwrap(), b"./bin/ledger", "links inside work");
        let mode = fs::metadata(current.join("bin/ledger")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "nobody but the owner writes");
        assert_eq!(fs::read(current.join(&long)).unwrap(), b"cut");
        assert_eq!(fs::read(current.join("pax/ä")).unwrap(), b"other");
    }
}

#[tokio::test]
async fn what_real_tar_makes_is_taken() {
    let (dir, b) = host(true);
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/ledger"), b"x").unwrap();
    for format in ["gnu", "pax", "ustar"] {
        let made = std::process::Command::new("tar")
            .args(["-cz", &format!("--format={format}"), "-C", tree.to_str().unwrap(), "."])
            .output()
            .expect("tar runs");
        let one = archive(dir.path(), format, &made.stdout);
        arrive(dir.path(), &one, &made.stdout);
        execute(&b.context, &stage(&one)).await.unwrap_or_else(|e| panic!("{format}: {}", e.message()));
    }
}

#[tokio::test]
async fn a_hostile_archive_is_refused_whole() {
    let good = file("a-good-one");
    let deep: &'static str = Box::leak("d/".repeat(49).into_boxed_str());
    let with = |m: M| tar(&[good.clone(), m]);
    let typed = |kind| M { kind, content: Vec::new(), ..file("x") };
    let mut sum = tar(&[good.clone(), file("x")]);
    sum[1024 + 148] ^= 1;
    let plain = tar(&[good.clone(), file("b")]);
    let mut trailing = plain.clone();
    trailing.extend_from_slice(b"garbage");
    let long = M { content: vec![b'n'; 200_000], kind: b'L', ..file("@LongLink") };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a step back", with(file("../x"))),
        ("a step back inside", with(file("a/../../x"))),
        ("an absolute path", with(file("/etc/x"))),
        ("an absolute path after a dot", with(file(".//etc/x"))),
        ("an empty part", with(file("a//b"))),
        ("a link out", with(link("x", "../../etc"))),
        ("an absolute link", with(link("x", "/etc/passwd"))),
        ("a link that steps back later", with(link("x", "a/../../.."))),
        ("an empty link", with(link("x", ""))),
        ("writing through a link", tar(&[good.clone(), folder("d"), link("x", "d"), file("x/y")])),
        ("writing below a file", tar(&[good.clone(), file("x"), file("x/y")])),
        ("a hard link", with(M { kind: b'1', link: "a-good-one", ..typed(b'1') })),
        ("a device", with(typed(b'3'))),
        ("a block device", with(typed(b'4'))),
        ("a FIFO", with(typed(b'6'))),
        ("a sparse file", with(typed(b'S'))),
        ("an unknown type", with(typed(b'V'))),
        ("setuid", with(M { mode: 0o4755, ..file("x") })),
        ("setgid", with(M { mode: 0o2755, ..file("x") })),
        ("sticky", with(M { mode: 0o1755, ..folder("x") })),
        ("twice", with(good.clone())),
        ("a folder twice", tar(&[good.clone(), folder("d"), folder("d/")])),
        ("case alone", with(file("A-GOOD-ONE"))),
        ("a control character", with(file("x\ny"))),
        ("too deep", with(pax(&[("path", &(deep.to_owned() + deep + "x"))], b'x')).tap_insert(&file("x"))),
        ("a size in two ways", tar(&[good.clone(), pax(&[("size", "3")], b'x'), file("x")])),
        ("a sparse header", tar(&[good.clone(), pax(&[("GNU.sparse.major", "1")], b'x'), file("x")])),
        ("a path for all", tar(&[pax(&[("path", "y")], b'g'), good.clone()])),
        ("a name that is announced alone", with(M { kind: b'L', ..file("x") })),
        ("a name too long to be held", tar(&[good.clone(), long, file("x")])),
        ("a wrong checksum", sum),
        ("cut short", plain[..plain.len() - 1024].to_vec()),
        ("cut within", plain[..1100].to_vec()),
        ("garbage at the end", trailing),
        ("no file", tar(&[folder("d")])),
        ("no archive", b"#!/bin/sh\n".repeat(100)),
        ("two frames", [zstd(&plain), zstd(&plain)].concat()),
        ("two members of gzip", [gzip(&plain), gzip(&plain)].concat()),
        ("a cut frame", zstd(&plain)[..40].to_vec()),
        ("a bomb", gzip(&tar(&[M { content: vec![0; 40 << 20], ..file("x") }]))),
    ];
    for (what, bytes) in cases {
        let (dir, b) = host(true);
        let one = archive(dir.path(), "1.0", &bytes);
        arrive(dir.path(), &one, &bytes);
        let error = match execute(&b.context, &stage(&one)).await {
            Err(error) => error,
            Ok(outcome) => panic!("{what} was taken: {outcome:?}"),
        };
        assert_eq!(error.reason(), Reason::ArtifactInvalid, "{what}: {}", error.message());
        assert!(error.message().contains("archive_rejected"), "{what}: {}", error.message());
        let left: Vec<_> =
            fs::read_dir(dir.path().join("opt/releases")).map(|d| d.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{what} left {left:?}");
    }
}

#[test]
fn no_bytes_panic_or_lead_out() {
    use proptest::prelude::*;
    let good = tar(&[file("a"), link("l", "a"), pax(&[("path", "b/c")], b'x'), file("x")]);
    let (_dir, b) = host(true);
    let config = ProptestConfig { cases: 400, ..ProptestConfig::default() };
    proptest!(config, |(at in 0..good.len(), with in any::<u8>(), packed in 0..3_u8, cut in 0..good.len())| {
        let mut bytes = good.clone();
        bytes[at] = with;
        let mut bytes = match packed { 0 => bytes, 1 => gzip(&bytes), _ => zstd(&bytes) };
        if with % 4 == 0 {
            bytes.truncate(cut);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("packed"), &bytes).unwrap();
        let into = crate::host::dir::Folder::open_root(&dir.path().join("in")).unwrap();
        let mut source = fs::File::open(dir.path().join("packed")).unwrap();
        let mut job = crate::actions::job::Job::for_tests(&b.context);
        let size = bytes.len() as u64;
        let _ = super::super::archive::read(&mut source, size, &mut super::super::tree::Unpack::new(&into), &mut job);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something came out");
    });
}

trait TapInsert {
    fn tap_insert(self, m: &M) -> Self;
}

impl TapInsert for Vec<u8> {
    /// Another member before the end.
    fn tap_insert(mut self, m: &M) -> Self {
        self.truncate(self.len() - 1024);
        self.extend(tar(std::slice::from_ref(m)));
        self
    }
}

#[tokio::test]
async fn a_release_that_was_changed_after_it_was_staged_is_not_activated() {
    let (dir, mut b) = host(true);
    let bytes = tar(&[file("bin/ledger"), link("l", "bin")]);
    let one = archive(dir.path(), "1.0", &bytes);
    arrive(dir.path(), &one, &bytes);
    execute(&b.context, &stage(&one)).await.expect("staged");
    let laid = dir.path().join("opt/releases").join(super::super::exec::staged_name(&one));
    for (id, change) in [
        ("x-1", &(|| fs::write(laid.join("more"), b"").unwrap()) as &dyn Fn()),
        ("x-2", &|| {
            fs::remove_file(laid.join("more")).unwrap();
            fs::set_permissions(laid.join("bin/ledger"), fs::Permissions::from_mode(0o4755)).unwrap();
        }),
        ("x-3", &|| {
            fs::set_permissions(laid.join("bin/ledger"), fs::Permissions::from_mode(0o644)).unwrap();
            fs::remove_file(laid.join("l")).unwrap();
            std::os::unix::fs::symlink("/etc", laid.join("l")).unwrap();
        }),
    ] {
        change();
        b.context.execution = quorate_model::ExecutionId::new(id).unwrap();
        let error = execute(&b.context, &activate(&one)).await.expect_err(id);
        assert_eq!(error.reason(), Reason::WrongState, "{id}: {error}");
    }
    fs::remove_file(laid.join("l")).unwrap();
    std::os::unix::fs::symlink("bin", laid.join("l")).unwrap();
    b.context.execution = quorate_model::ExecutionId::new("x-4").unwrap();
    execute(&b.context, &activate(&one)).await.expect("as it was staged");
}
