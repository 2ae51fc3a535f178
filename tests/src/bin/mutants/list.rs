//! The bugs, each as one edit of one file, and the part of the suite that has to find it.

/// One bug.
pub(crate) struct Mutant {
    /// Short name, for `--only`.
    pub(crate) name: &'static str,
    /// File, from the project's root.
    pub(crate) file: &'static str,
    /// Text that occurs exactly once in it.
    pub(crate) find: &'static str,
    /// What takes its place.
    pub(crate) put: &'static str,
    /// Arguments of `cargo test`: the smallest part of the suite that is expected to find it.
    pub(crate) tests: &'static [&'static str],
}

const CORE: &[&str] = &["-p", "quorate-core", "--test", "core"];
const RUNNER: &[&str] = &["-p", "quorate-agent", "--lib", "runner"];
const KILLS: &[&str] = &["-p", "quorate-tests", "--test", "sim", "kills"];
const HELPER: &[&str] = &["-p", "quorate-agent", "--test", "helper"];

/// All of them.
pub(crate) const MUTANTS: &[Mutant] = &[
    // What decides.
    Mutant {
        name: "majority-of-half",
        file: "coordinator/core/src/safety/quorum.rs",
        find: "wide.saturating_div(2).saturating_add(1),",
        put: "wide.saturating_div(2),",
        tests: &["-p", "quorate-core", "--lib"],
    },
    Mutant {
        name: "unknown-counts-as-up",
        file: "coordinator/core/src/safety/availability.rs",
        find: "    let Some(reading) = reading else { return Some((OutReason::Unknown, None)) };\n    if",
        put: "    let Some(reading) = reading else { return None };\n    if",
        tests: CORE,
    },
    Mutant {
        name: "stale-health-accepted",
        file: "coordinator/core/src/safety/availability.rs",
        find: "let is_fresh = now.since(reading.at) <= freshness_limit(state, &id.service);",
        put: "let is_fresh = true;",
        tests: CORE,
    },
    Mutant {
        name: "health-older-than-the-last-step",
        file: "coordinator/core/src/safety/availability.rs",
        find: "is_none_or(|instance| reading.at > instance.disturbed_at)",
        put: "is_none_or(|instance| reading.at > Timestamp::ZERO || instance.since > reading.at)",
        tests: CORE,
    },
    Mutant {
        name: "only-live-members-priced",
        file: "coordinator/core/src/safety/availability.rs",
        find: "required: needed(group),",
        put: "required: required(&group.spec.policy, up),",
        tests: CORE,
    },
    Mutant {
        name: "work-in-hand-costs-nothing",
        file: "coordinator/core/src/safety/availability.rs",
        find: "    if ours {\n        return Some((OutReason::Granted, None));\n    }\n",
        put: "    let _ = ours;\n",
        tests: CORE,
    },
    Mutant {
        name: "not-yet-shown-counts-as-down",
        file: "coordinator/core/src/safety/availability.rs",
        find: "InstanceState::Soaking | InstanceState::Unknown => {\n            false\n",
        put: "InstanceState::Soaking | InstanceState::Unknown => {\n            true\n",
        tests: CORE,
    },
    Mutant {
        name: "freeze-ignored-by-steps",
        file: "coordinator/core/src/safety/budget.rs",
        find: "freeze::begins(state, instance, ask.operation, now))",
        put: "freeze::begins(state, instance, ask.operation, now).filter(|_| false))",
        tests: CORE,
    },
    Mutant {
        name: "freeze-ignored-by-drains",
        file: "coordinator/core/src/apply/node.rs",
        find: "freeze::unfrozen(state, node, None, context.now)",
        put: "freeze::unfrozen(state, node, None, context.now).filter(|_| false)",
        tests: CORE,
    },
    Mutant {
        name: "gate-takes-old-passes",
        file: "coordinator/core/src/safety/gate.rs",
        find: "reading.ok && reading.passes >= probe.passes && reading.at.minus(DurationMs(spread)) > since",
        put: "reading.ok && reading.passes >= probe.passes && (since >= Timestamp::ZERO || spread == DurationMs::ZERO.0)",
        tests: CORE,
    },
    Mutant {
        name: "new-leader-without-grace",
        file: "coordinator/core/src/next/nodes.rs",
        find: "let silent = now.since(heard.max(obs.leading_since));",
        put: "let silent = now.since(heard);",
        tests: CORE,
    },
    Mutant {
        name: "member-number-used-again",
        file: "coordinator/core/src/apply/cluster.rs",
        find: "    state.members.last = id;\n",
        put: "",
        tests: CORE,
    },
    Mutant {
        name: "request-id-forgotten",
        file: "coordinator/core/src/apply/history.rs",
        find: "    state.dedupe.given.insert(key, Given { at: now, intent, answer: answer.clone() });\n",
        put: "    let _ = (now, intent, answer);\n",
        tests: CORE,
    },
    Mutant {
        name: "token-works-twice",
        file: "coordinator/core/src/apply/token.rs",
        find: "    if token.used_by.is_some() {\n        return Err(denied(\"it was used before\"));\n    }\n",
        put: "",
        tests: CORE,
    },
    Mutant {
        name: "audit-not-chained",
        file: "coordinator/core/src/state/audit.rs",
        find: "    hasher.bytes(&previous.0);\n",
        put: "    let _ = previous;\n",
        tests: CORE,
    },
    // What is durable.
    Mutant {
        name: "one-fsync-skipped",
        file: "common/durable/src/sled_engine.rs",
        find: "rustix::fs::fdatasync(&self.data).map_err(|error| SyncError::Barrier(error.to_string()))",
        put: "Ok(())",
        tests: &["-p", "quorate-tests", "--test", "crash", "power::wrapper_alone"],
    },
    Mutant {
        name: "four-kib-rule-dropped",
        file: "common/durable/src/batch.rs",
        find: "        if size > max {\n            return Err(LimitError::Value { bytes: size, max });\n        }\n",
        put: "        let _ = max;\n",
        tests: &["-p", "quorate-durable"],
    },
    Mutant {
        name: "high-water-mark-ignored",
        file: "common/durable/src/open.rs",
        find: "if found < mark.sequence {",
        put: "if found == u64::MAX {",
        tests: &["-p", "quorate-durable"],
    },
    Mutant {
        name: "committed-index-not-saved",
        file: "coordinator/src/store/committed.rs",
        find: "        self.write(&bytes, offset)?;\n        self.sequence.store",
        put: "        let _ = (&bytes, offset);\n        self.sequence.store",
        tests: &["-p", "quorate-coordinator", "--lib", "store::"],
    },
    Mutant {
        name: "append-leaves-a-hole",
        file: "coordinator/src/raft/log_store.rs",
        find: "if last.is_some_and(|last| id.index != last.index + 1) {",
        put: "if last.is_some_and(|last| id.index == last.index) {",
        tests: &["-p", "quorate-coordinator", "--lib", "raft::"],
    },
    // What runs on the host.
    Mutant {
        name: "acknowledged-before-the-journal",
        file: "agent/src/runner/engine.rs",
        find: "                self.journal.accept(&id, entry, &self.meta).await?;\n                failpoint::hit(\"accepted\");\n",
        put: "                failpoint::hit(\"accepted\");\n                let _ = entry;\n",
        tests: HELPER,
    },
    Mutant {
        name: "fence-ignored",
        file: "agent/src/runner/machine.rs",
        find: "let no = if epoch < self.highest {",
        put: "let no = if epoch > self.highest && epoch < self.highest {",
        tests: RUNNER,
    },
    Mutant {
        name: "expired-grant-honoured",
        file: "agent/src/runner/machine.rs",
        find: "} else if begin_before.is_some_and(|end| now >= end) {\n            Some((Reason::GrantExpired, \"its grant ended before it could begin\".to_owned()))",
        put: "} else if begin_before.is_some_and(|end| now < end && now >= end) {\n            Some((Reason::GrantExpired, \"its grant ended before it could begin\".to_owned()))",
        tests: RUNNER,
    },
    Mutant {
        name: "obligation-dropped",
        file: "agent/src/runner/obligations.rs",
        find: "        self.journal.owe(id, &owed).await.map_err(unusable)?;\n        failpoint::hit(\"obligation-open\");\n",
        put: "        failpoint::hit(\"obligation-open\");\n",
        tests: HELPER,
    },
    // Who leads.
    Mutant {
        name: "host-never-demotes",
        file: "agent/src/runner/leases/machine.rs",
        find: "self.demote_at().is_some_and(|at| at <= now)",
        put: "self.demote_at().is_some_and(|at| at <= now && at > now)",
        tests: &["-p", "quorate-agent", "--lib", "runner::leases"],
    },
    Mutant {
        name: "lease-without-margin",
        file: "common/model/src/lease.rs",
        find: "margin: DurationMs(ttl.0.div_ceil(4)),",
        put: "margin: DurationMs(0),",
        tests: &["-p", "quorate-coordinator", "--lib", "leases::"],
    },
    Mutant {
        name: "silence-measured-by-an-old-lead",
        file: "coordinator/core/src/apply/lease.rs",
        find: "if *lead != state.cluster.lease_lead {",
        put: "if *lead == 0 {",
        tests: &["-p", "quorate-coordinator", "--lib", "leases::"],
    },
    Mutant {
        name: "promoted-beside-a-live-lease",
        file: "coordinator/core/src/safety/lease.rs",
        find: "    live(group).map(|lease| held(name, lease))\n",
        put: "    live(group).map(|lease| held(name, lease)).filter(|_| false)\n",
        tests: CORE,
    },
    Mutant {
        name: "former-primary-started",
        file: "coordinator/core/src/safety/failover/rejoin.rs",
        find: "        if group.former.contains(node) {\n",
        put: "        if group.former.contains(node) && group.former.is_empty() {\n",
        tests: CORE,
    },
    // Who may come in.
    Mutant {
        name: "agent-certificate-on-raft",
        file: "coordinator/src/member/parts.rs",
        find: "Principal::Agent { .. } | Principal::User { .. } | Principal::System => None,",
        put: "Principal::Agent { .. } => Some(1),\n        Principal::User { .. } | Principal::System => None,",
        tests: &["-p", "quorate-coordinator", "--lib", "member::parts"],
    },
    Mutant {
        name: "gate-lets-agents-to-raft",
        file: "coordinator/src/api/authz.rs",
        find: "(Allow::Coordinators, Principal::Coordinator { .. }) => true,",
        put: "(Allow::Coordinators, Principal::Coordinator { .. } | Principal::Agent { .. }) => true,",
        tests: &["-p", "quorate-coordinator", "--lib", "api::"],
    },
    Mutant {
        name: "agent-speaks-for-another",
        file: "coordinator/src/sessions/service.rs",
        find: "        if hello.node != node {\n",
        put: "        if hello.node != node && hello.node == node {\n",
        tests: &["-p", "quorate-tests", "--test", "cluster", "identity::an_agent"],
    },
    Mutant {
        name: "removed-identity-still-served",
        file: "coordinator/src/listen/request.rs",
        find: "            Err(denied @ (Denied::Revoked | Denied::Removed | Denied::UnknownSerial)) => {\n                self.close.trigger();\n",
        put: "            Err(Denied::Revoked | Denied::Removed) => Ok(self.identity.as_ref().clone()),\n            Err(denied @ Denied::UnknownSerial) => {\n                self.close.trigger();\n",
        tests: &["-p", "quorate-coordinator", "--lib", "listen::"],
    },
    // What a kill at the right moment finds.
    Mutant {
        name: "started-is-started-again",
        file: "agent/src/actions/release/plan.rs",
        find: "let fresh = seen.up && seen.run != last.run;",
        put: "let fresh = seen.up && seen.run != last.run && seen.torn;",
        tests: KILLS,
    },
];

#[cfg(test)]
mod tests {
    use super::MUTANTS;

    #[test]
    fn every_bug_can_be_put_in() {
        let root = quorate_tests::workspace::root();
        for mutant in MUTANTS {
            let text = std::fs::read_to_string(root.join(mutant.file)).unwrap_or_default();
            assert_eq!(text.matches(mutant.find).count(), 1, "{}: its text in {}", mutant.name, mutant.file);
        }
    }
}
