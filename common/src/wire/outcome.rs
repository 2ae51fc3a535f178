//! What an action gave back: outcomes, unit states, facts, findings.

use quorate_model::action::{Finding, OUTPUT_TAIL_MAX_BYTES};
use quorate_model::node::{Disk, Facts};
use quorate_model::service::UnitStatus;
use quorate_model::{ActionOutcome, DurationMs};
use quorate_proto::v1;

use super::invalid::{at_most, each};
use super::limits::{OUTCOME_LIST_MAX, OUTCOME_TEXT_MAX_BYTES};
use super::text::{printable, read_text};
use super::time::{read_duration_or, read_timestamp, write_duration, write_timestamp};
use super::{Invalid, backup, release, traffic as balanced};

fn line(field: &str, text: String) -> Result<String, Invalid> {
    read_text(field, text, OUTCOME_TEXT_MAX_BYTES)
}

/// What an action gave back. Output is what a program wrote: it keeps its line breaks and tabs, other control characters are
/// replaced, because it will be shown.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_outcome(message: v1::ActionOutcome) -> Result<ActionOutcome, Invalid> {
    let v1::ActionOutcome {
        message,
        output_tail,
        output_bytes,
        output_sha256,
        escalated,
        took,
        unit,
        backup,
        rotated,
        facts,
        findings,
        release,
        traffic,
        exit_code,
    } = message;
    if output_tail.len() > OUTPUT_TAIL_MAX_BYTES {
        return Err(Invalid::new("output_tail", "it is longer than 4 KiB"));
    }
    Ok(ActionOutcome {
        message: printable(&message, OUTCOME_TEXT_MAX_BYTES),
        output_tail: clean_output(&output_tail),
        output_bytes,
        output_sha256: backup::read_sha256("output_sha256", output_sha256)?,
        escalated,
        took: read_duration_or("took", took, DurationMs::ZERO)?,
        unit: unit.map(read_unit).transpose().map_err(|i| i.within("unit"))?,
        backup: backup.map(backup::read_receipt).transpose().map_err(|i| i.within("backup"))?,
        rotated: each("rotated", rotated, OUTCOME_LIST_MAX, |path| line("", path))?,
        facts: facts.map(read_facts).transpose().map_err(|i| i.within("facts"))?,
        findings: each("findings", findings, OUTCOME_LIST_MAX, read_finding)?,
        release: release.map(release::read_receipt).transpose().map_err(|i| i.within("release"))?,
        traffic: traffic.map(balanced::read_receipt).transpose().map_err(|i| i.within("traffic"))?,
        exit_code,
    })
}

fn clean_output(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        let shown = matches!(c, '\n' | '\t') || !super::text::is_deceptive(c);
        // '?' is no longer than any control character: the tail never grows past its limit.
        clean.push(if shown { c } else { '?' });
    }
    clean
}

/// As a message.
#[must_use]
pub fn write_outcome(outcome: &ActionOutcome) -> v1::ActionOutcome {
    let ActionOutcome {
        message,
        output_tail,
        output_bytes,
        output_sha256,
        escalated,
        took,
        unit,
        backup,
        rotated,
        facts,
        findings,
        release,
        traffic,
        exit_code,
    } = outcome;
    v1::ActionOutcome {
        message: message.clone(),
        output_tail: output_tail.clone(),
        output_bytes: *output_bytes,
        output_sha256: output_sha256.clone(),
        escalated: *escalated,
        took: Some(write_duration(*took)),
        unit: unit.as_ref().map(write_unit),
        backup: backup.as_ref().map(backup::write_receipt),
        rotated: rotated.clone(),
        facts: facts.as_ref().map(write_facts),
        findings: findings.iter().map(write_finding).collect(),
        release: release.as_ref().map(release::write_receipt),
        traffic: traffic.as_ref().map(balanced::write_receipt),
        exit_code: *exit_code,
    }
}

/// State of a unit.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_unit(message: v1::UnitStatus) -> Result<UnitStatus, Invalid> {
    let v1::UnitStatus {
        load,
        active,
        sub,
        main_pid,
        restarts,
        invocation_id,
        since,
        result,
        exit_status,
        enabled,
    } = message;
    Ok(UnitStatus {
        load: line("load", load)?,
        active: line("active", active)?,
        sub: line("sub", sub)?,
        main_pid,
        restarts,
        invocation_id: line("invocation_id", invocation_id)?,
        since: read_timestamp("since", since)?,
        result: line("result", result)?,
        exit_status,
        enabled,
    })
}

/// As a message.
#[must_use]
pub fn write_unit(unit: &UnitStatus) -> v1::UnitStatus {
    let UnitStatus {
        load,
        active,
        sub,
        main_pid,
        restarts,
        invocation_id,
        since,
        result,
        exit_status,
        enabled,
    } = unit;
    v1::UnitStatus {
        load: load.clone(),
        active: active.clone(),
        sub: sub.clone(),
        main_pid: *main_pid,
        restarts: *restarts,
        invocation_id: invocation_id.clone(),
        since: write_timestamp(*since),
        result: result.clone(),
        exit_status: *exit_status,
        enabled: *enabled,
    }
}

