//! What stands in a world before it begins: who everybody is, and the software of every host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::tls::{CertificateAuthority, KeyRequest, LeafSpec, LiveTls, Material};
use quorate_model::{ClusterId, Principal, Timestamp};

use super::agents::{APP, Site};
use super::board::Board;
use super::clients::{self, Desk, Notebook};
use super::faults::HEALTHY_DISK_US;
use super::kills::script::{self, Order};
use super::machine::Machine;
use super::member::{self, Seat, Slow, host};
use super::net::{CLUSTER, Caller};
use super::operator;
use super::post::Post;
use super::shelf::Shelf;
use super::trace::Trace;

/// Hosts of clients.
const CLIENT_HOSTS: u64 = 3;
/// Clients of each.
const CLIENTS_EACH: u64 = 3;
/// Nodes that clients write to, and that carry the group.
pub(super) const NODES: u64 = 3;
/// Life of a run's certificates; they are checked against the real clock.
const LIFE: Duration = Duration::from_secs(365 * 86_400);

/// Certificates of a run.
pub(super) struct Paper {
    pub(super) ca_pem: Arc<str>,
    pub(super) identities: Arc<BTreeMap<String, Principal>>,
    pub(super) callers: BTreeMap<Principal, Caller>,
    /// Certificates; agents date their own by them in every run.
    pub(super) live: BTreeMap<Principal, Arc<LiveTls>>,
}

/// The same people without certificates on their connections.
fn plain_paper(paper: Paper) -> Paper {
    let (mut identities, mut callers) = (BTreeMap::new(), BTreeMap::new());
    for principal in paper.callers.into_keys() {
        let who = member::plain_caller(principal.clone());
        identities.insert(who.serial.clone(), principal.clone());
        callers.insert(principal, Caller::Plain(who));
    }
    let ca_pem = "no certificates in this run".into();
    Paper { ca_pem, identities: Arc::new(identities), callers, live: paper.live }
}

fn tls_paper(all: Vec<Principal>) -> anyhow::Result<Paper> {
    let real = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH)?;
    let now = Timestamp(i64::try_from(real.as_millis())?);
    let authority = CertificateAuthority::create(&ClusterId::new(CLUSTER)?, CLUSTER, now)?;
    let (mut identities, mut callers, mut all_live) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for principal in all {
        let request = KeyRequest::create(authority.cluster(), &principal)?;
        let mut spec = LeafSpec::new(principal.clone(), now, LIFE);
        if let Principal::Coordinator { member } = &principal {
            spec = spec.with_hosts([host(member.0)]);
        }
        let issued = authority.sign_csr(request.csr_der(), &spec)?;
        let material = Material::from_pem(authority.pem(), &issued.pem, request.key_pem())?;
        identities.insert(issued.serial.to_string(), principal.clone());
        let live = LiveTls::new(material);
        callers.insert(principal.clone(), Caller::Tls(live.clone()));
        all_live.insert(principal, live);
    }
    Ok(Paper { ca_pem: authority.pem().into(), identities: Arc::new(identities), callers, live: all_live })
}

impl Paper {
    /// Certificates for all; with `tls` they are used on connections, too.
    pub(super) fn new(all: Vec<Principal>, tls: bool) -> anyhow::Result<Self> {
        let paper = tls_paper(all)?;
        Ok(if tls { paper } else { plain_paper(paper) })
    }
}

/// What every host is made from.
pub(super) struct Ground {
    pub(super) seed: u64,
    pub(super) members: u64,
    pub(super) paper: Paper,
    pub(super) board: Board,
    pub(super) post: Post,
    pub(super) trace: Trace,
    /// Folder of the nodes' own folders, and what can be installed; none where nothing is.
    pub(super) shelf: Option<Shelf>,
}

