//! Services as declared.

use std::collections::{BTreeMap, BTreeSet};

use quorate_model::config::CONFIGS_MAX;
use quorate_model::service::HANDOVER_TIMEOUT_MAX;
use quorate_model::{
    ConfigSpec, Driver, DurationMs, HandoverSpec, Install, MigrateSpec, MigrateWhen, NodeName, ProbeKind,
    ProbeSpec, ServiceSpec,
};
use quorate_proto::v1;

use super::enums::{read_migrate_when, write_migrate_when};
use super::invalid::{at_most, each};
use super::limits::{PROBES_MAX, SPEC_TEXT_MAX_BYTES, VARS_MAX, VARS_NODES_MAX};
use super::text::{read_label_key, read_labels, read_name, read_optional_name, read_text};
use super::time::{read_duration_or, write_duration};
use super::{
    Invalid, backup, config, data as folders, maintenance as upkeep, preflight as flight, probe, release,
    secret, selector, traffic as balanced,
};
use crate::expression::{Expression, Field, Wrong, place_of};

/// Deadline of a stop when the message says none (proto).
const STOP_TIMEOUT: DurationMs = DurationMs::from_secs(30);
/// Deadline of a start when the message says none (proto).
const START_TIMEOUT: DurationMs = DurationMs::from_secs(60);
/// How long a migration may take when the message says nothing (proto).
const MIGRATE_TIMEOUT: DurationMs = DurationMs::from_secs(600);
/// Longest time of a migration, as of every span of a declaration.
const MIGRATE_TIMEOUT_MAX: DurationMs = DurationMs::from_secs(24 * 3_600);

/// How long a hand-over may take when the message says nothing (proto).
const HANDOVER_TIMEOUT: DurationMs = DurationMs::from_secs(60);

/// A service as its owner declares it.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_service(message: v1::ServiceSpec) -> Result<ServiceSpec, Invalid> {
    let v1::ServiceSpec {
        name,
        driver,
        nodes,
        probes,
        stop_timeout,
        start_timeout,
        backup,
        log_rotation,
        vars,
        labels,
        install,
        traffic,
        configs,
        migrate,
        preflight,
        handover,
        maintenance,
        secrets,
        data,
    } = message;
    let probes = each("probes", probes, PROBES_MAX, probe::read_probe)?;
    let mut names = BTreeSet::new();
    if let Some(index) = probes.iter().position(|p| !names.insert(&p.name)) {
        return Err(Invalid::new(format!("probes[{index}].name"), "another probe has this name"));
    }
    check_expressions(&probes)?;
    Ok(ServiceSpec {
        name: read_name("name", name)?,
        driver: read_driver(driver)?,
        nodes: selector::read_selector("nodes", nodes)?,
        probes,
        stop_timeout: read_duration_or("stop_timeout", stop_timeout, STOP_TIMEOUT)?,
        start_timeout: read_duration_or("start_timeout", start_timeout, START_TIMEOUT)?,
        backup: backup.map(backup::read_policy).transpose().map_err(|i| i.within("backup"))?,
        log_rotation: log_rotation
            .map(backup::read_rotation)
            .transpose()
            .map_err(|i| i.within("log_rotation"))?,
        vars: read_vars(vars)?,
        labels: read_labels("labels", labels)?,
        install: install.map(read_install).transpose().map_err(|i| i.within("install"))?,
        traffic: traffic.map(balanced::read_traffic).transpose().map_err(|i| i.within("traffic"))?,
        configs: read_configs(configs)?,
        secrets: secret::read_secrets(secrets)?,
        migrate: migrate.map(read_migrate).transpose().map_err(|i| i.within("migrate"))?,
        maintenance: maintenance
            .map(upkeep::read_maintenance)
            .transpose()
            .map_err(|i| i.within("maintenance"))?,
        preflight: preflight.map(flight::read_preflight).transpose().map_err(|i| i.within("preflight"))?,
        handover: handover.map(read_handover).transpose().map_err(|i| i.within("handover"))?,
        data: data.map(folders::read_data).transpose().map_err(|i| i.within("data"))?,
    })
}

/// How its program comes onto a host. A configuration file is no program.
fn read_install(message: v1::Install) -> Result<Install, Invalid> {
    match release::read_install(message)? {
        Install::Config(_) => Err(Invalid::new("config", "configuration files stand under configs")),
        install @ (Install::Binary { .. } | Install::Archive { .. } | Install::Package { .. }) => Ok(install),
    }
}

fn read_configs(configs: Vec<v1::ConfigSpec>) -> Result<Vec<ConfigSpec>, Invalid> {
    let configs = each("configs", configs, CONFIGS_MAX, config::read_config)?;
    let mut names = BTreeSet::new();
    if let Some(index) = configs.iter().position(|c| !names.insert(&c.name)) {
        return Err(Invalid::new(format!("configs[{index}].name"), "another file has this name"));
    }
    Ok(configs)
}

