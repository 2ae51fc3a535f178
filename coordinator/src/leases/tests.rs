//! Two hosts never lead at once, whatever the coordinators, the network and the clocks do.
//!
//! The coordinators' half is the product's own: [`Lead`] and `quorate_core::apply`. A host is as bad as its contract allows: it
//! leads until the very end of its lease. Clocks run up to 10% off, messages are lost and late, leaders are deposed without
//! knowing it and come back.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_core::command::LeaseCommand;
use quorate_core::state::{Group, PrimaryLease};
use quorate_core::{Command, Entry, State, apply};
use quorate_model::{
    DurationMs, Epoch, FailoverSpec, GroupName, GroupSpec, HookName, LeaseState, NodeName, QuorumPolicy,
    Revision, ServiceName, Timestamp,
};

use super::Lead;

const TTL: DurationMs = DurationMs::from_secs(3);
const MEMBERS: usize = 3;
const HOSTS: usize = 2;

fn group() -> GroupName {
    GroupName::new("db").unwrap()
}

fn node(host: usize) -> NodeName {
    NodeName::new(format!("node{host}")).unwrap()
}

/// A clock: where it began, and how fast it runs, in thousandths.
#[derive(Clone, Copy, Debug)]
struct Clock {
    offset: u64,
    rate: u64,
}

impl Clock {
    fn at(self, real: u64) -> u64 {
        self.offset + real * self.rate / 1_000
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// Time passes.
    Pass(u64),
    /// A host sends a renewal to a member; one that never arrives is lost.
    Send { host: usize, to: usize },
    /// The same, and all that follows at once.
    Renew { host: usize, to: usize },
    /// A member applies what was committed.
    Apply(usize),
    /// A message that is on the way arrives.
    Arrive(usize),
    /// A member whose proof is under way learns whether it leads.
    Prove(usize),
    /// An answer arrives at its host.
    Answer(usize),
    /// Somebody else is elected; who led before does not learn of it.
    Elect(usize),
    /// The leader draws its number.
    Begin(usize),
    /// Both at once.
    Lead(usize),
    /// Whoever thinks that it leads and finds the lease over proposes so.
    Expire,
    /// The role is given to a host, if nobody holds it.
    Grant(usize),
    /// The same, and it is taken up at once.
    Promote(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_u64..900).prop_map(Event::Pass),
        1 => (2_000_u64..5_000).prop_map(Event::Pass),
        2 => (0..HOSTS, 0..MEMBERS).prop_map(|(host, to)| Event::Send { host, to }),
        8 => (0..HOSTS, 0..MEMBERS).prop_map(|(host, to)| Event::Renew { host, to }),
        3 => (0_usize..3).prop_map(Event::Arrive),
        3 => (0_usize..3).prop_map(Event::Prove),
        3 => (0_usize..3).prop_map(Event::Answer),
        2 => (0..MEMBERS).prop_map(Event::Apply),
        1 => (0..MEMBERS).prop_map(Event::Elect),
        1 => (0..MEMBERS).prop_map(Event::Begin),
        2 => (0..MEMBERS).prop_map(Event::Lead),
        6 => Just(Event::Expire),
        1 => (0..HOSTS).prop_map(Event::Grant),
        6 => (0..HOSTS).prop_map(Event::Promote),
    ]
}

/// A renewal on its way.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    host: usize,
    to: usize,
    epoch: Epoch,
    /// On its host's clock.
    sent: u64,
    /// The number of the lead that has taken it in.
    number: u64,
}

struct World {
    real: u64,
    /// As far as it was committed.
    state: State,
    /// As far as each member has applied it.
    views: [State; MEMBERS],
    index: u64,
    /// Whose proposals are committed and whose proofs succeed.
    leader: usize,
    members: [(Clock, Option<Lead>); MEMBERS],
    hosts: [(Clock, Option<(Epoch, u64)>); HOSTS],
    sent: Vec<Renewal>,
    proving: Vec<Renewal>,
    answered: Vec<Renewal>,
    drawn: u64,
    /// How often a host held the role, and another one after it.
    moves: usize,
}

fn declared() -> State {
    let spec = GroupSpec {
        name: group(),
        service: ServiceName::new("db").unwrap(),
        voters: (0..HOSTS).map(node).collect(),
        learners: Vec::new(),
        policy: QuorumPolicy::PrimaryStandby,
        spare_wanted: 0,
        labels: BTreeMap::new(),
        membership: None,
        failover: Some(FailoverSpec {
            ttl: TTL,
            promote: HookName::new("promote").unwrap(),
            switch: None,
            rejoin: None,
            timeout: DurationMs::from_secs(60),
            automatic: true,
            max_lag: 0,
            hold_down: DurationMs::ZERO,
        }),
    };
    let group = Group {
        spec,
        created_at: Timestamp::ZERO,
        revision: Revision(1),
        alarm: None,
        pending: None,
        primary: None,
        failovers: Vec::new(),
    };
    let mut state = State::default();
    state.groups.insert(group.spec.name.clone(), group);
    state
}

