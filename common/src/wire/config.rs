//! Configuration files of a service.

use quorate_model::config::{CONFIRM_MAX, CONFIRM_MIN};
use quorate_model::{ConfigApply, ConfigSpec, DurationMs};
use quorate_proto::v1;

use super::Invalid;
use super::backup::{read_mode, read_path};
use super::text::read_name;
use super::time::{read_duration_or, write_duration};

/// How long a file waits for its confirmation when the message says nothing (proto).
const CONFIRM: DurationMs = DurationMs::from_secs(5 * 60);

/// One configuration file.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_config(message: v1::ConfigSpec) -> Result<ConfigSpec, Invalid> {
    let v1::ConfigSpec { name, path, mode, check, unchecked, apply, confirm, sensitive } = message;
    let confirm = match read_duration_or("confirm", confirm, CONFIRM)? {
        DurationMs::ZERO => CONFIRM,
        other if other < CONFIRM_MIN || other > CONFIRM_MAX => {
            return Err(Invalid::new("confirm", "it must be from a second to a day"));
        }
        fits => fits,
    };
    let check = match (check.is_empty(), unchecked) {
        (false, false) => Some(read_name("check", check)?),
        (true, true) => None,
        (true, false) => {
            return Err(Invalid::new(
                "check",
                "name the hook that checks a candidate, or say unchecked: true",
            ));
        }
        (false, true) => return Err(Invalid::new("unchecked", "it goes with no check")),
    };
    let path = read_path(path).map_err(|i| i.within("path"))?;
    if path.ends_with('/') {
        return Err(Invalid::new("path", "it must name a file"));
    }
    Ok(ConfigSpec {
        name: read_name("name", name)?,
        path,
        mode: read_mode("mode", &mode)?,
        check,
        apply: match v1::ConfigApply::try_from(apply) {
            Ok(v1::ConfigApply::Unspecified | v1::ConfigApply::Reload) => ConfigApply::Reload,
            Ok(v1::ConfigApply::Restart) => ConfigApply::Restart,
            Ok(v1::ConfigApply::None) => ConfigApply::None,
            Err(_) => return Err(Invalid::new("apply", "it must be RELOAD, RESTART or NONE")),
        },
        confirm,
        sensitive,
    })
}

/// As a message.
#[must_use]
pub fn write_config(spec: &ConfigSpec) -> v1::ConfigSpec {
    let ConfigSpec { name, path, mode, check, apply, confirm, sensitive } = spec;
    let apply = match apply {
        ConfigApply::Reload => v1::ConfigApply::Reload,
        ConfigApply::Restart => v1::ConfigApply::Restart,
        ConfigApply::None => v1::ConfigApply::None,
    };
    v1::ConfigSpec {
        name: name.to_string(),
        path: path.clone(),
        mode: if *mode == 0 { String::new() } else { format!("{mode:04o}") },
        check: check.as_ref().map(ToString::to_string).unwrap_or_default(),
        unchecked: check.is_none(),
        apply: apply as i32,
        confirm: Some(write_duration(*confirm)),
        sensitive: *sensitive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::ConfigSpec {
        v1::ConfigSpec {
            name: "settings".into(),
            path: "${etc}/settings.toml".into(),
            mode: "0640".into(),
            check: "settings-check".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_file_comes_back() {
        let read = read_config(message()).unwrap();
        assert_eq!((read.mode, read.apply, read.confirm), (0o640, ConfigApply::Reload, CONFIRM));
        assert_eq!(read_config(write_config(&read)), Ok(read));
        let plain = v1::ConfigSpec {
            check: String::new(),
            unchecked: true,
            apply: v1::ConfigApply::None.into(),
            sensitive: true,
            mode: String::new(),
            ..message()
        };
        let read = read_config(plain).unwrap();
        assert_eq!((&read.check, read.mode), (&None, 0));
        assert_eq!(read_config(write_config(&read)), Ok(read));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |message| read_config(message).unwrap_err().field;
        let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(field(v1::ConfigSpec { name: String::new(), ..message() }), "name");
        for path in ["", "etc/x", "/etc/../x", "/etc/x/"] {
            assert_eq!(field(v1::ConfigSpec { path: path.into(), ..message() }), "path", "{path}");
        }
        for mode in ["4755", "99", "0"] {
            assert_eq!(field(v1::ConfigSpec { mode: mode.into(), ..message() }), "mode", "{mode}");
        }
        assert_eq!(field(v1::ConfigSpec { check: String::new(), ..message() }), "check");
        assert_eq!(field(v1::ConfigSpec { unchecked: true, ..message() }), "unchecked");
        assert_eq!(field(v1::ConfigSpec { apply: 9, ..message() }), "apply");
        assert_eq!(field(v1::ConfigSpec { confirm: span(90_000), ..message() }), "confirm");
    }
}