/// Every expression can be read, and what it names is there to be asked.
fn check_expressions(probes: &[ProbeSpec]) -> Result<(), Invalid> {
    for (index, probe) in probes.iter().enumerate() {
        let ProbeKind::Expression { expr } = &probe.kind else { continue };
        let checked = Expression::parse(expr).and_then(|read| {
            read.uses().iter().try_for_each(|(name, field)| check_use(expr, probe, probes, name, *field))
        });
        if let Err(Wrong { why, at }) = checked {
            let invalid = Invalid::new(format!("probes[{index}].expression.expr"), why);
            return Err(at.map_or(invalid.clone(), |at| invalid.in_line(expr, at)));
        }
    }
    Ok(())
}

fn check_use(
    expr: &str,
    own: &ProbeSpec,
    probes: &[ProbeSpec],
    name: &str,
    field: Field,
) -> Result<(), Wrong> {
    let wrong = |why: String| Err(Wrong { why, at: place_of(expr, name) });
    let Some(probe) = probes.iter().find(|p| p.name.as_str() == name) else {
        return wrong("no probe of this service has this name".to_owned());
    };
    if own.from_peer && !probe.from_peer {
        return wrong("a peer has no reading of it: it is not from_peer".to_owned());
    }
    let has = match (&probe.kind, field) {
        (ProbeKind::Expression { .. }, _) => {
            return wrong("an expression looks at measurements, not at expressions".to_owned());
        }
        (_, Field::Pass | Field::AgeMs)
        | (ProbeKind::Metric(_) | ProbeKind::Certificate(_) | ProbeKind::Alerts(_), Field::Value)
        | (ProbeKind::Http { .. }, Field::Status | Field::Body) => true,
        (
            ProbeKind::Http { .. }
            | ProbeKind::Tcp { .. }
            | ProbeKind::Exec { .. }
            | ProbeKind::UnitSoak { .. }
            | ProbeKind::Membership { .. }
            | ProbeKind::Certificate(_)
            | ProbeKind::Alerts(_)
            | ProbeKind::Metric(_),
            Field::Value | Field::Status | Field::Body,
        ) => false,
    };
    if has { Ok(()) } else { wrong(format!("this kind of probe has no {}", field.as_str())) }
}

/// What keeps an instance running.
///
/// # Errors
/// [`Invalid`] when it is missing, or the unit's or process's name is not one.
pub fn read_driver(driver: Option<v1::Driver>) -> Result<Driver, Invalid> {
    use v1::driver::Kind;
    match driver.and_then(|v1::Driver { kind }| kind) {
        None => Err(Invalid::missing("driver")),
        Some(Kind::SystemdUnit(unit)) if is_unit(&unit) => Ok(Driver::Systemd { unit }),
        Some(Kind::SystemdUnit(_)) => Err(Invalid::new("driver.systemd_unit", NO_UNIT)),
        Some(Kind::Process(name)) => {
            let name: quorate_model::ServiceName = read_name("driver.process", name)?;
            Ok(Driver::Process { name: name.into() })
        }
    }
}

/// What is said of a text that is no unit's name.
pub(super) const NO_UNIT: &str = "it must be a unit name that ends in .service, .timer or .socket";

/// I-30: `^[A-Za-z0-9:_.@-]{1,255}\.(service|timer|socket)$`, no leading `-`.
pub(super) fn is_unit(unit: &str) -> bool {
    let stem = [".service", ".timer", ".socket"].iter().find_map(|end| unit.strip_suffix(end));
    stem.is_some_and(|stem| {
        (1..=240).contains(&stem.len())
            && !stem.starts_with('-')
            && stem
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.' | b'@' | b'-'))
    })
}

fn read_vars(
    vars: BTreeMap<String, v1::InstanceVars>,
) -> Result<BTreeMap<NodeName, BTreeMap<String, String>>, Invalid> {
    at_most("vars", vars.len(), VARS_NODES_MAX)?;
    let mut read = BTreeMap::new();
    for (node, v1::InstanceVars { vars }) in vars {
        let node: NodeName = read_name("vars", node)?;
        let field = format!("vars.{node}");
        at_most(&field, vars.len(), VARS_MAX)?;
        let mut values = BTreeMap::new();
        for (key, value) in vars {
            read_label_key(&field, &key)?;
            values.insert(key, read_text(&field, value, SPEC_TEXT_MAX_BYTES)?);
        }
        read.insert(node, values);
    }
    Ok(read)
}

