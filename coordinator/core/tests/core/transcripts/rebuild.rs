//! Lines about members whose data is put aside and copied anew.

use quorate_core::command::{Command, DeclaredCommand};
use quorate_core::state::plan::{Goal, PlanRequest};
use quorate_model::{DataSpec, DurationMs};

use super::Run;
use crate::world::{admin, group, node, service};

impl Run {
    /// `data NAME`: the service declares where its data lies.
    pub(super) fn data(&mut self, name: &str) {
        let mut spec = self.fleet.world.state.services[&service(name)].spec.clone();
        spec.data = Some(DataSpec { paths: vec!["/srv/${node}/store".into(), "/srv/${node}/wal".into()] });
        let command = DeclaredCommand::ApplyService { spec, expect: None };
        let answer = self.fleet.world.user(Command::Declared(Box::new(command)));
        self.refused(&answer);
        self.fleet.tick();
        self.fleet.world.hush();
    }

    /// `rebuild ID GROUP NODE`, `aside`.
    pub(super) fn data_aside(&mut self, words: &[&str]) {
        match words {
            ["rebuild", id, name, on] => self.rebuild(id, name, on),
            ["aside"] => self.aside(),
            other => panic!("unknown line: {}", other.join(" ")),
        }
    }

    fn rebuild(&mut self, id: &str, name: &str, on: &str) {
        let goal = Goal::Rebuild { group: group(name), node: node(on) };
        let mut request = PlanRequest::new(goal, admin());
        request.gate_deadline = Some(DurationMs::from_secs(20));
        self.begin(id, &request);
    }

    /// Which of the sets of folders of each node are aside, as its host has done it.
    fn aside(&mut self) {
        let told: Vec<String> =
            self.fleet.aside.iter().map(|(node, set)| format!("  {node} has {set} aside")).collect();
        let none = vec!["  nothing is aside".to_owned()];
        self.fleet.world.lines.extend(if told.is_empty() { none } else { told });
    }
}
