//! The control plane itself: birth, trust, members, settings.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{DurationMs, Epoch, MemberId, MemberName, Principal, Reason, Refusal};

use super::{Answer, Context, Effect, artifact, identity, validate};
use crate::command::ClusterCommand;
use crate::state::cluster::MEMBERS_MAX;
use crate::state::{Member, Settings, State};

/// CA certificates trusted at once: the old, the new, and one to spare for a rotation that was interrupted.
const CAS_MAX: usize = 3;
/// Longest CA certificate, PEM.
const CA_MAX_BYTES: usize = 16 * 1024;

/// How far grants of a refounded cluster are ahead of those that lost members may still hand out: far more than there
/// ever are.
const EPOCH_JUMP: u64 = 1 << 32;
/// Grants of a refounded cluster begin no lower than this for each millisecond since 1970: of two clusters that were restored from
/// one file the later one is ahead, however long the first one ran.
const EPOCHS_PER_MS: u64 = 1 << 10;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &ClusterCommand,
) -> Result<Effect, Refusal> {
    match command {
        ClusterCommand::Init { .. } => init(state, context, command),
        ClusterCommand::SetTrust { ca_pems } => {
            check_cas(ca_pems)?;
            state.cluster.ca_pems.clone_from(ca_pems);
            Ok(Effect::changed(context.done(), "cluster", format!("{} CA certificates", ca_pems.len())))
        }
        ClusterCommand::SetMember { member, grpc, http } => {
            validate::text("address", grpc)?;
            validate::text("address", http)?;
            let found = present(state, *member)?;
            found.grpc.clone_from(grpc);
            found.http.clone_from(http);
            Ok(Effect::changed(context.done(), format!("members/{member}"), grpc.clone()))
        }
        ClusterCommand::AddMember { name, grpc, http } => {
            let member = admit(state, context, name, grpc, http, false)?;
            let answer = Answer::Member { revision: context.revision, member };
            Ok(Effect::changed(answer, format!("members/{name}"), format!("number {member}")))
        }
        ClusterCommand::RemoveMember { member } => remove(state, context, *member),
        ClusterCommand::PromoteMember { member } => promote(state, context, *member),
        ClusterCommand::Refound { .. } => refound(state, context, command),
        ClusterCommand::SetSettings { settings } => set(state, context, settings),
    }
}

fn init(state: &mut State, context: &Context<'_>, command: &ClusterCommand) -> Result<Effect, Refusal> {
    let ClusterCommand::Init { id, name, ca_pem, member, grpc, http, certificates } = command else {
        return Err(Refusal::new(Reason::Internal, "not an init"));
    };
    if let Some(known) = &state.cluster.id {
        return Err(Refusal::new(
            Reason::WrongState,
            format!("the cluster is initialised already as {known}"),
        ));
    }
    check_cas(core::slice::from_ref(ca_pem))?;
    validate::text("name", name)?;
    // On a copy: a bad certificate in the middle must leave nothing behind.
    let mut draft = state.clone();
    draft.cluster.id = Some(id.clone());
    draft.cluster.name.clone_from(name);
    draft.cluster.ca_pems.push(ca_pem.clone());
    draft.cluster.created_at = context.now;
    let number = admit(&mut draft, context, member, grpc, http, false)?;
    for certificate in certificates {
        if let (Principal::User { name }, Some(access)) = (&certificate.principal, certificate.access) {
            identity::put_user(&mut draft, context, name, access)?;
        }
        identity::list(&mut draft, context, certificate)?;
    }
    *state = draft;
    let answer = Answer::Member { revision: context.revision, member: number };
    Ok(Effect::changed(answer, format!("cluster/{id}"), format!("first member {member}")))
}

fn check_cas(pems: &[String]) -> Result<(), Refusal> {
    if pems.is_empty() || pems.len() > CAS_MAX {
        return Err(validate::bad(format!("expected 1 to {CAS_MAX} CA certificates")));
    }
    match pems.iter().find(|pem| pem.is_empty() || pem.len() > CA_MAX_BYTES) {
        Some(_) => Err(validate::bad("a CA certificate is empty or larger than 16 KiB")),
        None => Ok(()),
    }
}

fn present(state: &mut State, member: MemberId) -> Result<&mut Member, Refusal> {
    state
        .members
        .by_id
        .get_mut(&member)
        .filter(|m| m.removed_at.is_none())
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no member {member}")))
}

