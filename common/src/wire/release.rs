//! Releases: what is installed, and how.

use quorate_model::release::{ARTIFACT_MAX_BYTES, SIGNATURE_MAX_BYTES};
use quorate_model::{Install, Release, ReleaseReceipt};
use quorate_proto::v1;

use super::backup::read_sha256;
use super::limits::{OUTCOME_TEXT_MAX_BYTES, SPEC_TEXT_MAX_BYTES};
use super::text::{read_filled, read_name, read_text};
use super::{Invalid, config};

/// How a service's program comes onto a host.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_install(message: v1::Install) -> Result<Install, Invalid> {
    use v1::install::Kind;
    let v1::Install { kind } = message;
    Ok(match kind.ok_or_else(|| Invalid::missing("kind"))? {
        Kind::Binary(v1::BinaryInstall { dir, file }) => {
            Install::Binary { dir: read_dir("binary.dir", dir)?, file: read_file_name("binary.file", file)? }
        }
        Kind::Archive(v1::ArchiveInstall { dir }) => Install::Archive { dir: read_dir("archive.dir", dir)? },
        Kind::Package(v1::PackageInstall { package }) => {
            Install::Package { package: read_package("package.package", package)? }
        }
        Kind::Config(file) => Install::Config(config::read_config(file).map_err(|i| i.within("config"))?),
    })
}

/// An absolute directory, or one that begins with a variable.
fn read_dir(field: &str, dir: String) -> Result<String, Invalid> {
    let dir = read_filled(field, dir, SPEC_TEXT_MAX_BYTES)?;
    if !dir.starts_with('/') && !dir.starts_with("${") {
        return Err(Invalid::new(field, "it must be an absolute path"));
    }
    if dir.split('/').any(|part| part == "..") {
        return Err(Invalid::new(field, "it must not contain '..'"));
    }
    Ok(dir)
}

/// A file name that stays one: no separator, no `.` or `..`.
fn read_file_name(field: &str, name: String) -> Result<String, Invalid> {
    let name = read_filled(field, name, 128)?;
    if name.contains('/') || name.starts_with('.') {
        return Err(Invalid::new(field, "it must be a plain file name that does not begin with '.'"));
    }
    Ok(name)
}

/// A Debian package's name (Debian Policy 5.6.1): lower-case letters, digits, `+`, `-`, `.`; at least two characters.
fn read_package(field: &str, name: String) -> Result<String, Invalid> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
    let begins = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = (2..=128).contains(&name.len())
        && name.bytes().all(fits)
        && name.as_bytes().first().is_some_and(begins);
    if good { Ok(name) } else { Err(Invalid::new(field, "it is not a package's name")) }
}

/// As a message.
#[must_use]
pub fn write_install(install: &Install) -> v1::Install {
    use v1::install::Kind;
    let kind = match install {
        Install::Binary { dir, file } => {
            Kind::Binary(v1::BinaryInstall { dir: dir.clone(), file: file.clone() })
        }
        Install::Archive { dir } => Kind::Archive(v1::ArchiveInstall { dir: dir.clone() }),
        Install::Package { package } => Kind::Package(v1::PackageInstall { package: package.clone() }),
        Install::Config(file) => Kind::Config(config::write_config(file)),
    };
    v1::Install { kind: Some(kind) }
}

/// A minisign signature's text, or nothing: its lines, and no character that could deceive a reader.
///
/// # Errors
/// [`Invalid`] when it is too long or no text.
pub fn read_signature(field: &str, text: String) -> Result<String, Invalid> {
    if text.len() > SIGNATURE_MAX_BYTES {
        return Err(Invalid::new(field, format!("it is longer than {SIGNATURE_MAX_BYTES} bytes")));
    }
    for line in text.lines() {
        read_text(field, line.to_owned(), SIGNATURE_MAX_BYTES)?;
    }
    Ok(text)
}

/// The immutable thing to install.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_release(message: v1::Release) -> Result<Release, Invalid> {
    let v1::Release { version, artifact, size, signature, install } = message;
    if !(1..=ARTIFACT_MAX_BYTES).contains(&size) {
        return Err(Invalid::new("size", format!("it must be from 1 to {ARTIFACT_MAX_BYTES}")));
    }
    let install = install.ok_or_else(|| Invalid::missing("install"))?;
    Ok(Release {
        version: read_name("version", version)?,
        artifact: read_name("artifact", artifact)?,
        size,
        signature: read_signature("signature", signature)?,
        install: read_install(install).map_err(|i| i.within("install"))?,
    })
}

