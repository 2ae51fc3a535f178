//! Policies, which say what needs the approval of somebody else, and where an approval stands.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::action::RiskClass;
use crate::id::{PolicyName, UserName, WorkloadName};
use crate::operation::OperationKind;
use crate::principal::AccessRole;
use crate::reason::Reason;
use crate::selector::Selector;
use crate::time::DurationMs;

/// Longest reason of a policy in bytes: it stands in one line of a condition, beside names and numbers.
pub const POLICY_REASON_MAX_BYTES: usize = 256;
/// Most services and groups named by one policy.
pub const POLICY_SERVICES_MAX: usize = 100;
/// Most approvals that one policy may ask for: more people than that do not look at one plan.
pub const APPROVALS_MAX: u32 = 5;
/// Most people named by one policy.
pub const APPROVERS_MAX: usize = 20;
/// How long an operation waits for its approvals when its policy says nothing.
pub const EXPIRES_DEFAULT: DurationMs = DurationMs::from_secs(24 * 3_600);
/// The shortest time that a policy may give.
pub const EXPIRES_MIN: DurationMs = DurationMs::from_secs(60);
/// The longest time that a policy may give.
pub const EXPIRES_MAX: DurationMs = DurationMs::from_secs(30 * 86_400);

words! {
    /// Where the approval of an operation stands.
    pub enum ApprovalState {
        /// Not all that are asked for have been given.
        Pending = "PENDING",
        /// All have been given.
        Approved = "APPROVED",
        /// Somebody has said no; that ends it.
        Rejected = "REJECTED",
        /// They were not given in time, or what they were asked for has changed meanwhile.
        Expired = "EXPIRED",
    }
}

/// Who may approve; never who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approvers {
    /// Every operator.
    #[default]
    Operators,
    /// Users who have at least this role when they decide.
    Role(AccessRole),
    /// These users.
    Users(Vec<UserName>),
}

impl Approvers {
    /// The default, which is not written.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        matches!(self, Self::Operators)
    }
}

