//! `quorate explain CODE|ID`: a reason's page, or why an operation waits.

use std::time::Duration;

use quorate_model::Reason;
use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;

use super::{Ctx, Outcome, freeze};
use crate::call;
use crate::failure::{Failure, exit};
use crate::render;
use crate::render::style::{bold, safe};

/// Runs it.
///
/// # Errors
/// What the API gives, or exit code 6 for an unknown code.
pub async fn run(ctx: &Ctx, what: String) -> Outcome {
    if let Some(reason) = Reason::parse(&what.to_ascii_uppercase()) {
        return page(ctx, reason).await;
    }
    if !what.is_empty() && what.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
        let codes: Vec<&str> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        return Err(Failure::failed(format!("there is no reason {what}"))
            .with_code(exit::NOT_FOUND)
            .with_hint(format!("known are {}", codes.join(", "))));
    }
    operation(ctx, what).await
}

async fn page(ctx: &Ctx, reason: Reason) -> Outcome {
    if ctx.global.output.is_table() {
        let mut text = format!(
            "{}\n\nCause\n  {}\n\nProtects\n  {}\n\nWhat to do\n  {}\n\nTrying again without a change may help: {}",
            bold(reason.as_str()),
            reason.cause(),
            reason.protects(),
            reason.what_to_do(),
            if reason.is_retryable() { "yes" } else { "no" }
        );
        if reason == Reason::Freeze {
            text += &frozen_now(ctx).await;
        }
        render::print(&text)?;
        return Ok(exit::DONE);
    }
    let value = serde_json::json!({
        "reason": reason.as_str(),
        "cause": reason.cause(),
        "protects": reason.protects(),
        "whatToDo": reason.what_to_do(),
        "retryable": reason.is_retryable(),
    });
    render::structured(ctx.global.output, value, None)?;
    Ok(exit::DONE)
}

/// Who froze what, when a fleet is there to be asked; the page is good without.
async fn frozen_now(ctx: &Ctx) -> String {
    /// Longest wait for a fleet that nobody may have meant to ask.
    const PATIENCE: Duration = Duration::from_secs(2);
    let Ok(client) = ctx.client() else { return String::new() };
    let Ok(Ok(lines)) = tokio::time::timeout(PATIENCE, freeze::active(ctx, &client)).await else {
        return String::new();
    };
    let lines = if lines.is_empty() { vec!["no freeze".to_owned()] } else { lines };
    format!("\n\nOn now\n  {}", lines.join("\n  "))
}

/// Why an operation waits.
///
/// # Errors
/// What the API gives.
pub async fn operation(ctx: &Ctx, id: String) -> Outcome {
    let request = v1::ExplainOperationRequest { name: id };
    let answer = call!(ctx.client()?, OperationServiceClient, explain_operation, request)?;
    render::answer(ctx.global.output, &answer, "quorate.v1.ExplainOperationResponse", None, |_| {
        let mut text = bold(&safe(&answer.summary));
        let width = answer.why.iter().map(|d| d.subject.chars().count()).max().unwrap_or(0);
        for fact in &answer.why {
            text += &format!("\n  {:width$}   {}", safe(&fact.subject), safe(&fact.text));
        }
        if !answer.hint.is_empty() {
            text += &format!("\nhint: {}", safe(&answer.hint));
        }
        if !answer.reason.is_empty() {
            text += &format!("\nreason: {}   (quorate explain {})", answer.reason, answer.reason);
        }
        text
    })?;
    Ok(exit::DONE)
}
