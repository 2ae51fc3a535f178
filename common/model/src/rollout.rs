//! How a rollout advances: waves, promotion, and what a failure leads to.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::DurationMs;

/// Most shares of one ramp; the last one goes on to the end.
pub const RAMP_MAX: usize = 16;
/// Longest time that a wave is looked at before the next: a day.
pub const HOLD_MAX: DurationMs = DurationMs::from_secs(86_400);
/// Most instances of a canary or of one share; a group has at most so many members of each sort.
pub const SHARE_MAX: u32 = 500;

/// The label of nodes that names their zone when nothing else is said.
pub const ZONE_LABEL: &str = "zone";
/// Longest key of a label.
pub const ZONE_LABEL_MAX_BYTES: usize = 128;

words! {
    /// Which waves wait for a person before the next one begins.
    pub enum Promotion {
        /// None: the gates decide.
        Automatic = "AUTOMATIC",
        /// The canary.
        Canary = "CANARY",
        /// Every wave but the last.
        Every = "EVERY",
    }
}

words! {
    /// What happens when more has failed than is tolerated.
    pub enum OnFailure {
        /// It fails at a safe stop; what was changed stays as it is.
        Abort = "ABORT",
        /// It pauses; a person resumes or cancels.
        Pause = "PAUSE",
        /// What was changed is changed back; only for releases.
        Rollback = "ROLLBACK",
    }
}

words! {
    /// What becomes of the run-once hook of a release.
    pub enum MigrationChoice {
        /// It is run unless it was for this release; what nobody can tell is refused.
        Auto = "AUTO",
        /// It is not run: somebody has seen that it need not be.
        Skip = "SKIP",
        /// It is run once more: somebody has seen that it may be.
        Again = "AGAIN",
    }
}

impl MigrationChoice {
    /// What is done when nothing was said; not written down, so that older requests keep their digest.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        matches!(self, Self::Auto)
    }
}

impl OnFailure {
    /// What is done when nothing was said; not written down, so that older requests keep their digest.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        matches!(self, Self::Abort)
    }
}

/// How many instances one wave holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded down, one at least.
    Percent(u32),
}

impl Share {
    /// Reads `5` or `20%`; none for anything else, for 0 and for more than there can be.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse::<u32>().ok()).flatten()
        };
        match text.strip_suffix('%') {
            Some(number) => digits(number).filter(|n| (1..=100).contains(n)).map(Self::Percent),
            None => digits(text).filter(|n| (1..=SHARE_MAX).contains(n)).map(Self::Count),
        }
    }

    /// So many of `total`, one at least.
    #[must_use]
    pub fn of(self, total: u32) -> u32 {
        let wanted = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => total.saturating_mul(percent).checked_div(100).unwrap_or(0),
        };
        wanted.max(1)
    }

    /// Whether it is within its limits; what comes over the log was not parsed here.
    #[must_use]
    pub fn is_valid(self) -> bool {
        match self {
            Self::Count(count) => (1..=SHARE_MAX).contains(&count),
            Self::Percent(percent) => (1..=100).contains(&percent),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How the targets are cut into waves, and what lies between two of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WavePolicy {
    /// Instances of the first wave, 0 for no canary.
    #[serde(default)]
    pub canary: u32,
    /// Sizes of the waves after it, the last one again and again; empty for waves as wide as `max_unavailable`.
    #[serde(default)]
    pub ramp: Vec<Share>,
    /// How long a wave is looked at before the next one begins.
    #[serde(default)]
    pub hold: DurationMs,
    /// Which waves wait for a person.
    #[serde(default = "automatic")]
    pub promotion: Promotion,
    /// The label of nodes whose zones are done one after the other; none when only roles order them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_label: Option<String>,
}

const fn automatic() -> Promotion {
    Promotion::Automatic
}

impl Default for WavePolicy {
    fn default() -> Self {
        Self {
            canary: 0,
            ramp: Vec::new(),
            hold: DurationMs::ZERO,
            promotion: Promotion::Automatic,
            zone_label: None,
        }
    }
}

impl WavePolicy {
    /// Whether nothing was asked for; not written down then, so that older requests keep their digest.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it, field and text, if anything.
    #[must_use]
    pub fn flaw(&self) -> Option<(&'static str, String)> {
        if self.canary > SHARE_MAX {
            return Some(("canary", format!("expected at most {SHARE_MAX}")));
        }
        if self.ramp.len() > RAMP_MAX {
            return Some(("ramp", format!("{} shares, expected at most {RAMP_MAX}", self.ramp.len())));
        }
        if let Some(share) = self.ramp.iter().find(|share| !share.is_valid()) {
            return Some(("ramp", format!("{share}: expected 1 to {SHARE_MAX}, or 1% to 100%")));
        }
        if self.hold > HOLD_MAX {
            return Some(("hold", format!("expected at most {HOLD_MAX}")));
        }
        if self.zone_label.as_ref().is_some_and(|key| key.is_empty() || key.len() > ZONE_LABEL_MAX_BYTES) {
            return Some(("zone_label", format!("expected 1 to {ZONE_LABEL_MAX_BYTES} bytes")));
        }
        let nobody = self.promotion == Promotion::Canary && self.canary == 0;
        nobody.then(|| ("promotion", String::from("it is the canary's, and there is no canary")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        for text in ["1", "5", "500", "1%", "20%", "100%"] {
            assert_eq!(Share::parse(text).map(|s| alloc::format!("{s}")).as_deref(), Some(text));
        }
        for text in ["", "%", "0", "0%", "101%", "501", "-1", "+1", "1.5", "5 %", "99999999999"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
        assert_eq!(Share::Percent(20).of(9), 1);
        assert_eq!(Share::Percent(20).of(10), 2);
        assert_eq!(Share::Percent(1).of(3), 1, "a wave of nobody is no wave");
        assert_eq!(Share::Count(7).of(3), 7);
    }

    #[test]
    fn a_policy_that_cannot_be_meant_names_its_field() {
        let flaw = |policy: WavePolicy| policy.flaw().map(|(field, _)| field);
        let plain = WavePolicy::default();
        assert_eq!(flaw(plain.clone()), None);
        assert_eq!(flaw(WavePolicy { promotion: Promotion::Canary, ..plain.clone() }), Some("promotion"));
        assert_eq!(flaw(WavePolicy { ramp: alloc::vec![Share::Count(0)], ..plain.clone() }), Some("ramp"));
        let ramp = alloc::vec![Share::Count(1); RAMP_MAX + 1];
        assert_eq!(flaw(WavePolicy { ramp, ..plain.clone() }), Some("ramp"));
        assert_eq!(flaw(WavePolicy { canary: SHARE_MAX + 1, ..plain.clone() }), Some("canary"));
        let hold = DurationMs(HOLD_MAX.0 + 1);
        assert_eq!(flaw(WavePolicy { hold, ..plain.clone() }), Some("hold"));
        assert_eq!(flaw(WavePolicy { zone_label: Some(String::new()), ..plain }), Some("zone_label"));
    }
}