/// As a message.
#[must_use]
pub fn write_service(spec: &ServiceSpec) -> v1::ServiceSpec {
    let ServiceSpec {
        name,
        driver,
        nodes,
        probes,
        stop_timeout,
        start_timeout,
        backup,
        log_rotation,
        vars,
        labels,
        install,
        traffic,
        configs,
        secrets,
        migrate,
        preflight,
        handover,
        maintenance,
        data,
    } = spec;
    v1::ServiceSpec {
        name: name.as_str().to_owned(),
        driver: Some(write_driver(driver)),
        nodes: Some(selector::write_selector(nodes)),
        probes: probes.iter().map(probe::write_probe).collect(),
        stop_timeout: Some(write_duration(*stop_timeout)),
        start_timeout: Some(write_duration(*start_timeout)),
        backup: backup.as_ref().map(backup::write_policy),
        log_rotation: log_rotation.as_ref().map(backup::write_rotation),
        vars: vars
            .iter()
            .map(|(node, vars)| (node.as_str().to_owned(), v1::InstanceVars { vars: vars.clone() }))
            .collect(),
        labels: labels.clone(),
        install: install.as_ref().map(release::write_install),
        traffic: traffic.as_ref().map(balanced::write_traffic),
        maintenance: maintenance.as_ref().map(upkeep::write_maintenance),
        preflight: preflight.as_ref().map(flight::write_preflight),
        configs: configs.iter().map(config::write_config).collect(),
        secrets: secrets.iter().map(secret::write_secret).collect(),
        migrate: migrate.as_ref().map(write_migrate),
        handover: handover.as_ref().map(write_handover),
        data: data.as_ref().map(folders::write_data),
    }
}

/// What is run exactly once for each release.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_migrate(message: v1::MigrateSpec) -> Result<MigrateSpec, Invalid> {
    let v1::MigrateSpec { hook, timeout, when, undo } = message;
    let timeout = match read_duration_or("timeout", timeout, MIGRATE_TIMEOUT)? {
        DurationMs::ZERO => MIGRATE_TIMEOUT,
        longer if longer > MIGRATE_TIMEOUT_MAX => {
            return Err(Invalid::new("timeout", "it is longer than a day"));
        }
        fits => fits,
    };
    let when = if when == 0 { MigrateWhen::Before } else { read_migrate_when("when", when)? };
    Ok(MigrateSpec { hook: read_name("hook", hook)?, timeout, when, undo: read_optional_name("undo", undo)? })
}

