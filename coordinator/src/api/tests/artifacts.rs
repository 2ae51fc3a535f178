//! Artifacts: pushed in parts, listed at their end, and nothing of it without the right to.

use quorate_core::Command;
use quorate_core::command::ArtifactCommand;
use quorate_model::{DurationMs, MemberId};
use quorate_proto::agent::v1 as agent;
use quorate_proto::v1;
use quorate_proto::v1::artifact_service_client::ArtifactServiceClient;
use tonic::Code;

use super::world::{As, World, dry, options, problem};
use crate::artifacts::EXPECTED_OFFSET;
use crate::artifacts::tests::digest_of;

const BYTES: &[u8] = b"what a host is to install";

pub(super) fn digest(bytes: &[u8]) -> String {
    digest_of(bytes).to_string()
}

pub(super) fn begin(bytes: &[u8]) -> v1::BeginUploadRequest {
    v1::BeginUploadRequest {
        digest: digest(bytes),
        size: bytes.len() as u64,
        file_name: "ledger-1.9.2.tar".into(),
        ..Default::default()
    }
}

pub(super) fn write(bytes: &[u8], from: usize, to: usize) -> v1::WriteArtifactRequest {
    let data = bytes[from..to].to_vec();
    v1::WriteArtifactRequest { digest: digest(bytes), offset: from as u64, data, options: None }
}

pub(super) fn finish(bytes: &[u8]) -> v1::FinishUploadRequest {
    v1::FinishUploadRequest { digest: digest(bytes), options: None }
}

async fn push(client: &mut ArtifactServiceClient<As>, bytes: &[u8]) -> v1::Artifact {
    client.begin_upload(begin(bytes)).await.unwrap();
    client.write_artifact(write(bytes, 0, bytes.len())).await.unwrap();
    client.finish_upload(finish(bytes)).await.unwrap().into_inner().artifact.unwrap()
}

#[tokio::test]
async fn an_upload_is_listed_once_it_is_whole() {
    let world = World::new();
    let mut client = ArtifactServiceClient::new(world.as_role("operator"));
    let signature = "untrusted comment: signature\nRUQ=\n";
    let first = v1::BeginUploadRequest { signature: signature.into(), ..begin(BYTES) };
    let begun = client.begin_upload(first).await.unwrap().into_inner();
    assert_eq!((begun.received_bytes, begun.complete, begun.chunk_bytes), (0, false, 262_144));
    client.write_artifact(write(BYTES, 0, 10)).await.unwrap();
    let wrong = client.write_artifact(write(BYTES, 12, 20)).await.unwrap_err();
    let told = problem(&wrong);
    assert_eq!((wrong.code(), told.reason.as_str()), (Code::OutOfRange, "OFFSET_MISMATCH"));
    assert_eq!(told.why, [(EXPECTED_OFFSET.to_owned(), "10".to_owned())]);
    let early = problem(&client.finish_upload(finish(BYTES)).await.unwrap_err());
    assert_eq!((early.reason.as_str(), early.exit_code()), ("WRONG_STATE", 3));
    let none = client.list_artifacts(v1::ListArtifactsRequest::default()).await.unwrap().into_inner();
    assert!(none.artifacts.is_empty(), "half of it is listed nowhere");
    client.write_artifact(write(BYTES, 10, BYTES.len())).await.unwrap();
    let made = client.finish_upload(finish(BYTES)).await.unwrap().into_inner().artifact.unwrap();
    assert_eq!((made.digest.as_str(), made.size, made.signature.as_str()), (&*digest(BYTES), 25, signature));
    assert_eq!((made.created_by.as_str(), made.holders), ("user:operator", vec!["coord1".to_owned()]));
    // Its answer was lost: the same again.
    let again = client.finish_upload(finish(BYTES)).await.unwrap().into_inner().artifact.unwrap();
    assert_eq!(again.digest, made.digest);
    let begun = client.begin_upload(begin(BYTES)).await.unwrap().into_inner();
    assert_eq!((begun.received_bytes, begun.complete), (25, true));
    let read = v1::ReadArtifactRequest { digest: digest(BYTES), offset: 7, limit: 4 };
    let read = client.read_artifact(read).await.unwrap().into_inner();
    assert_eq!((read.data.as_slice(), read.size), (&BYTES[7..11], 25));
    let fetch = agent::FetchArtifactRequest { digest: digest(BYTES), offset: 20, limit: 0 };
    let fetched = world.api.fetch_for_agent(fetch).await.unwrap();
    assert_eq!((fetched.data.as_slice(), fetched.size), (&BYTES[20..], 25));
}

