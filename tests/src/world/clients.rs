//! Clients: each writes labels of nodes under request ids, reads them back, and sends some requests twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_common::task::Entropy;
use quorate_common::tls::ExpectedServer;
use quorate_common::wire::status::INDEX_KEY;
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::evidence::{Cancel, End, Read, Repeat, Write};
use super::member::address;
use super::net::Caller;
use super::trace::{self, Trace};

/// Longest call; what has no answer by then is unknown (R10).
const PATIENCE: Duration = Duration::from_secs(3);
/// Sends of one request.
const ATTEMPTS: u32 = 4;
/// Registers of one node; the last two are always written together.
const REGISTERS: [&str; 4] = ["r0", "r1", "p0", "p1"];

/// What the clients of a run have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Writes that ended.
    pub writes: Vec<Write>,
    /// Reads that were answered.
    pub reads: Vec<Read>,
    /// Repeats.
    pub repeats: Vec<Repeat>,
    /// Operations that were started.
    pub operations: u64,
    /// Cancels that were acknowledged.
    pub cancels: Vec<Cancel>,
    /// The group is declared: before, nothing guards its members.
    pub declared: bool,
    /// Calls that are under way.
    pub open: u64,
    /// The cluster is born: calls may begin.
    pub go: bool,
    /// No new calls: the run is about to end.
    pub stop: bool,
}

/// The notebook. Clones are the same one.
#[derive(Clone, Default)]
pub struct Notebook(Arc<Mutex<Seen>>);

