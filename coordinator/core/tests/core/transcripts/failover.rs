//! Lines about a primary and its standby.

use quorate_core::command::{Command, DeclaredCommand, LeaseCommand};
use quorate_core::state::plan::{Goal, PlanRequest};
use quorate_model::{DurationMs, FailoverSpec, HookName};

use super::Run;
use crate::world::{admin, group, node};

impl Run {
    pub(super) fn role(&mut self, words: &[&str]) {
        match words {
            ["failover", name, options @ ..] => self.failover(name, options),
            ["move", id, name, options @ ..] => self.moves(id, name, options),
            other => panic!("unknown line: {other:?}"),
        }
    }

    /// `failover NAME [automatic] [switch] [rejoin] [max=5] [hold=60s]`: its primary has a lease; the first voter leads.
    fn failover(&mut self, name: &str, options: &[&str]) {
        let mut spec = self.fleet.world.state.groups[&group(name)].spec.clone();
        let hook = |name: &str| HookName::new(name).unwrap();
        let wanted = |name: &str| options.contains(&name).then(|| hook(name));
        let option = |name: &str| options.iter().find_map(|w| w.strip_prefix(name));
        spec.failover = Some(FailoverSpec {
            ttl: DurationMs::from_secs(6),
            promote: hook("promote"),
            switch: wanted("switch"),
            rejoin: wanted("rejoin"),
            timeout: DurationMs::from_secs(20),
            automatic: options.contains(&"automatic"),
            max_lag: option("max=").map_or(50, |n| n.parse().unwrap()),
            hold_down: option("hold=").map_or(DurationMs::from_secs(60), super::seconds),
        });
        self.fleet.leases.primaries.insert(spec.voters[0].clone());
        self.fleet.lead();
        let command = DeclaredCommand::ApplyGroup { spec, expect: None };
        let answer = self.fleet.world.user(Command::Declared(Box::new(command)));
        self.refused(&answer);
        self.fleet.world.hush();
    }

    /// `move ID GROUP [planned] [to=node2]`.
    fn moves(&mut self, id: &str, name: &str, options: &[&str]) {
        let option = |name: &str| options.iter().find_map(|w| w.strip_prefix(name));
        let goal = Goal::Failover {
            group: group(name),
            to: option("to=").map(node),
            planned: options.contains(&"planned"),
        };
        let mut request = PlanRequest::new(goal, admin());
        request.gate_deadline = Some(DurationMs::from_secs(20));
        request.reason = "because".into();
        self.begin(id, &request);
    }

    pub(super) fn acknowledge(&mut self, name: &str) {
        let command = Command::Lease(LeaseCommand::Acknowledge { group: group(name) });
        let answer = self.fleet.world.user(command);
        self.refused(&answer);
    }
}