/// Admits a member under the next number.
pub(super) fn admit(
    state: &mut State,
    context: &Context<'_>,
    name: &MemberName,
    grpc: &str,
    http: &str,
    standby: bool,
) -> Result<MemberId, Refusal> {
    validate::text("address", grpc)?;
    validate::text("address", http)?;
    if state.members.named(name).is_some() {
        return Err(Refusal::new(Reason::AlreadyExists, format!("there is a member {name} already"))
            .with_hint(format!("quorate cluster remove {name}")));
    }
    if state.members.present().count() >= MEMBERS_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {MEMBERS_MAX} members already")));
    }
    let id = state.members.last.next();
    state.members.last = id;
    let member = Member {
        id,
        name: name.clone(),
        grpc: grpc.into(),
        http: http.into(),
        joined_at: context.now,
        removed_at: None,
        standby,
    };
    state.members.by_id.insert(id, member);
    Ok(id)
}

fn remove(state: &mut State, context: &Context<'_>, member: MemberId) -> Result<Effect, Refusal> {
    let count = state.members.present().count();
    let found = present(state, member)?;
    if count <= 1 {
        return Err(Refusal::new(Reason::Conflict, "the last member cannot be removed"));
    }
    found.removed_at = Some(context.now);
    let name = found.name.clone();
    identity::revoke_all(state, context, &Principal::Coordinator { member });
    artifact::member_removed(state, context, member);
    Ok(Effect::changed(context.done(), format!("members/{name}"), format!("number {member} is gone")))
}

fn promote(state: &mut State, context: &Context<'_>, member: MemberId) -> Result<Effect, Refusal> {
    let found = present(state, member)?;
    if !found.standby {
        return Ok(Effect::unchanged(context.done()));
    }
    found.standby = false;
    let name = found.name.clone();
    Ok(Effect::changed(context.done(), format!("members/{name}"), "it gets a vote when it has caught up"))
}

fn refound(state: &mut State, context: &Context<'_>, command: &ClusterCommand) -> Result<Effect, Refusal> {
    let ClusterCommand::Refound { member, name, grpc, http, certificates } = command else {
        return Err(Refusal::new(Reason::Internal, "not a refounding"));
    };
    if state.cluster.id.is_none() {
        return Err(Refusal::new(Reason::WrongState, "there is no cluster to go on with"));
    }
    let numbers = state.members.refounded(context.now);
    // On a copy: a bad address or certificate must leave nothing behind.
    let mut draft = state.clone();
    let lost: Vec<MemberId> = draft.members.present().map(|m| m.id).filter(|id| id != member).collect();
    for gone in &lost {
        if let Some(gone) = draft.members.by_id.get_mut(gone) {
            gone.removed_at = Some(context.now);
        }
        identity::revoke_all(&mut draft, context, &Principal::Coordinator { member: *gone });
        artifact::member_removed(&mut draft, context, *gone);
    }
    if let Ok(kept) = present(&mut draft, *member) {
        validate::text("address", grpc)?;
        validate::text("address", http)?;
        kept.grpc.clone_from(grpc);
        kept.http.clone_from(http);
        kept.standby = false;
    } else {
        // The one before it is handed out to nobody.
        draft.members.last = MemberId(numbers.0.saturating_sub(1));
        if admit(&mut draft, context, name, grpc, http, false)? != *member {
            return Err(Refusal::new(Reason::Conflict, format!("member {member} is not the next number")));
        }
    }
    draft.members.last = draft.members.last.max(numbers);
    // Whether one was used by somebody whom nobody here knows of cannot be told.
    for token in draft.tokens.values_mut().filter(|t| t.used_by.is_none() && t.revoked_at.is_none()) {
        token.revoked_at = Some(context.now);
    }
    for certificate in certificates {
        identity::list(&mut draft, context, certificate)?;
    }
    // Whoever is lost may still run somewhere, and hand out grants: from here on they are older.
    let since_1970 = u64::try_from(context.now.0).unwrap_or(0).saturating_mul(EPOCHS_PER_MS);
    draft.epoch = Epoch(draft.epoch.0.saturating_add(EPOCH_JUMP).max(since_1970));
    *state = draft;
    let answer = Answer::Member { revision: context.revision, member: *member };
    let details = format!("number {member} goes on alone, {} others are out", lost.len());
    Ok(Effect::changed(answer, format!("members/{name}"), details))
}

fn set(state: &mut State, context: &Context<'_>, settings: &Settings) -> Result<Effect, Refusal> {
    if settings.level < state.settings.level {
        return Err(validate::bad(format!("the level is {} and only grows", state.settings.level)));
    }
    let spans = [
        settings.disconnected_after,
        settings.default_interval,
        settings.grant_life,
        settings.gate_deadline,
        settings.unknown_after,
        settings.dedupe_life,
    ];
    if spans.contains(&DurationMs::ZERO) || settings.down_after <= settings.disconnected_after {
        return Err(validate::bad("a span is zero, or down_after is not longer than disconnected_after"));
    }
    if *settings == state.settings {
        return Ok(Effect::unchanged(context.done()));
    }
    state.settings = settings.clone();
    Ok(Effect::changed(context.done(), "settings", format!("level {}", settings.level)))
}
