//! What becomes of an execution that was begun by an earlier helper and has no result. Pure.
//!
//! The rule (reliability.md 4.4): the evidence decides. Done is reported, not done is done now by the same execution, a
//! restart that stopped half way is finished by its start, and what nobody can tell is `UNKNOWN` and never run again.
//!
//! What outlives a helper: services (a systemd unit, or a process group of the process driver). A backup does not: it is
//! written by threads of the helper. Without a pause it is simply written again under its id, because a finished archive
//! is found, verified and returned and an unfinished one has another name. With a pause it is *not* paused a second time,
//! since the grant may be over: a finished archive is reported, anything else has failed, and the obligation has resumed
//! the writes by then. A log rotation can not be told from one more rotation, so it is unknown.
//! A hook is run again only when whoever asked for it said that it may be.
//! A release has a record of its own, written before the service was stopped: it goes on from there.

use quorate_model::{ActionSpec, SecretVerb, ServiceName};

use crate::host::{Recovered, Verb};

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// Do the whole action: it had no effect, or doing it again is the same.
    Run,
    /// Bring what it began to its end, whoever cancels it meanwhile, so that no service is left down. What it had not begun is
    /// begun now, unless its time is over.
    Finish {
        /// Its time is over.
        late: bool,
    },
    /// Only start the unit: the stop of the restart is done.
    StartOnly(ServiceName),
    /// Ask for a finished result without disturbing anything.
    AskOnly,
    /// It had its effect; report the unit as it is.
    Done,
    /// It had none, and its time is over.
    Late,
    /// Nobody can tell.
    Unknown(&'static str),
}

