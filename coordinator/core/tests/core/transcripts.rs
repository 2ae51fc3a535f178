//! Scripts in `scripts/*.txt`, their recorded output beside them as `*.out`. `UPDATE=1 cargo test -p quorate-core` records
//! anew; look at the difference before committing it.

mod approvals;
mod declared;
mod failover;
mod membership;
mod rebuild;
mod recorded;

use std::path::PathBuf;

use quorate_core::command::{
    CalendarCommand, Command, DeclaredCommand, Entry, ExecutionCommand, NodeCommand, OperationCommand,
};
use quorate_core::plan::plan;
use quorate_core::state::plan::{Change, Goal, Plan, PlanRequest, Verb};
use quorate_core::{Answer, explain};
use quorate_model::alert::AlertMatcher;
use quorate_model::backup::BackupPolicy;
use quorate_model::{
    BalancerName, ConfigApply, ConfigName, ConfigSpec, DurationMs, FreezeName, FreezeSpec, HookName, Install,
    MaintenanceSpec, Occurrence, OnFailure, OnTimeout, OperationId, PreflightSpec, Promotion, Recurrence,
    Refusal, RequestId, SecretName, SecretSource, SecretSpec, Selector, Share, SilenceSpec, TrafficSpec,
    WindowName, WindowSpec, WorkloadName, ZoneName,
};

use crate::agents::{Fleet, TICK_MS};
use crate::world::{admin, group, measured, node, policy, quiet, release, service, spec};

struct Run {
    fleet: Fleet,
}

