//! AdminService: who belongs to the coordinators, and who leads them.
//!
//! Must never: take a member out, or let it lead, on the word of the caller: the members are asked first, also in a dry run.

use quorate_common::wire::text::{read_name, read_optional_name};
use quorate_common::wire::time::write_duration;
use quorate_core::command::{AuditCommand, ClusterCommand};
use quorate_core::safety::members::{Voter, minimum, removal};
use quorate_core::state::audit::{AuditDraft, AuditResult};
use quorate_core::{Command, Entry};
use quorate_model::{DurationMs, MemberId, MemberName, Reason, Refusal};
use quorate_proto::v1;

use super::backend::{MemberView, RaftRole};
use super::caller::Caller;
use super::context::{Api, Change, Served};
use super::status::Failure;

/// What is put into the audit of a change that is none of the replicated state.
pub(super) struct Done<'a> {
    /// For example `cluster.transfer-leader`.
    pub(super) action: &'a str,
    /// For example `members/coord2`.
    pub(super) resource: String,
    /// How it ended.
    pub(super) outcome: Result<String, Reason>,
}

impl Api {
    /// Puts a change that has no entry of its own into the audit. It has happened by then: what goes wrong here is logged.
    pub(super) async fn record(&self, caller: &Caller, change: &Change, done: Done<'_>) {
        let Done { action, resource, outcome } = done;
        let (result, reason, details) = match outcome {
            Ok(details) => (AuditResult::Ok, change.reason.clone(), details),
            Err(reason) => (AuditResult::Failed, reason.as_str().to_owned(), change.reason.clone()),
        };
        let draft = AuditDraft {
            at: self.backend().now(),
            event_type: "change".to_owned(),
            client_ip: caller.client_ip.clone(),
            principal: caller.principal.clone(),
            action: action.to_owned(),
            resource,
            result,
            reason,
            details,
            request_id: Some(change.request_id.clone()),
            operation: None,
        };
        let command = Command::Audit(AuditCommand::Append { records: vec![draft] });
        if let Err(error) = self.backend().propose(Entry::system(self.backend().now(), command)).await {
            tracing::error!(%error, action, "a change is not in the audit");
        }
    }

    fn member_name(&self, member: MemberId) -> String {
        let name = self.look(|state| state.members.by_id.get(&member).map(|m| m.name.to_string()));
        name.unwrap_or_else(|| format!("member {member}"))
    }

    pub(super) async fn transfer_leader(
        &self,
        caller: &Caller,
        request: v1::TransferLeaderRequest,
    ) -> Result<Served<v1::TransferLeaderResponse>, Failure> {
        let v1::TransferLeaderRequest { name, options } = request;
        let change = self.change(caller, options)?;
        let name: Option<MemberName> = read_optional_name("name", name)?;
        self.backend().linearize().await?;
        let index = self.look(|state| state.revision.0);
        let to = match &name {
            None => None,
            Some(name) => {
                let found = self.look(|state| state.members.named(name).map(|m| m.id));
                Some(found.ok_or_else(|| Failure::not_found("member", name.as_str(), index))?)
            }
        };
        let health = self.health();
        let me = health.name.to_string();
        let still = |leader: String, term: u64| v1::TransferLeaderResponse {
            leader,
            term,
            previous_leader: me.clone(),
            moved: false,
            without_leader: Some(write_duration(DurationMs::ZERO)),
        };
        if to == Some(health.id) && health.leads() {
            return Ok(Served { message: still(me.clone(), health.term), index });
        }
        if change.validate_only {
            let to = self.backend().successor(to).await?;
            return Ok(Served { message: still(self.member_name(to), health.term), index });
        }
        let moved = self.backend().transfer_leader(to).await;
        let resource = match &name {
            Some(name) => format!("members/{name}"),
            None => "members".to_owned(),
        };
        let outcome = match &moved {
            Ok(done) => Ok(format!(
                "{} leads in term {}; {} without a leader",
                self.member_name(done.leader),
                done.term,
                done.without_leader
            )),
            Err(error) => Err(Failure::from(error.clone()).reason()),
        };
        self.record(caller, &change, Done { action: "cluster.transfer_leader", resource, outcome }).await;
        let done = moved?;
        let message = v1::TransferLeaderResponse {
            leader: self.member_name(done.leader),
            term: done.term,
            previous_leader: me,
            moved: true,
            without_leader: Some(write_duration(done.without_leader)),
        };
        Ok(Served { message, index: self.look(|state| state.revision.0) })
    }

