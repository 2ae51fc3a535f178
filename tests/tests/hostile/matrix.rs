//! I-24: every method of the descriptor, asked for by everybody, at every coordinator. `roles.txt` says who gets in; it is
//! kept by hand, so that a slip in the server's own table shows here.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_coordinator::api::authz::RULES;
use quorate_proto::METHODS;
use quorate_tests::cluster::Fleet;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::peers::{self, block_on, call, dial, expired, member, new_node, new_user, pids, reason, speak_as};

/// Bytes that are no message of any kind (wire type 7): whoever is let in is told so, and nothing is ever done.
const NO_MESSAGE: &[u8] = b"\x07";

/// Whom a certificate lets in, and whom not even that.
const PEOPLE: [&str; 6] = ["viewer", "operator", "admin", "agent", "other-agent", "coordinator"];
const OUTSIDE: [&str; 3] = ["no-certificate", "removed", "expired"];

/// `METHOD  who,who,…` a line; `-` for nobody.
fn table() -> BTreeMap<&'static str, Vec<&'static str>> {
    include_str!("roles.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (method, who) = line.split_once(char::is_whitespace).expect("a method and who may call it");
            (method, who.trim().split(',').filter(|who| *who != "-").collect())
        })
        .collect()
}

/// Whether the server let the call in, or how it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    In,
    NotAllowed,
    NoConnection,
}

fn door(answer: &Result<(), Status>) -> Door {
    let status = match answer {
        Ok(()) => return Door::In,
        Err(status) => status,
    };
    match (status.code(), reason(status).as_str()) {
        (Code::PermissionDenied, "NOT_ALLOWED") => Door::NotAllowed,
        (Code::InvalidArgument, "MALFORMED_MESSAGE") => Door::In,
        // Not ours: reflection passes its codec's word on in the trailers of its stream.
        (Code::Internal, "") if status.message().contains("decode") => Door::In,
        (_, "") => Door::NoConnection,
        (_, _) => panic!("neither let in nor refused: {status:?}"),
    }
}

fn identities(fleet: &Fleet) -> BTreeMap<&'static str, std::path::PathBuf> {
    let removed = new_node(fleet, "gone");
    peers::remove_node(fleet, "gone");
    BTreeMap::from([
        ("viewer", new_user(fleet, "vera", "viewer")),
        ("operator", new_user(fleet, "otto", "operator")),
        ("admin", peers::admin(fleet)),
        ("agent", fleet.agent_tls("node1")),
        ("other-agent", fleet.agent_tls("node2")),
        ("removed", removed),
        ("expired", expired(fleet, peers::user("admin"))),
    ])
}

pub(crate) fn every_method_lets_in_exactly_its_roles(fleet: &Fleet) {
    let table = table();
    let paths: Vec<&'static str> = RULES.iter().map(|rule| rule.path).collect();
    for path in METHODS.iter().chain(&paths) {
        assert!(table.contains_key(path), "roles.txt has no line for {path}");
    }
    assert_eq!(table.len(), paths.len(), "roles.txt has lines for methods that are none");
    let identities = identities(fleet);
    let before = pids(fleet);
    let (mut asked, mut let_in) = (0, 0);
    for (name, grpc, http) in fleet.coordinators() {
        // A member does not speak to itself.
        let other = if name == "coord1" { "coord2" } else { "coord1" };
        let mut people: BTreeMap<&str, Channel> =
            identities.iter().map(|(who, dir)| (*who, speak_as(dir, &grpc))).collect();
        people.insert("coordinator", speak_as(&member(fleet, other), &grpc));
        people.insert("no-certificate", dial(&grpc, &peers::pinned(fleet)));
        let https = dial(&http, &peers::pinned(fleet));
        block_on(async {
            for (path, allowed) in &table {
                for who in PEOPLE.iter().chain(&OUTSIDE) {
                    let answer = call(&people[who], path, Bytes::from_static(NO_MESSAGE)).await;
                    let wanted = match () {
                        () if OUTSIDE.contains(who) => Door::NoConnection,
                        () if allowed.contains(who) => Door::In,
                        () => Door::NotAllowed,
                    };
                    assert_eq!(door(&answer), wanted, "{name}: {path} as {who}: {answer:?}");
                    asked += 1;
                    let_in += usize::from(wanted == Door::In);
                }
                // The port without certificates serves enrolment and nothing else.
                let answer = call(&https, path, Bytes::from_static(NO_MESSAGE)).await;
                let is_in = reason(&answer.expect_err("not a message")) == "MALFORMED_MESSAGE";
                assert_eq!(is_in, *path == "/quorate.v1.EnrollService/Enroll", "{name}: {path} over HTTPS");
                asked += 1;
            }
        });
    }
    assert_eq!(pids(fleet), before, "no coordinator ended");
    println!(
        "  {} methods x {} callers x 3 coordinators: {asked} calls, {let_in} let in, as roles.txt says",
        table.len(),
        PEOPLE.len() + OUTSIDE.len() + 1
    );
}
