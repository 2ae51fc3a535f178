//! Checks of declarations: nothing is stored that contradicts itself, and no text or list is without a limit.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

use quorate_model::alert::AlertMatcher;
use quorate_model::backup::{BackupPolicy, LogRotation};
use quorate_model::config::{CONFIG_MODE_BITS, CONFIGS_MAX, CONFIRM_MAX, CONFIRM_MIN};
use quorate_model::data::{DATA_PATH_MAX_BYTES, DATA_PATHS_MAX};
use quorate_model::group::MEMBERSHIP_TIMEOUT_MAX;
use quorate_model::lease::{FAILOVER_TIMEOUT_MAX, HOLD_DOWN_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN};
use quorate_model::maintenance::{LEASE_MAX, LEASE_MIN, MAINTENANCE_PATH_MAX_BYTES};
use quorate_model::preflight::{REQUIRED_MAX_BYTES, REQUIRES_MAX};
use quorate_model::secret::{GRACE_MAX, GRACE_MIN, SECRETS_MAX};
use quorate_model::service::HANDOVER_TIMEOUT_MAX;
use quorate_model::traffic::{POOL_NAME_MAX_BYTES, is_pool_name};
use quorate_model::{
    ConfigSpec, DataSpec, Driver, DurationMs, FailoverSpec, GroupSpec, MaintenanceSpec, NodeName,
    PreflightSpec, QuorumPolicy, Reason, Refusal, Required, SecretSource, SecretSpec, ServiceSpec,
    SilenceSpec, TrafficSpec,
};

use crate::safety::availability::has_membership_probe;
use crate::safety::quorum::required;
use crate::state::declared::{GROUP_MEMBERS_MAX, PROBES_MAX, SPEC_TEXT_MAX_BYTES};
use crate::state::node::{LABEL_MAX_BYTES, LABELS_MAX};
use crate::state::{Service, State};

mod probe;

/// Longest free text of a caller, in bytes.
const TEXT_MAX_BYTES: usize = 1_024;
/// Paths or globs of one policy.
const PATHS_MAX: usize = 64;
/// Longest interval, timeout, deadline of a declaration: a day.
const SPAN_MAX: DurationMs = DurationMs::from_secs(24 * 3_600);

/// An argument that is wrong; the text begins with the field's name.
pub(super) fn bad(what: impl Into<String>) -> Refusal {
    Refusal::new(Reason::InvalidArgument, what)
}

/// Cuts a text at a character.
pub(super) fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
}

/// A short text without control characters.
pub(super) fn text(field: &str, value: &str) -> Result<(), Refusal> {
    limited(field, value, TEXT_MAX_BYTES)
}

fn limited(field: &str, value: &str, limit: usize) -> Result<(), Refusal> {
    if value.len() > limit {
        return Err(bad(format!("{field}: it is longer than {limit} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(bad(format!("{field}: it contains control characters")));
    }
    Ok(())
}

/// Labels within their limits.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if labels.len() > LABELS_MAX {
        return Err(bad(format!("labels: more than {LABELS_MAX}")));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return Err(bad("labels: an empty key"));
        }
        limited("labels", key, LABEL_MAX_BYTES)?;
        limited("labels", value, LABEL_MAX_BYTES)?;
    }
    Ok(())
}

fn span(field: &str, value: DurationMs) -> Result<(), Refusal> {
    if value == DurationMs::ZERO || value > SPAN_MAX {
        return Err(bad(format!("{field}: expected more than zero and at most a day")));
    }
    Ok(())
}

