//! B-14: what an agent's certificate can do to its own session and to those of others.

use std::path::Path;
use std::time::Duration;

use quorate_proto::agent::v1 as agent;
use quorate_proto::agent::v1::agent_service_client::AgentServiceClient;
use quorate_proto::agent::v1::session_request::Body;
use quorate_proto::agent::v1::session_response::Body as Said;
use quorate_proto::v1;
use quorate_tests::cluster::{CALM, Fleet};
use quorate_tests::wait::wait_for;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use crate::peers::{block_on, forget_node, new_node, pids, refused, soon, speak_as};

/// One session, spoken by the test.
pub(crate) struct Talk {
    sequence: u64,
    out: mpsc::Sender<agent::SessionRequest>,
    stream: Streaming<agent::SessionResponse>,
}

fn hello(node: &str, installation: &str) -> Body {
    Body::Hello(agent::Hello {
        node: node.to_owned(),
        agent_version: "0.1.0".to_owned(),
        boot_id: "boot".to_owned(),
        incarnation: "incarnation".to_owned(),
        installation: installation.to_owned(),
        ..Default::default()
    })
}

impl Talk {
    /// Opens a session with a first message of the test's choice.
    async fn begin(identity: &Path, address: &str, first: agent::SessionRequest) -> Result<Self, Status> {
        let (out, receiver) = mpsc::channel(4);
        let sequence = first.sequence;
        out.send(first).await.expect("room for the first message");
        let mut client = AgentServiceClient::new(speak_as(identity, address))
            .max_encoding_message_size(64 << 20)
            .max_decoding_message_size(64 << 20);
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let stream = soon("a session", client.session(requests)).await?.into_inner();
        Ok(Self { sequence, out, stream })
    }

    /// Opens a session as an agent does, and takes the welcome.
    pub(crate) async fn open(
        identity: &Path,
        address: &str,
        node: &str,
        installation: &str,
    ) -> Result<Self, Status> {
        let first = agent::SessionRequest { sequence: 1, body: Some(hello(node, installation)) };
        let mut talk = Self::begin(identity, address, first).await?;
        let welcome = talk.next().await;
        assert!(matches!(welcome, Some(Said::Welcome(_))), "{welcome:?}");
        Ok(talk)
    }

    /// False when the session is over.
    pub(crate) async fn send(&mut self, body: Body) -> bool {
        self.sequence += 1;
        let message = agent::SessionRequest { sequence: self.sequence, body: Some(body) };
        self.out.send(message).await.is_ok()
    }

    /// The next thing that is said; `None` at the end.
    async fn next(&mut self) -> Option<Said> {
        soon("the next message", self.stream.message()).await.ok().flatten().and_then(|said| said.body)
    }

    /// Takes what is there.
    pub(crate) async fn drain(&mut self) {
        while let Ok(Ok(Some(_))) =
            tokio::time::timeout(Duration::from_micros(200), self.stream.message()).await
        {}
    }

    /// Reads on until the session is closed; how long that took since `from`.
    pub(crate) async fn ended(mut self, from: std::time::Instant) -> Duration {
        while self.next().await.is_some() {}
        from.elapsed()
    }

    /// Reads on until the session is closed: the reason and text of the goodbye, if there was one.
    async fn closed(mut self) -> Option<(String, String)> {
        let mut goodbye = None;
        while let Some(said) = self.next().await {
            if let Said::Close(close) = said {
                goodbye = Some((close.reason, close.message));
            }
        }
        goodbye
    }
}

fn grpc(fleet: &Fleet) -> String {
    fleet.coordinators().swap_remove(0).1
}

pub(crate) fn b14_first_words(fleet: &Fleet) {
    let (identity, grpc) = (new_node(fleet, "mallet"), grpc(fleet));
    let first = |sequence, body| agent::SessionRequest { sequence, body };
    let mut escape = agent::Hello { node: "mallet".into(), ..Default::default() };
    escape.agent_version = "1\u{1b}[2J".into();
    let cases = [
        (
            "another node",
            first(1, Some(hello("node1", "x"))),
            Code::PermissionDenied,
            "NOT_ALLOWED",
            "own node",
        ),
        (
            "sequence 0",
            first(0, Some(hello("mallet", "x"))),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "sequence",
        ),
        ("no body", first(1, None), Code::InvalidArgument, "INVALID_ARGUMENT", "bad_field:body"),
        (
            "not Hello",
            first(1, Some(Body::Heartbeat(agent::Heartbeat::default()))),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "Hello",
        ),
        ("no name", first(1, Some(hello("", "x"))), Code::InvalidArgument, "INVALID_ARGUMENT", "hello.node"),
        (
            "a path",
            first(1, Some(hello("../node1", "x"))),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "hello.node",
        ),
        (
            "ANSI",
            first(1, Some(Body::Hello(escape))),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "agent_version",
        ),
    ];
    for (what, first, code, reason, named) in cases {
        let answer = block_on(Talk::begin(&identity, &grpc, first));
        refused(what, answer.map(|_| "a session"), code, reason, named);
    }
    let large = first(1, Some(hello("mallet", &"x".repeat(300 * 1024))));
    let answer = block_on(Talk::begin(&identity, &grpc, large)).map(|_| "a session");
    refused("300 KiB", answer, Code::OutOfRange, "MESSAGE_TOO_LARGE", "message_too_large");
}