/// The verb whose evidence decides, if it is one.
#[must_use]
pub(super) const fn verb(action: &ActionSpec) -> Option<Verb> {
    match action {
        ActionSpec::ServiceStart { .. } => Some(Verb::Start),
        ActionSpec::ServiceStop { .. } => Some(Verb::Stop),
        ActionSpec::ServiceRestart { .. } => Some(Verb::Restart),
        ActionSpec::ServiceReload { .. } => Some(Verb::Reload),
        ActionSpec::ServiceStatus { .. }
        | ActionSpec::BackupCreate { .. }
        | ActionSpec::BackupVerify { .. }
        | ActionSpec::LogRotate { .. }
        | ActionSpec::ArtifactStage { .. }
        | ActionSpec::ArtifactActivate { .. }
        | ActionSpec::ArtifactRevert { .. }
        | ActionSpec::ConfigConfirm { .. }
        | ActionSpec::Secret { .. }
        | ActionSpec::Data { .. }
        | ActionSpec::TrafficDrain { .. }
        | ActionSpec::TrafficRestore { .. }
        | ActionSpec::ExecRun { .. }
        | ActionSpec::RolePromote { .. }
        | ActionSpec::MaintenanceEnter { .. }
        | ActionSpec::MaintenanceExit { .. }
        | ActionSpec::HostPreflight { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => None,
    }
}

/// What to do about an action, given what the evidence says (for verbs) and whether its time is over.
#[must_use]
pub(super) fn resume(action: &ActionSpec, found: Option<Recovered>, late: bool) -> Resume {
    match action {
        ActionSpec::ServiceStart { service }
        | ActionSpec::ServiceStop { service }
        | ActionSpec::ServiceRestart { service }
        | ActionSpec::ServiceReload { service } => match found {
            Some(Recovered::Done) => Resume::Done,
            Some(Recovered::NotDone) if late => Resume::Late,
            Some(Recovered::NotDone) => Resume::Run,
            // Late or not: a unit that we stopped and left down is worse than a late one.
            Some(Recovered::HalfDone) => Resume::StartOnly(service.clone()),
            Some(Recovered::Unknown) | None => {
                Resume::Unknown("the unit's state does not tell whether it was done")
            }
        },
        ActionSpec::BackupCreate { policy, .. } if policy.pause.is_some() => Resume::AskOnly,
        ActionSpec::BackupCreate { .. } | ActionSpec::BackupVerify { .. } if late => Resume::Late,
        ActionSpec::BackupCreate { .. } | ActionSpec::BackupVerify { .. } => Resume::Run,
        // Each looks first at what is there already: done again, they end where the first would have.
        ActionSpec::ArtifactStage { .. } if late => Resume::Late,
        ActionSpec::ArtifactStage { .. } => Resume::Run,
        ActionSpec::ArtifactActivate { .. } | ActionSpec::ArtifactRevert { .. } => Resume::Finish { late },
        ActionSpec::Secret { verb: SecretVerb::Stage | SecretVerb::Confirm, .. } if late => Resume::Late,
        ActionSpec::Secret { verb: SecretVerb::Stage | SecretVerb::Confirm, .. } => Resume::Run,
        // Both secrets are valid in every state between; the service must not be left down.
        ActionSpec::Secret {
            verb: SecretVerb::Install | SecretVerb::Retire | SecretVerb::Revert, ..
        } => Resume::Finish { late },
        // The folders' own numbers tell where each of them lies: all of them end in the same place.
        ActionSpec::Data { .. } => Resume::Finish { late },
        ActionSpec::ConfigConfirm { .. } if late => Resume::Late,
        ActionSpec::ConfigConfirm { .. } => Resume::Run,
        // A balancer is asked first and told again; a late one is not begun, and what the drain owes is done.
        ActionSpec::TrafficDrain { .. } | ActionSpec::TrafficRestore { .. } => Resume::Run,
        // What an earlier helper left running of it was ended; how far it had come nobody can tell.
        ActionSpec::ExecRun { once: true, .. } => Resume::Unknown(
            "the helper ended while the hook ran, which is run once: look at what it did before anything else",
        ),
        // Told a second time it changes nothing; its lease is looked at again.
        ActionSpec::RolePromote { .. } if late => Resume::Late,
        ActionSpec::RolePromote { .. } => Resume::Run,
        ActionSpec::ExecRun { once: false, .. } if late => Resume::Late,
        ActionSpec::ExecRun { once: false, .. } => Resume::Run,
        // The file is written whole, and is ours by the operation that it names.
        ActionSpec::MaintenanceEnter { .. } | ActionSpec::MaintenanceExit { .. } => Resume::Run,
        ActionSpec::LogRotate { .. } => {
            Resume::Unknown("the helper ended while logs were rotated; nothing of them is lost")
        }
        ActionSpec::ServiceStatus { .. }
        | ActionSpec::HostPreflight { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => Resume::Run,
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::backup::BackupPolicy;
    use quorate_model::{BackupId, DurationMs, HookName};

    use super::*;

    fn service() -> ServiceName {
        ServiceName::new("ledger").unwrap()
    }

    fn backup(pause: bool) -> ActionSpec {
        let hook = pause.then(|| HookName::new("h").unwrap());
        let policy = BackupPolicy {
            paths: Vec::new(),
            exclude: Vec::new(),
            pause: hook.clone(),
            resume: hook,
            pause_limit: DurationMs(1),
            level: 1,
        };
        ActionSpec::BackupCreate { service: service(), backup: BackupId::new("b").unwrap(), policy }
    }

    fn release() -> quorate_model::Release {
        quorate_model::Release {
            version: quorate_model::Version::new("1.0").unwrap(),
            artifact: quorate_model::Digest::new("a".repeat(64)).unwrap(),
            size: 1,
            signature: String::new(),
            install: quorate_model::Install::Package { package: "ledger".to_owned() },
        }
    }

    #[test]
    fn the_table() {
        use Recovered::{Done, HalfDone, NotDone, Unknown};
        let restart = ActionSpec::ServiceRestart { service: service() };
        let stop = ActionSpec::ServiceStop { service: service() };
        let reload = ActionSpec::ServiceReload { service: service() };
        let activate = ActionSpec::ArtifactActivate { service: service(), release: release() };
        for (action, found, late, want) in [
            (&restart, Some(Done), true, Resume::Done),
            (&restart, Some(NotDone), false, Resume::Run),
            (&restart, Some(NotDone), true, Resume::Late),
            (&restart, Some(HalfDone), true, Resume::StartOnly(service())),
            (&stop, Some(Done), false, Resume::Done),
            (&backup(true), None, false, Resume::AskOnly),
            (&backup(true), None, true, Resume::AskOnly),
            (&backup(false), None, false, Resume::Run),
            (&backup(false), None, true, Resume::Late),
            (&ActionSpec::HostFacts, None, false, Resume::Run),
            (&ActionSpec::ArtifactStage { service: service(), release: release() }, None, false, Resume::Run),
            (&ActionSpec::ArtifactStage { service: service(), release: release() }, None, true, Resume::Late),
            (&activate, None, false, Resume::Finish { late: false }),
            (&activate, None, true, Resume::Finish { late: true }),
        ] {
            assert_eq!(resume(action, found, late), want, "{:?} {found:?} {late}", action.kind());
        }
        let hook = |once| {
            let hook = HookName::new("h").unwrap();
            ActionSpec::ExecRun { service: service(), hook, once, release: None, targets: Vec::new() }
        };
        assert_eq!(resume(&hook(false), None, false), Resume::Run);
        assert_eq!(resume(&hook(false), None, true), Resume::Late);
        assert!(matches!(resume(&hook(true), None, false), Resume::Unknown(_)));
        assert!(matches!(resume(&hook(true), None, true), Resume::Unknown(_)));
        for (action, found) in [(&restart, Some(Unknown)), (&restart, None), (&reload, Some(Unknown))] {
            assert!(matches!(resume(action, found, false), Resume::Unknown(_)));
        }
    }
}
