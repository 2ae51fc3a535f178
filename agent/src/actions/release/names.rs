//! Which names of an archive's members are plain enough to be laid out. Pure.

/// Deepest member.
const DEPTH_MAX: usize = 64;
/// Longest path of a member.
const PATH_MAX_BYTES: usize = 4096;
/// Longest name.
const NAME_MAX_BYTES: usize = 255;

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) &'static str);

/// A member's path as it is laid out: relative, no steps back, no surprises in a listing.
pub(super) fn plain(raw: &[u8]) -> Result<String, Unfit> {
    let text = std::str::from_utf8(raw).map_err(|_| Unfit("a name that is not UTF-8"))?;
    if text.len() > PATH_MAX_BYTES || text.chars().any(char::is_control) {
        return Err(Unfit("a path that is too long or holds control characters"));
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    if text == "." {
        return Ok(String::new());
    }
    let text = text.strip_prefix("./").unwrap_or(text);
    if text.starts_with('/') {
        return Err(Unfit("an absolute path"));
    }
    for name in text.split('/') {
        match name {
            "" | "." => return Err(Unfit("a path with an empty part")),
            ".." => return Err(Unfit("a path that leads out of the archive")),
            name if name.len() > NAME_MAX_BYTES => return Err(Unfit("a name that is too long")),
            _ => {}
        }
    }
    if text.split('/').count() > DEPTH_MAX {
        return Err(Unfit("deeper than 64 folders"));
    }
    Ok(text.to_owned())
}

/// Where a symbolic link points, if that stays inside. Steps back come first and start from a real folder, so what other links
/// lie on the way can not turn them into a way out.
pub(super) fn inside(path: &str, target: &[u8]) -> Result<String, Unfit> {
    let text = std::str::from_utf8(target).map_err(|_| Unfit("a link to a name that is not UTF-8"))?;
    if text.is_empty() || text.len() > PATH_MAX_BYTES || text.chars().any(char::is_control) {
        return Err(Unfit("a link to nothing that can be named"));
    }
    if text.starts_with('/') {
        return Err(Unfit("a link to an absolute path"));
    }
    let mut above = path.matches('/').count();
    let mut forward = false;
    for name in text.trim_end_matches('/').split('/') {
        match name {
            ".." if forward => return Err(Unfit("a link that steps back after a step forward")),
            ".." => above = above.checked_sub(1).ok_or(Unfit("a link that leads out of the archive"))?,
            "" | "." => return Err(Unfit("a link with an empty part")),
            _ => forward = true,
        }
    }
    Ok(text.to_owned())
}
