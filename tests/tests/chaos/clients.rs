//! Eight clients that write and read all the time, and write down what they were told.
//!
//! The registers are labels of two nodes that carry nothing: a read of a node gives all of its registers at one index. The
//! audit is one more register per node: its newest record names the request that changed the labels last, and any
//! coordinator serves it, not only the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_common::tls::{Address, ChannelLimits, ClientTls, ExpectedServer, LiveTls, Material, channel};
use quorate_common::wire::Problem;
use quorate_common::wire::status::INDEX_KEY;
use quorate_proto::v1;
use quorate_proto::v1::audit_service_client::AuditServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_tests::history::{Call, Op, Outcome, Recorder};
use quorate_tests::random::Random;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::fleet::Chaos;

pub(crate) const CLIENTS: u32 = 8;
const NODES: [&str; 2] = ["node4", "node5"];
const KEYS: u64 = 6;
/// Longest one try may take, and all tries of one write together.
const TRY: Duration = Duration::from_secs(4);
const WRITE: Duration = Duration::from_secs(10);
/// Tries of one write, all with its one request id.
const TRIES: u32 = 4;
/// Pause after a try that failed, so that a leader can be found.
const AGAIN: Duration = Duration::from_millis(100);

/// What the clients did, for the figures.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) audits: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) repeated: AtomicU64,
    /// Reasons given that no fault of ours explains, and how often.
    pub(crate) odd: Mutex<BTreeMap<String, u64>>,
}

/// The clients at work.
pub(crate) struct Load {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    last: Client,
}

