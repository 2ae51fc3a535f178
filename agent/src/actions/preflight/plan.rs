//! What was seen, judged. Pure.

use quorate_model::action::Finding;
use quorate_model::service::UnitStatus;
use quorate_model::{PreflightSpec, Required};

use super::Reached;

/// The level of a check that was passed.
pub(super) const OK: &str = "ok";
/// The level of one that was not.
pub(super) const FAILED: &str = "critical";

/// One file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) bytes_free: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

/// A folder that the work writes to.
#[derive(Debug)]
pub(super) struct Place {
    /// Its path.
    pub(super) path: String,
    /// Bytes that the work needs there.
    pub(super) needs: u64,
    /// Its file system, or why it could not be asked.
    pub(super) room: Result<Room, String>,
}

/// Everything that was seen, each with why it could not be.
#[derive(Debug)]
pub(super) struct Seen {
    /// The instance's own unit.
    pub(super) unit: Result<UnitStatus, String>,
    /// The folders.
    pub(super) places: Vec<Place>,
    /// Memory available, in bytes.
    pub(super) memory: Result<u64, String>,
    /// The units it depends on, in the order of the declaration.
    pub(super) units: Vec<(String, Result<UnitStatus, String>)>,
    /// What the network half said.
    pub(super) reached: Result<Reached, String>,
    /// Whether somebody changes packages; none when no package is installed.
    pub(super) packages_locked: Option<Result<bool, String>>,
    /// What a person wrote into the file that holds this host, if it is there.
    pub(super) hold: Result<Option<String>, String>,
}

/// One check: its number is told either way.
fn check(subject: impl Into<String>, passed: Result<String, String>) -> Finding {
    let (level, message) = match passed {
        Ok(message) => (OK, message),
        Err(message) => (FAILED, message),
    };
    Finding { subject: subject.into(), level: level.to_owned(), message, evidence: String::new() }
}

/// `12.3 MiB`: rounded down, so that what is too little never looks like enough.
pub(super) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    let tenths = bytes.saturating_mul(10) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

fn part(of: u64, percent: u32) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

fn space(place: &Place, percent: u32) -> Result<String, String> {
    let room = place.room.as_ref().map_err(Clone::clone)?;
    let needed = place.needs.saturating_add(part(room.bytes, percent));
    let text = format!("{} free, needs {}", size(room.bytes_free), size(needed));
    if room.bytes_free >= needed { Ok(text) } else { Err(text) }
}

fn inodes(place: &Place, percent: u32) -> Result<String, String> {
    let room = place.room.as_ref().map_err(Clone::clone)?;
    if room.inodes == 0 {
        // Some file systems make them as they go.
        return Ok("not limited".to_owned());
    }
    let needed = part(room.inodes, percent);
    let text = format!("{} free, needs {needed}", room.inodes_free);
    if room.inodes_free >= needed { Ok(text) } else { Err(text) }
}

fn loaded(unit: &Result<UnitStatus, String>) -> Result<String, String> {
    let unit = unit.as_ref().map_err(Clone::clone)?;
    if unit.load == "loaded" { Ok(unit.load.clone()) } else { Err(format!("its unit is {}", unit.load)) }
}

fn active(unit: &Result<UnitStatus, String>) -> Result<String, String> {
    let unit = unit.as_ref().map_err(Clone::clone)?;
    if unit.active == "active" { Ok(unit.active.clone()) } else { Err(format!("it is {}", unit.active)) }
}

fn reached(seen: &Seen, address: &str) -> Result<String, String> {
    match seen.reached.as_ref().map_err(Clone::clone)?.addresses.get(address) {
        Some(why) if why.is_empty() => Ok("it accepts connections".to_owned()),
        Some(why) => Err(why.clone()),
        None => Err("quorate-agent did not say whether it was reached".to_owned()),
    }
}

fn clock(seen: &Seen, spec: &PreflightSpec) -> Result<String, String> {
    let offset = seen.reached.as_ref().map_err(Clone::clone)?.offset_ms;
    let offset = offset.ok_or("no coordinator has told the time yet")?;
    let text = format!("{offset} ms from the coordinators', {} is the limit", spec.max_clock_skew);
    if offset.unsigned_abs() <= spec.max_clock_skew.0 { Ok(text) } else { Err(text) }
}

fn memory(seen: &Seen, spec: &PreflightSpec) -> Result<String, String> {
    let available = *seen.memory.as_ref().map_err(Clone::clone)?;
    let text = format!("{} available, needs {}", size(available), size(spec.min_memory_bytes));
    if available >= spec.min_memory_bytes { Ok(text) } else { Err(text) }
}

/// Every check in the order in which it is shown.
pub(super) fn judge(spec: &PreflightSpec, seen: &Seen) -> Vec<Finding> {
    let mut checks = vec![check("unit", loaded(&seen.unit))];
    for place in &seen.places {
        checks.push(check(format!("disk {}", place.path), space(place, spec.min_free_percent)));
        checks.push(check(format!("inodes {}", place.path), inodes(place, spec.min_free_percent)));
    }
    checks.push(check("memory", memory(seen, spec)));
    let mut units = seen.units.iter();
    for required in &spec.requires {
        checks.push(match required {
            Required::Unit { unit } => {
                let found = units.next().filter(|(name, _)| name == unit).map(|(_, status)| active(status));
                let found = found.unwrap_or_else(|| Err("it was not looked at".to_owned()));
                check(format!("requires {unit}"), found)
            }
            Required::Address { address } => check(format!("requires {address}"), reached(seen, address)),
        });
    }
    checks.push(check("clock", clock(seen, spec)));
    if let Some(locked) = &seen.packages_locked {
        checks.push(check(
            "packages",
            match locked {
                Ok(false) => Ok("nobody changes them".to_owned()),
                Ok(true) => Err("somebody holds dpkg's lock".to_owned()),
                Err(why) => Err(why.clone()),
            },
        ));
    }
    checks.push(check(
        "hold",
        match &seen.hold {
            Ok(None) => Ok("nobody holds this host".to_owned()),
            Ok(Some(why)) if why.is_empty() => Err("a person holds this host".to_owned()),
            Ok(Some(why)) => Err(format!("a person holds this host: {why}")),
            Err(why) => Err(why.clone()),
        },
    ));
    checks
}

/// One line over all of it: everything, or what failed.
///
/// # Errors
/// The same line, when any check was not passed.
pub(super) fn verdict(checks: &[Finding]) -> Result<String, String> {
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| check.level != OK)
        .map(|check| format!("{}: {}", check.subject, check.message))
        .collect();
    if failed.is_empty() && !checks.is_empty() {
        return Ok(format!("{} checks passed", checks.len()));
    }
    Err(format!("{} of {} checks failed: {}", failed.len(), checks.len(), failed.join("; ")))
}