impl Run {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.fleet.world.say(format!("> {line}"));
        match words.as_slice() {
            ["fleet", count] => {
                self.fleet.world.fleet(count.parse().unwrap());
                self.fleet.world.hush();
            }
            ["service", name, options @ ..] => self.service(name, options),
            ["group", name, word, voters @ ..] => {
                let answer = self.fleet.world.group(name, name, policy(word), voters);
                self.refused(&answer);
                self.fleet.tick();
                self.fleet.world.hush();
                self.fleet.least.clear();
            }
            ["spare", name, count] => self.spare(name, count.parse().unwrap()),
            ["readings", id] => self.readings(id),
            ["for", span] => self.ticks(seconds(span)),
            ["leader", "changes"] => self.fleet.change_leader(),
            ["until", id, state, span] => self.until(id, state, seconds(span)),
            ["leads", name] => {
                self.fleet.leader = node(name);
                self.fleet.tick();
            }
            ["show", id] => self.show(id),
            ["explain", id] => self.explain(id),
            ["least", name] => {
                let least = self.fleet.least[*name];
                self.fleet.world.say(format!("  at least {least} served at every moment"));
            }
            ["estimate", name] => self.estimate(name),
            ["label", name, zone] => self.label(name, zone),
            ["starts", name] => self.starts(name),
            ["ran"] => crate::hooks::ran(&mut self.fleet),
            ["migrations", name] => crate::hooks::migrations(&mut self.fleet, name),
            [verb @ ("pause" | "resume" | "cancel" | "promote"), id] => self.control(verb, id),
            ["promote", id, "all"] => self.control("promote all", id),
            ["history", name] => self.history(name),
            ["configs", name] => self.configs(name),
            [verb @ ("cordon" | "uncordon" | "remove" | "drain" | "undrain"), name] => self.node(verb, name),
            ["resolve", id] => {
                let command = ExecutionCommand::Resolve {
                    execution: quorate_model::ExecutionId::new(*id).unwrap(),
                    note: "looked at it".into(),
                };
                let answer = self.fleet.world.user(Command::Execution(Box::new(command)));
                self.refused(&answer);
            }
            ["artifact", verb, rest @ ..] => {
                let command = crate::artifacts::command(verb, rest);
                let answer = self.fleet.world.user(Command::Artifact(command));
                self.refused(&answer);
            }
            [kind @ ("rollout" | "run" | "backup"), id, rest @ ..] => self.operation(kind, id, rest),
            ["freeze", name, options @ ..] => self.freeze(name, options),
            [verb @ ("thaw" | "unwindow"), name] => self.lift(verb, name),
            ["policy", name, options @ ..] => self.policy(name, options),
            [verb @ ("approve" | "reject"), id, "by", user, options @ ..] => {
                self.decide(verb, id, user, options);
            }
            ["unpolicy", name] => self.forget_policy(name),
            ["window", name, options @ ..] => self.window(name, options),
            ["schedule", name, options @ ..] => self.schedule(name, options),
            ["due", name, ago, id] => self.due(name, ago, id),
            ["runs", name] => self.fleet.world.lines.extend(crate::schedules::told(&self.fleet, name)),
            ["failover" | "move" | "rejoin", ..] => self.role(&words),
            [what, name] => self.mischief(what, name),
            other => self.members(other),
        }
        self.fleet.world.tell();
    }

    fn spare(&mut self, name: &str, count: u32) {
        let mut spec = self.fleet.world.state.groups[&group(name)].spec.clone();
        spec.spare_wanted = count;
        let command = DeclaredCommand::ApplyGroup { spec, expect: None };
        let answer = self.fleet.world.user(Command::Declared(Box::new(command)));
        self.refused(&answer);
        self.fleet.world.hush();
    }

    fn mischief(&mut self, what: &str, name: &str) {
        let mischief = &mut self.fleet.mischief;
        let first = self.fleet.world.state.services.keys().next().unwrap().to_string();
        match what {
            "membership" => self.membership(name),
            "data" => self.data(name),
            "voters" => self.voters(name),
            "acknowledge" => self.acknowledge(name),
            "lease" => self.fleet.show_lease(&group(name)),
            "lags" => drop(self.fleet.leases.lagging.insert(node(name))),
            "ships" => drop(self.fleet.leases.lagging.remove(&node(name))),
            "kill" => self.fleet.set_up(name, &first, false),
            "heal" => self.fleet.set_up(name, &first, true),
            "deaf" => drop(mischief.deaf.insert(node(name))),
            "hears" => drop(mischief.deaf.remove(&node(name))),
            "sick" => drop(mischief.sick.insert(node(name))),
            "hang" => drop(mischief.hang.insert(node(name))),
            "worse" => drop(mischief.worse.insert(node(name))),
            "firing" => drop(mischief.firing.insert(node(name))),
            "resolved" => drop(mischief.firing.remove(&node(name))),
            "mute" => drop(mischief.mute.insert(node(name))),
            "slow" => drop(mischief.slow.insert(node(name))),
            "quick" => drop(mischief.slow.remove(&node(name))),
            "amnesia" => drop(mischief.amnesia.insert(node(name))),
            "well" => drop(mischief.sick.remove(&node(name))),
            "unready" => drop(mischief.unready.insert(node(name))),
            "ready" => drop(mischief.unready.remove(&node(name))),
            "full" => drop(mischief.full.insert(node(name))),
            "roomy" => drop(mischief.full.remove(&node(name))),
            "strict" => drop(mischief.strict.insert(node(name))),
            "lenient" => drop(mischief.strict.remove(&node(name))),
            "broken" => drop(mischief.broken.insert(node(name))),
            "mended" => drop(mischief.broken.remove(&node(name))),
            "stuck" => drop(mischief.stuck.insert(node(name))),
            _ => panic!("unknown mischief: {what}"),
        }
    }

    fn ticks(&mut self, span: DurationMs) {
        for _ in 0..span.0 / TICK_MS {
            self.fleet.tick();
        }
    }

    fn until(&mut self, id: &str, state: &str, span: DurationMs) {
        let id = OperationId::new(id).unwrap();
        for _ in 0..span.0 / TICK_MS {
            if self.fleet.world.state.operations[&id].state.as_str() == state {
                return;
            }
            self.fleet.tick();
        }
        self.fleet.world.lines.push(format!("  {id} has not reached {state}"));
        self.show(id.as_str());
    }

    fn refused(&mut self, answer: &Answer) {
        if let Some(refusal) = answer.refusal() {
            self.refusal(&refusal.clone());
        }
    }

    fn refusal(&mut self, refusal: &Refusal) {
        self.fleet.world.say(format!("  refused: {} ({})", refusal.what(), refusal.reason()));
        for (subject, text) in refusal.why() {
            self.fleet.world.say(format!("    {subject:<14} {text}"));
        }
        self.fleet.world.say(format!("    hint: {}", refusal.hint()));
    }

    fn operation(&mut self, kind: &str, id: &str, rest: &[&str]) {
        let option = |name: &str| rest.iter().find_map(|w| w.strip_prefix(name)).and_then(|v| v.parse().ok());
        let names: Vec<String> =
            rest.iter().skip(1).filter(|w| w.starts_with("node")).map(|w| (*w).into()).collect();
        let nodes = Selector { all: names.is_empty(), names, labels: vec![] };
        let goal = match kind {
            "rollout" => Goal::Rollout { group: group(rest[0]), change: change(rest) },
            "backup" => Goal::Backup { service: service(rest[0]), nodes },
            _ => Goal::Run { service: service(rest[0]), nodes, verb: verb(rest.last().unwrap()) },
        };
        let mut request = PlanRequest::new(goal, admin());
        request.max_unavailable = option("max=").unwrap_or(0);
        request.max_failures = option("failures=").unwrap_or(0);
        request.gate_deadline = Some(DurationMs::from_secs(20));
        request.deadline = option("deadline=").map(|s: u32| DurationMs::from_secs(s.into()));
        request.backup_first = rest.contains(&"copies");
        advance(&mut request, rest);
        crate::hooks::choose(&mut request, rest);
        self.begin(id, &request);
    }

    /// Plans it and starts it, twice under one request id.
    fn begin(&mut self, id: &str, request: &PlanRequest) {
        let world = &mut self.fleet.world;
        let mut minted = world.minted;
        let made = plan(&world.state, &world.obs, request, world.now, &mut || {
            minted += 1;
            minted
        });
        world.minted = minted;
        match made {
            Err(refusal) => self.refusal(&refusal),
            Ok(plan) => {
                self.print(&plan);
                let id = OperationId::new(id).unwrap();
                let command = Command::Operation(Box::new(OperationCommand::Start { id: id.clone(), plan }));
                let request = Some(RequestId::new(format!("q-{id}")).unwrap());
                let entry = Entry::new(self.fleet.world.now, admin(), request, command);
                let answer = self.fleet.world.commit(&entry);
                assert_eq!(answer, self.fleet.world.commit(&entry), "same request id, same answer");
                self.refused(&answer);
            }
        }
    }

    fn print(&mut self, plan: &Plan) {
        let world = &mut self.fleet.world;
        world.say(format!("  {}, {} at once", plan.title, plan.parallel));
        for (number, wave) in plan.waves.iter().enumerate() {
            for step in &wave.steps {
                let mut text =
                    format!("  wave {} {:<11} {:<8} {}", number + 1, wave.label, step.kind, step.node);
                if !step.note.is_empty() {
                    text += &format!("   {}", step.note);
                }
                for line in &step.quorum {
                    text += &format!(
                        "   {}: {} voters, needs {}, up {} -> {}, spare {}",
                        line.group, line.voters, line.required, line.up_before, line.up_during, line.spare
                    );
                }
                world.say(text.trim_end());
            }
            if wave.hold != DurationMs::ZERO || wave.promote {
                let promoted = if wave.promote { ", then promoted" } else { "" };
                world.say(format!("    looked at for {}{promoted}", wave.hold));
            }
        }
        for warning in &plan.warnings {
            world.say(format!("  ! {warning}"));
        }
        world.say(format!("  {}", plan.summary));
    }

    fn control(&mut self, verb: &str, id: &str) {
        let id = OperationId::new(id).unwrap();
        let command = match verb {
            "pause" => OperationCommand::Pause { id },
            "resume" => OperationCommand::Resume { id },
            "promote" => OperationCommand::Promote { id, all: false },
            "promote all" => OperationCommand::Promote { id, all: true },
            _ => OperationCommand::Cancel { id },
        };
        let answer = self.fleet.world.user(Command::Operation(Box::new(command)));
        self.refused(&answer);
    }

    fn node(&mut self, verb: &str, name: &str) {
        let node = node(name);
        let reason = String::from("memory test");
        let command = match verb {
            "cordon" => NodeCommand::Cordon { node, reason },
            "uncordon" => NodeCommand::Uncordon { node },
            "undrain" => NodeCommand::Undrain { node },
            "drain" => {
                let evidence = self.fleet.world.obs.instances.values().cloned().collect();
                NodeCommand::Drain { node, reason, evidence }
            }
            _ => NodeCommand::Remove { node },
        };
        let answer = self.fleet.world.user(Command::Node(command));
        self.refused(&answer);
    }

    /// `freeze NAME [node=…] [service=…] [from=5s] [until=20s]`, times from now.
    /// Deletes a freeze or a window.
    /// `window NAME [node=…] [service=…] [opens=5s,200s] [for=60s] [announce=120s,60s]`: times from now; without `opens` nothing
    /// is known of its openings.
    fn show(&mut self, id: &str) {
        let operation = self.fleet.world.state.operations[&OperationId::new(id).unwrap()].clone();
        let counted = operation.active.at(self.fleet.world.now);
        let mut lines = vec![format!("  {id} {} after {counted} of work", operation.state)];
        if let Some(failure) = &operation.failure {
            lines.push(format!("  {}: {}", failure.reason, failure.message));
        }
        for condition in &operation.conditions {
            lines.push(format!("  blocked {}: {}", condition.reason, condition.message));
        }
        let told = |w: &&quorate_core::state::Wave| w.promote || w.hold != DurationMs::ZERO;
        if operation.waves.iter().any(|w| told(&w)) {
            let waves: Vec<String> =
                operation.waves.iter().map(|w| format!("{} {}", w.label, w.state).trim().into()).collect();
            lines.push(format!("  waves: {}", waves.join(", ")));
        }
        for (index, step) in operation.indexed() {
            lines.push(format!("  {index} {:<8} {} {}", step.kind, step.node, step.state));
        }
        self.fleet.world.lines.extend(lines);
    }

    fn readings(&mut self, id: &str) {
        let operation = self.fleet.world.state.operations[&OperationId::new(id).unwrap()].clone();
        for (index, step) in operation.indexed() {
            for reading in &step.readings {
                let verdict = if reading.ok { "ok" } else { "FAILED" };
                let (probe, from, detail) = (&reading.probe, &reading.from, &reading.detail);
                self.fleet.world.say(format!("  {index} {probe} from {from}: {verdict} {detail}"));
            }
        }
    }

    fn explain(&mut self, id: &str) {
        let world = &mut self.fleet.world;
        let Some(why) = explain(&world.state, &world.obs, id, world.now) else {
            world.say("  there is no such thing");
            return;
        };
        world.say(format!("  {} {}: {}", why.subject, why.state, why.headline));
        for (subject, text) in why.facts {
            world.say(format!("    {subject:<22} {text}"));
        }
    }

    fn starts(&mut self, name: &str) {
        let counts: Vec<String> = self
            .fleet
            .truth
            .iter()
            .filter(|(id, _)| id.service == service(name))
            .map(|(id, truth)| format!("{} {}", id.node, truth.starts))
            .collect();
        self.fleet.world.say(format!("  starts: {}", counts.join(", ")));
    }
}

