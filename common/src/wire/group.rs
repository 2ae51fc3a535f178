//! Groups as declared, and their quorum policy.

use std::collections::BTreeSet;

use quorate_model::group::MEMBERSHIP_TIMEOUT_MAX;
use quorate_model::{BftRounding, DurationMs, GroupSpec, MembershipSpec, NodeName, QuorumPolicy};
use quorate_proto::v1;

use super::invalid::each;
use super::limits::GROUP_MEMBERS_MAX;
use super::text::{read_labels, read_name};
use super::time::{read_duration_or, write_duration};
use super::{Invalid, failover};

/// Longest time of a change of members where nothing is said.
const MEMBERSHIP_TIMEOUT: DurationMs = DurationMs::from_secs(120);

/// A group as its owner declares it.
///
/// # Errors
/// [`Invalid`] with the field: no voters, a node named twice, a policy that no number of voters can meet, …
pub fn read_group(message: v1::GroupSpec) -> Result<GroupSpec, Invalid> {
    let v1::GroupSpec { name, service, voters, learners, policy, spare_wanted, labels, membership, failover } =
        message;
    let node = |text| read_name::<NodeName>("", text);
    let voters = each("voters", voters, GROUP_MEMBERS_MAX, node)?;
    let learners = each("learners", learners, GROUP_MEMBERS_MAX, node)?;
    if voters.is_empty() {
        return Err(Invalid::new("voters", "a group needs at least one"));
    }
    let mut seen = BTreeSet::new();
    for (field, list) in [("voters", &voters), ("learners", &learners)] {
        for (index, node) in list.iter().enumerate() {
            if !seen.insert(node) {
                return Err(Invalid::new(format!("{field}[{index}]"), format!("{node} is named twice")));
            }
        }
    }
    let count = u32::try_from(voters.len()).unwrap_or(u32::MAX);
    let policy = read_policy(policy, count).map_err(|i| i.within("policy"))?;
    if spare_wanted >= count {
        let why = format!("it must be below the number of voters, {count}");
        return Err(Invalid::new("spare_wanted", why));
    }
    Ok(GroupSpec {
        name: read_name("name", name)?,
        service: read_name("service", service)?,
        voters,
        learners,
        policy,
        spare_wanted,
        labels: read_labels("labels", labels)?,
        membership: membership.map(read_membership).transpose().map_err(|i| i.within("membership"))?,
        failover: failover.map(failover::read).transpose().map_err(|i| i.within("failover"))?,
    })
}

fn read_policy(policy: Option<v1::QuorumPolicy>, voters: u32) -> Result<QuorumPolicy, Invalid> {
    use v1::QuorumPolicyKind as Kind;
    let Some(v1::QuorumPolicy { kind, bft_rounding, count, percent }) = policy else {
        return Err(Invalid::missing("kind"));
    };
    let unset = |field: &str, value: u32| match value {
        0 => Ok(()),
        _ => Err(Invalid::new(field, "this kind of policy does not have it")),
    };
    let kind = Kind::try_from(kind).map_err(|_| Invalid::new("kind", "it is not one of its values"))?;
    if kind != Kind::MinAvailable {
        unset("count", count)?;
        unset("percent", percent)?;
    }
    if kind != Kind::Bft && bft_rounding != 0 {
        return Err(Invalid::new("bft_rounding", "this kind of policy does not have it"));
    }
    match kind {
        Kind::Unspecified => Err(Invalid::missing("kind")),
        Kind::Majority => Ok(QuorumPolicy::Majority),
        Kind::Bft => Ok(QuorumPolicy::Bft { rounding: read_rounding(bft_rounding)? }),
        Kind::MinAvailable => match (count, percent) {
            (0, 0) => Err(Invalid::new("count", "either it or percent must be given")),
            (0, 1..=100) => Ok(QuorumPolicy::MinAvailablePercent { percent }),
            (0, _) => Err(Invalid::new("percent", "it must be 1 to 100")),
            (_, 0) if count <= voters => Ok(QuorumPolicy::MinAvailable { count }),
            (_, 0) => Err(Invalid::new("count", format!("{count} is more than the {voters} voters"))),
            (_, _) => Err(Invalid::new("percent", "count is given, too")),
        },
        Kind::PrimaryStandby => Ok(QuorumPolicy::PrimaryStandby),
        Kind::None => Ok(QuorumPolicy::None),
    }
}

fn read_rounding(value: i32) -> Result<BftRounding, Invalid> {
    use v1::BftRounding as Rounding;
    match Rounding::try_from(value) {
        // The proto says: unset means ceil.
        Ok(Rounding::Unspecified | Rounding::CeilTwoThirds) => Ok(BftRounding::CeilTwoThirds),
        Ok(Rounding::FloorTwoThirdsPlusOne) => Ok(BftRounding::FloorTwoThirdsPlusOne),
        Err(_) => Err(Invalid::new("bft_rounding", "it is not one of its values")),
    }
}

/// As a message.
#[must_use]
pub fn write_group(spec: &GroupSpec) -> v1::GroupSpec {
    let GroupSpec { name, service, voters, learners, policy, spare_wanted, labels, membership, failover } =
        spec;
    let names = |nodes: &[NodeName]| nodes.iter().map(|n| n.as_str().to_owned()).collect();
    v1::GroupSpec {
        name: name.as_str().to_owned(),
        service: service.as_str().to_owned(),
        voters: names(voters),
        learners: names(learners),
        policy: Some(write_policy(policy)),
        spare_wanted: *spare_wanted,
        labels: labels.clone(),
        membership: membership.as_ref().map(write_membership),
        failover: failover.as_ref().map(failover::write),
    }
}

