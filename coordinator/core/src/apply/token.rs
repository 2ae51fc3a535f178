//! Enrolment tokens: single use is enforced here, by the order of the log.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use quorate_model::{Drain, NodeName, NodeStatus, Principal, Reason, Refusal, TokenId, UserName};

use super::{Answer, Context, Effect, cluster, identity, validate};
use crate::command::{Join, NewCertificate, TokenCommand};
use crate::hash::Hash;
use crate::state::identity::{TOKENS_MAX, TokenUse};
use crate::state::node::NODES_MAX;
use crate::state::{Node, State, Token, TokenPurpose};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &TokenCommand,
) -> Result<Effect, Refusal> {
    match command {
        TokenCommand::Create { id, secret_sha256, purpose, expires_at } => {
            create(state, context, id, secret_sha256, purpose, *expires_at)
        }
        TokenCommand::Consume { id, join, certificate } => {
            consume(state, context, id, join, certificate.as_ref())
        }
        TokenCommand::Revoke { id } => {
            let token = state
                .tokens
                .get_mut(id)
                .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no token {id}")))?;
            if token.revoked_at.is_some() {
                return Ok(Effect::unchanged(context.done()));
            }
            token.revoked_at = Some(context.now);
            Ok(Effect::changed(context.done(), format!("tokens/{id}"), "revoked"))
        }
    }
}

fn create(
    state: &mut State,
    context: &Context<'_>,
    id: &TokenId,
    secret_sha256: &Hash,
    purpose: &TokenPurpose,
    expires_at: quorate_model::Timestamp,
) -> Result<Effect, Refusal> {
    if state.tokens.contains_key(id) {
        return Err(Refusal::new(Reason::AlreadyExists, format!("there is a token {id} already")));
    }
    if state.tokens.len() >= TOKENS_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {TOKENS_MAX} tokens already")));
    }
    if expires_at <= context.now {
        return Err(validate::bad("expires_at: it is in the past"));
    }
    let what = match purpose {
        TokenPurpose::Agent { labels, .. } => {
            validate::labels(labels)?;
            "agent"
        }
        TokenPurpose::Coordinator => "coordinator",
        TokenPurpose::User { .. } => "user",
    };
    let token = Token {
        id: id.clone(),
        secret_sha256: *secret_sha256,
        purpose: purpose.clone(),
        created_by: context.principal.clone(),
        created_at: context.now,
        expires_at,
        used_by: None,
        revoked_at: None,
    };
    state.tokens.insert(id.clone(), token);
    let answer = Answer::Token { revision: context.revision, token: id.clone() };
    Ok(Effect::changed(answer, format!("tokens/{id}"), what))
}

/// One text for every cause (B-12); the audit holds the cause, the caller must not be shown the details.
fn denied(cause: &str) -> Refusal {
    Refusal::new(Reason::Unauthenticated, "the token is not accepted").with_detail("cause", cause)
}

fn consume(
    state: &mut State,
    context: &Context<'_>,
    id: &TokenId,
    join: &Join,
    certificate: Option<&NewCertificate>,
) -> Result<Effect, Refusal> {
    let token = state.tokens.get(id).ok_or_else(|| denied("there is no such token"))?;
    if token.used_by.is_some() {
        return Err(denied("it was used before"));
    }
    if token.revoked_at.is_some() {
        return Err(denied("it was revoked"));
    }
    if context.now >= token.expires_at {
        return Err(denied("it has expired"));
    }
    let (principal, answer) = match (&token.purpose, join) {
        (TokenPurpose::Agent { node, labels }, Join::Node { name, address }) => {
            if node.as_ref().is_some_and(|only| only != name) {
                return Err(denied("it is for another node"));
            }
            let labels = labels.clone();
            join_node(state, context, name, address, labels, certificate)?
        }
        (TokenPurpose::Coordinator, Join::Member { name, grpc, http, standby }) => {
            let member = cluster::admit(state, context, name, grpc, http, *standby)?;
            let answer = Answer::Member { revision: context.revision, member };
            (Principal::Coordinator { member }, answer)
        }
        (TokenPurpose::User { name, access }, Join::User) => {
            let (name, access) = (name.clone(), *access);
            join_user(state, context, &name, access, certificate)?
        }
        (TokenPurpose::Agent { .. } | TokenPurpose::Coordinator | TokenPurpose::User { .. }, _) => {
            return Err(denied("it is for another purpose"));
        }
    };
    let who = format!("{principal}");
    if let Some(token) = state.tokens.get_mut(id) {
        token.used_by = Some(TokenUse { principal, at: context.now });
    }
    Ok(Effect::changed(answer, format!("tokens/{id}"), who))
}

fn join_node(
    state: &mut State,
    context: &Context<'_>,
    name: &NodeName,
    address: &str,
    labels: BTreeMap<String, String>,
    certificate: Option<&NewCertificate>,
) -> Result<(Principal, Answer), Refusal> {
    validate::text("address", address)?;
    if state.nodes.present(name).is_some() {
        return Err(Refusal::new(Reason::AlreadyExists, format!("there is a node {name} already"))
            .with_hint(format!("quorate node remove {name}, if the host is to enrol again")));
    }
    if !state.nodes.by_name.contains_key(name) && state.nodes.by_name.len() >= NODES_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {NODES_MAX} nodes already")));
    }
    let principal = Principal::Agent { node: name.clone() };
    let certificate = expect(certificate, &principal)?;
    if state.identities.contains_key(&certificate.serial) {
        return Err(Refusal::new(Reason::AlreadyExists, "the serial number is in use"));
    }
    let id = state.nodes.last.next();
    state.nodes.last = id;
    let node = Node {
        id,
        name: name.clone(),
        labels,
        address: address.into(),
        status: NodeStatus::Pending,
        status_since: context.now,
        cordon: None,
        drain: Drain::None,
        drain_since: context.now,
        enrolled_at: context.now,
        revision: context.revision,
    };
    let before = state.nodes.by_name.insert(name.clone(), node);
    if let Err(refusal) = identity::list(state, context, certificate) {
        // Only a full list gets here; the node must not stay without a certificate.
        match before {
            Some(old) => state.nodes.by_name.insert(name.clone(), old),
            None => state.nodes.by_name.remove(name),
        };
        return Err(refusal);
    }
    let answer = Answer::Node { revision: context.revision, node: name.clone(), number: id };
    Ok((principal, answer))
}

fn join_user(
    state: &mut State,
    context: &Context<'_>,
    name: &UserName,
    access: quorate_model::AccessRole,
    certificate: Option<&NewCertificate>,
) -> Result<(Principal, Answer), Refusal> {
    let principal = Principal::User { name: name.clone() };
    let certificate = expect(certificate, &principal)?;
    if state.identities.contains_key(&certificate.serial) {
        return Err(Refusal::new(Reason::AlreadyExists, "the serial number is in use"));
    }
    if certificate.access != Some(access) {
        return Err(Refusal::new(Reason::NotAllowed, "the certificate gives another access than the token"));
    }
    identity::put_user(state, context, name, access)?;
    identity::list(state, context, certificate)?;
    Ok((principal, context.done()))
}

/// The certificate must be there and stand for whom the token admits.
fn expect<'a>(
    certificate: Option<&'a NewCertificate>,
    principal: &Principal,
) -> Result<&'a NewCertificate, Refusal> {
    certificate
        .filter(|c| c.principal == *principal)
        .ok_or_else(|| Refusal::new(Reason::NotAllowed, format!("the certificate is not for {principal}")))
}
