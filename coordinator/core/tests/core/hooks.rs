//! Hooks in scripts: declared, chosen, and what became of them.

use quorate_core::plan::PlanRequest;
use quorate_model::{
    ActionSpec, DurationMs, HandoverSpec, HookName, MigrateSpec, MigrateWhen, MigrationChoice, NodeName,
    ServiceSpec,
};

use crate::agents::Fleet;
use crate::world::service;

/// `migrating [after] [undoable]`, `handing`.
pub(crate) fn declare(spec: &mut ServiceSpec, options: &[&str]) {
    if options.contains(&"migrating") {
        let after = options.contains(&"after");
        spec.migrate = Some(MigrateSpec {
            hook: HookName::new("migrate").unwrap(),
            timeout: DurationMs::from_secs(30),
            when: if after { MigrateWhen::After } else { MigrateWhen::Before },
            undo: options.contains(&"undoable").then(|| HookName::new("migrate-back").unwrap()),
        });
    }
    if options.contains(&"handing") {
        let hook = HookName::new("step-down").unwrap();
        spec.handover = Some(HandoverSpec { hook, timeout: DurationMs::from_secs(10) });
    }
}

/// A hook that is told who may take over makes the first of them the leader; one that is stuck only says so.
pub(crate) fn hand_over(fleet: &mut Fleet, name: &NodeName, action: &ActionSpec) {
    let ActionSpec::ExecRun { targets, hook, .. } = action else { return };
    if hook.as_str() == "rejoin" {
        fleet.leases.primaries.remove(name);
        return;
    }
    if let ("join" | "leave", Some(members), Some(target)) =
        (hook.as_str(), &mut fleet.members, targets.first())
    {
        // The application obeys, whatever its hook says of itself; one that is stuck does nothing.
        if !fleet.mischief.stuck.contains(name) {
            let _ =
                if hook.as_str() == "join" { members.insert(target.clone()) } else { members.remove(target) };
        }
        return;
    }
    if let Some(next) = targets.first().filter(|_| !fleet.mischief.stuck.contains(name)) {
        fleet.leader = next.clone();
    }
}

/// `migrate=skip` or `migrate=again`.
pub(crate) fn choose(request: &mut PlanRequest, words: &[&str]) {
    let word = words.iter().find_map(|w| w.strip_prefix("migrate=")).unwrap_or("auto");
    request.migration = MigrationChoice::parse(&word.to_uppercase()).unwrap();
}

/// Every run of a hook on the hosts.
pub(crate) fn ran(fleet: &mut Fleet) {
    let lines: Vec<String> =
        fleet.ran.iter().map(|(node, hook, told)| format!("  {hook} {told} on {node}")).collect();
    fleet.world.say(format!("  {} runs of hooks", lines.len()));
    fleet.world.lines.extend(lines);
}

/// What is recorded of them.
pub(crate) fn migrations(fleet: &mut Fleet, name: &str) {
    let known = &fleet.world.state.services[&service(name)].migrations;
    let lines: Vec<String> = known
        .iter()
        .map(|m| format!("  {} {:?} on {} by {}", m.version, m.state, m.node, m.operation))
        .collect();
    fleet.world.lines.extend(lines);
}