#[tokio::test]
async fn other_bytes_are_refused_and_what_is_not_listed_is_given_to_nobody() {
    let world = World::new();
    let mut client = ArtifactServiceClient::new(world.as_role("operator"));
    client.begin_upload(begin(BYTES)).await.unwrap();
    let forged = v1::WriteArtifactRequest { data: vec![b'x'; 25], ..write(BYTES, 0, 25) };
    client.write_artifact(forged).await.unwrap();
    let refused = problem(&client.finish_upload(finish(BYTES)).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("DIGEST_MISMATCH", 3));
    let fetch = agent::FetchArtifactRequest { digest: digest(BYTES), ..Default::default() };
    assert_eq!(world.api.fetch_for_agent(fetch).await.unwrap_err().reason().as_str(), "NOT_FOUND");
    let read = v1::ReadArtifactRequest { digest: digest(BYTES), ..Default::default() };
    assert_eq!(client.read_artifact(read).await.unwrap_err().code(), Code::NotFound);
    let begun = client.begin_upload(begin(BYTES)).await.unwrap().into_inner();
    assert_eq!(begun.received_bytes, 0);
    // Listed, and the one member that has it does not answer.
    let made = push(&mut client, b"another").await;
    let (lost, member) = (digest_of(b"another"), MemberId(1));
    world.memory.system(Command::Artifact(ArtifactCommand::Release { digest: lost.clone(), member }));
    std::fs::remove_file(world.disk.path().join("blobs").join(&made.digest)).unwrap();
    let fetch = agent::FetchArtifactRequest { digest: made.digest, ..Default::default() };
    let failure = world.api.fetch_for_agent(fetch).await.unwrap_err();
    assert_eq!(failure.reason().as_str(), "ARTIFACT_UNAVAILABLE", "{failure}");
}

#[tokio::test]
async fn a_dry_run_opens_and_lists_nothing() {
    let world = World::new();
    let mut client = ArtifactServiceClient::new(world.as_role("operator"));
    let parts = || std::fs::read_dir(world.disk.path().join("parts")).unwrap().count();
    let tried = v1::BeginUploadRequest { options: dry(), ..begin(BYTES) };
    client.begin_upload(tried).await.unwrap();
    let unopened = client.write_artifact(write(BYTES, 0, 9)).await.unwrap_err();
    assert_eq!(problem(&unopened).reason, "WRONG_STATE");
    client.begin_upload(begin(BYTES)).await.unwrap();
    let tried = v1::WriteArtifactRequest { options: dry(), ..write(BYTES, 0, 25) };
    assert_eq!(client.write_artifact(tried).await.unwrap().into_inner().received_bytes, 0);
    assert_eq!(parts(), 0);
    client.write_artifact(write(BYTES, 0, 25)).await.unwrap();
    let tried = v1::FinishUploadRequest { options: dry(), ..finish(BYTES) };
    client.finish_upload(tried).await.unwrap();
    assert!(parts() == 1 && world.memory.state.lock().unwrap().artifacts.is_empty());
    client.finish_upload(finish(BYTES)).await.unwrap();
    let delete = v1::DeleteArtifactRequest { digest: digest(BYTES), options: dry() };
    let shown = client.delete_artifact(delete).await.unwrap().into_inner().artifact.unwrap();
    assert_eq!(shown.digest, digest(BYTES));
    assert_eq!(world.memory.state.lock().unwrap().artifacts.len(), 1);
}

