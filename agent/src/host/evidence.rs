//! Evidence of one run of a unit, and what it proves after a crash (reliability.md 4.4). Pure.

use serde::{Deserialize, Serialize};

use super::UnitReading;

/// What tells one run of a unit from any other. Journaled with the INTENT, compared after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvidence {
    /// The kernel's boot id when this was read.
    pub boot_id: String,
    /// systemd's `InvocationID`, or the process driver's token; changes with every start.
    pub invocation_id: String,
    /// When it entered the active state, `CLOCK_MONOTONIC` microseconds.
    pub active_enter_us: u64,
    /// Main process, 0 for none.
    pub main_pid: u32,
    /// Start time of the main process in clock ticks since boot; 0 where the driver does not know it.
    pub start_ticks: u64,
    /// Starts counted by the process driver; 0 for systemd.
    pub starts: u64,
    /// Whether it ran.
    pub running: bool,
}

impl RunEvidence {
    /// Whether both describe the same run.
    #[must_use]
    pub fn same_run(&self, other: &Self) -> bool {
        self.boot_id == other.boot_id
            && self.invocation_id == other.invocation_id
            && self.active_enter_us == other.active_enter_us
            && self.start_ticks == other.start_ticks
    }
}

/// A verb on a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Start.
    Start,
    /// Stop.
    Stop,
    /// Stop and start.
    Restart,
    /// Read the configuration again.
    Reload,
}

impl Verb {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

/// What became of a verb that was intended and has no recorded result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recovered {
    /// It had its effect.
    Done,
    /// It had none; it may be done now.
    NotDone,
    /// A restart that stopped and did not start again; `start` completes it.
    HalfDone,
    /// Nobody can tell; never done again by itself.
    Unknown,
}

/// Compares the evidence journaled before a verb with what is seen now. Call it once the unit is not
/// [`UnitReading::is_moving`]; while it moves the answer is `Unknown`.
#[must_use]
pub fn judge(verb: Verb, before: &RunEvidence, now: &UnitReading) -> Recovered {
    let after = &now.evidence;
    if now.is_moving() || before.boot_id != after.boot_id {
        // After a reboot the init system has decided what runs; whether our verb came first can not be seen.
        return Recovered::Unknown;
    }
    let same = before.same_run(after);
    match (verb, before.running, after.running) {
        // A start of what runs already is no change, whoever started it.
        (Verb::Start, true, true) if same => Recovered::Done,
        (Verb::Start, false, true) if !same => Recovered::Done,
        (Verb::Start, false, false) if same => Recovered::NotDone,
        (Verb::Stop, _, false) => Recovered::Done,
        (Verb::Stop, true, true) if same => Recovered::NotDone,
        (Verb::Restart, _, true) if !same => Recovered::Done,
        (Verb::Restart, true, true) => Recovered::NotDone,
        (Verb::Restart, true, false) => Recovered::HalfDone,
        (Verb::Restart, false, false) if same => Recovered::NotDone,
        // A reload leaves no trace in the run's identity.
        (Verb::Start | Verb::Stop | Verb::Restart | Verb::Reload, _, _) => Recovered::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str, running: bool) -> UnitReading {
        let evidence = RunEvidence {
            boot_id: "b".into(),
            invocation_id: id.into(),
            active_enter_us: 7,
            main_pid: 1,
            start_ticks: 2,
            starts: 1,
            running,
        };
        let mut r = UnitReading { evidence, ..UnitReading::default() };
        r.status.active = if running { "active" } else { "inactive" }.into();
        r
    }

    #[test]
    fn the_table_of_verdicts() {
        use Recovered::{Done, HalfDone, NotDone, Unknown};
        let cases = [
            (Verb::Start, ("a", false), ("b", true), Done),
            (Verb::Start, ("a", false), ("a", false), NotDone),
            (Verb::Start, ("a", false), ("b", false), Unknown),
            (Verb::Start, ("a", true), ("a", true), Done),
            (Verb::Stop, ("a", true), ("a", false), Done),
            (Verb::Stop, ("a", true), ("a", true), NotDone),
            (Verb::Stop, ("a", true), ("b", true), Unknown),
            (Verb::Restart, ("a", true), ("b", true), Done),
            (Verb::Restart, ("a", true), ("a", true), NotDone),
            (Verb::Restart, ("a", true), ("a", false), HalfDone),
            (Verb::Restart, ("a", false), ("a", false), NotDone),
            (Verb::Reload, ("a", true), ("a", true), Unknown),
        ];
        for (verb, before, after, want) in cases {
            let got = judge(verb, &seen(before.0, before.1).evidence, &seen(after.0, after.1));
            assert_eq!(got, want, "{verb:?} {before:?} -> {after:?}");
        }
    }

    #[test]
    fn a_reboot_or_a_moving_unit_proves_nothing() {
        let before = seen("a", true);
        let mut after = seen("b", true);
        after.evidence.boot_id = "other".into();
        assert_eq!(judge(Verb::Restart, &before.evidence, &after), Recovered::Unknown);
        let mut after = seen("a", true);
        after.status.active = "deactivating".into();
        assert_eq!(judge(Verb::Stop, &before.evidence, &after), Recovered::Unknown);
    }
}
