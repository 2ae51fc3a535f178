//! Lines of scripts about policies and approvals.

use quorate_core::Hash;
use quorate_core::command::{Command, Entry, OperationCommand, PolicyCommand};
use quorate_model::approval::EXPIRES_DEFAULT;
use quorate_model::{Approvers, OperationId, PolicyName, PolicySpec, Principal, UserName, WorkloadName};

use super::{Run, seconds};

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

impl Run {
    /// `policy NAME [service=…] [approvals=2] [users=bob,cid] [expires=60s]`.
    pub(super) fn policy(&mut self, name: &str, options: &[&str]) {
        let option = |name: &str| options.iter().find_map(|word| word.strip_prefix(name));
        let spec = PolicySpec {
            name: PolicyName::new(name).unwrap(),
            selector: None,
            services: option("service=").map(|s| WorkloadName::new(s).unwrap()).into_iter().collect(),
            kinds: vec![],
            risk: None,
            approvals: option("approvals=").map_or(1, |n| n.parse().unwrap()),
            approvers: option("users=")
                .map_or(Approvers::Operators, |names| Approvers::Users(names.split(',').map(user).collect())),
            expires: option("expires=").map_or(EXPIRES_DEFAULT, seconds),
            reason: "four eyes".into(),
        };
        let command = PolicyCommand::Apply { spec, expect: None };
        let answer = self.fleet.world.user(Command::Policy(Box::new(command)));
        self.refused(&answer);
    }

    pub(super) fn forget_policy(&mut self, name: &str) {
        let command = PolicyCommand::Delete { name: PolicyName::new(name).unwrap(), expect: None };
        let answer = self.fleet.world.user(Command::Policy(Box::new(command)));
        self.refused(&answer);
    }

    /// `approve ID by USER [other-plan]`; proposed twice, as around a leader change.
    pub(super) fn decide(&mut self, verb: &str, id: &str, by: &str, options: &[&str]) {
        let id = OperationId::new(id).unwrap();
        let plan = match options {
            ["other-plan"] => Hash::of(b"another plan"),
            _ => self.fleet.world.state.operations[&id].plan_hash,
        };
        let reason = String::from("looked at it");
        let command = match verb {
            "approve" => OperationCommand::Approve { id, plan, reason },
            _ => OperationCommand::Reject { id, plan, reason },
        };
        let by = Principal::User { name: user(by) };
        let entry = Entry::new(self.fleet.world.now, by, None, Command::Operation(Box::new(command)));
        let answer = self.fleet.world.commit(&entry);
        self.refused(&answer);
    }
}
