//! Secrets of a service: places and names, never a content.

use std::collections::BTreeSet;

use quorate_model::secret::{GRACE_MAX, GRACE_MIN, SECRETS_MAX};
use quorate_model::{ConfigApply, DurationMs, SecretSource, SecretSpec};
use quorate_proto::v1;

use super::Invalid;
use super::backup::read_path;
use super::invalid::each;
use super::text::read_name;
use super::time::{read_duration_or, write_duration};

/// How long both secrets are valid when the message says nothing (proto).
const GRACE: DurationMs = DurationMs::from_secs(24 * 3_600);

/// All secrets of a service.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_secrets(secrets: Vec<v1::SecretSpec>) -> Result<Vec<SecretSpec>, Invalid> {
    let secrets = each("secrets", secrets, SECRETS_MAX, read_secret)?;
    let mut names = BTreeSet::new();
    if let Some(index) = secrets.iter().position(|secret| !names.insert(&secret.name)) {
        return Err(Invalid::new(format!("secrets[{index}].name"), "another secret has this name"));
    }
    Ok(secrets)
}

fn read_place(field: &str, path: String) -> Result<String, Invalid> {
    let path = read_path(path).map_err(|i| i.within(field))?;
    if path.ends_with('/') {
        return Err(Invalid::new(field, "it must name a file"));
    }
    Ok(path)
}

/// One secret.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_secret(message: v1::SecretSpec) -> Result<SecretSpec, Invalid> {
    let v1::SecretSpec { name, file, previous, candidate, generate, confirm, apply, grace } = message;
    let grace = match read_duration_or("grace", grace, GRACE)? {
        DurationMs::ZERO => GRACE,
        other if other < GRACE_MIN || other > GRACE_MAX => {
            return Err(Invalid::new("grace", "it must be from a second to 90 days"));
        }
        fits => fits,
    };
    let source = match (candidate.is_empty(), generate.is_empty()) {
        (false, true) => SecretSource::Candidate(read_place("candidate", candidate)?),
        (true, false) => SecretSource::Generate(read_name("generate", generate)?),
        (true, true) => {
            return Err(Invalid::new(
                "candidate",
                "say where the next one lies, or name the hook that makes it",
            ));
        }
        (false, false) => return Err(Invalid::new("generate", "it goes with no candidate")),
    };
    let spec = SecretSpec {
        name: read_name("name", name)?,
        file: read_place("file", file)?,
        previous: read_place("previous", previous)?,
        source,
        confirm: read_name("confirm", confirm)?,
        apply: match v1::ConfigApply::try_from(apply) {
            Ok(v1::ConfigApply::Unspecified | v1::ConfigApply::Reload) => ConfigApply::Reload,
            Ok(v1::ConfigApply::Restart) => ConfigApply::Restart,
            Ok(v1::ConfigApply::None) => ConfigApply::None,
            Err(_) => return Err(Invalid::new("apply", "it must be RELOAD, RESTART or NONE")),
        },
        grace,
    };
    if spec.previous == spec.file {
        return Err(Invalid::new("previous", "it must be another file"));
    }
    match &spec.source {
        SecretSource::Candidate(path) if *path == spec.file || *path == spec.previous => {
            Err(Invalid::new("candidate", "it must be another file"))
        }
        SecretSource::Candidate(_) | SecretSource::Generate(_) => Ok(spec),
    }
}

/// As a message.
#[must_use]
pub fn write_secret(spec: &SecretSpec) -> v1::SecretSpec {
    let SecretSpec { name, file, previous, source, confirm, apply, grace } = spec;
    let (candidate, generate) = match source {
        SecretSource::Candidate(path) => (path.clone(), String::new()),
        SecretSource::Generate(hook) => (String::new(), hook.to_string()),
    };
    let apply = match apply {
        ConfigApply::Reload => v1::ConfigApply::Reload,
        ConfigApply::Restart => v1::ConfigApply::Restart,
        ConfigApply::None => v1::ConfigApply::None,
    };
    v1::SecretSpec {
        name: name.to_string(),
        file: file.clone(),
        previous: previous.clone(),
        candidate,
        generate,
        confirm: confirm.to_string(),
        apply: apply as i32,
        grace: Some(write_duration(*grace)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::SecretSpec {
        v1::SecretSpec {
            name: "token".into(),
            file: "/etc/ledger/token".into(),
            previous: "/etc/ledger/token.previous".into(),
            candidate: "${etc}/token.next".into(),
            confirm: "token-works".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_secret_comes_back() {
        let read = read_secret(message()).unwrap();
        assert_eq!((read.apply, read.grace), (ConfigApply::Reload, GRACE));
        assert_eq!(read_secret(write_secret(&read)), Ok(read));
        let made = v1::SecretSpec {
            candidate: String::new(),
            generate: "token-make".into(),
            apply: v1::ConfigApply::Restart.into(),
            grace: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..message()
        };
        let read = read_secret(made).unwrap();
        assert!(matches!(read.source, SecretSource::Generate(_)));
        assert_eq!(read_secret(write_secret(&read)), Ok(read));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |message| read_secret(message).unwrap_err().field;
        let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(field(v1::SecretSpec { name: String::new(), ..message() }), "name");
        assert_eq!(field(v1::SecretSpec { file: "etc/token".into(), ..message() }), "file");
        assert_eq!(field(v1::SecretSpec { previous: "/etc/ledger/token".into(), ..message() }), "previous");
        assert_eq!(field(v1::SecretSpec { candidate: String::new(), ..message() }), "candidate");
        assert_eq!(field(v1::SecretSpec { candidate: "/etc/ledger/token".into(), ..message() }), "candidate");
        assert_eq!(field(v1::SecretSpec { generate: "make".into(), ..message() }), "generate");
        assert_eq!(field(v1::SecretSpec { confirm: String::new(), ..message() }), "confirm");
        assert_eq!(field(v1::SecretSpec { grace: span(91 * 86_400), ..message() }), "grace");
        let two = read_secrets(vec![message(), message()]).unwrap_err();
        assert_eq!(two.field, "secrets[1].name");
    }
}