impl fmt::Display for Approvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operators => f.write_str("any operator"),
            Self::Role(role) => write!(f, "any {role}"),
            Self::Users(users) => {
                for (index, user) in users.iter().enumerate() {
                    write!(f, "{}{user}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// A policy as its owner declares it: operations that it covers begin nothing before others have approved their plan.
///
/// It can only add to what is asked for: where several cover an operation, each of them must be satisfied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Its name.
    pub name: PolicyName,
    /// The nodes that it covers; none for the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The services that it covers, or groups for the services of their members; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<WorkloadName>,
    /// The kinds of operations that it covers; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<OperationKind>,
    /// It covers actions of at least this risk; none for [`PolicySpec::least`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskClass>,
    /// How many must approve.
    pub approvals: u32,
    /// Who may.
    #[serde(default, skip_serializing_if = "Approvers::is_default")]
    pub approvers: Approvers,
    /// How long an operation waits for them before it ends.
    pub expires: DurationMs,
    /// Why, one line.
    pub reason: String,
}

/// Why a policy cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// A selector that says nothing chooses nothing, and never the whole fleet.
    EmptySelector,
    /// More services and groups than a policy may name.
    TooManyServices {
        /// How many.
        count: usize,
    },
    /// A service or group that is named twice.
    NamedTwice {
        /// Which.
        name: WorkloadName,
    },
    /// A kind that is named twice.
    KindTwice {
        /// Which.
        kind: OperationKind,
    },
    /// Only what disturbs or destroys is a class of its own here.
    MildRisk,
    /// Not from one to [`APPROVALS_MAX`].
    Approvals {
        /// How many.
        count: u32,
    },
    /// A role that may not decide.
    WeakRole,
    /// A user that is named twice.
    UserTwice {
        /// Which.
        name: UserName,
    },
    /// Fewer users than approvals, or more than [`APPROVERS_MAX`].
    Approvers {
        /// How many.
        count: usize,
    },
    /// Not from [`EXPIRES_MIN`] to [`EXPIRES_MAX`].
    Expires,
    /// Nobody is held up without being told why.
    NoReason,
    /// The reason is longer than its limit.
    LongReason {
        /// How long.
        bytes: usize,
    },
    /// The reason holds a control character.
    UnprintableReason,
}

impl InvalidPolicy {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::EmptySelector => "selector",
            Self::TooManyServices { .. } | Self::NamedTwice { .. } => "services",
            Self::KindTwice { .. } => "kinds",
            Self::MildRisk => "risk",
            Self::Approvals { .. } => "approvals",
            Self::WeakRole => "role",
            Self::UserTwice { .. } | Self::Approvers { .. } => "users",
            Self::Expires => "expires",
            Self::NoReason | Self::LongReason { .. } | Self::UnprintableReason => "reason",
        }
    }

    /// Its stable code.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::EmptySelector => Reason::EmptySelector,
            Self::TooManyServices { .. }
            | Self::NamedTwice { .. }
            | Self::KindTwice { .. }
            | Self::MildRisk
            | Self::Approvals { .. }
            | Self::WeakRole
            | Self::UserTwice { .. }
            | Self::Approvers { .. }
            | Self::Expires
            | Self::NoReason
            | Self::LongReason { .. }
            | Self::UnprintableReason => Reason::InvalidArgument,
        }
    }
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySelector => f.write_str("it says nothing; leave it out to cover the whole fleet"),
            Self::TooManyServices { count } => {
                write!(f, "{count} entries, {POLICY_SERVICES_MAX} is the limit")
            }
            Self::NamedTwice { name } => write!(f, "{name} is named twice"),
            Self::KindTwice { kind } => write!(f, "{kind} is named twice"),
            Self::MildRisk => f.write_str("expected DISRUPTIVE or DESTRUCTIVE"),
            Self::Approvals { count } => write!(f, "{count}, expected 1 to {APPROVALS_MAX}"),
            Self::WeakRole => f.write_str("a viewer decides on nothing; expected OPERATOR or ADMIN"),
            Self::UserTwice { name } => write!(f, "{name} is named twice"),
            Self::Approvers { count } => {
                write!(f, "{count} users, expected as many as approvals, at most {APPROVERS_MAX}")
            }
            Self::Expires => write!(f, "expected {EXPIRES_MIN} to {EXPIRES_MAX}"),
            Self::NoReason => f.write_str("it is missing; whoever is held up must be told why"),
            Self::LongReason { bytes } => write!(f, "{bytes} bytes, {POLICY_REASON_MAX_BYTES} is the limit"),
            Self::UnprintableReason => f.write_str("it holds a control character"),
        }
    }
}

impl core::error::Error for InvalidPolicy {}

impl PolicySpec {
    /// The least risk of what it covers: what was said; where only kinds were named, everything that they do; else what
    /// disturbs.
    #[must_use]
    pub fn least(&self) -> RiskClass {
        let unsaid = if self.kinds.is_empty() { RiskClass::Disruptive } else { RiskClass::Read };
        self.risk.unwrap_or(unsaid)
    }

    /// Whether it may be declared.
    ///
    /// # Errors
    /// [`InvalidPolicy`] of the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        if self.selector.as_ref().is_some_and(Selector::is_empty) {
            return Err(InvalidPolicy::EmptySelector);
        }
        if self.services.len() > POLICY_SERVICES_MAX {
            return Err(InvalidPolicy::TooManyServices { count: self.services.len() });
        }
        if let Some(name) = twice(&self.services) {
            return Err(InvalidPolicy::NamedTwice { name: name.clone() });
        }
        if let Some(kind) = twice(&self.kinds) {
            return Err(InvalidPolicy::KindTwice { kind: *kind });
        }
        if self.risk.is_some_and(|risk| risk < RiskClass::Disruptive) {
            return Err(InvalidPolicy::MildRisk);
        }
        if self.approvals == 0 || self.approvals > APPROVALS_MAX {
            return Err(InvalidPolicy::Approvals { count: self.approvals });
        }
        self.check_approvers()?;
        if self.expires < EXPIRES_MIN || self.expires > EXPIRES_MAX {
            return Err(InvalidPolicy::Expires);
        }
        if self.reason.trim().is_empty() {
            return Err(InvalidPolicy::NoReason);
        }
        if self.reason.len() > POLICY_REASON_MAX_BYTES {
            return Err(InvalidPolicy::LongReason { bytes: self.reason.len() });
        }
        if self.reason.chars().any(char::is_control) {
            return Err(InvalidPolicy::UnprintableReason);
        }
        Ok(())
    }

    fn check_approvers(&self) -> Result<(), InvalidPolicy> {
        match &self.approvers {
            Approvers::Operators | Approvers::Role(AccessRole::Operator | AccessRole::Admin) => Ok(()),
            Approvers::Role(AccessRole::Viewer) => Err(InvalidPolicy::WeakRole),
            Approvers::Users(users) => {
                if let Some(name) = twice(users) {
                    return Err(InvalidPolicy::UserTwice { name: name.clone() });
                }
                let count = users.len();
                // A policy that nobody can satisfy would end everything that it covers, a day later.
                let enough = u32::try_from(count).is_ok_and(|count| count >= self.approvals);
                if enough && count <= APPROVERS_MAX {
                    Ok(())
                } else {
                    Err(InvalidPolicy::Approvers { count })
                }
            }
        }
    }
}