fn verb(word: &str) -> Verb {
    match word {
        "start" => Verb::Start,
        "stop" => Verb::Stop,
        "restart" => Verb::Restart,
        "reload" => Verb::Reload,
        other => panic!("unknown verb: {other}"),
    }
}

/// What a rollout changes: `release=1.1.0`, `undo`, `reload`, or a restart.
fn change(words: &[&str]) -> Change {
    let option = |name: &str| words.iter().find_map(|w| w.strip_prefix(name));
    if let Some(config) = option("config=").map(|name| ConfigName::new(name).unwrap()) {
        return match (option("release="), option("compare=")) {
            (Some(version), _) => Change::Config { config, release: Box::new(release(version)) },
            (None, Some(version)) => Change::ConfigDiff { config, release: Box::new(release(version)) },
            (None, None) => Change::ConfigUndo { config },
        };
    }
    if let Some(secret) = option("secret=") {
        return Change::Secret { secret: SecretName::new(secret).unwrap() };
    }
    if words.contains(&"undo") {
        return Change::Undo;
    }
    if let Some(hook) = words.iter().find_map(|w| w.strip_prefix("run=")) {
        return Change::Run { hook: HookName::new(hook).unwrap() };
    }
    if words.contains(&"reload") {
        return Change::Reload;
    }
    match words.iter().find_map(|w| w.strip_prefix("release=")) {
        Some(version) => Change::Release(Box::new(release(version))),
        None => Change::Restart,
    }
}