    pub(super) async fn promote_member(
        &self,
        caller: &Caller,
        request: v1::PromoteMemberRequest,
    ) -> Result<Served<v1::PromoteMemberResponse>, Failure> {
        let v1::PromoteMemberRequest { name, options } = request;
        let change = self.change(caller, options)?;
        let name: MemberName = read_name("name", name)?;
        self.backend().linearize().await?;
        let (found, index) = self.look(|state| (state.members.named(&name).map(|m| m.id), state.revision.0));
        let member = found.ok_or_else(|| Failure::not_found("member", name.as_str(), index))?;
        self.backend().caught_up(member).await?;
        let command = Command::Cluster(ClusterCommand::PromoteMember { member });
        let (index, _) = self.propose(caller, &change, command).await?;
        let (members, _) = self.member_list().await;
        Ok(Served { message: v1::PromoteMemberResponse { members }, index })
    }

    pub(super) async fn remove_member(
        &self,
        caller: &Caller,
        request: v1::RemoveMemberRequest,
    ) -> Result<Served<v1::RemoveMemberResponse>, Failure> {
        let v1::RemoveMemberRequest { name, options, dead_only, min_members } = request;
        let change = self.change(caller, options)?;
        let name: MemberName = read_name("name", name)?;
        self.backend().linearize().await?;
        let (found, index) = self.look(|state| (state.members.named(&name).map(|m| m.id), state.revision.0));
        let member = found.ok_or_else(|| Failure::not_found("member", name.as_str(), index))?;
        let command = || Command::Cluster(ClusterCommand::RemoveMember { member });
        // What the state refuses anyhow, first: nobody needs to be asked for that.
        let tried =
            Change { request_id: change.request_id.clone(), reason: String::new(), validate_only: true };
        self.propose(caller, &tried, command()).await?;
        self.may_leave(&name, member, dead_only, min_members).await?;
        if !change.validate_only {
            // Out of the Raft group first: its certificates must not be refused while it still counts as a voter. What
            // stops half way is finished by the same call again.
            self.backend().retire_member(member).await?;
        }
        let (index, _) = self.propose(caller, &change, command()).await?;
        let (members, _) = self.member_list().await;
        Ok(Served { message: v1::RemoveMemberResponse { members }, index })
    }

    /// Asks every member, and refuses what would leave no majority that answers.
    async fn may_leave(
        &self,
        name: &MemberName,
        member: MemberId,
        dead_only: bool,
        min_members: u32,
    ) -> Result<(), Failure> {
        let views = self.backend().members().await;
        let (voters, present) = self.look(|state| {
            let voter = |view: &MemberView| {
                let name = state.members.by_id.get(&view.id)?.name.clone();
                Some(Voter { name, up: view.role != RaftRole::Down })
            };
            let voters: Vec<Voter> = views.iter().filter(|view| view.voter).filter_map(voter).collect();
            (voters, u32::try_from(state.members.present().count()).unwrap_or(u32::MAX))
        });
        let answers = views.iter().any(|view| view.id == member && view.role != RaftRole::Down);
        if dead_only && answers {
            let refusal = Refusal::new(Reason::Conflict, format!("{name} answers: it is not dead"))
                .with_hint(format!("quorate cluster remove {name} takes it out all the same"));
            return Err(refusal.into());
        }
        let refusal = removal(&voters, name).or_else(|| minimum(present, name, min_members));
        refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
    }
}