/// As a message.
#[must_use]
pub fn write_migrate(migrate: &MigrateSpec) -> v1::MigrateSpec {
    let MigrateSpec { hook, timeout, when, undo } = migrate;
    v1::MigrateSpec {
        hook: hook.to_string(),
        timeout: Some(write_duration(*timeout)),
        when: write_migrate_when(*when) as i32,
        undo: undo.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// How an instance that leads hands over.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_handover(message: v1::HandoverSpec) -> Result<HandoverSpec, Invalid> {
    let v1::HandoverSpec { hook, timeout } = message;
    let timeout = match read_duration_or("timeout", timeout, HANDOVER_TIMEOUT)? {
        DurationMs::ZERO => HANDOVER_TIMEOUT,
        longer if longer > HANDOVER_TIMEOUT_MAX => {
            return Err(Invalid::new("timeout", "it is longer than an hour"));
        }
        fits => fits,
    };
    Ok(HandoverSpec { hook: read_name("hook", hook)?, timeout })
}

/// As a message.
#[must_use]
pub fn write_handover(handover: &HandoverSpec) -> v1::HandoverSpec {
    let HandoverSpec { hook, timeout } = handover;
    v1::HandoverSpec { hook: hook.to_string(), timeout: Some(write_duration(*timeout)) }
}

/// As a message.
#[must_use]
pub fn write_driver(driver: &Driver) -> v1::Driver {
    use v1::driver::Kind;
    let kind = match driver {
        Driver::Systemd { unit } => Kind::SystemdUnit(unit.clone()),
        Driver::Process { name } => Kind::Process(name.clone()),
    };
    v1::Driver { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::ServiceSpec {
        let driver = v1::Driver { kind: Some(v1::driver::Kind::SystemdUnit("scribe-node.service".into())) };
        let all = v1::Selector { all: true, ..Default::default() };
        let vars = BTreeMap::from([("port".to_owned(), "8080".to_owned())]);
        v1::ServiceSpec {
            name: "ledger".into(),
            driver: Some(driver),
            nodes: Some(all),
            vars: BTreeMap::from([("node1".to_owned(), v1::InstanceVars { vars })]),
            labels: BTreeMap::from([("tier".to_owned(), "db".to_owned())]),
            ..Default::default()
        }
    }

    #[test]
    fn a_service_comes_back() {
        let spec = read_service(message()).unwrap();
        assert_eq!((spec.stop_timeout, spec.start_timeout), (STOP_TIMEOUT, START_TIMEOUT));
        assert_eq!(read_service(write_service(&spec)), Ok(spec));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |message| read_service(message).unwrap_err().field;
        assert_eq!(field(v1::ServiceSpec { driver: None, ..message() }), "driver");
        assert_eq!(field(v1::ServiceSpec { nodes: None, ..message() }), "nodes");
        assert_eq!(field(v1::ServiceSpec { name: String::new(), ..message() }), "name");
        let bad_vars = BTreeMap::from([("../x".to_owned(), v1::InstanceVars::default())]);
        assert_eq!(field(v1::ServiceSpec { vars: bad_vars, ..message() }), "vars");
        let probe = v1::ProbeSpec {
            name: "up".into(),
            kind: Some(v1::probe_spec::Kind::Tcp(v1::TcpProbe { address: "h:1".into() })),
            ..Default::default()
        };
        let twice = vec![probe.clone(), probe];
        assert_eq!(field(v1::ServiceSpec { probes: twice, ..message() }), "probes[1].name");
        assert_eq!(
            field(v1::ServiceSpec { probes: vec![v1::ProbeSpec::default(); 17], ..message() }),
            "probes"
        );
    }

    #[test]
    fn a_migration_comes_back_and_what_is_wrong_with_it_is_named() {
        let migrate = v1::MigrateSpec { hook: "migrate".into(), undo: "back".into(), ..Default::default() };
        let with = |migrate| read_service(v1::ServiceSpec { migrate: Some(migrate), ..message() });
        let spec = with(migrate.clone()).unwrap();
        let read = spec.migrate.clone().unwrap();
        assert_eq!((read.timeout, read.when), (MIGRATE_TIMEOUT, MigrateWhen::Before));
        assert_eq!(read_service(write_service(&spec)), Ok(spec));
        let after = v1::MigrateSpec { when: v1::MigrateWhen::After as i32, ..migrate.clone() };
        assert_eq!(read_migrate(write_migrate(&read_migrate(after.clone()).unwrap())), read_migrate(after));
        let field = |migrate| with(migrate).unwrap_err().field;
        let day = Some(prost_types::Duration { seconds: 86_401, nanos: 0 });
        assert_eq!(field(v1::MigrateSpec { timeout: day, ..migrate.clone() }), "migrate.timeout");
        assert_eq!(field(v1::MigrateSpec { when: 9, ..migrate.clone() }), "migrate.when");
        assert_eq!(field(v1::MigrateSpec { hook: String::new(), ..migrate.clone() }), "migrate.hook");
        assert_eq!(field(v1::MigrateSpec { undo: "../x".into(), ..migrate }), "migrate.undo");
    }

    fn with_expression(expr: &str) -> Result<ServiceSpec, Invalid> {
        use v1::probe_spec::Kind;
        let probe =
            |name: &str, kind| v1::ProbeSpec { name: name.into(), kind: Some(kind), ..Default::default() };
        let url = || "http://h:1/".to_owned();
        let http = v1::HttpProbe { url: url(), ..Default::default() };
        let metric = v1::MetricProbe { url: url(), metric: "e".into(), ..Default::default() };
        let probes = vec![
            probe("health", Kind::Http(http)),
            probe("errors", Kind::Metric(metric)),
            probe("sense", Kind::Expression(v1::ExpressionProbe { expr: expr.into() })),
        ];
        read_service(v1::ServiceSpec { probes, ..message() })
    }

    #[test]
    fn an_expression_names_what_is_there() {
        with_expression("probes.health.pass && probes.health.status == 200 && probes.errors.value < 1")
            .unwrap();
        for (bad, column) in [
            ("probes.health.pass && probes.heath.pass", 29),
            ("probes.health.pass && probes.errors.body.x == 1", 29),
            ("probes.health.pass && probes.sense.pass", 29),
            ("probes.health.pass && ", 22),
        ] {
            let invalid = with_expression(bad).unwrap_err();
            assert_eq!(invalid.field, "probes[2].expression.expr", "{bad}");
            let caret = invalid.caret();
            assert_eq!(
                caret.get(1).map(|line| line.len() - 1),
                Some(column),
                "{bad}: {caret:?} {}",
                invalid.why
            );
        }
    }

    #[test]
    fn unit_names_hold_no_argument_and_no_path() {
        for bad in ["-x.service", "a b.service", "a/b.service", "a;b.service", ".service", "a", "a.mount"] {
            let kind = Some(v1::driver::Kind::SystemdUnit(bad.into()));
            assert!(read_driver(Some(v1::Driver { kind })).is_err(), "{bad}");
        }
        let kind = Some(v1::driver::Kind::Process("ledger".into()));
        assert!(read_driver(Some(v1::Driver { kind })).is_ok());
    }
}