/// The first that is named twice.
fn twice<T: Ord>(list: &[T]) -> Option<&T> {
    let mut seen = BTreeSet::new();
    list.iter().find(|one| !seen.insert(*one))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn spec() -> PolicySpec {
        PolicySpec {
            name: PolicyName::new("prod").unwrap(),
            selector: None,
            services: vec![],
            kinds: vec![],
            risk: None,
            approvals: 1,
            approvers: Approvers::Operators,
            expires: EXPIRES_DEFAULT,
            reason: "four eyes".into(),
        }
    }

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    #[test]
    fn what_is_not_said_covers_what_disturbs() {
        assert_eq!(spec().least(), RiskClass::Disruptive);
        let backups = PolicySpec { kinds: vec![OperationKind::Backup], ..spec() };
        assert_eq!(backups.least(), RiskClass::Read);
        let both = PolicySpec { risk: Some(RiskClass::Destructive), ..backups };
        assert_eq!(both.least(), RiskClass::Destructive);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let name = |text: &str| WorkloadName::new(text).unwrap();
        let many = (0..=POLICY_SERVICES_MAX).map(|n| name(&n.to_string())).collect();
        let crowd = (0..=APPROVERS_MAX).map(|n| user(&n.to_string())).collect();
        for (field, bad) in [
            ("selector", PolicySpec { selector: Some(Selector::default()), ..spec() }),
            ("services", PolicySpec { services: many, ..spec() }),
            ("services", PolicySpec { services: vec![name("ledger"), name("ledger")], ..spec() }),
            ("kinds", PolicySpec { kinds: vec![OperationKind::Run, OperationKind::Run], ..spec() }),
            ("risk", PolicySpec { risk: Some(RiskClass::Safe), ..spec() }),
            ("approvals", PolicySpec { approvals: 0, ..spec() }),
            ("approvals", PolicySpec { approvals: APPROVALS_MAX + 1, ..spec() }),
            ("role", PolicySpec { approvers: Approvers::Role(AccessRole::Viewer), ..spec() }),
            ("users", PolicySpec { approvers: Approvers::Users(vec![]), ..spec() }),
            ("users", PolicySpec { approvers: Approvers::Users(crowd), ..spec() }),
            ("users", PolicySpec { approvers: Approvers::Users(vec![user("a"), user("a")]), ..spec() }),
            ("users", PolicySpec { approvals: 2, approvers: Approvers::Users(vec![user("a")]), ..spec() }),
            ("expires", PolicySpec { expires: DurationMs(EXPIRES_MIN.0 - 1), ..spec() }),
            ("expires", PolicySpec { expires: DurationMs(EXPIRES_MAX.0 + 1), ..spec() }),
            ("reason", PolicySpec { reason: " ".into(), ..spec() }),
            ("reason", PolicySpec { reason: "x".repeat(POLICY_REASON_MAX_BYTES + 1), ..spec() }),
            ("reason", PolicySpec { reason: "two\nlines".into(), ..spec() }),
        ] {
            assert_eq!(bad.check().unwrap_err().field(), field, "{bad:?}");
        }
        assert_eq!(spec().check(), Ok(()));
        let two = Approvers::Users(vec![user("ann"), user("bob")]);
        assert_eq!(two.to_string(), "ann, bob");
        assert_eq!(PolicySpec { approvals: 2, approvers: two, ..spec() }.check(), Ok(()));
    }
}