/// A service that may be stored.
pub(super) fn service(spec: &ServiceSpec) -> Result<(), Refusal> {
    if spec.nodes.is_empty() {
        return Err(Refusal::new(Reason::EmptySelector, "nodes: the selector says nothing"));
    }
    match &spec.driver {
        Driver::Systemd { unit } => check_unit(unit)?,
        Driver::Process { name } => {
            if name.is_empty() {
                return Err(bad("driver.name: it is empty"));
            }
            text("driver.name", name)?;
        }
    }
    span("stop_timeout", spec.stop_timeout)?;
    span("start_timeout", spec.start_timeout)?;
    if spec.probes.len() > PROBES_MAX {
        return Err(bad(format!("probes: more than {PROBES_MAX}")));
    }
    let mut names = BTreeSet::new();
    for probe in &spec.probes {
        if !names.insert(&probe.name) {
            return Err(bad(format!("probes: {} is there twice", probe.name)));
        }
        probe::check(probe)?;
    }
    if let Some(policy) = &spec.backup {
        check_backup(policy)?;
    }
    if let Some(policy) = &spec.log_rotation {
        check_rotation(policy)?;
    }
    if let Some(wanted) = &spec.traffic {
        check_traffic(wanted)?;
    }
    check_configs(&spec.configs)?;
    check_secrets(&spec.secrets)?;
    if let Some(migrate) = &spec.migrate {
        span("migrate.timeout", migrate.timeout)?;
    }
    if let Some(wanted) = &spec.maintenance {
        check_maintenance(wanted)?;
    }
    if let Some(wanted) = &spec.preflight {
        check_preflight(wanted)?;
    }
    if let Some(handover) = &spec.handover {
        span("handover.timeout", handover.timeout)?;
        if handover.timeout > HANDOVER_TIMEOUT_MAX {
            return Err(bad("handover.timeout: it is longer than an hour"));
        }
        if !has_membership_probe(spec) {
            return Err(bad("handover: the service needs a membership probe, which tells who leads"));
        }
    }
    for vars in spec.vars.values() {
        if vars.len() > LABELS_MAX {
            return Err(bad(format!("vars: more than {LABELS_MAX} of one node")));
        }
        for (key, value) in vars {
            limited("vars", key, LABEL_MAX_BYTES)?;
            text("vars", value)?;
        }
    }
    if let Some(data) = &spec.data {
        check_data(data)?;
    }
    labels(&spec.labels)
}