impl World {
    fn new(clocks: &[Clock]) -> Self {
        Self {
            real: 0,
            state: declared(),
            views: std::array::from_fn(|_| declared()),
            index: 0,
            leader: 0,
            members: std::array::from_fn(|n| (clocks[n], None)),
            hosts: std::array::from_fn(|n| (clocks[MEMBERS + n], None)),
            sent: Vec::new(),
            proving: Vec::new(),
            answered: Vec::new(),
            drawn: 0,
            moves: 0,
        }
    }

    fn now(&self, member: usize) -> DurationMs {
        DurationMs(self.members[member].0.at(self.real))
    }

    /// Only who leads commits anything. The answer of everybody else is that nobody knows.
    fn propose(&mut self, member: usize, command: LeaseCommand) -> Option<bool> {
        if member != self.leader {
            return None;
        }
        self.index += 1;
        let entry = Entry::system(Timestamp::ZERO, Command::Lease(command));
        let done = apply(&mut self.state, self.index, &entry).refusal().is_none();
        self.views[member] = self.state.clone();
        Some(done)
    }

    /// As it is committed.
    fn lease(&self) -> Option<&PrimaryLease> {
        self.state.groups[&group()].primary.as_ref()
    }

    /// As this member has it.
    fn seen(&self, member: usize) -> Option<&PrimaryLease> {
        self.views[member].groups[&group()].primary.as_ref()
    }

