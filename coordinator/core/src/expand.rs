//! Fills `${node}`, `${service}` and an instance's own variables in. A name that is not known stays as it is, so that whoever
//! uses the text sees which one is missing.

use alloc::string::{String, ToString};

use quorate_model::backup::{BackupPolicy, LogRotation};
use quorate_model::probe::{AlertsProbe, CertificateProbe, MetricProbe};
use quorate_model::{
    ActionSpec, Install, MaintenanceSpec, NodeName, PreflightSpec, ProbeKind, ProbeSpec, Required,
    SecretSource, SecretSpec, ServiceSpec, TrafficSpec,
};

/// Longest text after filling in; a longer one is left as it was.
const FILLED_MAX_BYTES: usize = 16 * 1024;

/// One text, for the instance of `spec` on `node`. Values are not filled in again, so that nothing can run in circles.
#[must_use]
pub fn text(template: &str, spec: &ServiceSpec, node: &NodeName) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { break };
        filled.push_str(before);
        let own = || spec.vars.get(node).and_then(|vars| vars.get(name)).map(String::as_str);
        match (name, own()) {
            (_, Some(value)) => filled.push_str(value),
            ("node", None) => filled.push_str(node.as_str()),
            ("service", None) => filled.push_str(spec.name.as_str()),
            (_, None) => {
                filled.push_str("${");
                filled.push_str(name);
                filled.push('}');
            }
        }
        rest = tail;
        if filled.len() > FILLED_MAX_BYTES {
            return template.to_string();
        }
    }
    filled.push_str(rest);
    filled
}

/// A probe of the instance on `node`.
#[must_use]
pub fn probe(probe: &ProbeSpec, spec: &ServiceSpec, node: &NodeName) -> ProbeSpec {
    let fill = |template: &mut String| *template = text(template, spec, node);
    let mut filled = probe.clone();
    match &mut filled.kind {
        ProbeKind::Http { url, body_contains, json, status: _ } => {
            fill(url);
            fill(body_contains);
            for check in json {
                fill(&mut check.path);
                fill(&mut check.value);
            }
        }
        ProbeKind::Tcp { address } => fill(address),
        ProbeKind::Exec { argv } => argv.iter_mut().for_each(fill),
        ProbeKind::UnitSoak { min_up: _ } => {}
        ProbeKind::Membership { url, argv, paths } => {
            fill(url);
            argv.iter_mut().for_each(fill);
            for path in [
                &mut paths.members,
                &mut paths.key,
                &mut paths.this,
                &mut paths.role,
                &mut paths.serving,
                &mut paths.lag,
                &mut paths.position,
            ] {
                fill(path);
            }
        }
        ProbeKind::Metric(MetricProbe { url, metric, labels, rate: _, condition: _, baseline: _ }) => {
            fill(url);
            fill(metric);
            labels.values_mut().for_each(fill);
        }
        ProbeKind::Certificate(CertificateProbe { address, server_name, file, min_remaining: _ }) => {
            [address, server_name, file].into_iter().for_each(fill);
        }
        ProbeKind::Alerts(AlertsProbe { url, matchers }) => {
            fill(url);
            matchers.iter_mut().for_each(|matcher| fill(&mut matcher.value));
        }
        // Checked as it stands when it is applied, and evaluated as it stands.
        ProbeKind::Expression { expr: _ } => {}
    }
    filled
}

fn backup(policy: &mut BackupPolicy, spec: &ServiceSpec, node: &NodeName) {
    for path in policy.paths.iter_mut().chain(&mut policy.exclude) {
        *path = text(path, spec, node);
    }
}

fn data(paths: &mut [String], spec: &ServiceSpec, node: &NodeName) {
    for path in paths {
        *path = text(path, spec, node);
    }
}

fn rotation(policy: &mut LogRotation, spec: &ServiceSpec, node: &NodeName) {
    for path in &mut policy.paths {
        *path = text(path, spec, node);
    }
}

fn traffic(wanted: &mut TrafficSpec, spec: &ServiceSpec, node: &NodeName) {
    wanted.server = text(&wanted.server, spec, node);
}