/// Folders of which none lies within another: each is renamed on its own.
fn check_data(data: &DataSpec) -> Result<(), Refusal> {
    check_paths("data.paths", &data.paths)?;
    if data.paths.len() > DATA_PATHS_MAX {
        return Err(bad(format!("data.paths: more than {DATA_PATHS_MAX}")));
    }
    for (index, path) in data.paths.iter().enumerate() {
        limited("data.paths", path, DATA_PATH_MAX_BYTES)?;
        if path.ends_with('/') {
            return Err(bad(format!("data.paths: {path} ends in '/'")));
        }
        let within = |other: &String| {
            other.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if data.paths.iter().enumerate().any(|(other, text)| other != index && within(text)) {
            return Err(bad(format!("data.paths: one lies within {path}")));
        }
    }
    Ok(())
}

/// Without the bus the host tells nothing any more, and our own units are the upgrade's work: the host refuses them too
/// (I-30); here it is said before anything is stored.
const UNITS_NOT_OURS_TO_TOUCH: [&str; 5] =
    ["dbus", "dbus-broker", "quorate-agent", "quorate-helper", "quorate-coordinator"];

/// `^[A-Za-z0-9:_.@-]{1,255}\.(service|timer|socket)$`, no leading `-` or `.`, no template without its instance (I-30).
fn check_unit(unit: &str) -> Result<(), Refusal> {
    let plain = unit.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.@-".contains(&b));
    let stem = [".service", ".timer", ".socket"].iter().find_map(|end| unit.strip_suffix(end)).unwrap_or("");
    let template = stem.split('@').next().unwrap_or("");
    if !plain
        || template.is_empty()
        || stem.ends_with('@')
        || stem.contains("..")
        || unit.len() > 255
        || unit.starts_with(['-', '.'])
    {
        return Err(bad("driver.unit: expected the name of a service, timer or socket unit"));
    }
    if UNITS_NOT_OURS_TO_TOUCH.contains(&template) {
        return Err(bad(
            "driver.unit: this unit is not to be managed: the host itself or Quorate rests on it",
        ));
    }
    Ok(())
}

/// Longest name of a file (`NAME_MAX` of Linux).
const NAME_MAX: usize = 255;

fn check_paths(field: &str, paths: &[String]) -> Result<(), Refusal> {
    if paths.is_empty() || paths.len() > PATHS_MAX {
        return Err(bad(format!("{field}: expected 1 to {PATHS_MAX}")));
    }
    for path in paths {
        limited(field, path, SPEC_TEXT_MAX_BYTES)?;
        if !path.starts_with('/') && !path.starts_with("${") {
            return Err(bad(format!("{field}: {path} is not absolute")));
        }
        // What opens it on the host refuses these; a closing slash alone is a directory's habit.
        let parts = path.strip_suffix('/').unwrap_or(path).trim_start_matches('/').split('/');
        let rooted = !path.starts_with("//");
        if !rooted || parts.into_iter().any(|p| matches!(p, "" | "." | "..") || p.len() > NAME_MAX) {
            return Err(bad(format!("{field}: a path with '.', '..', '//' or a name over {NAME_MAX} bytes")));
        }
    }
    Ok(())
}

fn check_backup(policy: &BackupPolicy) -> Result<(), Refusal> {
    check_paths("backup.paths", &policy.paths)?;
    if policy.exclude.len() > PATHS_MAX {
        return Err(bad(format!("backup.exclude: more than {PATHS_MAX}")));
    }
    for glob in &policy.exclude {
        limited("backup.exclude", glob, SPEC_TEXT_MAX_BYTES)?;
    }
    if policy.pause.is_some() != policy.resume.is_some() {
        return Err(bad("backup.pause: it needs a resume, and the reverse"));
    }
    if policy.pause.is_some() {
        span("backup.pause_limit", policy.pause_limit)?;
    }
    if !(1..=19).contains(&policy.level) {
        return Err(bad("backup.level: expected 1 to 19"));
    }
    Ok(())
}

fn check_rotation(policy: &LogRotation) -> Result<(), Refusal> {
    check_paths("log_rotation.paths", &policy.paths)?;
    text("log_rotation.create_owner", &policy.create_owner)?;
    if policy.keep == 0 || policy.keep > 1_000 {
        return Err(bad("log_rotation.keep: expected 1 to 1000"));
    }
    Ok(())
}

fn check_configs(configs: &[ConfigSpec]) -> Result<(), Refusal> {
    if configs.len() > CONFIGS_MAX {
        return Err(bad(format!("configs: more than {CONFIGS_MAX}")));
    }
    let mut names = BTreeSet::new();
    for config in configs {
        let field = |part: &str| format!("configs.{}.{part}", config.name);
        if !names.insert(&config.name) {
            return Err(bad(format!("configs: {} is there twice", config.name)));
        }
        check_paths(&field("path"), core::slice::from_ref(&config.path))?;
        if config.path.ends_with('/') {
            return Err(bad(format!("{}: it names a folder", field("path"))));
        }
        if config.mode & !CONFIG_MODE_BITS != 0 {
            return Err(bad(format!("{}: expected permission bits alone", field("mode"))));
        }
        if config.confirm < CONFIRM_MIN || config.confirm > CONFIRM_MAX {
            return Err(bad(format!("{}: expected a second to a day", field("confirm"))));
        }
    }
    Ok(())
}

fn check_secrets(secrets: &[SecretSpec]) -> Result<(), Refusal> {
    if secrets.len() > SECRETS_MAX {
        return Err(bad(format!("secrets: more than {SECRETS_MAX}")));
    }
    let mut names = BTreeSet::new();
    for secret in secrets {
        let field = |part: &str| format!("secrets.{}.{part}", secret.name);
        if !names.insert(&secret.name) {
            return Err(bad(format!("secrets: {} is there twice", secret.name)));
        }
        let candidate = match &secret.source {
            SecretSource::Candidate(path) => Some(path),
            SecretSource::Generate(_) => None,
        };
        let mut places = BTreeSet::new();
        let all =
            [("file", Some(&secret.file)), ("previous", Some(&secret.previous)), ("candidate", candidate)];
        for (part, path) in all.into_iter().filter_map(|(part, path)| Some((part, path?))) {
            check_paths(&field(part), core::slice::from_ref(path))?;
            if path.ends_with('/') || !places.insert(path) {
                return Err(bad(format!("{}: expected a file of its own", field(part))));
            }
        }
        if secret.grace < GRACE_MIN || secret.grace > GRACE_MAX {
            return Err(bad(format!("{}: expected a second to 90 days", field("grace"))));
        }
    }
    Ok(())
}

fn check_traffic(wanted: &TrafficSpec) -> Result<(), Refusal> {
    span("traffic.drain_timeout", wanted.drain_timeout)?;
    limited("traffic.server", &wanted.server, POOL_NAME_MAX_BYTES)?;
    if !is_pool_name(&wanted.backend) {
        return Err(bad("traffic.backend: it is no pool's name"));
    }
    if usize::try_from(wanted.min_up).is_ok_and(|min_up| min_up > GROUP_MEMBERS_MAX) {
        return Err(bad(format!("traffic.min_up: expected at most {GROUP_MEMBERS_MAX}")));
    }
    Ok(())
}

fn check_maintenance(wanted: &MaintenanceSpec) -> Result<(), Refusal> {
    if wanted.file.is_empty() && wanted.silence.is_none() {
        return Err(bad("maintenance: a file, a silence or both are needed"));
    }
    limited("maintenance.file", &wanted.file, MAINTENANCE_PATH_MAX_BYTES)?;
    if let Some(silence) = &wanted.silence {
        let SilenceSpec { url, matchers, required: _ } = silence;
        probe::check_alertmanager("maintenance.silence", url, matchers)?;
        if !matchers.iter().any(AlertMatcher::is_positive) {
            let why = "one of them must not be met by an alert without the label";
            return Err(bad(format!("maintenance.silence.matchers: {why}")));
        }
    }
    if wanted.lease.is_some_and(|lease| lease < LEASE_MIN || lease > LEASE_MAX) {
        return Err(bad("maintenance.lease: expected a second to a week"));
    }
    Ok(())
}

fn check_preflight(wanted: &PreflightSpec) -> Result<(), Refusal> {
    if wanted.requires.len() > REQUIRES_MAX {
        return Err(bad(format!("preflight.requires: more than {REQUIRES_MAX}")));
    }
    for required in &wanted.requires {
        match required {
            Required::Unit { unit: name } | Required::Address { address: name } => {
                limited("preflight.requires", name, REQUIRED_MAX_BYTES)?;
            }
        }
    }
    if wanted.min_free_percent > 100 {
        return Err(bad("preflight.min_free_percent: expected at most 100"));
    }
    span("preflight.max_clock_skew", wanted.max_clock_skew)
}

/// A group that may be stored.
pub(super) fn group(state: &State, spec: &GroupSpec) -> Result<(), Refusal> {
    if spec.voters.is_empty()
        || spec.voters.len() > GROUP_MEMBERS_MAX
        || spec.learners.len() > GROUP_MEMBERS_MAX
    {
        return Err(bad(format!("voters: expected 1 to {GROUP_MEMBERS_MAX}, and no more learners")));
    }
    let service = state
        .services
        .get(&spec.service)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no service {}", spec.service)))?;
    let mut seen: BTreeSet<&NodeName> = BTreeSet::new();
    for name in spec.voters.iter().chain(&spec.learners) {
        if !seen.insert(name) {
            return Err(bad(format!("voters: {name} is there twice")));
        }
        let Some(node) = state.nodes.present(name) else {
            return Err(Refusal::new(Reason::NotFound, format!("voters: there is no node {name}")));
        };
        if !service.spec.nodes.matches(name.as_str(), &node.labels) {
            return Err(Refusal::new(
                Reason::Conflict,
                format!("voters: service {} has no instance on {name}", spec.service),
            ));
        }
    }
    satisfiable(spec)?;
    if let Some(membership) = &spec.membership {
        span("membership.timeout", membership.timeout)?;
        if membership.timeout > MEMBERSHIP_TIMEOUT_MAX {
            return Err(bad("membership.timeout: it is longer than an hour"));
        }
        if !has_membership_probe(&service.spec) {
            return Err(bad("membership: the service needs a membership probe, which tells who is a member"));
        }
    }
    if let Some(failover) = &spec.failover {
        failover_spec(spec, failover, service)?;
    }
    labels(&spec.labels)
}

fn failover_spec(spec: &GroupSpec, failover: &FailoverSpec, service: &Service) -> Result<(), Refusal> {
    if spec.policy != QuorumPolicy::PrimaryStandby {
        return Err(bad("failover: only a PRIMARY_STANDBY group has it"));
    }
    if failover.ttl < LEASE_TTL_MIN || failover.ttl > LEASE_TTL_MAX {
        return Err(bad(format!("failover.ttl: expected {LEASE_TTL_MIN} to {LEASE_TTL_MAX}")));
    }
    span("failover.timeout", failover.timeout)?;
    if failover.timeout > FAILOVER_TIMEOUT_MAX || failover.hold_down > HOLD_DOWN_MAX {
        return Err(bad("failover: a span is longer than it may be"));
    }
    if !has_membership_probe(&service.spec) {
        return Err(bad("failover: the service needs a membership probe, which tells who leads"));
    }
    Ok(())
}

fn satisfiable(spec: &GroupSpec) -> Result<(), Refusal> {
    let voters = u32::try_from(spec.voters.len()).unwrap_or(u32::MAX);
    match &spec.policy {
        QuorumPolicy::MinAvailable { count: 0 } => return Err(bad("policy.count: expected at least 1")),
        QuorumPolicy::MinAvailablePercent { percent } if *percent == 0 || *percent > 100 => {
            return Err(bad("policy.percent: expected 1 to 100"));
        }
        QuorumPolicy::PrimaryStandby if voters != 2 => {
            return Err(bad("voters: PRIMARY_STANDBY needs two, a primary and its standby"));
        }
        QuorumPolicy::Majority
        | QuorumPolicy::Bft { .. }
        | QuorumPolicy::MinAvailable { .. }
        | QuorumPolicy::MinAvailablePercent { .. }
        | QuorumPolicy::PrimaryStandby
        | QuorumPolicy::None => {}
    }
    let needed = required(&spec.policy, voters);
    if needed.saturating_add(spec.spare_wanted) > voters {
        return Err(bad(format!(
            "policy: {needed} needed and {} to spare can never be had from {voters} voters",
            spec.spare_wanted
        )));
    }
    Ok(())
}