pub(crate) fn b14_two_streams_of_one_agent(fleet: &Fleet) {
    let (identity, grpc) = (new_node(fleet, "mallet"), grpc(fleet));
    block_on(async {
        let one = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
        let two = Talk::open(&identity, &grpc, "mallet", "two").await.expect("it may speak");
        let goodbye = one.closed().await.expect("the first is told");
        assert_eq!(goodbye.0, "REPLACED");
        let duplicate = || {
            let shown = fleet.json(&["node", "show", "mallet"]).to_string();
            if shown.contains("DUPLICATE_IDENTITY") { Ok(()) } else { Err(shown) }
        };
        wait_for("the clone to be told of", CALM, duplicate);
        drop(two);
    });
}

pub(crate) fn b14_reports_of_what_was_never_assigned(fleet: &Fleet) {
    let (identity, grpc) = (new_node(fleet, "mallet"), grpc(fleet));
    let operations = fleet.json(&["operation", "list"]);
    block_on(async {
        let mut talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
        let mut acknowledged = 0;
        let states =
            [agent::ExecutionState::Succeeded, agent::ExecutionState::Failed, agent::ExecutionState::Running];
        for state in states {
            let report = agent::ExecutionReport {
                execution: "x-000000000000".into(),
                state: state as i32,
                epoch: u64::MAX,
                ..Default::default()
            };
            assert!(talk.send(Body::Execution(report)).await, "it goes on");
        }
        while acknowledged < states.len() {
            let said = talk.next().await.expect("the session goes on");
            acknowledged += usize::from(matches!(said, Said::ReportAck(_)));
        }
    });
    assert_eq!(fleet.json(&["operation", "list"]), operations, "nothing came of it");

    // An agent owes a handful of undos; a million would leave no room for those of others.
    let open = || fleet.json(&["node", "show", "mallet"])["openObligations"].as_u64();
    block_on(async {
        let mut talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
        for n in 0..200_u32 {
            let report = agent::ObligationReport {
                obligation: format!("o-hostile-{n}"),
                execution: "x-000000000000".into(),
                state: agent::ObligationState::Open as i32,
                description: "hostile".into(),
                ..Default::default()
            };
            assert!(talk.send(Body::Obligation(report)).await, "it goes on");
            while !matches!(talk.next().await.expect("the session goes on"), Said::ReportAck(_)) {}
        }
    });
    if let Some(open) = open() {
        assert!(open <= 64, "{open} undos of one node");
    }
}

pub(crate) fn b14_bad_messages_end_the_session(fleet: &Fleet) {
    let (identity, grpc) = (new_node(fleet, "mallet"), grpc(fleet));
    let before = pids(fleet);
    let metric = |name: &str, value: f64| {
        let metric = v1::Metric { name: name.into(), value, ..Default::default() };
        Body::Metrics(agent::MetricsReport { metrics: vec![metric] })
    };
    let reading = agent::Reading {
        node: "mallet".into(),
        service: "ledger".into(),
        probe: "../x".into(),
        ..Default::default()
    };
    let many =
        agent::MetricsReport { metrics: vec![v1::Metric { name: "x".into(), ..Default::default() }; 2_001] };
    let time = prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 };
    let cases = [
        ("a second Hello", hello("mallet", "one"), "Hello"),
        ("NaN", metric("x", f64::NAN), "metrics.metrics[0].value"),
        ("infinity", metric("x", f64::NEG_INFINITY), "metrics.metrics[0].value"),
        ("ANSI in a name", metric("x\u{1b}[31m", 1.0), "metrics.metrics[0].name"),
        ("no name", metric("", 1.0), "metrics.metrics[0].name"),
        ("2,001 metrics", Body::Metrics(many), "2000 is the limit"),
        (
            "a path",
            Body::Readings(agent::ReadingsReport { readings: vec![reading] }),
            "readings.readings[0].probe",
        ),
        ("no facts", Body::Facts(agent::FactsReport { facts: None }), "facts.facts"),
        (
            "year 0",
            Body::Heartbeat(agent::Heartbeat { sent: Some(time), ..Default::default() }),
            "heartbeat.sent",
        ),
        (
            "no such state",
            Body::Execution(agent::ExecutionReport {
                execution: "x-1".into(),
                state: 99,
                ..Default::default()
            }),
            "execution.state",
        ),
        ("300 KiB", metric(&"x".repeat(300 * 1024), 1.0), ""),
    ];
    block_on(async {
        for (what, body, named) in cases {
            let mut talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
            assert!(talk.send(body).await);
            let (reason, text) =
                talk.closed().await.unwrap_or_else(|| panic!("{what}: closed without a word"));
            let wanted = if named.is_empty() { "MESSAGE_TOO_LARGE" } else { "INVALID_ARGUMENT" };
            assert_eq!(reason, wanted, "{what}: {text}");
            assert!(text.contains(named), "{what}: {text}");
            assert!(!text.contains('\u{1b}'), "{what}: {text:?}");
        }
        // Back in the sequence, and the same number again.
        for back in [1, 0] {
            let mut talk = Talk::open(&identity, &grpc, "mallet", "one").await.expect("it may speak");
            talk.sequence = back;
            talk.sequence = talk.sequence.saturating_sub(1);
            assert!(talk.send(Body::Heartbeat(agent::Heartbeat::default())).await);
            let (reason, text) = talk.closed().await.expect("it is told");
            assert!(reason == "INVALID_ARGUMENT" && text.contains("sequence"), "{reason} {text}");
        }
    });
    assert_eq!(pids(fleet), before);
    forget_node(fleet, "mallet");
}
