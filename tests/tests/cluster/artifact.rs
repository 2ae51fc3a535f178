//! Artifacts: pushed through the death of a coordinator, copied to all of them, fetched by a host, deleted everywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_proto::agent::v1 as agent;
use quorate_proto::agent::v1::agent_service_client::AgentServiceClient;
use quorate_proto::v1;
use quorate_proto::v1::artifact_service_client::ArtifactServiceClient;
use quorate_tests::cluster::{Daemon, Fleet};
use quorate_tests::wait::wait_for;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::identity::{block_on, speak_as};

/// Until all members hold 3 MiB, a restart included.
const COPIED: Duration = Duration::from_secs(60);
/// Bytes of the file.
const SIZE: usize = 3 << 20;
/// Bytes that the member has when it dies: five parts of twelve.
const HALF: usize = 5 * 256 * 1024;

/// Bytes that do not repeat.
fn bytes() -> Vec<u8> {
    let mut state = 7_u64;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    };
    (0..SIZE / 8).flat_map(|_| step()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn blob(fleet: &Fleet, member: &str, digest: &str) -> PathBuf {
    fleet.dir().join("coordinators").join(member).join("data/artifacts/blobs").join(digest)
}

/// Begins an upload at a member and sends the first part of it.
fn push_half(address: &str, identity: &Path, bytes: &[u8], digest: &str) {
    block_on(async {
        let mut client = ArtifactServiceClient::new(speak_as(identity, address));
        let begin = v1::BeginUploadRequest {
            digest: digest.to_owned(),
            size: SIZE as u64,
            file_name: "ledger-1.9.2.tar.zst".to_owned(),
            ..Default::default()
        };
        let begun = client.begin_upload(begin).await.expect("an upload begins").into_inner();
        let chunk = usize::try_from(begun.chunk_bytes).expect("a size");
        for (number, part) in bytes[..HALF].chunks(chunk).enumerate() {
            let offset = (number * chunk) as u64;
            let (digest, data) = (digest.to_owned(), part.to_vec());
            let write = v1::WriteArtifactRequest { digest, offset, data, options: None };
            client.write_artifact(write).await.expect("a part is taken");
        }
    });
}

/// All members hold it, by the catalogue and on their disks.
fn held_by_all(fleet: &Fleet, digest: &str, members: &BTreeSet<String>) {
    wait_for("every member to hold it", COPIED, || {
        let shown = fleet.quorate(&["artifact", "show", digest, "-o", "json"]);
        if shown.code != 0 {
            return Err(shown.stderr);
        }
        let shown = shown.json();
        let holders = shown["holders"].as_array().cloned().unwrap_or_default();
        let holders: BTreeSet<String> =
            holders.iter().filter_map(|h| h.as_str()).map(str::to_owned).collect();
        let right = |member: &String| {
            fs::read(blob(fleet, member, digest)).is_ok_and(|bytes| sha256(&bytes) == digest)
        };
        if holders == *members && members.iter().all(right) { Ok(()) } else { Err(shown.to_string()) }
    });
}

/// The whole of it, as a host fetches it.
fn fetched(address: &str, identity: &Path, digest: &str) -> Vec<u8> {
    block_on(async {
        let mut client = AgentServiceClient::new(speak_as(identity, address));
        let mut whole = Vec::new();
        loop {
            let (digest, offset) = (digest.to_owned(), whole.len() as u64);
            let request = agent::FetchArtifactRequest { digest, offset, limit: 0 };
            let part = client.fetch_artifact(request).await.expect("a part").into_inner();
            whole.extend(part.data);
            if whole.len() as u64 >= part.size {
                break;
            }
        }
        let unknown = agent::FetchArtifactRequest { digest: "0".repeat(64), ..Default::default() };
        let unknown = client.fetch_artifact(unknown).await.expect_err("there is none");
        assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
        whole
    })
}

pub(crate) fn pushed_copied_and_resumed(fleet: &Fleet) {
    fleet.calm();
    let bytes = bytes();
    let digest = sha256(&bytes);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("ledger-1.9.2.tar.zst");
    fs::write(&file, &bytes).expect("there is room");
    fs::write(dir.path().join("ledger-1.9.2.tar.zst.minisig"), "untrusted comment: x\nRUQ=\n").expect("room");
    let file = file.to_str().expect("UTF-8").to_owned();
    let members: BTreeSet<String> = fleet.coordinators().into_iter().map(|(name, ..)| name).collect();

    // The member dies with part of it; the push begins while it is dead, and goes on when it is back.
    let (first, address, _) = fleet.coordinators().remove(0);
    push_half(&address, &fleet.dir().join("admin"), &bytes, &digest);
    fleet.kill(Daemon::Coordinator(&first));
    let addressed = [("QUORATE_ADDR", address.as_str())];
    let pushed = fleet.quorate_with(&addressed, &["artifact", "push", &file, "-o", "json"]).expect(0);
    assert!(pushed.stderr.contains(&format!("going on at {HALF} of {SIZE} bytes")), "{pushed:?}");
    let made = pushed.json();
    assert_eq!((&made["digest"], &made["size"]), (&digest.clone().into(), &SIZE.into()), "{made:#}");
    assert_eq!(made["signature"], "untrusted comment: x\nRUQ=\n", "{made:#}");
    held_by_all(fleet, &digest, &members);
    let again = fleet.quorate(&["artifact", "push", &file, "-o", "json"]).expect(0);
    assert_eq!(again.json()["createdBy"], made["createdBy"], "the same again is the same artifact");
    let list = fleet.json(&["artifact", "list"]);
    assert_eq!(
        (&list["artifacts"][0]["digest"], &list["nextPageToken"]),
        (&digest.clone().into(), &"".into())
    );
    for name in [&digest[..8], "ledger-1.9.2.tar.zst"] {
        assert_eq!(fleet.json(&["artifact", "show", name])["digest"], *digest);
    }

    // A host gets it from whichever member it asks.
    for (name, grpc, _) in fleet.coordinators() {
        assert!(fetched(&grpc, &fleet.agent_tls("node1"), &digest) == bytes, "{name} gave other bytes");
    }

    // Lost on one disk: fetched anew.
    let last = members.last().expect("members").clone();
    fs::remove_file(blob(fleet, &last, &digest)).expect("it is there");
    fleet.kill(Daemon::Coordinator(&last));
    held_by_all(fleet, &digest, &members);

    let _ = fleet.quorate(&["artifact", "delete", "ledger-1.9.2.tar.zst"]).expect(2);
    let _ = fleet.quorate(&["artifact", "delete", "ledger-1.9.2.tar.zst", "--yes"]).expect(0);
    let _ = fleet.quorate(&["artifact", "show", &digest]).expect(6);
    wait_for("its bytes to be gone everywhere", COPIED, || {
        let left: Vec<_> = members.iter().filter(|m| blob(fleet, m, &digest).exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    fleet.calm();
}