/// How members are changed.
///
/// # Errors
/// [`Invalid`] with the field: no hook, or longer than an hour.
pub fn read_membership(message: v1::GroupMembership) -> Result<MembershipSpec, Invalid> {
    let v1::GroupMembership { add_hook, remove_hook, timeout } = message;
    let timeout = match read_duration_or("timeout", timeout, MEMBERSHIP_TIMEOUT)? {
        DurationMs::ZERO => MEMBERSHIP_TIMEOUT,
        longer if longer > MEMBERSHIP_TIMEOUT_MAX => {
            return Err(Invalid::new("timeout", "it is longer than an hour"));
        }
        fits => fits,
    };
    Ok(MembershipSpec {
        add: read_name("add_hook", add_hook)?,
        remove: read_name("remove_hook", remove_hook)?,
        timeout,
    })
}

/// As a message.
#[must_use]
pub fn write_membership(membership: &MembershipSpec) -> v1::GroupMembership {
    let MembershipSpec { add, remove, timeout } = membership;
    v1::GroupMembership {
        add_hook: add.to_string(),
        remove_hook: remove.to_string(),
        timeout: Some(write_duration(*timeout)),
    }
}

/// As a message.
#[must_use]
pub fn write_policy(policy: &QuorumPolicy) -> v1::QuorumPolicy {
    use v1::QuorumPolicyKind as Kind;
    let of = |kind: Kind| v1::QuorumPolicy { kind: kind as i32, ..Default::default() };
    match policy {
        QuorumPolicy::Majority => of(Kind::Majority),
        QuorumPolicy::Bft { rounding } => {
            let rounding = match rounding {
                BftRounding::CeilTwoThirds => v1::BftRounding::CeilTwoThirds,
                BftRounding::FloorTwoThirdsPlusOne => v1::BftRounding::FloorTwoThirdsPlusOne,
            };
            v1::QuorumPolicy { bft_rounding: rounding as i32, ..of(Kind::Bft) }
        }
        QuorumPolicy::MinAvailable { count } => v1::QuorumPolicy { count: *count, ..of(Kind::MinAvailable) },
        QuorumPolicy::MinAvailablePercent { percent } => {
            v1::QuorumPolicy { percent: *percent, ..of(Kind::MinAvailable) }
        }
        QuorumPolicy::PrimaryStandby => of(Kind::PrimaryStandby),
        QuorumPolicy::None => of(Kind::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(policy: v1::QuorumPolicy) -> v1::GroupSpec {
        v1::GroupSpec {
            name: "ledger".into(),
            service: "ledger".into(),
            voters: vec!["node1".into(), "node2".into(), "node3".into()],
            policy: Some(policy),
            membership: Some(v1::GroupMembership {
                add_hook: "join".into(),
                remove_hook: "leave".into(),
                timeout: Some(write_duration(DurationMs(9_000))),
            }),
            ..Default::default()
        }
    }

    fn policy(kind: v1::QuorumPolicyKind) -> v1::QuorumPolicy {
        v1::QuorumPolicy { kind: kind as i32, ..Default::default() }
    }

    #[test]
    fn every_policy_comes_back() {
        use v1::QuorumPolicyKind as Kind;
        let floor = v1::BftRounding::FloorTwoThirdsPlusOne as i32;
        for policy in [
            policy(Kind::Majority),
            v1::QuorumPolicy { bft_rounding: floor, ..policy(Kind::Bft) },
            v1::QuorumPolicy { count: 2, ..policy(Kind::MinAvailable) },
            v1::QuorumPolicy { percent: 51, ..policy(Kind::MinAvailable) },
            policy(Kind::PrimaryStandby),
            policy(Kind::None),
        ] {
            let spec = read_group(message(policy)).unwrap();
            assert_eq!(write_group(&spec).policy, Some(policy));
            assert_eq!(read_group(write_group(&spec)), Ok(spec));
        }
    }

    #[test]
    fn impossible_groups_are_refused_by_name() {
        use v1::QuorumPolicyKind as Kind;
        let field = |message| read_group(message).unwrap_err().field;
        let good = || message(policy(Kind::Majority));
        assert_eq!(field(message(policy(Kind::Unspecified))), "policy.kind");
        assert_eq!(field(message(v1::QuorumPolicy { kind: 99, ..Default::default() })), "policy.kind");
        assert_eq!(
            field(message(v1::QuorumPolicy { count: 4, ..policy(Kind::MinAvailable) })),
            "policy.count"
        );
        let percent = |percent| v1::QuorumPolicy { percent, ..policy(Kind::MinAvailable) };
        assert_eq!(field(message(percent(101))), "policy.percent");
        assert_eq!(field(message(percent(u32::MAX))), "policy.percent");
        assert_eq!(field(message(v1::QuorumPolicy { count: 1, ..policy(Kind::Majority) })), "policy.count");
        assert_eq!(field(v1::GroupSpec { voters: vec![], ..good() }), "voters");
        assert_eq!(field(v1::GroupSpec { learners: vec!["node2".into()], ..good() }), "learners[0]");
        assert_eq!(field(v1::GroupSpec { spare_wanted: 3, ..good() }), "spare_wanted");
        assert_eq!(field(v1::GroupSpec { voters: vec!["n".into(); 501], ..good() }), "voters");
        assert_eq!(field(v1::GroupSpec { policy: None, ..good() }), "policy.kind");
        let membership = |add: &str, seconds| {
            let timeout = Some(write_duration(DurationMs::from_secs(seconds)));
            let (add_hook, remove_hook) = (add.to_owned(), "leave".to_owned());
            field(v1::GroupSpec {
                membership: Some(v1::GroupMembership { add_hook, remove_hook, timeout }),
                ..good()
            })
        };
        assert_eq!(membership("", 1), "membership.add_hook");
        assert_eq!(membership("join", 3_601), "membership.timeout");
    }
}
