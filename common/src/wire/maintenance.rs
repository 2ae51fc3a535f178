//! Maintenance: how an instance is told that it is worked on.

use quorate_model::alert::AlertMatcher;
use quorate_model::maintenance::{LEASE_MAX, LEASE_MIN, MAINTENANCE_PATH_MAX_BYTES};
use quorate_model::{DurationMs, MaintenanceSpec, SilenceSpec};
use quorate_proto::v1;

use super::Invalid;
use super::probe::{read_alertmanager, read_matchers};
use super::text::read_filled;
use super::time::{read_duration, write_duration};

/// Alertmanager's own rule: nobody silences everything by what an alert is not.
const NOT_POSITIVE: &str = "one of them must not be met by an alert without the label";

/// How an instance is told that it is worked on.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_maintenance(message: v1::MaintenanceSpec) -> Result<MaintenanceSpec, Invalid> {
    let v1::MaintenanceSpec { file, lease, silence } = message;
    let silence = silence.map(read_silence).transpose().map_err(|i| i.within("silence"))?;
    let file = match (file.is_empty(), &silence) {
        (true, Some(_)) => file,
        (true, None) => return Err(Invalid::new("file", "a file, a silence or both are needed")),
        (false, _) => read_file(file)?,
    };
    let lease = read_duration("lease", lease)?.filter(|lease| *lease != DurationMs::ZERO);
    if lease.is_some_and(|lease| lease < LEASE_MIN || lease > LEASE_MAX) {
        return Err(Invalid::new("lease", "it must be from a second to a week"));
    }
    Ok(MaintenanceSpec { file, silence, lease })
}

fn read_file(file: String) -> Result<String, Invalid> {
    let file = read_filled("file", file, MAINTENANCE_PATH_MAX_BYTES)?;
    let begins = file.starts_with('/') || file.starts_with("${");
    let plain = file.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if !(begins && plain) {
        return Err(Invalid::new("file", "it must be an absolute path without '.', '..' or '//'"));
    }
    Ok(file)
}

fn read_silence(message: v1::SilenceSpec) -> Result<SilenceSpec, Invalid> {
    let v1::SilenceSpec { url, matchers, required } = message;
    let (url, matchers) = (read_alertmanager(url)?, read_matchers(matchers)?);
    if !matchers.iter().any(AlertMatcher::is_positive) {
        return Err(Invalid::new("matchers", NOT_POSITIVE));
    }
    Ok(SilenceSpec { url, matchers, required })
}

/// As a message.
#[must_use]
pub fn write_maintenance(maintenance: &MaintenanceSpec) -> v1::MaintenanceSpec {
    let MaintenanceSpec { file, silence, lease } = maintenance;
    let silence = silence.as_ref().map(write_silence);
    v1::MaintenanceSpec { file: file.clone(), lease: lease.map(write_duration), silence }
}

fn write_silence(silence: &SilenceSpec) -> v1::SilenceSpec {
    let SilenceSpec { url, matchers, required } = silence;
    let matchers = matchers.iter().map(ToString::to_string).collect();
    v1::SilenceSpec { url: url.clone(), matchers, required: *required }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_absolute_path_is_taken() {
        let read =
            |file: &str| read_maintenance(v1::MaintenanceSpec { file: file.into(), ..Default::default() });
        for good in ["/run/app/maintenance", "${dir}/maintenance", "/srv/${node}/flag"] {
            let spec = read(good).unwrap();
            assert_eq!(read_maintenance(write_maintenance(&spec)), Ok(spec), "{good}");
        }
        for bad in ["", "flag", "/", "/run/../etc/x", "/run//x", "/run/x/", "/run/./x"] {
            assert_eq!(read(bad).unwrap_err().field, "file", "{bad:?}");
        }
    }

    #[test]
    fn a_lease_is_a_second_to_a_week() {
        let read = |ms: u64| {
            let lease = Some(write_duration(DurationMs(ms)));
            read_maintenance(v1::MaintenanceSpec { file: "/run/app/flag".into(), lease, silence: None })
        };
        for (ms, wanted) in [(0, None), (1_000, Some(LEASE_MIN)), (604_800_000, Some(LEASE_MAX))] {
            let spec = read(ms).unwrap();
            assert_eq!(spec.lease, wanted);
            assert_eq!(read_maintenance(write_maintenance(&spec)), Ok(spec), "{ms}");
        }
        for ms in [999, 604_800_001] {
            assert_eq!(read(ms).unwrap_err().field, "lease", "{ms}");
        }
    }

    #[test]
    fn a_silence_names_its_alerts() {
        let read = |matchers: &[&str]| {
            let matchers = matchers.iter().map(|m| (*m).to_owned()).collect();
            let silence = v1::SilenceSpec { url: "http://127.0.0.1:9093".into(), matchers, required: true };
            read_maintenance(v1::MaintenanceSpec { silence: Some(silence), ..Default::default() })
        };
        let spec = read(&["instance=~\"${node}:.*\"", "severity!=none"]).unwrap();
        assert_eq!(read_maintenance(write_maintenance(&spec)), Ok(spec.clone()));
        assert!(spec.silence.is_some_and(|silence| silence.required && silence.matchers.len() == 2));
        // Each of these would silence whatever fires.
        for all in [&[][..], &["severity!=none"], &["a=\"\""], &["a=~\".*\""], &["a!~b"]] {
            assert_eq!(read(all).unwrap_err().field, "silence.matchers", "{all:?}");
        }
        let url = |url: &str| {
            let silence = v1::SilenceSpec { url: url.into(), matchers: vec!["a=b".into()], required: false };
            read_maintenance(v1::MaintenanceSpec { silence: Some(silence), ..Default::default() })
        };
        assert!(url("http://alerts:9093/below").is_ok());
        for bad in ["", "https://alerts:9093", "http://alerts?x=1", "alerts:9093"] {
            assert_eq!(url(bad).unwrap_err().field, "silence.url", "{bad:?}");
        }
    }
}
