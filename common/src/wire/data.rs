//! The folders of an instance's data.

use quorate_model::DataSpec;
use quorate_model::data::{DATA_PATH_MAX_BYTES, DATA_PATHS_MAX};
use quorate_proto::v1;

use super::Invalid;
use super::invalid::each;
use super::text::read_text;

/// Where an instance keeps what the other members can give it again.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_data(message: v1::ServiceData) -> Result<DataSpec, Invalid> {
    let v1::ServiceData { paths } = message;
    Ok(DataSpec { paths: read_paths("paths", paths)? })
}

/// As a message.
#[must_use]
pub fn write_data(data: &DataSpec) -> v1::ServiceData {
    let DataSpec { paths } = data;
    v1::ServiceData { paths: paths.clone() }
}

/// One folder at least.
pub(super) fn read_paths(field: &str, paths: Vec<String>) -> Result<Vec<String>, Invalid> {
    let paths = each(field, paths, DATA_PATHS_MAX, |path| match read_text("", path, DATA_PATH_MAX_BYTES)? {
        empty if empty.is_empty() => Err(Invalid::new("", "it is empty")),
        path => Ok(path),
    })?;
    if paths.is_empty() { Err(Invalid::missing(field)) } else { Ok(paths) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_there_and_back_and_what_is_refused() {
        let message = v1::ServiceData { paths: vec!["${data}/store".into(), "/srv/wal".into()] };
        assert_eq!(write_data(&read_data(message.clone()).unwrap()), message);
        let field = |paths: Vec<String>| read_data(v1::ServiceData { paths }).unwrap_err().field;
        assert_eq!(field(Vec::new()), "paths");
        assert_eq!(field(vec!["/a".into(), String::new()]), "paths[1]");
        assert_eq!(field(vec!["x".repeat(DATA_PATH_MAX_BYTES + 1)]), "paths[0]");
        assert_eq!(field(vec!["/a".into(); DATA_PATHS_MAX + 1]), "paths");
    }
}