impl Notebook {
    /// Opens it.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client.
pub struct Client {
    name: String,
    members: u64,
    nodes: u64,
    caller: Caller,
    channels: BTreeMap<u64, Channel>,
    entropy: Entropy,
    notebook: Notebook,
    trace: Trace,
    count: u64,
    acked: Vec<Write>,
}

/// What a client is made of.
#[derive(Clone)]
pub struct Desk {
    /// Members of the cluster.
    pub members: u64,
    /// Nodes.
    pub nodes: u64,
    /// How clients call.
    pub caller: Caller,
    /// Where they write down what they see.
    pub notebook: Notebook,
    /// The trace.
    pub trace: Trace,
}

fn micros() -> u64 {
    u64::try_from(trace::now().as_micros()).unwrap_or(u64::MAX)
}

fn index_of<T>(response: &Response<T>) -> u64 {
    let text = response.metadata().get(INDEX_KEY).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether it is certain that the call has no effect.
fn harmless(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::AlreadyExists
    )
}

impl Client {
    /// A client with its own dice.
    #[must_use]
    pub fn new(desk: &Desk, name: String, seed: u64) -> Self {
        Self {
            name,
            members: desk.members,
            nodes: desk.nodes,
            caller: desk.caller.clone(),
            channels: BTreeMap::new(),
            entropy: Entropy::seeded(seed),
            notebook: desk.notebook.clone(),
            trace: desk.trace.clone(),
            count: 0,
            acked: Vec::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.entropy.next_u64() % limit.max(1)
    }

    fn api(&mut self) -> (u64, Option<FleetServiceClient<Channel>>) {
        let member = 1 + self.below(self.members);
        if !self.channels.contains_key(&member)
            && let Ok(channel) = self.caller.channel(&address(member), ExpectedServer::AnyCoordinator)
        {
            self.channels.insert(member, channel);
        }
        (member, self.channels.get(&member).cloned().map(FleetServiceClient::new))
    }

    /// Works until it is told to stop.
    pub async fn run(mut self) {
        loop {
            let wait = Duration::from_millis(20 + self.below(380));
            tokio::time::sleep(wait).await;
            let (go, stop) = {
                let seen = self.notebook.seen();
                (seen.go, seen.stop)
            };
            if stop {
                return;
            }
            if !go {
                continue;
            }
            self.notebook.seen().open += 1;
            match self.below(100) {
                0..=54 => self.write().await,
                55..=92 => self.read().await,
                93..=97 => self.repeat(true).await,
                _ => self.repeat(false).await,
            }
            self.notebook.seen().open -= 1;
        }
    }

    fn node(&mut self) -> String {
        format!("node{}", 1 + self.below(self.nodes))
    }

    async fn write(&mut self) {
        self.count += 1;
        let value = format!("{}-{}", self.name, self.count);
        let node = self.node();
        let keys: &[&str] = match self.below(3) {
            0 => &REGISTERS[0..1],
            1 => &REGISTERS[1..2],
            _ => &REGISTERS[2..4],
        };
        let set = keys.iter().map(|key| ((*key).to_owned(), value.clone())).collect();
        let request = format!("w-{value}");
        let begun = micros();
        let mut write = Write { request, node, set, begun, ended: begun, attempts: 0, end: End::Unknown };
        while write.attempts < ATTEMPTS && write.end == End::Unknown {
            write.attempts += 1;
            let (member, end) = self.send(&write).await;
            self.trace.say(&self.name, format!("{} to c{member}: {end:?}", write.request));
            // A refusal after an unknown attempt does not take that attempt back.
            write.end = if write.attempts > 1 && matches!(end, End::Refused(_)) { End::Unknown } else { end };
            if write.end == End::Unknown {
                let pause = Duration::from_millis(100 + self.below(400));
                tokio::time::sleep(pause).await;
            }
        }
        write.ended = micros();
        if matches!(write.end, End::Acked(_)) {
            self.acked.push(write.clone());
        }
        self.notebook.seen().writes.push(write);
    }

    async fn send(&mut self, write: &Write) -> (u64, End) {
        let (member, api) = self.api();
        let Some(mut api) = api else { return (member, End::Unknown) };
        let request = v1::UpdateNodeLabelsRequest {
            name: write.node.clone(),
            set: write.set.clone().into_iter().collect(),
            remove: Vec::new(),
            options: Some(v1::ChangeOptions {
                request_id: write.request.clone(),
                reason: String::new(),
                validate_only: false,
            }),
        };
        let end = match tokio::time::timeout(PATIENCE, api.update_node_labels(request)).await {
            Ok(Ok(response)) => End::Acked(index_of(&response)),
            Ok(Err(status)) if harmless(&status) => {
                End::Refused(format!("{:?}: {}", status.code(), status.message()))
            }
            Ok(Err(_)) | Err(_) => End::Unknown,
        };
        (member, end)
    }

    async fn read(&mut self) {
        let node = self.node();
        let (member, api) = self.api();
        let Some(mut api) = api else { return };
        let request =
            v1::GetNodeRequest { name: node.clone(), consistency: v1::Consistency::Linearizable.into() };
        let begun = micros();
        let answer = tokio::time::timeout(PATIENCE, api.get_node(request)).await;
        let Ok(Ok(response)) = answer else { return };
        let index = index_of(&response);
        let labels = response.into_inner().node.map(|node| node.labels).unwrap_or_default();
        let labels = labels.into_iter().filter(|(key, _)| REGISTERS.contains(&key.as_str())).collect();
        self.trace.say(&self.name, format!("read {node} at c{member}: index {index}"));
        let read = Read { node, begun, ended: micros(), index, labels };
        self.notebook.seen().reads.push(read);
    }

    /// Sends an acknowledged request again: with the same content, or with another one, which must be refused.
    async fn repeat(&mut self, same: bool) {
        let count = u64::try_from(self.acked.len()).unwrap_or(0);
        let chosen = usize::try_from(self.below(count)).unwrap_or(0);
        let Some(mut write) = self.acked.get(chosen).cloned() else { return };
        if !same {
            write.set.values_mut().for_each(|value| value.push_str("-other"));
        }
        let (member, end) = self.send(&write).await;
        self.trace.say(&self.name, format!("{} again to c{member}, same {same}: {end:?}", write.request));
        self.notebook.seen().repeats.push(Repeat { request: write.request, same, end });
    }
}

/// Several clients on one host.
///
/// # Errors
/// Never.
pub async fn host(desk: Desk, first: u64, count: u64, seed: u64) -> turmoil::Result {
    let mut all = tokio::task::JoinSet::new();
    for n in first..first + count {
        let client =
            Client::new(&desk, format!("k{n}"), seed.wrapping_add(n.wrapping_mul(0x1234_5678_9abc_def1)));
        all.spawn(client.run());
    }
    while all.join_next().await.is_some() {}
    Ok(())
}
