//! Which unit names may reach PID 1 (I-30, B-6). Pure.

use crate::host::HostError;

/// Longest unit name that systemd itself accepts.
const UNIT_MAX_BYTES: usize = 255;
const SUFFIXES: [&str; 3] = [".service", ".timer", ".socket"];
/// Without the bus nothing here can be told any more, and its restart takes logins with it.
const BUS: [&str; 2] = ["dbus", "dbus-broker"];
/// Restarting ourselves on request would cut off the answer; that is the upgrade's own work.
const OWN: [&str; 3] = ["quorate-agent", "quorate-helper", "quorate-coordinator"];

/// Checks a unit name before any call is made.
///
/// # Errors
/// `InvalidUnit` for a malformed one, `UnitNotAllowed` for ours and the bus.
pub fn check(unit: &str) -> Result<(), HostError> {
    let invalid = |why| Err(HostError::InvalidUnit { unit: shown(unit), why });
    if unit.is_empty() {
        return invalid("it is empty");
    }
    if unit.len() > UNIT_MAX_BYTES {
        return invalid("it is longer than 255 bytes");
    }
    if unit.starts_with(['-', '.']) {
        return invalid("it begins with '-' or '.'");
    }
    if !unit.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.' | b'@' | b'-')) {
        return invalid("only letters, digits, ':', '_', '.', '@' and '-' are allowed");
    }
    let Some(stem) = SUFFIXES.iter().find_map(|s| unit.strip_suffix(s)) else {
        return invalid("it must end with .service, .timer or .socket");
    };
    if stem.is_empty() {
        return invalid("it has no name before its suffix");
    }
    if stem.contains("..") {
        return invalid("it contains '..'");
    }
    let template = stem.split('@').next().unwrap_or(stem);
    if stem.ends_with('@') || template.is_empty() {
        return invalid("a template needs its instance");
    }
    let refused = |why| Err(HostError::UnitNotAllowed { unit: unit.to_owned(), why });
    if BUS.contains(&template) {
        return refused("systemd is reached through it");
    }
    if OWN.contains(&template) {
        return refused("it is part of Quorate");
    }
    Ok(())
}

/// A hostile name as it may stand in a message: bounded, the quotes and escapes come from the error's `{:?}`.
fn shown(unit: &str) -> String {
    unit.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_catalogue_of_bad_names() {
        let long = format!("{}.service", "a".repeat(250));
        let bad = [
            "",
            "-.mount",
            "--help",
            "../x.service",
            "a b.service",
            "x.service;reboot",
            "$(id).service",
            "x.service\n",
            &long,
            "x@.service",
            "@x.service",
            ".service",
            "..service",
            "a..b.service",
            "x.mount",
            "x",
            "-x.service",
            "é.service",
            "x\0.service",
            "a/b.service",
            ".hidden.service",
        ];
        for unit in bad {
            assert!(matches!(check(unit), Err(HostError::InvalidUnit { .. })), "{unit:?} was accepted");
        }
        let ours = [
            "dbus.service",
            "dbus.socket",
            "dbus-broker.service",
            "quorate-agent.service",
            "quorate-helper.service",
            "quorate-coordinator.service",
            "quorate-agent@a.service",
        ];
        for unit in ours {
            assert!(matches!(check(unit), Err(HostError::UnitNotAllowed { .. })), "{unit:?} was accepted");
        }
        for unit in ["scribe-node.service", "a@b.service", "backup.timer", "x.y.socket", "a:b_c-1.service"] {
            assert!(check(unit).is_ok(), "{unit:?} was refused");
        }
    }

    proptest! {
        #[test]
        fn what_passes_matches_the_rule(unit in "\\PC{0,40}(\\.service)?") {
            if check(&unit).is_ok() {
                let rule = regex::Regex::new(r"\A[A-Za-z0-9:_.@-]{1,255}\.(service|timer|socket)\z").expect("valid");
                prop_assert!(rule.is_match(&unit) && !unit.starts_with('-'));
            }
        }
    }
}
