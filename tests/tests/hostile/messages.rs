//! Bad messages of people who may call (B-1 to B-5, B-12): one clear error each, a stable reason, the field by its
//! name, and nothing is changed. Asked of a follower, so that the way through it is tried, too.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_tests::cluster::{Daemon, Fleet};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::frames::{DATA, END_HEADERS, HEADERS, Raw, frame, grpc_headers, stream};
use crate::peers::{self, admin, ask_to_enroll, block_on, call, pids, reason, refused, soon, speak_as};
use crate::victim::rss_kib;

/// A coordinator that does not lead, by name and address.
fn follower(fleet: &Fleet) -> (String, String) {
    let leader = fleet.leader();
    let (name, grpc, _) =
        fleet.coordinators().into_iter().find(|(name, _, _)| *name != leader).expect("a follower");
    (name, grpc)
}

pub(crate) fn as_admin(fleet: &Fleet) -> Channel {
    speak_as(&admin(fleet), &follower(fleet).1)
}

const LIST: &str = "/quorate.v1.FleetService/ListNodes";

pub(crate) fn b1_too_large(fleet: &Fleet) {
    let before = pids(fleet);
    let channel = as_admin(fleet);
    block_on(async {
        let large = Bytes::from(vec![0; (1 << 20) + 1]);
        refused(
            "1 MiB + 1",
            call(&channel, LIST, large).await,
            Code::OutOfRange,
            "MESSAGE_TOO_LARGE",
            "message_too_large",
        );
        let label = BTreeMap::from([("k".to_owned(), "v".repeat(10 << 20))]);
        let request = v1::UpdateNodeLabelsRequest { name: "node1".into(), set: label, ..Default::default() };
        let mut nodes = FleetServiceClient::new(channel.clone()).max_encoding_message_size(64 << 20);
        let answer = soon("10 MB", nodes.update_node_labels(request)).await;
        refused("a label of 10 MB", answer, Code::OutOfRange, "MESSAGE_TOO_LARGE", "message_too_large");
    });
    // A prefix that claims 4 GiB on each of 60 streams: refused by the number, nothing is taken for it.
    let (name, grpc) = follower(fleet);
    let pid = fleet.pid(Daemon::Coordinator(&name)).expect("it runs").as_raw_nonzero().get();
    let rss = rss_kib(pid);
    block_on(async {
        let mut raw = Raw::open(&admin(fleet), &grpc, &[]).await.expect("a valid certificate");
        for n in 0..60 {
            let headers = frame(HEADERS, END_HEADERS, stream(n), &grpc_headers(LIST));
            let data = frame(DATA, 0, stream(n), &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
            raw.send(&[headers, data].concat()).await.expect("sent");
        }
        let mut answered = 0;
        while answered < 60 {
            let (kind, _, _, _) = soon("an answer", raw.next()).await.expect("the connection goes on");
            answered += u32::from(kind == HEADERS);
        }
    });
    let grown = rss_kib(pid).saturating_sub(rss);
    println!("  60 claims of 4 GiB: memory grew by {grown} KiB");
    assert!(grown < 16 * 1024, "{grown} KiB");
    assert_eq!(pids(fleet), before);
}

/// Bytes that are no message, by what is wrong with them.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |times: usize| vec![0x0b_u8; times];
    vec![
        ("an unknown wire type", vec![0x07]),
        ("another unknown wire type", vec![0x0e, 1]),
        ("a field number 0", vec![0x00, 0x00]),
        ("cut off in a key", vec![0xff]),
        ("a key of 11 bytes", vec![0xff; 11]),
        ("cut off in a length", vec![0x0a, 0xff]),
        ("cut off in a text", vec![0x0a, 0x7f, b'x']),
        ("a length of 2^63", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("a group that never ends", vec![0x0b]),
        ("a group that never began", vec![0x0c]),
        ("101 groups in each other", deep(101)),
        ("100,000 groups in each other", deep(100_000)),
    ]
}

pub(crate) fn b2_malformed(fleet: &Fleet) {
    let before = pids(fleet);
    let channel = as_admin(fleet);
    let mut asked = 0;
    block_on(async {
        // Every method that an administrator may call, with every kind.
        for rule in quorate_coordinator::api::authz::RULES {
            let mine = matches!(rule.allow, quorate_coordinator::api::authz::Allow::Users(_));
            if !mine || rule.path.starts_with("/grpc.") {
                continue;
            }
            for (what, bytes) in malformed() {
                let answer = call(&channel, rule.path, Bytes::from(bytes)).await;
                let what = format!("{}: {what}", rule.path);
                refused(&what, answer, Code::InvalidArgument, "MALFORMED_MESSAGE", rule.short());
                asked += 1;
            }
        }
        // Invalid UTF-8, and the first field of another type than it has.
        for (path, bytes) in [
            ("/quorate.v1.FleetService/GetNode", &b"\x0a\x02\xff\xfe"[..]),
            ("/quorate.v1.FleetService/GetNode", b"\x08\x01"),
            ("/quorate.v1.OperationService/GetOperation", b"\x0a\x01\xc0"),
        ] {
            let answer = call(&channel, path, Bytes::from_static(bytes)).await;
            refused(path, answer, Code::InvalidArgument, "MALFORMED_MESSAGE", "malformed_message");
        }
        // A field twice: the last one counts, as protobuf says.
        let twice = v1::GetNodeRequest { name: "node1".into(), ..Default::default() }.encode_to_vec();
        let twice =
            [v1::GetNodeRequest { name: "nobody".into(), ..Default::default() }.encode_to_vec(), twice];
        assert!(call(&channel, "/quorate.v1.FleetService/GetNode", twice.concat().into()).await.is_ok());
        // No bytes at all make a method fail in a way that is our fault.
        for seed in 0..400_u64 {
            let bytes = noise(seed);
            let answer = call(&channel, LIST, bytes.clone()).await;
            let plan = call(&channel, "/quorate.v1.OperationService/CreatePlan", bytes).await;
            for answer in [answer, plan] {
                let code = answer.map_or_else(|status| status.code(), |()| Code::Ok);
                assert!(
                    !matches!(code, Code::Internal | Code::Unknown | Code::Unavailable),
                    "seed {seed}: {code:?}"
                );
            }
            asked += 2;
        }
    });
    println!("  {asked} malformed messages, each INVALID_ARGUMENT or an answer");
    assert_eq!(pids(fleet), before);
}

/// Bytes that look like protobuf more often than random ones would.
fn noise(seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    let mut bytes = BytesMut::new();
    for _ in 0..u32::from(next()) / 4 {
        bytes.put_u8(match next() % 4 {
            0 => 0x0a + (next() % 8) * 8,
            1 => next() % 32,
            2 => b'a' + next() % 26,
            _ => next(),
        });
    }
    bytes.freeze()
}

fn duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

pub(crate) fn b3_bad_fields(fleet: &Fleet) {
    let channel = as_admin(fleet);
    block_on(async {
        let mut nodes = FleetServiceClient::new(channel.clone());
        for (what, purpose, ttl, named) in [
            ("unknown enum", 99, None, "bad_field:purpose"),
            ("enum not set", 0, None, "bad_field:purpose"),
            ("negative", 1, duration(-1, 0), "bad_field:ttl"),
            ("overflow", 1, duration(i64::MAX, 0), "bad_field:ttl"),
            ("smallest", 1, duration(i64::MIN, i32::MIN), "bad_field:ttl"),
            ("nanos beyond a second", 1, duration(1, 1_000_000_000), "bad_field:ttl"),
            ("longer than a year", 1, duration(400 * 86_400, 0), "bad_field:ttl"),
        ] {
            let request = v1::CreateTokenRequest { purpose, ttl, ..Default::default() };
            let answer = nodes.create_token(request).await;
            refused(what, answer.map(|_| "a token"), Code::InvalidArgument, "INVALID_ARGUMENT", named);
        }
        let request = v1::ListNodesRequest { consistency: 77, ..Default::default() };
        refused(
            "consistency",
            nodes.list_nodes(request).await,
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "bad_field:consistency",
        );
        let request = v1::ListNodesRequest { page_token: "\u{1b}[2J".into(), ..Default::default() };
        refused(
            "page token",
            nodes.list_nodes(request).await,
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "page_token",
        );
        let mut operations = OperationServiceClient::new(channel.clone());
        let request = v1::CreatePlanRequest { work: Some(v1::WorkSpec::default()), ..Default::default() };
        refused(
            "no kind of work",
            operations.create_plan(request).await,
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "work",
        );
        let request = v1::CreatePlanRequest::default();
        refused(
            "no work",
            operations.create_plan(request).await,
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "bad_field:work",
        );
    });
}

pub(crate) fn b4_request_ids(fleet: &Fleet) {
    let channel = as_admin(fleet);
    let nil = "00000000-0000-0000-0000-000000000000";
    let long = "a".repeat(65);
    block_on(async {
        let mut nodes = FleetServiceClient::new(channel.clone());
        let cordon = |name: &str, id: &str| v1::CordonNodeRequest {
            name: name.into(),
            options: Some(v1::ChangeOptions { request_id: id.into(), ..Default::default() }),
        };
        for id in [nil, "a b", "a\nb", "a\0", "-a", "\u{1b}[2J", "é", "../a", "$(id)", &long] {
            let answer = nodes.cordon_node(cordon("node4", id)).await;
            refused(id, answer, Code::InvalidArgument, "INVALID_ARGUMENT", "bad_field:options.request_id");
        }
        // In the metadata: refused too, and not replaced, because its sender relies on it when it asks again.
        for id in [nil, "a b", "-a", "$(id)", &long] {
            let mut request = Request::new(cordon("node4", ""));
            request.metadata_mut().insert("quorate-request-id", id.parse().expect("ASCII"));
            let answer = nodes.cordon_node(request).await;
            refused(id, answer, Code::InvalidArgument, "INVALID_ARGUMENT", "bad_field:quorate-request-id");
        }
        // The same id: the same answer, and a conflict for other arguments.
        let id = "nightly:2026-11-21@b4";
        nodes.cordon_node(cordon("node4", id)).await.expect("cordoned");
        nodes.cordon_node(cordon("node4", id)).await.expect("the same answer");
        let answer = nodes.cordon_node(cordon("node3", id)).await;
        refused("other arguments", answer, Code::AlreadyExists, "REQUEST_ID_CONFLICT", id);
        let request = v1::UncordonNodeRequest {
            name: "node4".into(),
            options: Some(v1::ChangeOptions { request_id: id.into(), ..Default::default() }),
        };
        let answer = nodes.uncordon_node(request).await;
        refused("another method", answer, Code::AlreadyExists, "REQUEST_ID_CONFLICT", id);
        let request = v1::UncordonNodeRequest { name: "node4".into(), options: None };
        nodes.uncordon_node(request).await.expect("uncordoned");
        let node = nodes.get_node(v1::GetNodeRequest { name: "node3".into(), consistency: 0 }).await;
        let node = node.expect("it is there").into_inner().node.expect("a node");
        assert_eq!(node.cordon_owner, "", "the conflict changed nothing");
    });
}

pub(crate) fn b5_hostile_texts(fleet: &Fleet) {
    let channel = as_admin(fleet);
    let texts = [
        "",
        "\n",
        "a\nb",
        "\u{1b}[31mred",
        "\u{202e}gpj.exe",
        "a\0b",
        "\u{1f600}",
        "../../etc",
        "a b",
        "A",
        "\u{feff}x",
    ];
    let before = fleet.json(&["node", "list"])["nodes"].as_array().expect("nodes").len();
    block_on(async {
        let mut nodes = FleetServiceClient::new(channel.clone());
        let mut groups = GroupServiceClient::new(channel.clone());
        for text in texts {
            let request = v1::CordonNodeRequest { name: text.into(), options: None };
            refused(
                text,
                nodes.cordon_node(request).await,
                Code::InvalidArgument,
                "INVALID_ARGUMENT",
                "bad_field:name",
            );
            let spec = v1::ServiceSpec { name: text.into(), ..crate::declarations::service() };
            let request = v1::ApplyServiceRequest { spec: Some(spec), options: None };
            refused(
                text,
                groups.apply_service(request).await,
                Code::InvalidArgument,
                "INVALID_ARGUMENT",
                "bad_field:spec.name",
            );
            if !text.is_empty() && text != "A" && !text.starts_with("../") {
                let set = BTreeMap::from([("k".to_owned(), text.to_owned())]);
                let request = v1::UpdateNodeLabelsRequest { name: "node1".into(), set, ..Default::default() };
                refused(
                    text,
                    nodes.update_node_labels(request).await,
                    Code::InvalidArgument,
                    "INVALID_ARGUMENT",
                    "bad_field:set",
                );
            }
        }
        let reasons = ["two\nlines", "\u{1b}[2J", "\u{202e}", &"x".repeat(513)];
        for text in reasons {
            let options = Some(v1::ChangeOptions { reason: text.into(), ..Default::default() });
            let request = v1::CordonNodeRequest { name: "node1".into(), options };
            refused(
                text,
                nodes.cordon_node(request).await,
                Code::InvalidArgument,
                "INVALID_ARGUMENT",
                "bad_field:options.reason",
            );
        }
    });
    let after = fleet.json(&["node", "list"])["nodes"].as_array().expect("nodes").len();
    assert_eq!(after, before);
}

pub(crate) fn b5_too_many_labels(fleet: &Fleet) {
    block_on(async {
        let mut nodes = FleetServiceClient::new(as_admin(fleet));
        // As many as fit into a message; a million would not.
        let set: BTreeMap<String, String> = (0..60_000).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        let request = v1::UpdateNodeLabelsRequest { name: "node1".into(), set, ..Default::default() };
        refused(
            "60,000 labels",
            nodes.update_node_labels(request).await,
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "64 is the limit",
        );
    });
}

pub(crate) fn b12_tokens(fleet: &Fleet) {
    let good = fleet.json(&["token", "create", "--node", "node96"]);
    let good = good["token"].as_str().expect("a token").to_owned();
    let parsed: quorate_common::tls::JoinToken = good.parse().expect("a token");
    let mut flipped = *parsed.secret.expose();
    flipped[0] ^= 1;
    let mut one_bit = parsed.clone();
    one_bit.secret = quorate_common::tls::Secret::from_bytes(flipped);
    let mut elsewhere = parsed.clone();
    elsewhere.cluster = quorate_model::ClusterId::new("another").expect("an id");
    let text = |token: &quorate_common::tls::JoinToken| token.encode().expect("a token").as_str().to_owned();
    let huge = "x".repeat(1 << 20);
    let key =
        quorate_common::tls::KeyRequest::create(&parsed.cluster, &peers::node("node96")).expect("a key");
    let mut texts = Vec::new();
    for token in
        [text(&one_bit), text(&elsewhere), good[..good.len() - 1].to_owned(), "x".into(), "\u{1b}[2J".into()]
    {
        let request = v1::EnrollRequest {
            token,
            name: "node96".into(),
            csr_der: key.csr_der().to_vec(),
            ..Default::default()
        };
        let status = ask_to_enroll(fleet, request).expect_err("no such token");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            "{status:?}"
        );
        texts.push(status.message().to_owned());
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "one text for all causes: {texts:?}");
    let request = v1::EnrollRequest { token: huge, name: "node96".into(), ..Default::default() };
    let status = ask_to_enroll(fleet, request).expect_err("1 MB");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
        "{status:?}"
    );
    // After all that it still works, once.
    peers::enroll(fleet, &good, &peers::node("node96"), "node96").expect("the token is good");
    let again = peers::enroll(fleet, &good, &peers::node("node95"), "node95").expect_err("it was used");
    assert_eq!(again.code(), Code::Unauthenticated);
    assert_eq!(again.message(), texts[0]);
    peers::remove_node(fleet, "node96");
}
