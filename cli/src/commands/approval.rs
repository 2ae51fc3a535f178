//! `quorate approval`.

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;

use super::freeze::time;
use super::{Ctx, Outcome, pages};
use crate::args::{Change, Page};
use crate::call;
use crate::client::Client;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::operation as view;
use crate::render::style::{self, safe};
use crate::render::table::{Columns, dash};
use crate::render::{self, json, plan, talk};

/// Approvals that operations wait for: somebody else looks at the plan and decides
#[derive(Subcommand, Clone, Debug)]
pub enum ApprovalCommand {
    /// What waits for an approval, newest first
    #[command(
        alias = "ls",
        after_help = "Examples:\n  quorate approval list\n  quorate approval list --all -o json"
    )]
    List {
        /// Those that were decided or have expired, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        page: Page,
    },
    /// Approves the plan of an operation; never one's own
    #[command(
        after_help = "Examples:\n  quorate approval approve r-7f3a --reason 'seen, Saturday is fine'\n  quorate approval approve r-7f3a --plan 9c1f… --reason 'as agreed' --yes\n\nWithout --plan the plan is shown before it is approved. What is approved is that plan and no other: exit code 3 when the operation\nhas another one, or when what the plan touches has changed since."
    )]
    Approve(Decision),
    /// Says no, which ends the operation; nothing was begun
    #[command(
        after_help = "Examples:\n  quorate approval reject r-7f3a --reason 'not before the release notes are out' --yes"
    )]
    Reject(Decision),
}

/// A decision on one operation.
#[derive(Args, Clone, Debug)]
pub struct Decision {
    /// Operation id
    operation: String,
    /// The hash of the plan that was looked at, or its first 8 digits or more
    #[arg(long, value_name = "HASH", value_parser = hash_prefix)]
    plan: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// Digits that stand for a hash, as many as nobody meets by chance.
pub(super) fn hash_prefix(text: &str) -> Result<String, String> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex && (8..=64).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("expected 8 to 64 hex digits".to_owned())
    }
}

