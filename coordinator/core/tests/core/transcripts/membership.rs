//! Lines about members that join and leave.

use quorate_core::command::{Command, DeclaredCommand};
use quorate_core::state::plan::{Goal, PlanRequest};
use quorate_model::{DurationMs, HookName, MembershipSpec, MembershipVerb, NodeName};

use super::Run;
use crate::world::{admin, group, node};

impl Run {
    /// `membership NAME`: its members are changed by hooks; the application has those that are declared.
    pub(super) fn membership(&mut self, name: &str) {
        let mut spec = self.fleet.world.state.groups[&group(name)].spec.clone();
        self.fleet.members = Some(spec.voters.iter().cloned().collect());
        let hook = |name| HookName::new(name).unwrap();
        let timeout = DurationMs::from_secs(20);
        spec.membership = Some(MembershipSpec { add: hook("join"), remove: hook("leave"), timeout });
        let command = DeclaredCommand::ApplyGroup { spec, expect: None };
        let answer = self.fleet.world.user(Command::Declared(Box::new(command)));
        self.refused(&answer);
        self.fleet.tick();
        self.fleet.world.hush();
    }

    /// `add ID GROUP NODE`, `remove ID GROUP NODE [spare=0] [deadline=5s]`.
    pub(super) fn members(&mut self, words: &[&str]) {
        let [verb @ ("add" | "remove"), id, name, on, options @ ..] = words else {
            return self.data_aside(words);
        };
        let option = |name: &str| options.iter().find_map(|w| w.strip_prefix(name));
        let goal = Goal::Membership {
            group: group(name),
            node: node(on),
            change: MembershipVerb::parse(&verb.to_uppercase()).unwrap(),
            spare: option("spare=").map(|n| n.parse().unwrap()),
        };
        let mut request = PlanRequest::new(goal, admin());
        request.gate_deadline = Some(DurationMs::from_secs(20));
        request.deadline = option("deadline=").map(super::seconds);
        self.begin(id, &request);
    }

    /// Who votes as declared, as is pending, and as the application says.
    pub(super) fn voters(&mut self, name: &str) {
        let found = &self.fleet.world.state.groups[&group(name)];
        let names = |nodes: Vec<&NodeName>| nodes.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" ");
        let mut line = format!("  voters {}", names(found.spec.voters.iter().collect()));
        if let Some(pending) = &found.pending {
            line += &format!("; pending {}", names(pending.voters.iter().collect()));
        }
        if let Some(members) = &self.fleet.members {
            line += &format!("; the application has {}", names(members.iter().collect()));
        }
        self.fleet.world.say(line);
    }
}
