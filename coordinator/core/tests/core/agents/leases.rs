//! Hosts that keep leases: renewed while somebody answers, given back on recall, and stopped by themselves before they run out.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::command::{Command, Entry, LeaseCommand, OperationCommand};
use quorate_core::observations::LeaseSilence;
use quorate_core::plan::{failovers_due, plan};
use quorate_core::{Answer, desired};
use quorate_model::{
    ActionSpec, Epoch, ExecutionId, GroupName, HeldLease, InstanceId, InstanceRole, LeaseState, LeaseTimes,
    NodeName, OperationId, Principal, Timestamp,
};

use super::Fleet;

/// What a host knows of a lease.
#[derive(Clone)]
struct Kept {
    lease: HeldLease,
    /// When the last answered renewal was sent; none before the first.
    sent: Option<Timestamp>,
    released: bool,
}

/// Everything about leases, on the hosts and at the coordinators.
#[derive(Default)]
pub(crate) struct Leases {
    kept: BTreeMap<(NodeName, GroupName), Kept>,
    renewed: BTreeMap<GroupName, (Epoch, Timestamp)>,
    lead: u64,
    lead_since: Timestamp,
    /// Whose instance leads as soon as it is up.
    pub(crate) primaries: BTreeSet<NodeName>,
    /// Where each instance is in the application's own log.
    pub(crate) positions: BTreeMap<NodeName, u64>,
    /// Standbys that get nothing from their primary.
    pub(crate) lagging: BTreeSet<NodeName>,
    /// Operations that were begun without being asked.
    begun: u32,
}

impl Fleet {
    fn is_up(&self, node: &NodeName) -> bool {
        self.truth.iter().any(|(id, truth)| id.node == *node && truth.up)
    }

    /// Somebody begins to answer renewals.
    pub(crate) fn lead(&mut self) {
        self.leases.lead += 1;
        self.leases.lead_since = self.world.now;
        self.leases.renewed.clear();
        let lead = self.leases.lead;
        let answer = self.world.system(Command::Lease(LeaseCommand::Lead { lead }));
        assert!(answer.refusal().is_none(), "{answer:?}");
    }

    /// What its instance is, where primaries have leases.
    pub(super) fn pair_role(&self, node: &NodeName) -> Option<InstanceRole> {
        let leads = self.leases.primaries.contains(node);
        let role = if leads { InstanceRole::Primary } else { InstanceRole::Standby };
        (!self.leases.primaries.is_empty()).then_some(role)
    }

    /// Every host looks after its leases, whether anybody hears of it or not; then two primaries are looked for.
    pub(super) fn keep_leases(&mut self) {
        let nodes: Vec<NodeName> = self.world.state.nodes.all_present().map(|n| n.name.clone()).collect();
        for name in &nodes {
            if !self.mischief.deaf.contains(name) {
                for lease in desired(&self.world.state, name).leases {
                    self.hear(name, lease);
                }
            }
            self.demote(name);
        }
        let leading: Vec<&NodeName> = self.leases.primaries.iter().filter(|node| self.is_up(node)).collect();
        assert!(leading.len() <= 1, "two primaries: {leading:?}");
        for record in self.world.state.groups.values().flat_map(|group| &group.failovers) {
            let open =
                self.world.state.operations.get(&record.operation).is_some_and(|o| !o.state.is_terminal());
            assert!(open || record.ended_at.is_some(), "{} is over, its record is not", record.operation);
        }
        self.ship(leading.first().map(|node| (*node).clone()));
        self.silences();
    }

    fn hear(&mut self, name: &NodeName, lease: HeldLease) {
        let (now, key) = (self.world.now, (name.clone(), lease.group.clone()));
        let known = self.leases.kept.get(&key).filter(|kept| kept.lease.epoch == lease.epoch).cloned();
        let mut kept = known.unwrap_or(Kept { lease: lease.clone(), sent: None, released: false });
        if lease.recalled && !kept.released {
            self.halt(name);
            kept.released = true;
        }
        let (group, epoch) = (lease.group.clone(), lease.epoch);
        let command = if kept.released {
            let message = "what led is stopped".into();
            LeaseCommand::Release { group, epoch, message }
        } else {
            kept.sent = Some(now);
            self.leases.renewed.insert(group.clone(), (epoch, now));
            LeaseCommand::Confirm { group, epoch }
        };
        self.leases.kept.insert(key, kept);
        let entry = Entry::new(now, Principal::Agent { node: name.clone() }, None, Command::Lease(command));
        let answer = self.world.commit(&entry);
        assert!(answer.refusal().is_none(), "{answer:?}");
    }

    /// Stops by itself what leads, before the lease can be taken for over.
    fn demote(&mut self, name: &NodeName) {
        let now = self.world.now;
        let late = |kept: &Kept| {
            let after = LeaseTimes::of(kept.lease.ttl).demote_after;
            !kept.released && kept.sent.is_some_and(|sent| now.since(sent) >= after)
        };
        let due: Vec<_> =
            self.leases.kept.iter().filter(|((node, _), kept)| node == name && late(kept)).collect();
        let due: Vec<_> = due.into_iter().map(|(key, _)| key.clone()).collect();
        for key in due {
            self.halt(name);
            self.leases.kept.get_mut(&key).unwrap().released = true;
        }
    }