/// Whether a stored hash is the one that was looked at.
///
/// # Errors
/// Exit code 3 when it is another one.
pub(super) fn same_plan(seen: Option<&str>, stored: &str) -> Result<(), Failure> {
    match seen {
        Some(seen) if !stored.starts_with(seen) => {
            let mut failure =
                Failure::failed("refused: the plan is not the one you saw").with_code(exit::REFUSED);
            failure.why.push(("its hash".to_owned(), stored.to_owned()));
            "STALE_PLAN".clone_into(&mut failure.reason);
            Err(failure.with_hint("look at the plan again"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: ApprovalCommand) -> Outcome {
    match command {
        ApprovalCommand::List { all, page } => list(ctx, all, page.limit).await,
        ApprovalCommand::Approve(decision) => decide(ctx, decision, true).await,
        ApprovalCommand::Reject(decision) => decide(ctx, decision, false).await,
    }
}

async fn decide(ctx: &Ctx, decision: Decision, approve: bool) -> Outcome {
    let Decision { operation: name, plan: seen, change } = decision;
    if change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
        return Err(
            Failure::usage("a decision needs a reason: it is kept with it").with_hint("give --reason TEXT")
        );
    }
    let client = ctx.client()?;
    let request = v1::GetOperationRequest { name: name.clone(), consistency: ctx.global.consistency() };
    let operation =
        call!(client, OperationServiceClient, get_operation, request)?.operation.unwrap_or_default();
    let Some(approval) = &operation.approval else {
        return Err(Failure::failed(format!("{} needs no approval", safe(view::id(&operation))))
            .with_code(exit::REFUSED));
    };
    same_plan(seen.as_deref(), &approval.plan_hash)?;
    if !change.yes && !change.dry_run {
        show_plan(ctx, &client, approval).await?;
        let word = if approve { "Approve" } else { "Reject" };
        let question = format!("{word} {}: {}", view::id(&operation), safe(&approval.title));
        confirm::ask(&ctx.global, &change, &question)?;
    }
    let (plan_hash, options) = (approval.plan_hash.clone(), Some(change.options()));
    let decided = if approve {
        let request = v1::ApproveOperationRequest { name, plan_hash, options };
        call!(client, OperationServiceClient, approve_operation, request)?.operation
    } else {
        let request = v1::RejectOperationRequest { name, plan_hash, options };
        call!(client, OperationServiceClient, reject_operation, request)?.operation
    };
    let decided = decided.unwrap_or_default();
    render::answer(ctx.global.output, &decided, "quorate.v1.Operation", None, |_| {
        let waits = view::approvals(&decided);
        if waits.is_empty() {
            view::headline(&decided)
        } else {
            format!("{}\n{waits}", view::headline(&decided))
        }
    })?;
    Ok(exit::DONE)
}

/// What is about to be decided on.
async fn show_plan(ctx: &Ctx, client: &Client, approval: &v1::Approval) -> Result<(), Failure> {
    let request =
        v1::GetPlanRequest { plan_id: approval.plan_id.clone(), consistency: ctx.global.consistency() };
    let stored = call!(client, OperationServiceClient, get_plan, request)?.plan.unwrap_or_default();
    same_plan(Some(&approval.plan_hash), &stored.hash)?;
    talk(&plan::diff(&stored));
    talk(&format!("Plan {} hash {}", safe(&stored.plan_id), safe(&stored.hash)));
    Ok(())
}

async fn list(ctx: &Ctx, all: bool, limit: Option<u32>) -> Outcome {
    let (client, consistency) = (ctx.client()?, ctx.global.consistency());
    let client = &client;
    let state = if all { v1::ApprovalState::Unspecified } else { v1::ApprovalState::Pending }.into();
    let (approvals, next_page_token) = pages(limit, |page_token, page_size| async move {
        let request = v1::ListApprovalsRequest { page_size, page_token, consistency, state };
        let answer = call!(client, OperationServiceClient, list_approvals, request)?;
        Ok((answer.approvals, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListApprovalsResponse { approvals, next_page_token };
    render::answer(
        ctx.global.output,
        &answer,
        "quorate.v1.ListApprovalsResponse",
        Some("approvals"),
        |_| table(&answer.approvals),
    )?;
    Ok(exit::DONE)
}

fn table(approvals: &[v1::Approval]) -> String {
    let mut columns =
        Columns::new(&["operation", "state", "what", "asked by", "missing", "until", "plan", "reason"]);
    for approval in approvals {
        let missing = approval.wants.iter().filter(|want| want.missing > 0);
        let missing: Vec<String> =
            missing.map(|want| format!("{} by {} ({})", want.missing, want.approvers, want.policy)).collect();
        columns.row([
            safe(approval.operation.rsplit('/').next().unwrap_or_default()),
            style::state(&json::word("quorate.v1.ApprovalState", approval.state)),
            safe(&approval.title),
            safe(&approval.requested_by.join(" ")),
            dash(&missing.join("; ")),
            time(approval.expires.as_ref(), "-"),
            safe(approval.plan_hash.get(..12).unwrap_or(&approval.plan_hash)),
            dash(&approval.reason),
        ]);
    }
    columns.finish("Nothing waits for an approval.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_known_by_its_first_digits_and_another_is_refused() {
        let stored = "9c1f".repeat(16);
        assert!(same_plan(None, &stored).is_ok());
        assert!(same_plan(Some("9c1f9c1f"), &stored).is_ok());
        let refused = same_plan(Some("9c1f9c1e"), &stored).unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (exit::REFUSED, "STALE_PLAN"));
        assert!(hash_prefix("9c1f9c1").is_err() && hash_prefix("9C1F9C1F").is_err());
        assert!(hash_prefix(&stored).is_ok() && hash_prefix(&format!("{stored}0")).is_err());
    }

    #[test]
    fn a_list_says_who_is_missing_and_what_is_approved() {
        let want = |policy: &str, missing| v1::ApprovalWant {
            policy: policy.into(),
            approvals: 2,
            approvers: "any operator".into(),
            missing,
            reason: String::new(),
        };
        let approval = v1::Approval {
            operation: "operations/r-7f3a".into(),
            title: "upgrade\u{1b}[2J".into(),
            state: v1::ApprovalState::Pending.into(),
            plan_hash: "9c1f".repeat(16),
            requested_by: vec!["user:ann".into()],
            wants: vec![want("prod", 1), want("ledger", 0)],
            ..Default::default()
        };
        let text = anstream::adapter::strip_str(&table(&[approval])).to_string();
        for wanted in ["r-7f3a", "user:ann", "1 by any operator (prod)", "9c1f9c1f9c1f"] {
            assert!(text.contains(wanted), "{text}");
        }
        assert!(!text.contains("(ledger)") && !text.contains('\u{1b}'), "{text}");
    }
}
