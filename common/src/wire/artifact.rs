//! Artifacts: what a caller says of one, and parts of their bytes.

use quorate_model::artifact::{FILE_NAME_MAX_BYTES, SIGNATURE_MAX_BYTES};
use quorate_model::{ArtifactSpec, Digest};

use super::Invalid;
use super::text::{is_deceptive, read_filled, read_name};

/// A digest that must be there.
///
/// # Errors
/// [`Invalid`] for anything but 64 lower-case hex digits.
pub fn read_digest(field: &str, text: String) -> Result<Digest, Invalid> {
    if text.is_empty() {
        return Err(Invalid::missing(field));
    }
    read_name(field, text)
}

/// What a caller says of an artifact.
///
/// # Errors
/// [`Invalid`] of the first field that is wrong.
pub fn read_spec(
    digest: String,
    size: u64,
    file_name: String,
    signature: String,
) -> Result<ArtifactSpec, Invalid> {
    let spec = ArtifactSpec {
        digest: read_digest("digest", digest)?,
        size,
        file_name: read_filled("file_name", file_name, FILE_NAME_MAX_BYTES)?,
        signature: read_signature(signature)?,
    };
    spec.check().map_err(|invalid| Invalid::new(invalid.field, invalid.why))?;
    Ok(spec)
}

/// Several lines; empty for none.
fn read_signature(text: String) -> Result<Option<String>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > SIGNATURE_MAX_BYTES {
        let why = format!("{} bytes, {SIGNATURE_MAX_BYTES} is the limit", text.len());
        return Err(Invalid::new("signature", why));
    }
    if text.chars().any(|c| c != '\n' && is_deceptive(c)) {
        return Err(Invalid::new("signature", "it holds a control or text direction character"));
    }
    Ok(Some(text))
}

/// How many bytes are asked for: 0 means as many as may be.
///
/// # Errors
/// [`Invalid`] beyond `max`.
pub fn read_limit(field: &str, limit: u32, max: u32) -> Result<u32, Invalid> {
    match limit {
        0 => Ok(max),
        limit if limit > max => Err(Invalid::new(field, format!("it must be at most {max}"))),
        limit => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(digest: &str, size: u64, name: &str, signature: &str) -> String {
        read_spec(digest.into(), size, name.into(), signature.into()).unwrap_err().field
    }

    #[test]
    fn hostile_specs_are_refused_and_the_field_is_named() {
        let good = "0f".repeat(32);
        for digest in ["", "0f", "../../etc/passwd", &"0F".repeat(32), &format!("{good}\n")] {
            assert_eq!(field(digest, 1, "a", ""), "digest", "{digest:?}");
        }
        for name in ["", "..", "a/b", "a\n", "\u{202e}gpj.exe", &"x".repeat(129)] {
            assert_eq!(field(&good, 1, name, ""), "file_name", "{name:?}");
        }
        for text in ["\u{1b}[31m", "a\tb", "\u{202e}", &"x".repeat(4_097)] {
            assert_eq!(field(&good, 1, "a", text), "signature", "{text:?}");
        }
        assert_eq!(field(&good, 0, "a", ""), "size");
        assert_eq!(field(&good, u64::MAX, "a", ""), "size");
    }

    #[test]
    fn a_good_one_comes_through() {
        let signature = "untrusted comment: signature\nRUQ=\ntrusted comment: x\nabc=\n";
        let spec = read_spec("0f".repeat(32), 7, "ledger.tar".into(), signature.into()).unwrap();
        assert_eq!((spec.size, spec.signature.as_deref()), (7, Some(signature)));
        assert_eq!(read_spec("0f".repeat(32), 7, "x".into(), String::new()).unwrap().signature, None);
    }

    #[test]
    fn a_limit_has_a_limit() {
        assert_eq!((read_limit("limit", 0, 9), read_limit("limit", 4, 9)), (Ok(9), Ok(4)));
        assert_eq!(read_limit("limit", 10, 9).unwrap_err().field, "limit");
    }
}
