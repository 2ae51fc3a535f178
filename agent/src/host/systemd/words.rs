//! systemd's words and errors in ours. Pure.

use crate::host::HostError;

/// What a call that was refused means.
pub(super) fn refusal(call: &'static str, unit: &str, error: zbus::Error) -> HostError {
    let named = match &error {
        zbus::Error::MethodError(name, text, _) => {
            Some((name.as_str().to_owned(), text.clone().unwrap_or_default()))
        }
        zbus::Error::FDO(fdo) => fdo_name(fdo),
        _ => None,
    };
    match named {
        Some((name, text)) => named_refusal(call, unit, &name, &text),
        None => HostError::Bus(error),
    }
}

/// Standard errors by which PID 1 refuses; the others say that the bus or PID 1 is not there.
fn fdo_name(error: &zbus::fdo::Error) -> Option<(String, String)> {
    use zbus::fdo::Error as E;
    let (name, text) = match error {
        E::AccessDenied(text) => ("AccessDenied", text),
        E::AuthFailed(text) => ("AuthFailed", text),
        E::InteractiveAuthorizationRequired(text) => ("InteractiveAuthorizationRequired", text),
        E::InvalidArgs(text) => ("InvalidArgs", text),
        E::UnknownObject(text) => ("UnknownObject", text),
        E::UnknownMethod(text) => ("UnknownMethod", text),
        E::UnknownInterface(text) => ("UnknownInterface", text),
        E::UnknownProperty(text) => ("UnknownProperty", text),
        E::FileNotFound(text) => ("FileNotFound", text),
        E::NotSupported(text) => ("NotSupported", text),
        E::Failed(text) => ("Failed", text),
        _ => return None,
    };
    Some((format!("org.freedesktop.DBus.Error.{name}"), text.clone()))
}

/// By the error's name on the bus.
pub(super) fn named_refusal(call: &'static str, unit: &str, name: &str, text: &str) -> HostError {
    let unit = unit.to_owned();
    match name.rsplit('.').next().unwrap_or(name) {
        "NoSuchUnit" | "FileNotFound" => HostError::NotFound { unit },
        "UnitMasked" => HostError::Masked { unit },
        _ => HostError::Refused { call, unit, error: clean(&format!("{name}: {text}")) },
    }
}

/// Whether an error only says that a unit's type has no such property.
pub(super) fn is_absent(error: &HostError) -> bool {
    match error {
        HostError::Refused { error, .. } => {
            error.starts_with("org.freedesktop.DBus.Error.UnknownProperty")
                || error.starts_with("org.freedesktop.DBus.Error.UnknownInterface")
        }
        _ => false,
    }
}

/// The result word of a job.
pub(super) fn job_result(verb: &'static str, unit: &str, result: &str) -> Result<(), HostError> {
    match result {
        // "skipped": the unit was in the wanted state, or a condition of its own kept it from running; the reading
        // that follows tells which.
        "done" | "skipped" => Ok(()),
        other => Err(HostError::Job { verb, unit: unit.to_owned(), result: clean(other) }),
    }
}

/// systemd's 16-byte invocation id as it prints it; empty for none.
pub(super) fn invocation(bytes: &[u8]) -> String {
    if bytes.iter().all(|b| *b == 0) { String::new() } else { crate::host::exec::hex(bytes) }
}

/// Words from the bus are bounded and hold no control characters in our messages.
fn clean(text: &str) -> String {
    text.chars().take(256).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_result_has_its_meaning() {
        for word in ["done", "skipped"] {
            assert!(job_result("start", "x.service", word).is_ok());
        }
        let late = job_result("stop", "x.service", "timeout").expect_err("the unit's own limit passed");
        assert_eq!(late.reason(), quorate_model::Reason::DeadlineExceeded);
        for word in
            ["failed", "canceled", "dependency", "invalid", "assert", "unsupported", "collected", "once", ""]
        {
            assert!(matches!(job_result("start", "x.service", word), Err(HostError::Job { .. })), "{word}");
        }
    }

    #[test]
    fn error_names_are_told_apart() {
        let by = |name| named_refusal("StartUnit", "x.service", name, "te\u{1b}xt");
        assert!(matches!(by("org.freedesktop.systemd1.NoSuchUnit"), HostError::NotFound { .. }));
        assert!(matches!(by("org.freedesktop.systemd1.UnitMasked"), HostError::Masked { .. }));
        let HostError::Refused { error, .. } = by("org.freedesktop.DBus.Error.AccessDenied") else {
            panic!("access denied is a refusal")
        };
        assert!(!error.contains('\u{1b}'));
    }

    #[test]
    fn no_invocation_is_empty() {
        assert_eq!(invocation(&[0; 16]), "");
        assert_eq!(invocation(&[]), "");
        assert_eq!(invocation(&[0xab; 2]), "abab");
    }
}
