//! Pages: a size with a limit, and a token that names where the next page begins.
//!
//! The token carries the key of the last thing shown, not a position: things that come and go between two pages are neither
//! shown twice nor skipped.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_common::wire::Invalid;
use quorate_common::wire::limits::{PAGE_MAX, PAGE_TOKEN_MAX_BYTES};

/// A request for a page, checked.
pub(crate) struct Page {
    size: usize,
    after: Option<String>,
}

impl Page {
    /// Reads `page_size` and `page_token`.
    pub(crate) fn read(size: u32, token: &str, default: u32) -> Result<Self, Invalid> {
        if size > PAGE_MAX {
            return Err(Invalid::new("page_size", format!("it must be at most {PAGE_MAX}")));
        }
        let bad = || Invalid::new("page_token", "it is not a token of this call");
        if token.len() > PAGE_TOKEN_MAX_BYTES {
            return Err(bad());
        }
        let after = if token.is_empty() {
            None
        } else {
            let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
            Some(String::from_utf8(bytes).map_err(|_| bad())?)
        };
        let size = if size == 0 { default } else { size };
        Ok(Self { size: usize::try_from(size).unwrap_or(usize::MAX), after })
    }

    /// Cuts one page out of things in the order of their keys; gives it with the next token.
    pub(crate) fn cut<T>(
        &self,
        things: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, String) {
        let after = self.after.as_deref();
        let mut page: Vec<T> =
            things.filter(|t| after.is_none_or(|a| key(t).as_str() > a)).take(self.size + 1).collect();
        if page.len() <= self.size {
            return (page, String::new());
        }
        page.truncate(self.size);
        let next = page.last().map(|last| URL_SAFE_NO_PAD.encode(key(last))).unwrap_or_default();
        (page, next)
    }
}

/// A key that sorts the newest first, and things of one moment by their id.
pub(crate) fn newest_first(at: i64, id: &str) -> String {
    format!("{:020}{id}", i128::from(i64::MAX) - i128::from(at.max(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_everything_once() {
        let names: Vec<String> = (0..25).map(|n| format!("node{n:02}")).collect();
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = Page::read(10, &token, 200).unwrap();
            let (part, next) = page.cut(names.iter().cloned(), Clone::clone);
            seen.extend(part);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, names);
    }

    #[test]
    fn hostile_tokens_and_sizes_are_refused_by_name() {
        assert_eq!(Page::read(1_001, "", 200).err().unwrap().field, "page_size");
        for token in ["!!!", "/w==", "_w", &"a".repeat(300)] {
            assert_eq!(Page::read(1, token, 200).err().unwrap().field, "page_token", "{token}");
        }
    }

    #[test]
    fn the_newest_sorts_first() {
        assert!(newest_first(10, "a") < newest_first(9, "a"));
        assert!(newest_first(10, "a") < newest_first(10, "b"));
    }
}