/// What an agent found out about its host.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_facts(message: v1::Facts) -> Result<Facts, Invalid> {
    let v1::Facts {
        hostname,
        os,
        kernel,
        arch,
        cpus,
        memory_bytes,
        disks,
        addresses,
        agent_version,
        boot_id,
        booted,
        extra,
    } = message;
    at_most("extra", extra.len(), OUTCOME_LIST_MAX)?;
    for (key, value) in &extra {
        line("extra", key.clone())?;
        line("extra", value.clone())?;
    }
    Ok(Facts {
        hostname: line("hostname", hostname)?,
        os: line("os", os)?,
        kernel: line("kernel", kernel)?,
        arch: line("arch", arch)?,
        cpus,
        memory_bytes,
        disks: each("disks", disks, OUTCOME_LIST_MAX, read_disk)?,
        addresses: each("addresses", addresses, OUTCOME_LIST_MAX, |a| line("", a))?,
        agent_version: line("agent_version", agent_version)?,
        boot_id: line("boot_id", boot_id)?,
        booted_at: read_timestamp("booted", booted)?,
        extra,
    })
}

/// As a message.
#[must_use]
pub fn write_facts(facts: &Facts) -> v1::Facts {
    let Facts {
        hostname,
        os,
        kernel,
        arch,
        cpus,
        memory_bytes,
        disks,
        addresses,
        agent_version,
        boot_id,
        booted_at,
        extra,
    } = facts;
    v1::Facts {
        hostname: hostname.clone(),
        os: os.clone(),
        kernel: kernel.clone(),
        arch: arch.clone(),
        cpus: *cpus,
        memory_bytes: *memory_bytes,
        disks: disks.iter().map(write_disk).collect(),
        addresses: addresses.clone(),
        agent_version: agent_version.clone(),
        boot_id: boot_id.clone(),
        booted: write_timestamp(*booted_at),
        extra: extra.clone(),
    }
}

fn read_disk(message: v1::Disk) -> Result<Disk, Invalid> {
    let v1::Disk { mount, device, filesystem, size_bytes, available_bytes, inodes, inodes_free } = message;
    Ok(Disk {
        mount: line("mount", mount)?,
        device: line("device", device)?,
        filesystem: line("filesystem", filesystem)?,
        size_bytes,
        available_bytes,
        inodes,
        inodes_free,
    })
}

fn write_disk(disk: &Disk) -> v1::Disk {
    let Disk { mount, device, filesystem, size_bytes, available_bytes, inodes, inodes_free } = disk;
    v1::Disk {
        mount: mount.clone(),
        device: device.clone(),
        filesystem: filesystem.clone(),
        size_bytes: *size_bytes,
        available_bytes: *available_bytes,
        inodes: *inodes,
        inodes_free: *inodes_free,
    }
}

fn read_finding(message: v1::Finding) -> Result<Finding, Invalid> {
    let v1::Finding { subject, level, message, evidence } = message;
    if !matches!(level.as_str(), "ok" | "warning" | "critical") {
        return Err(Invalid::new("level", "it must be ok, warning or critical"));
    }
    Ok(Finding {
        subject: line("subject", subject)?,
        level,
        message: printable(&message, OUTCOME_TEXT_MAX_BYTES),
        evidence: printable(&evidence, OUTCOME_TEXT_MAX_BYTES),
    })
}

fn write_finding(finding: &Finding) -> v1::Finding {
    let Finding { subject, level, message, evidence } = finding;
    v1::Finding {
        subject: subject.clone(),
        level: level.clone(),
        message: message.clone(),
        evidence: evidence.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_model::{ReleaseReceipt, Timestamp};

    use super::*;

    #[test]
    fn an_outcome_comes_back_whole() {
        let outcome = ActionOutcome {
            message: "restarted".into(),
            output_tail: "line 1\n\tline 2\n".into(),
            output_bytes: 15,
            output_sha256: "a".repeat(64),
            exit_code: Some(3),
            escalated: true,
            took: DurationMs(1_234),
            unit: Some(UnitStatus { active: "active".into(), since: Timestamp(5), ..Default::default() }),
            backup: Some(quorate_model::backup::BackupReceipt { path: "/b".into(), ..Default::default() }),
            rotated: vec!["/var/log/a.log.1".into()],
            traffic: Some(quorate_model::TrafficReceipt { balancers: 2, ..Default::default() }),
            facts: Some(Facts {
                hostname: "node1".into(),
                disks: vec![Disk { mount: "/".into(), ..Default::default() }],
                extra: BTreeMap::from([("virt".to_owned(), "kvm".to_owned())]),
                ..Default::default()
            }),
            release: Some(ReleaseReceipt {
                version: "1.1.0".into(),
                artifact: "a".repeat(64),
                previous: "1.0.0".into(),
                signed_by: "releases".into(),
                replaces: "0c".repeat(32),
            }),
            findings: vec![Finding { level: "ok".into(), subject: "disk".into(), ..Default::default() }],
        };
        assert_eq!(read_outcome(write_outcome(&outcome)), Ok(outcome));
    }

    #[test]
    fn hostile_output_cannot_move_the_cursor() {
        let message = v1::ActionOutcome { output_tail: "a\u{1b}[2J\rb\n".into(), ..Default::default() };
        assert_eq!(read_outcome(message).unwrap().output_tail, "a?[2J?b\n");
    }

    #[test]
    fn limits_hold() {
        let field = |message| read_outcome(message).unwrap_err().field;
        let long = v1::ActionOutcome { output_tail: "x".repeat(4_097), ..Default::default() };
        assert_eq!(field(long), "output_tail");
        let many = v1::ActionOutcome { rotated: vec!["/x".into(); 257], ..Default::default() };
        assert_eq!(field(many), "rotated");
        let finding = v1::Finding { level: "fatal".into(), ..Default::default() };
        let bad = v1::ActionOutcome { findings: vec![finding], ..Default::default() };
        assert_eq!(field(bad), "findings[0].level");
    }
}