    fn halt(&mut self, name: &NodeName) {
        for (_, truth) in self.truth.iter_mut().filter(|(id, _)| id.node == *name) {
            truth.up = false;
        }
    }

    /// Who leads writes; the others follow.
    fn ship(&mut self, leading: Option<NodeName>) {
        let Some(leader) = leading else { return };
        let at = *self.leases.positions.entry(leader).and_modify(|at| *at += 10).or_insert(1_000);
        let nodes: BTreeSet<NodeName> = self.truth.keys().map(|id| id.node.clone()).collect();
        for node in nodes {
            if self.is_up(&node) && !self.leases.lagging.contains(&node) {
                self.leases.positions.insert(node, at);
            }
        }
    }

    /// What the coordinator that leads can prove.
    fn silences(&mut self) {
        let (now, leases) = (self.world.now, &self.leases);
        let silence = |group: &quorate_core::state::Group| {
            let lease = group.primary.as_ref()?;
            let renewed = leases.renewed.get(&group.spec.name).filter(|(epoch, _)| *epoch == lease.epoch);
            let since = renewed.map_or(leases.lead_since, |(_, at)| *at);
            Some((
                group.spec.name.clone(),
                LeaseSilence {
                    lead: leases.lead,
                    epoch: lease.epoch,
                    silent_for: now.since(since),
                    leads_for: now.since(leases.lead_since),
                },
            ))
        };
        self.world.obs.leases = self.world.state.groups.values().filter_map(silence).collect();
    }

    /// Whether a host does what it is told: nobody is promoted but under a lease of that very epoch, while it lives.
    pub(super) fn may_promote(&mut self, name: &NodeName, id: &ExecutionId, action: &ActionSpec) -> bool {
        let ActionSpec::RolePromote { group, .. } = action else { return true };
        let epoch = self.world.state.executions[id].epoch;
        let kept = self.leases.kept.get(&(name.clone(), group.clone()));
        let lives = kept.is_some_and(|kept| {
            let end = kept.sent.map(|sent| sent.plus(LeaseTimes::of(kept.lease.ttl).demote_after));
            kept.lease.epoch == epoch && !kept.released && end.is_some_and(|end| self.world.now < end)
        });
        if lives {
            self.leases.primaries.insert(name.clone());
        }
        lives
    }

    /// Primaries that are lost: what the shell does about them.
    pub(super) fn fail_over(&mut self) {
        for request in failovers_due(&self.world.state, &self.world.obs, self.world.now) {
            let world = &mut self.world;
            let mut minted = world.minted;
            let made = plan(&world.state, &world.obs, &request, world.now, &mut || {
                minted += 1;
                minted
            });
            world.minted = minted;
            let Ok(plan) = made else { continue };
            self.leases.begun += 1;
            let id = OperationId::new(format!("auto-{}", self.leases.begun)).unwrap();
            let command = Command::Operation(Box::new(OperationCommand::Start { id, plan }));
            let answer = self.world.system(command);
            assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
        }
    }

    /// How the role of a group stands, and what is remembered of its moves.
    pub(crate) fn show_lease(&mut self, name: &GroupName) {
        let group = self.world.state.groups[name].clone();
        let mut lines = vec![match &group.primary {
            None => format!("  nobody has a lease of {name}"),
            Some(lease) => {
                let over = matches!(lease.state, LeaseState::Released | LeaseState::Expired);
                let why = if over { format!(": {}", lease.message) } else { String::new() };
                format!("  {} epoch {} {}{why}", lease.node, lease.epoch, lease.state)
            }
        }];
        let at = |at: Option<Timestamp>| {
            at.map_or("-".into(), |at| format!("{}", at.since(crate::world::START).0 / 100))
        };
        lines.extend(group.failovers.iter().map(|f| {
            let epoch = f.epoch.map_or("-".into(), |epoch| epoch.to_string());
            let lag = f.lag.map_or("unknown".into(), |lag| lag.to_string());
            format!(
                "  {} {} -> {} {} epoch {epoch}, fencing {} fenced {} promoted {} ended {}, lag {lag}: {}",
                f.operation,
                f.from,
                f.to,
                f.state,
                at(f.fencing_at),
                at(f.fenced_at),
                at(f.promoted_at),
                at(f.ended_at),
                f.why
            )
        }));
        let leads = |id: &InstanceId| self.leases.primaries.contains(&id.node);
        let up: Vec<String> = self
            .truth
            .iter()
            .filter(|(_, truth)| truth.up)
            .map(|(id, _)| format!("{} {}", id.node, if leads(id) { "leads" } else { "follows" }))
            .collect();
        lines.push(format!("  up: {}", up.join(", ")));
        self.world.lines.extend(lines);
    }
}