impl Ground {
    /// The coordinators' hosts.
    pub(super) fn seats(&self, sim: &mut turmoil::Sim<'static>) -> anyhow::Result<BTreeMap<u64, Seat>> {
        let mut seats = BTreeMap::new();
        for id in 1..=self.members {
            let slowness = Arc::new(Slow::new(HEALTHY_DISK_US));
            let principal = Principal::Coordinator { member: quorate_model::MemberId(id) };
            let caller = self.paper.callers.get(&principal).cloned();
            let seat = Seat {
                id,
                members: self.members,
                nodes: NODES,
                disk: member::disk(self.seed.wrapping_mul(31).wrapping_add(id), &slowness),
                slowness,
                caller: caller.ok_or_else(|| anyhow::anyhow!("a member without a certificate"))?,
                identities: self.paper.identities.clone(),
                ca_pem: self.paper.ca_pem.clone(),
                board: self.board.clone(),
                post: self.post.clone(),
                trace: self.trace.clone(),
                artifacts: self.shelf.iter().flat_map(Shelf::specs).collect(),
            };
            seat.format().map_err(anyhow::Error::msg)?;
            seats.insert(id, seat.clone());
            sim.host(host(id), move || seat.clone().run());
        }
        Ok(seats)
    }

    /// What somebody who calls needs.
    pub(super) fn desk(&self, notebook: &Notebook) -> anyhow::Result<Desk> {
        let user = self.paper.callers.iter().find(|(p, _)| matches!(p, Principal::User { .. }));
        Ok(Desk {
            members: self.members,
            nodes: NODES,
            caller: user.map(|(_, c)| c.clone()).ok_or_else(|| anyhow::anyhow!("no user"))?,
            notebook: notebook.clone(),
            trace: self.trace.clone(),
        })
    }

    /// The clients' hosts and the operator's; gives the names of the former.
    pub(super) fn clients(
        &self,
        sim: &mut turmoil::Sim<'static>,
        notebook: &Notebook,
    ) -> anyhow::Result<Vec<String>> {
        let (seed, desk) = (self.seed, self.desk(notebook)?);
        let mut names = Vec::new();
        for n in 0..CLIENT_HOSTS {
            let (desk, name) = (desk.clone(), format!("clients{n}"));
            let software = move || clients::host(desk.clone(), n * CLIENTS_EACH, CLIENTS_EACH, seed);
            sim.host(name.as_str(), software);
            names.push(name);
        }
        for name in operator::NAMES {
            let desk = desk.clone();
            sim.host(name, move || operator::host(desk.clone(), name, seed));
        }
        Ok(names)
    }

    /// The host of whoever conducts rounds of kills; gives no client's name.
    pub(super) fn conductor(
        &self,
        sim: &mut turmoil::Sim<'static>,
        notebook: &Notebook,
        order: &Order,
    ) -> anyhow::Result<Vec<String>> {
        let (desk, order, seed) = (self.desk(notebook)?, order.clone(), self.seed);
        let app = |shelf: &Shelf, node: &str| shelf.home(node).join(APP).display().to_string();
        let nodes = (1..=NODES).map(|n| format!("node{n}"));
        let apps: Vec<(String, String)> = nodes
            .filter_map(|node| self.shelf.as_ref().map(|shelf| (node.clone(), app(shelf, &node))))
            .collect();
        sim.host(script::NAME, move || script::host(desk.clone(), order.clone(), apps.clone(), seed));
        Ok(Vec::new())
    }

    /// The agents' hosts.
    pub(super) fn sites(&self, sim: &mut turmoil::Sim<'static>) -> anyhow::Result<BTreeMap<String, Site>> {
        let epochs = Arc::default();
        let mut sites = BTreeMap::new();
        for (principal, live) in &self.paper.live {
            let Principal::Agent { node } = principal else { continue };
            let slowness = Arc::new(Slow::new(HEALTHY_DISK_US));
            let caller = self.paper.callers.get(principal).cloned();
            let home = self.shelf.as_ref().map(|shelf| shelf.furnish(node.as_str())).transpose()?;
            let app = home.as_ref().map(|home| home.join(APP));
            let site = Site {
                name: node.to_string(),
                members: self.members,
                disk: quorate_durable::MemoryDisk::new(),
                pace: member::pace(self.seed.wrapping_mul(37).wrapping_add(self.members), &slowness),
                machine: Machine::new(node.to_string(), slowness.clone(), self.trace.clone())
                    .with_releases(app),
                home,
                standing: Arc::default(),
                slowness,
                caller: caller.ok_or_else(|| anyhow::anyhow!("an agent without a certificate"))?,
                live: live.clone(),
                epochs: Arc::clone(&epochs),
                board: self.board.clone(),
                trace: self.trace.clone(),
            };
            sites.insert(node.to_string(), site.clone());
            sim.host(node.as_str(), move || site.clone().run());
        }
        Ok(sites)
    }
}
