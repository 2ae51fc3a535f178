//! The catalogue of artifacts: what exists, and which members hold its bytes.

use alloc::collections::BTreeSet;
use alloc::format;

use quorate_model::{ArtifactSpec, Digest, MemberId, Reason, Refusal};

use super::{Context, Effect, validate};
use crate::command::ArtifactCommand;
use crate::state::artifact::{ARTIFACTS_MAX, in_use};
use crate::state::{Artifact, State};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &ArtifactCommand,
) -> Result<Effect, Refusal> {
    match command {
        ArtifactCommand::Register { spec } => register(state, context, spec),
        ArtifactCommand::Hold { digest, member } => hold(state, context, digest, *member),
        ArtifactCommand::Release { digest, member } => release(state, context, digest, *member),
        ArtifactCommand::Delete { digest } => delete(state, context, digest),
    }
}

fn none(digest: &Digest) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no artifact {digest}"))
}

fn register(state: &mut State, context: &Context<'_>, spec: &ArtifactSpec) -> Result<Effect, Refusal> {
    spec.check().map_err(|invalid| validate::bad(format!("{invalid}")))?;
    let digest = &spec.digest;
    let resource = format!("artifacts/{digest}");
    if let Some(known) = state.artifacts.get_mut(digest) {
        if known.spec.size != spec.size {
            let what = format!("artifact {digest} has {} bytes, not {}", known.spec.size, spec.size);
            return Err(Refusal::new(Reason::Conflict, what));
        }
        return match (&known.spec.signature, &spec.signature) {
            (_, None) => Ok(Effect::unchanged(context.done())),
            (Some(one), Some(other)) if one == other => Ok(Effect::unchanged(context.done())),
            (None, Some(signature)) => {
                known.spec.signature = Some(signature.clone());
                known.revision = context.revision;
                Ok(Effect::changed(context.done(), resource, "signature added"))
            }
            (Some(_), Some(_)) => {
                let what = format!("artifact {digest} has another signature already");
                Err(Refusal::new(Reason::Conflict, what)
                    .with_hint(format!("quorate artifact delete {digest}, then push it again")))
            }
        };
    }
    if state.artifacts.len() >= ARTIFACTS_MAX {
        return Err(Refusal::new(
            Reason::LimitReached,
            format!("there are {ARTIFACTS_MAX} artifacts already"),
        ));
    }
    let artifact = Artifact {
        spec: spec.clone(),
        created_by: context.principal.clone(),
        created_at: context.now,
        revision: context.revision,
        holders: BTreeSet::new(),
    };
    state.artifacts.insert(digest.clone(), artifact);
    let details = format!("{} of {} bytes", spec.file_name, spec.size);
    Ok(Effect::changed(context.done(), resource, details))
}

fn hold(
    state: &mut State,
    context: &Context<'_>,
    digest: &Digest,
    member: MemberId,
) -> Result<Effect, Refusal> {
    if !state.members.present().any(|m| m.id == member) {
        return Err(Refusal::new(Reason::NotFound, format!("there is no member {member}")));
    }
    let artifact = state.artifacts.get_mut(digest).ok_or_else(|| none(digest))?;
    if !artifact.holders.insert(member) {
        return Ok(Effect::unchanged(context.done()));
    }
    artifact.revision = context.revision;
    Ok(Effect::changed(context.done(), format!("artifacts/{digest}"), format!("held by member {member}")))
}

fn release(
    state: &mut State,
    context: &Context<'_>,
    digest: &Digest,
    member: MemberId,
) -> Result<Effect, Refusal> {
    let artifact = state.artifacts.get_mut(digest).ok_or_else(|| none(digest))?;
    if !artifact.holders.remove(&member) {
        return Ok(Effect::unchanged(context.done()));
    }
    artifact.revision = context.revision;
    let details = format!("no longer held by member {member}");
    Ok(Effect::changed(context.done(), format!("artifacts/{digest}"), details))
}

fn delete(state: &mut State, context: &Context<'_>, digest: &Digest) -> Result<Effect, Refusal> {
    if !state.artifacts.contains_key(digest) {
        return Err(none(digest));
    }
    if let Some(operation) = in_use(state, digest) {
        return Err(Refusal::new(Reason::Conflict, format!("artifact {digest} is used by {operation}"))
            .with_hint(format!("quorate operation show {operation}")));
    }
    state.artifacts.remove(digest);
    Ok(Effect::changed(context.done(), format!("artifacts/{digest}"), "deleted"))
}

/// A member is gone for good, and the bytes it had with it.
pub(super) fn member_removed(state: &mut State, context: &Context<'_>, member: MemberId) {
    for artifact in state.artifacts.values_mut() {
        if artifact.holders.remove(&member) {
            artifact.revision = context.revision;
        }
    }
}
