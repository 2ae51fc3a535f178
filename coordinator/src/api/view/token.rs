//! Enrolment tokens, without their secrets: the state holds only a hash, and even that is not shown.

use quorate_common::wire::time::write_timestamp;
use quorate_core::state::{Token, TokenPurpose};
use quorate_proto::v1;

/// What is kept of a token.
pub(crate) fn token(token: &Token) -> v1::EnrollmentToken {
    let Token { id, secret_sha256: _, purpose, created_by, created_at: _, expires_at, used_by, revoked_at } =
        token;
    let (kind, name, labels, access_role) = match purpose {
        TokenPurpose::Agent { node, labels } => (
            v1::TokenPurpose::Agent,
            node.as_ref().map(|n| n.as_str().to_owned()).unwrap_or_default(),
            labels.clone(),
            String::new(),
        ),
        TokenPurpose::Coordinator => {
            (v1::TokenPurpose::Coordinator, String::new(), Default::default(), String::new())
        }
        TokenPurpose::User { name, access } => {
            (v1::TokenPurpose::User, name.as_str().to_owned(), Default::default(), access.as_str().to_owned())
        }
    };
    v1::EnrollmentToken {
        token_id: id.as_str().to_owned(),
        purpose: kind as i32,
        name,
        labels,
        expires: write_timestamp(*expires_at),
        used_by: used_by.as_ref().map(|used| used.principal.to_string()).unwrap_or_default(),
        created_by: created_by.to_string(),
        revoked: revoked_at.is_some(),
        access_role,
    }
}