/// As a message.
#[must_use]
pub fn write_release(release: &Release) -> v1::Release {
    let Release { version, artifact, size, signature, install } = release;
    v1::Release {
        version: version.to_string(),
        artifact: artifact.to_string(),
        size: *size,
        signature: signature.clone(),
        install: Some(write_install(install)),
    }
}

/// What a host tells of a release.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_receipt(message: v1::ReleaseReceipt) -> Result<ReleaseReceipt, Invalid> {
    let v1::ReleaseReceipt { version, artifact, previous, signed_by, replaces } = message;
    Ok(ReleaseReceipt {
        version: read_text("version", version, OUTCOME_TEXT_MAX_BYTES)?,
        artifact: read_sha256("artifact", artifact)?,
        previous: read_text("previous", previous, OUTCOME_TEXT_MAX_BYTES)?,
        signed_by: read_text("signed_by", signed_by, OUTCOME_TEXT_MAX_BYTES)?,
        replaces: read_sha256("replaces", replaces)?,
    })
}

/// As a message.
#[must_use]
pub fn write_receipt(receipt: &ReleaseReceipt) -> v1::ReleaseReceipt {
    let ReleaseReceipt { version, artifact, previous, signed_by, replaces } = receipt;
    v1::ReleaseReceipt {
        version: version.clone(),
        artifact: artifact.clone(),
        previous: previous.clone(),
        signed_by: signed_by.clone(),
        replaces: replaces.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::Release {
        let kind =
            v1::install::Kind::Binary(v1::BinaryInstall { dir: "/opt/ledger".into(), file: "ledger".into() });
        v1::Release {
            version: "2:1.1.0-1+deb12u1~rc".into(),
            artifact: "0a".repeat(32),
            size: 7,
            signature: "untrusted comment: x\nRUQ=\n".into(),
            install: Some(v1::Install { kind: Some(kind) }),
        }
    }

    #[test]
    fn a_release_comes_back() {
        let release = read_release(message()).unwrap();
        assert_eq!(read_release(write_release(&release)), Ok(release));
        for kind in [
            v1::install::Kind::Archive(v1::ArchiveInstall { dir: "${dir}/app".into() }),
            v1::install::Kind::Package(v1::PackageInstall { package: "libstdc++6".into() }),
        ] {
            let install = read_install(v1::Install { kind: Some(kind) }).unwrap();
            assert_eq!(read_install(write_install(&install)), Ok(install));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |message| read_release(message).unwrap_err().field;
        assert_eq!(field(v1::Release { version: "../../etc".into(), ..message() }), "version");
        assert_eq!(field(v1::Release { version: "1..2".into(), ..message() }), "version");
        assert_eq!(field(v1::Release { artifact: "0A".repeat(32), ..message() }), "artifact");
        assert_eq!(field(v1::Release { size: 0, ..message() }), "size");
        assert_eq!(field(v1::Release { size: ARTIFACT_MAX_BYTES + 1, ..message() }), "size");
        assert_eq!(field(v1::Release { signature: "x".repeat(1025), ..message() }), "signature");
        assert_eq!(field(v1::Release { signature: "\u{1b}[2J".into(), ..message() }), "signature");
        assert_eq!(field(v1::Release { install: None, ..message() }), "install");
        let binary = |dir: &str, file: &str| {
            let kind = v1::install::Kind::Binary(v1::BinaryInstall { dir: dir.into(), file: file.into() });
            field(v1::Release { install: Some(v1::Install { kind: Some(kind) }), ..message() })
        };
        for dir in ["", "opt", "/opt/../etc"] {
            assert_eq!(binary(dir, "ledger"), "install.binary.dir", "{dir}");
        }
        for file in ["", ".", "..", "a/b", ".hidden"] {
            assert_eq!(binary("/opt", file), "install.binary.file", "{file}");
        }
        for package in ["", "a", "-rf", "A", "a b", "a=1", "a/b"] {
            assert!(read_package("p", package.into()).is_err(), "{package}");
        }
    }
}
