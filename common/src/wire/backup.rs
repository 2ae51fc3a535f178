//! Backups and log rotation.

use quorate_model::DurationMs;
use quorate_model::backup::{BackupPolicy, BackupReceipt, LogRotation};
use quorate_proto::v1;

use super::Invalid;
use super::invalid::each;
use super::limits::{OUTCOME_TEXT_MAX_BYTES, PATHS_MAX, SPEC_TEXT_MAX_BYTES};
use super::text::{read_filled, read_optional_name, read_text};
use super::time::{read_duration_or, write_duration};

/// Longest pause when the message says none (proto).
const PAUSE_LIMIT: DurationMs = DurationMs::from_secs(300);
/// zstd level when the message says none (proto).
const LEVEL: u32 = 3;
/// Rotated files to keep when the message says none (proto).
const KEEP: u32 = 30;
/// Most rotated files to keep: ten years of daily ones.
const KEEP_MAX: u32 = 3_660;

pub(super) fn read_path(path: String) -> Result<String, Invalid> {
    let path = read_filled("", path, SPEC_TEXT_MAX_BYTES)?;
    if !path.starts_with('/') && !path.starts_with("${") {
        return Err(Invalid::new("", "it must be absolute, or begin with a ${…} variable"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(Invalid::new("", "it must not hold '..'"));
    }
    Ok(path)
}

fn read_pattern(pattern: String) -> Result<String, Invalid> {
    let pattern = read_filled("", pattern, SPEC_TEXT_MAX_BYTES)?;
    if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        return Err(Invalid::new("", "it must be relative and without '..'"));
    }
    Ok(pattern)
}

/// How to back an instance up.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_policy(message: v1::BackupPolicy) -> Result<BackupPolicy, Invalid> {
    let v1::BackupPolicy { paths, exclude, pause_hook, resume_hook, pause_limit, level } = message;
    if paths.is_empty() {
        return Err(Invalid::missing("paths"));
    }
    let pause = read_optional_name("pause_hook", pause_hook)?;
    let resume = read_optional_name("resume_hook", resume_hook)?;
    if pause.is_some() && resume.is_none() {
        return Err(Invalid::new("resume_hook", "a pause without its undo would leave writes paused"));
    }
    if level > 19 {
        return Err(Invalid::new("level", "it must be 1 to 19"));
    }
    Ok(BackupPolicy {
        paths: each("paths", paths, PATHS_MAX, read_path)?,
        exclude: each("exclude", exclude, PATHS_MAX, read_pattern)?,
        pause,
        resume,
        pause_limit: read_duration_or("pause_limit", pause_limit, PAUSE_LIMIT)?,
        level: if level == 0 { LEVEL } else { level },
    })
}

/// As a message.
#[must_use]
pub fn write_policy(policy: &BackupPolicy) -> v1::BackupPolicy {
    let BackupPolicy { paths, exclude, pause, resume, pause_limit, level } = policy;
    let hook = |name: &Option<quorate_model::HookName>| name.as_ref().map_or("", |n| n.as_str()).to_owned();
    v1::BackupPolicy {
        paths: paths.clone(),
        exclude: exclude.clone(),
        pause_hook: hook(pause),
        resume_hook: hook(resume),
        pause_limit: Some(write_duration(*pause_limit)),
        level: *level,
    }
}

/// How to rotate logs.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_rotation(message: v1::LogRotation) -> Result<LogRotation, Invalid> {
    let v1::LogRotation {
        paths,
        size_bytes,
        age,
        keep,
        compress,
        delay_compress,
        copy_truncate,
        rotate_empty,
        missing_ok,
        create_mode,
        create_owner,
        reload,
    } = message;
    if paths.is_empty() {
        return Err(Invalid::missing("paths"));
    }
    if keep > KEEP_MAX {
        return Err(Invalid::new("keep", format!("it must be at most {KEEP_MAX}")));
    }
    Ok(LogRotation {
        paths: each("paths", paths, PATHS_MAX, read_path)?,
        size_bytes,
        age: read_duration_or("age", age, DurationMs::ZERO)?,
        keep: if keep == 0 { KEEP } else { keep },
        compress,
        delay_compress,
        copy_truncate,
        rotate_empty,
        missing_ok,
        create_mode: read_mode("create_mode", &create_mode)?,
        create_owner: read_owner("create_owner", create_owner)?,
        reload,
    })
}

pub(super) fn read_mode(field: &str, text: &str) -> Result<u32, Invalid> {
    if text.is_empty() {
        return Ok(0);
    }
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| (1..=0o777).contains(mode));
    // from_str_radix takes a sign; a mode has none.
    mode.filter(|_| text.len() <= 4 && !text.starts_with('+'))
        .ok_or_else(|| Invalid::new(field, "it must be an octal mode of 0001 to 0777, for example 0644"))
}

