//! Policies as declared.

use quorate_model::approval::{APPROVERS_MAX, EXPIRES_DEFAULT, POLICY_SERVICES_MAX};
use quorate_model::{Approvers, DurationMs, InvalidPolicy, OperationKind, PolicySpec, RiskClass};
use quorate_proto::v1;

use super::Invalid;
use super::enums::{read_access_role, read_operation_kind, write_operation_kind};
use super::invalid::each;
use super::selector::{read_optional_selector, write_selector};
use super::text::{is_deceptive, read_name};
use super::time::{read_duration, write_duration};

/// A policy as its owner declares it.
///
/// # Errors
/// [`Invalid`] with the field: no reason, too many approvals, role and users together, …
pub fn read_policy(message: v1::PolicySpec) -> Result<PolicySpec, Invalid> {
    let v1::PolicySpec { name, selector, services, kinds, risk, approvals, role, users, expires, reason } =
        message;
    let spec = PolicySpec {
        name: read_name("name", name)?,
        selector: read_optional_selector("selector", selector)?,
        services: each("services", services, POLICY_SERVICES_MAX, |text| read_name("", text))?,
        kinds: each("kinds", kinds, OperationKind::ALL.len(), |kind| read_operation_kind("", kind))?,
        risk: read_risk(risk)?,
        approvals: approvals.max(1),
        approvers: read_approvers(&role, users)?,
        expires: read_duration("expires", expires)?
            .filter(|span| *span != DurationMs::ZERO)
            .unwrap_or(EXPIRES_DEFAULT),
        reason,
    };
    spec.check().map_err(|why: InvalidPolicy| Invalid {
        reason: why.reason(),
        field: why.field().to_owned(),
        why: why.to_string(),
        place: None,
    })?;
    // It is shown to everybody who is held up.
    if spec.reason.chars().any(is_deceptive) {
        return Err(Invalid::new("reason", "it holds a control or text direction character"));
    }
    Ok(spec)
}

fn read_risk(risk: i32) -> Result<Option<RiskClass>, Invalid> {
    match v1::PolicyRisk::try_from(risk) {
        Ok(v1::PolicyRisk::Unspecified) => Ok(None),
        Ok(v1::PolicyRisk::Disruptive) => Ok(Some(RiskClass::Disruptive)),
        Ok(v1::PolicyRisk::Destructive) => Ok(Some(RiskClass::Destructive)),
        Err(_) => Err(Invalid::new("risk", "it is not one of its values")),
    }
}

const fn write_risk(risk: Option<RiskClass>) -> v1::PolicyRisk {
    match risk {
        Some(RiskClass::Disruptive) => v1::PolicyRisk::Disruptive,
        Some(RiskClass::Destructive) => v1::PolicyRisk::Destructive,
        // A policy that was checked names no milder one.
        None | Some(RiskClass::Read | RiskClass::Safe) => v1::PolicyRisk::Unspecified,
    }
}

fn read_approvers(role: &str, users: Vec<String>) -> Result<Approvers, Invalid> {
    match (role, users.is_empty()) {
        ("", true) => Ok(Approvers::Operators),
        ("", false) => Ok(Approvers::Users(each("users", users, APPROVERS_MAX, |text| read_name("", text))?)),
        (role, true) => Ok(Approvers::Role(read_access_role("role", role)?)),
        (_, false) => Err(Invalid::new("users", "either a role or users say who may approve")),
    }
}

/// As a message.
#[must_use]
pub fn write_policy(spec: &PolicySpec) -> v1::PolicySpec {
    let PolicySpec { name, selector, services, kinds, risk, approvals, approvers, expires, reason } = spec;
    let (role, users) = match approvers {
        Approvers::Operators => (String::new(), Vec::new()),
        Approvers::Role(role) => (role.as_str().to_owned(), Vec::new()),
        Approvers::Users(users) => (String::new(), users.iter().map(|u| u.as_str().to_owned()).collect()),
    };
    v1::PolicySpec {
        name: name.as_str().to_owned(),
        selector: selector.as_ref().map(write_selector),
        services: services.iter().map(|name| name.as_str().to_owned()).collect(),
        kinds: kinds.iter().map(|kind| write_operation_kind(*kind) as i32).collect(),
        risk: write_risk(*risk) as i32,
        approvals: *approvals,
        role,
        users,
        expires: Some(write_duration(*expires)),
        reason: reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::PolicySpec {
        v1::PolicySpec {
            name: "prod".into(),
            selector: Some(v1::Selector { labels: "zone in (a,b)".into(), ..Default::default() }),
            services: vec!["ledger".into()],
            kinds: vec![v1::OperationKind::Rollout as i32, v1::OperationKind::Run as i32],
            risk: v1::PolicyRisk::Destructive as i32,
            approvals: 2,
            role: "ADMIN".into(),
            users: vec![],
            expires: Some(prost_types::Duration { seconds: 7_200, nanos: 0 }),
            reason: "four eyes".into(),
        }
    }

    #[test]
    fn policies_come_back_and_what_is_not_said_has_its_default() {
        let named =
            v1::PolicySpec { role: String::new(), users: vec!["ann".into(), "bob".into()], ..message() };
        for message in [message(), named] {
            assert_eq!(write_policy(&read_policy(message.clone()).unwrap()), message);
        }
        let bare = v1::PolicySpec { name: "p".into(), reason: "r".into(), ..Default::default() };
        let spec = read_policy(bare).unwrap();
        assert_eq!((spec.approvals, &spec.approvers), (1, &Approvers::Operators));
        assert_eq!((spec.expires, spec.risk), (EXPIRES_DEFAULT, None));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        for (field, bad) in [
            ("name", v1::PolicySpec { name: "a b".into(), ..message() }),
            ("selector", v1::PolicySpec { selector: Some(v1::Selector::default()), ..message() }),
            ("services[0]", v1::PolicySpec { services: vec![String::new()], ..message() }),
            ("kinds[0]", v1::PolicySpec { kinds: vec![0], ..message() }),
            ("kinds[0]", v1::PolicySpec { kinds: vec![99], ..message() }),
            ("risk", v1::PolicySpec { risk: 99, ..message() }),
            ("approvals", v1::PolicySpec { approvals: 6, ..message() }),
            ("role", v1::PolicySpec { role: "ROOT".into(), ..message() }),
            ("role", v1::PolicySpec { role: "VIEWER".into(), ..message() }),
            ("users", v1::PolicySpec { users: vec!["ann".into()], ..message() }),
            ("users[0]", v1::PolicySpec { role: String::new(), users: vec!["a b".into()], ..message() }),
            (
                "expires",
                v1::PolicySpec {
                    expires: Some(prost_types::Duration { seconds: 59, nanos: 0 }),
                    ..message()
                },
            ),
            ("reason", v1::PolicySpec { reason: String::new(), ..message() }),
            ("reason", v1::PolicySpec { reason: "good\u{202e}".into(), ..message() }),
        ] {
            assert_eq!(read_policy(bad.clone()).unwrap_err().field, field, "{bad:?}");
        }
    }
}