    /// As `RaftNode::prove_lead`: it leads, and has applied all that was committed.
    fn prove_lead(&mut self, member: usize) -> bool {
        if member == self.leader {
            self.views[member] = self.state.clone();
        }
        member == self.leader
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Pass(span) => self.real += span,
            Event::Elect(member) => self.leader = member,
            Event::Lead(member) => {
                self.leader = member;
                self.step(&Event::Begin(member));
            }
            Event::Promote(host) => {
                self.grant(host);
                self.step(&Event::Renew { host, to: self.leader });
            }
            Event::Apply(member) => self.views[member] = self.state.clone(),
            Event::Renew { host, to } => {
                let before = (self.sent.len(), self.proving.len(), self.answered.len());
                self.step(&Event::Send { host, to });
                self.arrive(before.0);
                self.prove(before.1);
                self.step(&Event::Answer(before.2));
            }
            Event::Begin(member) => {
                self.drawn += 1;
                let lead = self.drawn;
                if self.propose(member, LeaseCommand::Lead { lead }) == Some(true) {
                    self.members[member].1 = Some(Lead::new(lead, self.now(member)));
                }
            }
            Event::Send { host, to } => {
                let clock = self.hosts[host].0;
                // What it was told of last, and what it holds: it need not know that this is over.
                let told = self.lease().filter(|lease| lease.node == node(host)).map(|lease| lease.epoch);
                if let Some(epoch) = told.or_else(|| self.hosts[host].1.map(|(epoch, _)| epoch)) {
                    self.sent.push(Renewal { host, to, epoch, sent: clock.at(self.real), number: 0 });
                }
            }
            Event::Arrive(n) => self.arrive(n),
            Event::Prove(n) => self.prove(n),
            Event::Answer(n) => {
                if n < self.answered.len() {
                    let Renewal { host, epoch, sent, .. } = self.answered.remove(n);
                    let end = sent + TTL.0;
                    let known = &mut self.hosts[host].1;
                    // Never shorter, and never one that is older.
                    if known.is_none_or(|(of, until)| epoch > of || (epoch == of && end > until)) {
                        *known = Some((epoch, end));
                    }
                }
            }
            Event::Expire => (0..MEMBERS).for_each(|member| self.expire(member)),
            Event::Grant(host) => self.grant(host),
        }
    }

    fn arrive(&mut self, n: usize) {
        if n >= self.sent.len() {
            return;
        }
        let renewal = self.sent.remove(n);
        let now = self.now(renewal.to);
        let seen = self.seen(renewal.to).filter(|lease| !lease.state.is_over());
        let known = seen.is_some_and(|l| l.epoch == renewal.epoch && l.node == node(renewal.host));
        let Some(lead) = self.members[renewal.to].1.as_mut().filter(|_| known) else { return };
        if lead.take_in(&group(), renewal.epoch, now) {
            let number = lead.number;
            self.proving.push(Renewal { number, ..renewal });
        }
    }

    fn prove(&mut self, n: usize) {
        if n >= self.proving.len() {
            return;
        }
        let renewal = self.proving.remove(n);
        if !self.prove_lead(renewal.to) {
            return;
        }
        if self.views[renewal.to].cluster.lease_lead != renewal.number {
            return;
        }
        let seen = self.seen(renewal.to);
        let held = seen.filter(|l| l.epoch == renewal.epoch && l.node == node(renewal.host));
        let granted = match held.map(|lease| lease.state) {
            Some(LeaseState::Held) => true,
            Some(LeaseState::Requested) => {
                let confirm = LeaseCommand::Confirm { group: group(), epoch: renewal.epoch };
                self.propose(renewal.to, confirm) == Some(true)
            }
            Some(LeaseState::Released | LeaseState::Expired) | None => false,
        };
        if granted {
            self.answered.push(renewal);
        }
    }

    fn expire(&mut self, member: usize) {
        let now = self.now(member);
        let Some(epoch) = self.seen(member).filter(|l| !l.state.is_over()).map(|l| l.epoch) else { return };
        let Some(lead) = self.members[member].1.as_mut() else { return };
        let Some(found) = lead.close(&group(), epoch, TTL, now) else { return };
        let command = LeaseCommand::Expire {
            group: group(),
            epoch,
            lead: found.lead,
            silent_for: found.silent_for,
            leads_for: found.leads_for,
        };
        if self.propose(member, command) == Some(false)
            && let Some(lead) = self.members[member].1.as_mut()
        {
            lead.reopen(&group(), epoch);
        }
    }

    /// As the step that promotes does it.
    fn grant(&mut self, host: usize) {
        if self.lease().is_some_and(|lease| !lease.state.is_over()) {
            return;
        }
        self.moves += usize::from(self.lease().is_some_and(|lease| lease.node != node(host)));
        self.state.epoch = Epoch(self.state.epoch.0 + 1);
        let lease = PrimaryLease {
            node: node(host),
            epoch: self.state.epoch,
            ttl: TTL,
            state: LeaseState::Requested,
            since: Timestamp::ZERO,
            granted_at: Timestamp::ZERO,
            adopted: false,
            recalled: None,
            message: String::new(),
        };
        self.state.groups.get_mut(&group()).unwrap().primary = Some(lease);
        self.views[self.leader] = self.state.clone();
    }

    /// The hosts that may lead now.
    fn leading(&self) -> Vec<usize> {
        let leads = |host: usize| {
            let (clock, known) = &self.hosts[host];
            known.is_some_and(|(_, end)| clock.at(self.real) < end)
        };
        (0..HOSTS).filter(|host| leads(*host)).collect()
    }
}

fn clock() -> impl Strategy<Value = Clock> {
    (0_u64..1_000_000, 900_u64..=1_100).prop_map(|(offset, rate)| Clock { offset, rate })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_two_hosts_lead_at_once(
        clocks in proptest::collection::vec(clock(), MEMBERS + HOSTS),
        events in proptest::collection::vec(event(), 0..400),
    ) {
        let mut world = World::new(&clocks);
        for event in &events {
            world.step(event);
            let leading = world.leading();
            prop_assert!(leading.len() < 2, "{leading:?} lead at {} after {event:?}", world.real);
        }
    }
}

/// What the property rests on happens: the role is renewed, runs out and moves to the other host.
#[test]
fn the_role_moves_when_its_host_is_silent() {
    let mut world = World::new(&[Clock { offset: 0, rate: 1_000 }; MEMBERS + HOSTS]);
    let renew = |world: &mut World, host| {
        for event in [Event::Send { host, to: 0 }, Event::Arrive(0), Event::Prove(0), Event::Answer(0)] {
            world.step(&event);
        }
    };
    world.step(&Event::Begin(0));
    world.step(&Event::Grant(0));
    renew(&mut world, 0);
    assert_eq!(world.leading(), [0]);
    world.step(&Event::Pass(TTL.0));
    assert!(world.leading().is_empty(), "its lease has run out, and nobody else has one");
    world.step(&Event::Expire);
    world.step(&Event::Grant(1));
    assert_eq!(world.lease().unwrap().node, node(0), "the margin is not over");
    world.step(&Event::Pass(750));
    world.step(&Event::Expire);
    world.step(&Event::Grant(1));
    renew(&mut world, 1);
    assert_eq!((world.leading(), world.moves), (vec![1], 1));
}