fn read_owner(field: &str, text: String) -> Result<String, Invalid> {
    let fits = |part: &str| {
        (1..=32).contains(&part.len())
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'$'))
    };
    let good = text.is_empty() || text.split_once(':').is_some_and(|(user, group)| fits(user) && fits(group));
    if good { Ok(text) } else { Err(Invalid::new(field, "it must be user:group")) }
}

/// As a message.
#[must_use]
pub fn write_rotation(rotation: &LogRotation) -> v1::LogRotation {
    let LogRotation {
        paths,
        size_bytes,
        age,
        keep,
        compress,
        delay_compress,
        copy_truncate,
        rotate_empty,
        missing_ok,
        create_mode,
        create_owner,
        reload,
    } = rotation;
    v1::LogRotation {
        paths: paths.clone(),
        size_bytes: *size_bytes,
        age: Some(write_duration(*age)),
        keep: *keep,
        compress: *compress,
        delay_compress: *delay_compress,
        copy_truncate: *copy_truncate,
        rotate_empty: *rotate_empty,
        missing_ok: *missing_ok,
        create_mode: if *create_mode == 0 { String::new() } else { format!("{create_mode:04o}") },
        create_owner: create_owner.clone(),
        reload: *reload,
    }
}

/// What a backup stored.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_receipt(message: v1::BackupReceipt) -> Result<BackupReceipt, Invalid> {
    let v1::BackupReceipt { path, size_bytes, sha256, manifest_sha256, files, content_bytes, paused, took } =
        message;
    Ok(BackupReceipt {
        path: read_text("path", path, OUTCOME_TEXT_MAX_BYTES)?,
        size_bytes,
        sha256: read_sha256("sha256", sha256)?,
        manifest_sha256: read_sha256("manifest_sha256", manifest_sha256)?,
        files,
        content_bytes,
        paused: read_duration_or("paused", paused, DurationMs::ZERO)?,
        took: read_duration_or("took", took, DurationMs::ZERO)?,
    })
}

/// As a message.
#[must_use]
pub fn write_receipt(receipt: &BackupReceipt) -> v1::BackupReceipt {
    let BackupReceipt { path, size_bytes, sha256, manifest_sha256, files, content_bytes, paused, took } =
        receipt;
    v1::BackupReceipt {
        path: path.clone(),
        size_bytes: *size_bytes,
        sha256: sha256.clone(),
        manifest_sha256: manifest_sha256.clone(),
        files: *files,
        content_bytes: *content_bytes,
        paused: Some(write_duration(*paused)),
        took: Some(write_duration(*took)),
    }
}

/// A sha256 in lower-case hex, or empty for none.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn read_sha256(field: &str, text: String) -> Result<String, Invalid> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.is_empty() || (text.len() == 64 && text.bytes().all(hex)) {
        Ok(text)
    } else {
        Err(Invalid::new(field, "it is not 64 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(paths: &[&str]) -> v1::BackupPolicy {
        v1::BackupPolicy { paths: paths.iter().map(|p| (*p).to_owned()).collect(), ..Default::default() }
    }

    #[test]
    fn policies_and_rotations_come_back() {
        let message = v1::BackupPolicy {
            exclude: vec!["*.tmp".into()],
            pause_hook: "pause-writes".into(),
            resume_hook: "resume-writes".into(),
            ..policy(&["/var/lib/ledger", "${data}/x"])
        };
        let read = read_policy(message).unwrap();
        assert_eq!((read.level, read.pause_limit), (LEVEL, PAUSE_LIMIT));
        assert_eq!(read_policy(write_policy(&read)), Ok(read));

        let message = v1::LogRotation {
            paths: vec!["/var/log/*.log".into()],
            create_mode: "0640".into(),
            create_owner: "scribe:adm".into(),
            ..Default::default()
        };
        let read = read_rotation(message).unwrap();
        assert_eq!((read.keep, read.create_mode), (KEEP, 0o640));
        assert_eq!(read_rotation(write_rotation(&read)), Ok(read));
    }

    #[test]
    fn paths_that_climb_and_pauses_without_undo_are_refused() {
        let field = |message| read_policy(message).unwrap_err().field;
        assert_eq!(field(policy(&[])), "paths");
        assert_eq!(field(policy(&["/a", "etc/passwd"])), "paths[1]");
        assert_eq!(field(policy(&["/a/../../etc"])), "paths[0]");
        assert_eq!(field(policy(&["/a\0"])), "paths[0]");
        assert_eq!(field(v1::BackupPolicy { pause_hook: "p".into(), ..policy(&["/a"]) }), "resume_hook");
        assert_eq!(field(v1::BackupPolicy { level: 20, ..policy(&["/a"]) }), "level");
        for mode in ["+644", "9", "01000", "0", "-1", "0x1ff"] {
            assert!(read_mode("m", mode).is_err(), "{mode}");
        }
        for owner in ["root", "a:b:c", ":", "-r:x", "a b:c"] {
            assert!(read_owner("o", owner.into()).is_err(), "{owner}");
        }
        assert!(read_sha256("h", "ABC".into()).is_err());
    }
}
