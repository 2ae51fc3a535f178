//! Maintenance: how an instance is told that it is worked on.

use quorate_model::maintenance::{LEASE_MAX, LEASE_MIN, MAINTENANCE_PATH_MAX_BYTES};
use quorate_model::{DurationMs, MaintenanceSpec};
use quorate_proto::v1;

use super::Invalid;
use super::text::read_filled;
use super::time::{read_duration, write_duration};

/// How an instance is told that it is worked on.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_maintenance(message: v1::MaintenanceSpec) -> Result<MaintenanceSpec, Invalid> {
    let v1::MaintenanceSpec { file, lease } = message;
    let file = read_filled("file", file, MAINTENANCE_PATH_MAX_BYTES)?;
    let begins = file.starts_with('/') || file.starts_with("${");
    let plain = file.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if !(begins && plain) {
        return Err(Invalid::new("file", "it must be an absolute path without '.', '..' or '//'"));
    }
    let lease = read_duration("lease", lease)?.filter(|lease| *lease != DurationMs::ZERO);
    if lease.is_some_and(|lease| lease < LEASE_MIN || lease > LEASE_MAX) {
        return Err(Invalid::new("lease", "it must be from a second to a week"));
    }
    Ok(MaintenanceSpec { file, lease })
}

/// As a message.
#[must_use]
pub fn write_maintenance(maintenance: &MaintenanceSpec) -> v1::MaintenanceSpec {
    let MaintenanceSpec { file, lease } = maintenance;
    v1::MaintenanceSpec { file: file.clone(), lease: lease.map(write_duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_absolute_path_is_taken() {
        let read = |file: &str| read_maintenance(v1::MaintenanceSpec { file: file.into(), lease: None });
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
            read_maintenance(v1::MaintenanceSpec { file: "/run/app/flag".into(), lease })
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
}