impl Load {
    pub(crate) fn begin(chaos: &Chaos, seed: u64, period: Duration) -> Self {
        let (recorder, tally) = (Arc::new(Recorder::default()), Arc::new(Tally::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let _inside = chaos.runtime.enter();
        let tls = identity(&chaos.fleet.dir().join("admin"));
        let client = |number: u32| {
            let channels = chaos.fleet.coordinators().into_iter().map(|(name, grpc, _)| {
                // Half of them through the proxies: they are cut off together with a leader.
                let through = number.is_multiple_of(2);
                dial(&if through { chaos.network.address(&name).to_string() } else { grpc }, &tls)
            });
            let (channels, random) = (channels.collect(), Random::new(seed ^ u64::from(number)));
            let (recorder, tally) = (Arc::clone(&recorder), Arc::clone(&tally));
            Client { number, channels, random, recorder, tally, written: 0 }
        };
        let tasks = (1..=CLIENTS)
            .map(|number| chaos.runtime.spawn(client(number).run(Arc::clone(&stop), period)))
            .collect();
        let last = client(CLIENTS + 1);
        Self { recorder, tally, stop, tasks, last }
    }

    /// Ends the clients, then reads every register once more: what was acknowledged must be there.
    pub(crate) fn end(mut self, chaos: &Chaos) -> (Vec<Op>, Arc<Tally>) {
        self.stop.store(true, Ordering::Relaxed);
        chaos.runtime.block_on(async {
            for task in self.tasks {
                task.await.expect("a client does not panic");
            }
            for node in NODES {
                let mut left = 20;
                while !(self.last.read(node).await && self.last.audit().await) {
                    left -= 1;
                    assert!(left > 0, "the last read of {node} is not answered");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        });
        (self.recorder.ops(), self.tally)
    }
}

fn identity(dir: &Path) -> ClientTls {
    let material = Material::load(&dir.join("ca.pem"), &dir.join("cert.pem"), &dir.join("key.pem"));
    LiveTls::new(material.expect("the administrator's identity"))
        .client(ExpectedServer::AnyCoordinator)
        .expect("TLS")
}

fn dial(address: &str, tls: &ClientTls) -> Channel {
    let address: Address = address.parse().expect("an address");
    let limits = ChannelLimits {
        connect_timeout: Duration::from_secs(2),
        keepalive_interval: Duration::from_secs(5),
        keepalive_timeout: Duration::from_secs(3),
        ..ChannelLimits::default()
    };
    channel(&address, tls, &limits).expect("a channel")
}

/// What a try to write came to.
enum Tried {
    Written(u64),
    /// Told that nothing was written.
    Nothing,
    Unknown,
}

struct Client {
    number: u32,
    channels: Vec<Channel>,
    random: Random,
    recorder: Arc<Recorder>,
    tally: Arc<Tally>,
    written: u64,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            self.tally.calls.fetch_add(1, Ordering::Relaxed);
            let node = NODES[self.random.below(2) as usize];
            let answered = match self.random.below(10) {
                0..4 => self.write(node).await,
                4..9 => self.read(node).await,
                _ => self.audit().await,
            };
            if !answered {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn channel(&mut self) -> Channel {
        let at = self.random.below(self.channels.len() as u64) as usize;
        self.channels[at].clone()
    }

    fn add(&self, key: &str, call: Call, invoked_us: u64, outcome: Outcome) {
        let returned_us = self.recorder.now_us();
        self.recorder.add(Op {
            client: self.number,
            key: key.to_owned(),
            call,
            invoked_us,
            returned_us,
            outcome,
        });
    }

    /// Writes a value nobody else writes, again with the same request id while nobody says what came of it.
    async fn write(&mut self, node: &str) -> bool {
        self.written += 1;
        let (key, value) =
            (format!("k{}", self.random.below(KEYS)), format!("c{}-{}", self.number, self.written));
        let request = v1::UpdateNodeLabelsRequest {
            name: node.to_owned(),
            set: BTreeMap::from([(key.clone(), value.clone())]),
            remove: Vec::new(),
            options: Some(v1::ChangeOptions { request_id: value.clone(), ..Default::default() }),
        };
        let invoked_us = self.recorder.now_us();
        let began = tokio::time::Instant::now();
        let mut outcome = Outcome::Refused;
        for number in 0..TRIES {
            if number > 0 {
                self.tally.repeated.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AGAIN).await;
            }
            match self.try_write(request.clone()).await {
                Tried::Written(index) => {
                    outcome = Outcome::Written { index };
                    break;
                }
                Tried::Nothing => {}
                Tried::Unknown => outcome = Outcome::Unknown,
            }
            if began.elapsed() > WRITE {
                break;
            }
        }
        let count = match outcome {
            Outcome::Written { .. } => &self.tally.acked,
            Outcome::Unknown => &self.tally.unknown,
            Outcome::Refused | Outcome::Found { .. } => &self.tally.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let answered = matches!(outcome, Outcome::Written { .. });
        self.add(&format!("{node}/{key}"), Call::Write(value.clone()), invoked_us, outcome.clone());
        self.add(&format!("audit/{node}"), Call::Write(value), invoked_us, outcome);
        answered
    }

    async fn try_write(&mut self, request: v1::UpdateNodeLabelsRequest) -> Tried {
        let mut client = FleetServiceClient::new(self.channel());
        match within(client.update_node_labels(request)).await {
            Ok(response) => Tried::Written(index(&response)),
            Err(status) => {
                let problem = Problem::from_status(&status);
                match problem.reason.as_str() {
                    "NO_LEADER" | "RATE_LIMITED" | "LOW_SPACE" | "LIMIT_REACHED" => Tried::Nothing,
                    "OUTCOME_UNKNOWN" | "DEADLINE_EXCEEDED" | "" => Tried::Unknown,
                    other => {
                        let mut odd = self.tally.odd.lock().unwrap_or_else(PoisonError::into_inner);
                        *odd.entry(format!("{other}: {}", problem.what)).or_default() += 1;
                        Tried::Nothing
                    }
                }
            }
        }
    }

    /// Reads all registers of a node.
    async fn read(&mut self, node: &str) -> bool {
        let invoked_us = self.recorder.now_us();
        let mut client = FleetServiceClient::new(self.channel());
        let request = v1::GetNodeRequest { name: node.to_owned(), ..Default::default() };
        let Ok(response) = within(client.get_node(request)).await else { return false };
        let index = index(&response);
        let labels = response.into_inner().node.expect("a node").labels;
        for key in (0..KEYS).map(|n| format!("k{n}")) {
            let value = labels.get(&key).cloned();
            self.add(&format!("{node}/{key}"), Call::Read, invoked_us, Outcome::Found { index, value });
        }
        self.tally.read.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Reads the newest label change of each node in the audit, at whatever coordinator is asked.
    async fn audit(&mut self) -> bool {
        let invoked_us = self.recorder.now_us();
        let mut client = AuditServiceClient::new(self.channel());
        let request = v1::ListAuditRecordsRequest { page_size: 60, ..Default::default() };
        let Ok(response) = within(client.list_audit_records(request)).await else { return false };
        let index = index(&response);
        let records = response.into_inner().records;
        let mut told = BTreeSet::new();
        for record in records.iter().filter(|r| r.action == "node.update_labels" && r.result == "OK") {
            if let Some(node) = NODES.iter().find(|node| record.resource == format!("nodes/{node}"))
                && told.insert(*node)
            {
                let value = Some(record.request_id.clone());
                self.add(&format!("audit/{node}"), Call::Read, invoked_us, Outcome::Found { index, value });
            }
        }
        self.tally.audits.fetch_add(1, Ordering::Relaxed);
        true
    }
}

async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<Response<T>, Status> {
    let late = |_| Err(Status::new(Code::DeadlineExceeded, "the client gave up"));
    tokio::time::timeout(TRY, call).await.unwrap_or_else(late)
}

/// Every answer has one.
fn index<T>(response: &Response<T>) -> u64 {
    let value = response.metadata().get(INDEX_KEY).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.parse().ok()).expect("every answer carries quorate-index")
}
