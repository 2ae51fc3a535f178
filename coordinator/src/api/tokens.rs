//! Enrolment tokens: made here, with the secret shown once and never stored.

use quorate_common::tls::{Address, JoinToken, Secret};
use quorate_common::wire::Invalid;
use quorate_common::wire::enums::read_access_role;
use quorate_common::wire::text::{read_labels, read_name, read_optional_name};
use quorate_common::wire::time::read_duration_or;
use quorate_core::command::TokenCommand;
use quorate_core::hash::Hash;
use quorate_core::state::TokenPurpose;
use quorate_core::{Answer, Command, State};
use quorate_model::{DurationMs, Reason, Refusal, Role, TokenId, minted};
use quorate_proto::v1;

use super::caller::Caller;
use super::context::{Api, Served};
use super::page::Page;
use super::status::Failure;
use super::view::token::token as show;

/// Life of a token when the request says none (proto).
const TTL: DurationMs = DurationMs::from_secs(3_600);
/// Longest life (proto).
const TTL_MAX: DurationMs = DurationMs::from_secs(7 * 24 * 3_600);
/// Tokens on one page when the request says none (proto).
const PAGE: u32 = 200;

fn read_purpose(
    purpose: i32,
    name: String,
    labels: std::collections::BTreeMap<String, String>,
    access_role: &str,
) -> Result<TokenPurpose, Invalid> {
    let unset = |field: &str, empty: bool| {
        if empty { Ok(()) } else { Err(Invalid::new(field, "this kind of token does not have it")) }
    };
    match v1::TokenPurpose::try_from(purpose) {
        Ok(v1::TokenPurpose::Unspecified) => Err(Invalid::missing("purpose")),
        Ok(v1::TokenPurpose::Agent) => {
            unset("access_role", access_role.is_empty())?;
            let labels = read_labels("labels", labels)?;
            Ok(TokenPurpose::Agent { node: read_optional_name("name", name)?, labels })
        }
        Ok(v1::TokenPurpose::Coordinator) => {
            unset("access_role", access_role.is_empty())?;
            unset("labels", labels.is_empty())?;
            unset("name", name.is_empty())?;
            Ok(TokenPurpose::Coordinator)
        }
        Ok(v1::TokenPurpose::User) => {
            unset("labels", labels.is_empty())?;
            let access = read_access_role("access_role", access_role)?;
            Ok(TokenPurpose::User { name: read_name("name", name)?, access })
        }
        Err(_) => Err(Invalid::new("purpose", "it is not one of its values")),
    }
}

const fn role(purpose: &TokenPurpose) -> Role {
    match purpose {
        TokenPurpose::Agent { .. } => Role::Agent,
        TokenPurpose::Coordinator => Role::Coordinator,
        TokenPurpose::User { .. } => Role::User,
    }
}

pub(super) async fn create(
    api: &Api,
    caller: &Caller,
    request: v1::CreateTokenRequest,
) -> Result<Served<v1::CreateTokenResponse>, Failure> {
    let v1::CreateTokenRequest { purpose, name, labels, ttl, options, access_role } = request;
    let change = api.change(caller, options)?;
    let purpose = read_purpose(purpose, name, labels, &access_role)?;
    let ttl = read_duration_or("ttl", ttl, TTL)?;
    if ttl > TTL_MAX {
        return Err(Invalid::new("ttl", format!("it must be at most {TTL_MAX}")).into());
    }
    let bad = |_| Failure::Internal("a token could not be made");
    let id = TokenId::new(minted("t", api.backend().mint()))
        .map_err(|_| Failure::Internal("a minted token id is no id"))?;
    let secret = Secret::generate().map_err(bad)?;
    let command = Command::Token(TokenCommand::Create {
        id: id.clone(),
        secret_sha256: Hash(secret.hash()),
        purpose: purpose.clone(),
        expires_at: api.backend().now().plus(ttl),
    });
    let (index, answer) = api.propose(caller, &change, command).await?;
    if change.validate_only {
        return Ok(Served { message: v1::CreateTokenResponse::default(), index });
    }
    if !matches!(&answer, Answer::Token { token, .. } if *token == id) {
        // A repeated request: its token was made before, and its secret was shown then or is lost.
        let refusal = Refusal::new(Reason::AlreadyExists, "this request has made its token before")
            .with_hint("the secret is shown once; revoke that token and make another one");
        return Err(refusal.into());
    }
    let (cluster, addresses, kept) = api.look(|state| {
        let kept = state.tokens.get(&id).map(show);
        (state.cluster.id.clone(), addresses(state), kept)
    });
    let cluster = cluster.ok_or(Failure::Internal("the cluster has no id"))?;
    let ca = api.inner.signer.ca_sha256();
    let token = JoinToken { purpose: role(&purpose), cluster, id, ca, secret, addresses };
    let text = token.encode().map_err(|_| Failure::Internal("the token does not fit its text"))?;
    let message = v1::CreateTokenResponse { token: text.as_str().to_owned(), enrollment_token: kept };
    Ok(Served { message, index })
}

/// HTTPS addresses of the coordinators; one that cannot be written as an address is left out.
fn addresses(state: &State) -> Vec<Address> {
    state.members.present().filter_map(|m| m.http.parse().ok()).take(16).collect()
}

pub(super) async fn list(
    api: &Api,
    request: v1::ListTokensRequest,
) -> Result<Served<v1::ListTokensResponse>, Failure> {
    let v1::ListTokensRequest { page_size, page_token } = request;
    let page = Page::read(page_size, &page_token, PAGE)?;
    api.backend().linearize().await?;
    Ok(api.look(|state| {
        let (tokens, next_page_token) = page.cut(state.tokens.values(), |t| t.id.as_str().to_owned());
        let tokens = tokens.into_iter().map(show).collect();
        let message = v1::ListTokensResponse { tokens, next_page_token };
        Served { message, index: state.revision.0 }
    }))
}

pub(super) async fn revoke(
    api: &Api,
    caller: &Caller,
    request: v1::RevokeTokenRequest,
) -> Result<Served<v1::RevokeTokenResponse>, Failure> {
    let v1::RevokeTokenRequest { token_id, options } = request;
    let change = api.change(caller, options)?;
    let id: TokenId = read_name("token_id", token_id)?;
    let command = Command::Token(TokenCommand::Revoke { id: id.clone() });
    let (index, _) = api.propose(caller, &change, command).await?;
    let kept = api.look(|state| state.tokens.get(&id).map(show));
    Ok(Served { message: v1::RevokeTokenResponse { enrollment_token: kept }, index })
}
