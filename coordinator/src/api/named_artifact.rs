//! The artifact that a caller names: by its sha256, or by as much of the beginning as names one.

use quorate_core::State;
use quorate_model::{Digest, Reason, Refusal};

/// What is known of an artifact that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its sha256.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its signature as text; empty when it has none.
    pub(super) signature: String,
}

/// The artifact with this digest, or the only one whose digest begins so.
///
/// # Errors
/// It is no part of a digest, there is none, or more than one begins so.
pub(super) fn artifact(state: &State, text: &str) -> Result<Found, Refusal> {
    let plain =
        (8..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !plain {
        let what = "expected a sha256 in lower-case hex, or 8 of its digits at least";
        return Err(Refusal::new(Reason::InvalidArgument, what));
    }
    let mut begun = state.artifacts.values().filter(|found| found.spec.digest.as_str().starts_with(text));
    match (begun.next(), begun.next()) {
        (Some(found), None) => Ok(Found {
            digest: found.spec.digest.clone(),
            size: found.spec.size,
            signature: found.spec.signature.clone().unwrap_or_default(),
        }),
        (Some(one), Some(other)) => Err(Refusal::new(
            Reason::InvalidArgument,
            format!("{text} begins both {} and {}", one.spec.digest, other.spec.digest),
        )),
        (None, _) => Err(Refusal::new(Reason::NotFound, format!("there is no artifact {text}"))
            .with_hint("quorate artifact push FILE")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_core::state::Artifact;
    use quorate_model::{ArtifactSpec, Principal, Revision, Timestamp};

    use super::*;

    fn with(digests: &[&str]) -> State {
        let mut state = State::default();
        for digest in digests {
            let digest = Digest::new(*digest).unwrap();
            let spec =
                ArtifactSpec { digest: digest.clone(), size: 7, file_name: "ledger".into(), signature: None };
            let kept = Artifact {
                spec,
                created_by: Principal::System,
                created_at: Timestamp(1),
                revision: Revision(1),
                holders: BTreeSet::new(),
            };
            state.artifacts.insert(digest, kept);
        }
        state
    }

    #[test]
    fn what_names_no_artifact_is_told_apart_from_what_cannot() {
        let reason = |text: &str| artifact(&State::default(), text).unwrap_err().reason();
        for bad in ["", "abc", "1.1.0", "ABCDEF00", &"a".repeat(65)] {
            assert_eq!(reason(bad), Reason::InvalidArgument, "{bad}");
        }
        assert_eq!(reason("deadbeef"), Reason::NotFound);
        assert_eq!(reason(&"a".repeat(64)), Reason::NotFound);
    }

    #[test]
    fn a_beginning_names_one_or_is_refused() {
        let (one, other) = ("a".repeat(64), format!("{}b", "a".repeat(63)));
        let state = with(&[&one, &other]);
        assert_eq!(artifact(&state, &one).unwrap().digest.as_str(), one);
        assert_eq!(artifact(&state, "aaaaaaaa").unwrap_err().reason(), Reason::InvalidArgument);
        let state = with(&[&one]);
        assert_eq!(artifact(&state, "aaaaaaaa").unwrap().size, 7);
    }
}
