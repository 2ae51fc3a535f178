//! B-15: a coordinator's certificate in the wrong hands, against its fellow members. Agents and users do not get this far
//! (`matrix`).

use quorate_proto::peer::v1 as peer;
use quorate_proto::peer::v1::artifact_peer_service_client::ArtifactPeerServiceClient;
use quorate_proto::peer::v1::peer_service_client::PeerServiceClient;
use quorate_tests::cluster::Fleet;
use tonic::Code;

use crate::peers::{block_on, call, member, pids, soon, speak_as};

pub(crate) fn b15_a_member_that_turned_bad(fleet: &Fleet) {
    let before = pids(fleet);
    let term = |fleet: &Fleet| {
        let members = fleet.json(&["cluster", "members"]);
        let rows = members["members"].as_array().expect("members").clone();
        rows.iter().filter_map(|row| row["term"].as_u64()).max().expect("a term")
    };
    let calm = term(fleet);
    for (name, grpc, _) in fleet.coordinators() {
        let sender = if name == "coord1" { "coord2" } else { "coord1" };
        block_on(async {
            let mut client = PeerServiceClient::new(speak_as(&member(fleet, sender), &grpc))
                .max_encoding_message_size(64 << 20);
            let mut artifacts = ArtifactPeerServiceClient::new(speak_as(&member(fleet, sender), &grpc));
            // Whoever it says it is and whatever it means, but for a header it cannot know by heart: 16 bytes of zeros.
            let header = |sender_id, target_id| {
                Some(peer::PeerHeader { cluster_id: vec![0; 16], sender_id, target_id })
            };
            for (what, header, code) in [
                ("no header", None, Code::InvalidArgument),
                ("another cluster", header(1, 2), Code::PermissionDenied),
                (
                    "a cluster id of 3 bytes",
                    Some(peer::PeerHeader { cluster_id: vec![1; 3], ..Default::default() }),
                    Code::InvalidArgument,
                ),
                ("member 2^64 - 1", header(u64::MAX, u64::MAX), Code::PermissionDenied),
            ] {
                let vote = peer::RequestVoteRequest { header: header.clone(), payload: vec![0xc1; 64] };
                let status = soon(what, client.request_vote(vote)).await.expect_err("it is refused");
                assert_eq!(status.code(), code, "{name}: {what}: {status:?}");
                let append = peer::AppendEntriesRequest { header: header.clone(), payload: Vec::new() };
                let status = soon(what, client.append_entries(append)).await.expect_err("it is refused");
                assert_eq!(status.code(), code, "{name}: {what}: {status:?}");
                let entry = peer::ProposeRequest { header: header.clone(), entry: vec![0x90; 1_000] };
                let status = soon(what, client.propose(entry)).await.expect_err("it is refused");
                assert_eq!(status.code(), code, "{name}: {what}: {status:?}");
                let read = peer::ReadArtifactRequest { header: header.clone(), ..Default::default() };
                let status = soon(what, artifacts.read_artifact(read)).await.expect_err("it is refused");
                assert_eq!(status.code(), code, "{name}: {what}: {status:?}");
                let chunk =
                    peer::InstallSnapshotRequest { header, data: vec![7; 1 << 20], ..Default::default() };
                let status = soon(what, client.install_snapshot(chunk)).await.expect_err("it is refused");
                assert_eq!(status.code(), code, "{name}: {what}: {status:?}");
            }
            let large = peer::AppendEntriesRequest { header: header(1, 2), payload: vec![0; 5 << 20] };
            let status = soon("5 MiB", client.append_entries(large)).await.expect_err("it is refused");
            assert_eq!(status.code(), Code::OutOfRange, "{name}: {status:?}");
            // Not a user, not an agent.
            for path in
                ["/quorate.v1.FleetService/CreateToken", "/quorate.agent.v1.AgentService/RenewCertificate"]
            {
                let channel = speak_as(&member(fleet, sender), &grpc);
                let status = call(&channel, path, bytes::Bytes::new()).await.expect_err("it is refused");
                assert_eq!(status.code(), Code::PermissionDenied, "{name}: {path}: {status:?}");
            }
        });
    }
    assert_eq!(pids(fleet), before, "no member ended");
    assert_eq!(term(fleet), calm, "nobody was made to vote");
    fleet.calm();
}