/// How it advances: `canary=1 ramp=1,5,20% hold=10s promotion=every then=rollback`.
fn advance(request: &mut PlanRequest, words: &[&str]) {
    let option = |name: &str| words.iter().find_map(|w| w.strip_prefix(name));
    let waves = &mut request.waves;
    waves.canary = option("canary=").map_or(0, |n| n.parse().unwrap());
    waves.ramp = option("ramp=").map_or(vec![], |r| r.split(',').map(|s| Share::parse(s).unwrap()).collect());
    waves.zone_label = option("order=").map(ToString::to_string);
    waves.hold = option("hold=").map_or(DurationMs::ZERO, seconds);
    let word = option("promotion=").unwrap_or("automatic").to_uppercase();
    waves.promotion = Promotion::parse(&word).unwrap();
    request.on_failure = OnFailure::parse(&option("then=").unwrap_or("abort").to_uppercase()).unwrap();
}

fn seconds(text: &str) -> DurationMs {
    DurationMs::from_secs(text.strip_suffix('s').unwrap().parse().unwrap())
}

/// At the end of every script: what must hold whatever happened.
fn invariants(run: &Run) {
    run.fleet.world.replicas_agree();
    crate::sequences::check(&run.fleet.world.state);
}

#[test]
fn scripts_give_what_was_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/core/scripts");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 8, "scripts are missing");
    let mut wrong = Vec::new();
    for path in scripts {
        let mut run = Run { fleet: Fleet::new() };
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if !line.trim().is_empty() && !line.starts_with('#') {
                run.line(line.trim());
            }
        }
        invariants(&run);
        let text = run.fleet.world.lines.join("\n") + "\n";
        let recorded = path.with_extension("out");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&recorded, &text).unwrap();
        } else if std::fs::read_to_string(&recorded).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not as recorded (UPDATE=1 records anew):\n{}", wrong.join("\n"));
}
