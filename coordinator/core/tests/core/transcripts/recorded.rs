//! What the state records of releases and files, beside what each instance really has.

use super::Run;
use crate::world::service;

impl Run {
    /// What is recorded of a service's configuration files, and what each instance really has.
    pub(super) fn configs(&mut self, name: &str) {
        let mut lines = Vec::new();
        for (config, known) in &self.fleet.world.state.services[&service(name)].configs {
            lines
                .extend(known.iter().map(|r| format!("  {config} {} by {}", r.release.version, r.operation)));
        }
        for (id, truth) in self.fleet.truth.iter().filter(|(id, _)| id.service == service(name)) {
            let used = truth.file.as_ref().map_or("?", |(version, _)| version.as_str());
            let told = self.fleet.world.state.instances.get(id).map(|i| i.configs.values());
            let told: Vec<&str> = told.into_iter().flatten().map(|r| r.version.as_str()).collect();
            lines.push(format!("  {} has {used}, recorded {}", id.node, told.join(" ")));
        }
        self.fleet.world.lines.extend(lines);
    }

    /// What is recorded of a service's releases, and what each instance really uses.
    pub(super) fn history(&mut self, name: &str) {
        let known = &self.fleet.world.state.services[&service(name)].releases;
        let mut lines: Vec<String> =
            known.iter().map(|r| format!("  release {} by {}", r.release.version, r.operation)).collect();
        for (id, truth) in self.fleet.truth.iter().filter(|(id, _)| id.service == service(name)) {
            let used = truth.used.as_ref().map_or("?", |(version, _)| version.as_str());
            let told = self.fleet.world.state.instances.get(id).and_then(|i| i.release.as_ref());
            let told = told.map_or("?", |r| r.version.as_str());
            lines.push(format!("  {} uses {used}, recorded {told}", id.node));
        }
        self.fleet.world.lines.extend(lines);
    }
}