#[tokio::test]
async fn viewers_look_and_only_hosts_fetch() {
    let world = World::new();
    let mut viewer = ArtifactServiceClient::new(world.as_role("viewer"));
    viewer.list_artifacts(v1::ListArtifactsRequest::default()).await.unwrap();
    let denied = [
        viewer.begin_upload(begin(BYTES)).await.unwrap_err(),
        viewer.write_artifact(write(BYTES, 0, 9)).await.unwrap_err(),
        viewer.finish_upload(finish(BYTES)).await.unwrap_err(),
        viewer.delete_artifact(v1::DeleteArtifactRequest::default()).await.unwrap_err(),
        viewer.read_artifact(v1::ReadArtifactRequest::default()).await.unwrap_err(),
    ];
    assert!(denied.iter().all(|status| status.code() == Code::PermissionDenied));
    let mut host = ArtifactServiceClient::new(world.as_role("agent"));
    let list = host.list_artifacts(v1::ListArtifactsRequest::default()).await.unwrap_err();
    assert_eq!(list.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn hostile_requests_are_refused_by_the_name_of_their_field() {
    let world = World::new();
    let mut client = ArtifactServiceClient::new(world.as_role("operator"));
    let bad = [
        ("digest", v1::BeginUploadRequest { digest: "../../etc/passwd".into(), ..begin(BYTES) }),
        ("digest", v1::BeginUploadRequest { digest: digest(BYTES).to_uppercase(), ..begin(BYTES) }),
        ("size", v1::BeginUploadRequest { size: 0, ..begin(BYTES) }),
        ("size", v1::BeginUploadRequest { size: 5 << 30, ..begin(BYTES) }),
        ("file_name", v1::BeginUploadRequest { file_name: "../x".into(), ..begin(BYTES) }),
        ("signature", v1::BeginUploadRequest { signature: "\u{1b}[2J".into(), ..begin(BYTES) }),
    ];
    for (field, request) in bad {
        let told = problem(&client.begin_upload(request).await.unwrap_err());
        assert!(told.what.starts_with(&format!("bad_field:{field}")), "{}", told.what);
    }
    let read = v1::ReadArtifactRequest { digest: digest(BYTES), offset: 0, limit: u32::MAX };
    let told = problem(&client.read_artifact(read).await.unwrap_err());
    assert!(told.what.starts_with("bad_field:limit"), "{}", told.what);
    let large = v1::BeginUploadRequest { size: 3 << 30, ..begin(BYTES) };
    let told = problem(&client.begin_upload(large).await.unwrap_err());
    assert_eq!((told.reason.as_str(), told.exit_code()), ("LIMIT_REACHED", 3));
    assert_eq!(std::fs::read_dir(world.disk.path().join("parts")).unwrap().count(), 0);
}

#[tokio::test]
async fn pages_show_the_newest_first_and_what_is_deleted_is_gone() {
    let world = World::new();
    let mut client = ArtifactServiceClient::new(world.as_role("operator"));
    for bytes in [b"one", b"two", b"six"] {
        push(&mut client, bytes).await;
        world.memory.advance(DurationMs(1));
    }
    let page = v1::ListArtifactsRequest { page_size: 2, ..Default::default() };
    let page = client.list_artifacts(page).await.unwrap().into_inner();
    let digests: Vec<&str> = page.artifacts.iter().map(|a| a.digest.as_str()).collect();
    assert_eq!((digests, page.next_page_token.is_empty()), (vec![&*digest(b"six"), &*digest(b"two")], false));
    let delete = || v1::DeleteArtifactRequest { digest: digest(b"two"), options: options("q-1") };
    client.delete_artifact(delete()).await.unwrap();
    client.delete_artifact(delete()).await.unwrap();
    let get = v1::GetArtifactRequest { digest: digest(b"two"), consistency: 0 };
    assert_eq!(client.get_artifact(get).await.unwrap_err().code(), Code::NotFound);
    let again = v1::DeleteArtifactRequest { digest: digest(b"two"), options: options("q-2") };
    assert_eq!(client.delete_artifact(again).await.unwrap_err().code(), Code::NotFound);
}