fn maintenance(wanted: &mut MaintenanceSpec, spec: &ServiceSpec, node: &NodeName) {
    wanted.file = text(&wanted.file, spec, node);
    if let Some(silence) = &mut wanted.silence {
        silence.url = text(&silence.url, spec, node);
        silence.matchers.iter_mut().for_each(|matcher| matcher.value = text(&matcher.value, spec, node));
    }
}

fn preflight(wanted: &mut PreflightSpec, spec: &ServiceSpec, node: &NodeName) {
    for required in &mut wanted.requires {
        match required {
            Required::Unit { unit: name } | Required::Address { address: name } => {
                *name = text(name, spec, node);
            }
        }
    }
}

fn install(install: &mut Install, spec: &ServiceSpec, node: &NodeName) {
    match install {
        Install::Binary { dir, file: _ } | Install::Archive { dir } => *dir = text(dir, spec, node),
        Install::Package { package: _ } => {}
        Install::Config(config) => config.path = text(&config.path, spec, node),
    }
}

fn secret(wanted: &mut SecretSpec, spec: &ServiceSpec, node: &NodeName) {
    wanted.file = text(&wanted.file, spec, node);
    wanted.previous = text(&wanted.previous, spec, node);
    match &mut wanted.source {
        SecretSource::Candidate(path) => *path = text(path, spec, node),
        SecretSource::Generate(_) => {}
    }
}

/// A declaration as the instance on `node` needs it: everything filled in, other nodes' variables left out.
#[must_use]
pub fn service(spec: &ServiceSpec, node: &NodeName) -> ServiceSpec {
    let mut filled = spec.clone();
    filled.probes = spec.probes.iter().map(|p| probe(p, spec, node)).collect();
    if let Some(policy) = &mut filled.backup {
        backup(policy, spec, node);
    }
    if let Some(policy) = &mut filled.log_rotation {
        rotation(policy, spec, node);
    }
    if let Some(wanted) = &mut filled.install {
        install(wanted, spec, node);
    }
    for config in &mut filled.configs {
        config.path = text(&config.path, spec, node);
    }
    for wanted in &mut filled.secrets {
        secret(wanted, spec, node);
    }
    if let Some(wanted) = &mut filled.traffic {
        traffic(wanted, spec, node);
    }
    if let Some(wanted) = &mut filled.maintenance {
        maintenance(wanted, spec, node);
    }
    if let Some(wanted) = &mut filled.preflight {
        preflight(wanted, spec, node);
    }
    if let Some(wanted) = &mut filled.data {
        data(&mut wanted.paths, spec, node);
    }
    filled.vars.retain(|name, _| name == node);
    filled
}

/// An action as the instance on `node` needs it.
#[must_use]
pub fn action(action: &ActionSpec, spec: &ServiceSpec, node: &NodeName) -> ActionSpec {
    let mut filled = action.clone();
    match &mut filled {
        ActionSpec::BackupCreate { policy, .. } => backup(policy, spec, node),
        ActionSpec::LogRotate { policy, .. } => rotation(policy, spec, node),
        ActionSpec::ArtifactStage { release, .. }
        | ActionSpec::ArtifactActivate { release, .. }
        | ActionSpec::ArtifactRevert { release, .. }
        | ActionSpec::ConfigConfirm { release, .. } => install(&mut release.install, spec, node),
        ActionSpec::Secret { secret: wanted, .. } => secret(wanted, spec, node),
        ActionSpec::HostPreflight { preflight: wanted, release, .. } => {
            preflight(wanted, spec, node);
            if let Some(release) = release {
                install(&mut release.install, spec, node);
            }
        }
        ActionSpec::MaintenanceEnter { maintenance: wanted, .. }
        | ActionSpec::MaintenanceExit { maintenance: wanted, .. } => maintenance(wanted, spec, node),
        ActionSpec::TrafficDrain { traffic: wanted, .. }
        | ActionSpec::TrafficRestore { traffic: wanted, .. } => traffic(wanted, spec, node),
        ActionSpec::Data { paths, .. } => data(paths, spec, node),
        ActionSpec::ServiceStatus { .. }
        | ActionSpec::ServiceStart { .. }
        | ActionSpec::ServiceStop { .. }
        | ActionSpec::ServiceRestart { .. }
        | ActionSpec::ServiceReload { .. }
        | ActionSpec::BackupVerify { .. }
        | ActionSpec::ExecRun { .. }
        | ActionSpec::RolePromote { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => {}
    }
    filled
}
