//! `quorate policy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use quorate_proto::v1;
use quorate_proto::v1::policy_service_client::PolicyServiceClient;

use super::freeze::{nodes, services, time};
use super::{Ctx, Outcome, apply, pages};
use crate::args::{Change, Page, Select};
use crate::call;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::style::safe;
use crate::render::table::{Columns, dash};
use crate::render::{self, json};

/// What needs the approval of somebody else before it begins
#[derive(Subcommand, Clone, Debug)]
pub enum PolicyCommand {
    /// Every policy
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One policy
    Show {
        /// Its name
        policy: String,
    },
    /// Declares a policy; over everything that disturbs, when nothing else is said
    #[command(
        after_help = "Examples:\n  quorate policy apply four-eyes --reason 'nobody upgrades alone'\n  quorate policy apply ledger --service ledger --kind rollout --approvals 2 --role admin --expires 4h --reason 'agreed with audit'\n  quorate policy apply -f policies.yaml\n\nWhat a policy covers waits, once it is started, until others have approved its plan: `quorate approval list`. Where several cover\nthe same, each must be satisfied. It takes an administrator, and what waits already keeps what it was asked for."
    )]
    Apply(Box<PolicyArgs>),
    /// Deletes a policy; what waits already keeps what it was asked for
    #[command(
        alias = "rm",
        after_help = "Examples:\n  quorate policy delete four-eyes --reason 'replaced by ledger' --yes"
    )]
    Delete {
        /// Its name
        policy: String,
        #[command(flatten)]
        change: Change,
    },
}

/// Kinds of operations.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationWord {
    /// Rolling changes
    Rollout,
    /// Backups
    Backup,
    /// Log rotation
    Rotation,
    /// Actions on a selector
    Run,
}

/// The least risk.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskWord {
    /// What disturbs an instance
    Disruptive,
    /// What can destroy data
    Destructive,
}

/// Roles that may approve.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleWord {
    /// Operators and administrators
    Operator,
    /// Administrators
    Admin,
}

/// A policy, in words or in a file.
#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    /// Its name
    #[arg(required_unless_present = "file")]
    policy: Option<String>,
    /// Fleet file with `kind: Policy`; `-` for standard input
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with_all = ["policy", "services", "kinds", "risk", "approvals", "role", "users", "expires", "nodes", "labels", "all"]
    )]
    file: Option<PathBuf>,
    /// Service, or group for the services of its members; may be given several times; all when it is not given
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',')]
    services: Vec<String>,
    /// Kind of operation; may be given several times; all when it is not given
    #[arg(long = "kind", value_name = "KIND", value_enum, value_delimiter = ',')]
    kinds: Vec<OperationWord>,
    /// The least risk; what disturbs, when neither kind nor risk is given
    #[arg(long, value_enum)]
    risk: Option<RiskWord>,
    /// How many must approve, 1 to 5
    #[arg(long, value_name = "N", default_value_t = 1)]
    approvals: u32,
    /// Who may approve: users of this role; every operator when neither role nor users are given
    #[arg(long, value_enum, conflicts_with = "users")]
    role: Option<RoleWord>,
    /// Who may approve, by name; may be given several times
    #[arg(long = "user", value_name = "USER", value_delimiter = ',')]
    users: Vec<String>,
    /// How long an operation waits for its approvals, one minute to 30 days; 24h when it is not given
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    change: Change,
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::List { page } => list(ctx, page.limit).await,
        PolicyCommand::Show { policy } => show(ctx, policy).await,
        PolicyCommand::Apply(args) => declare(ctx, *args).await,
        PolicyCommand::Delete { policy, change } => {
            let question = format!("Delete policy {policy}: what it covers needs no approval by it any more");
            confirm::ask(&ctx.global, &change, &question)?;
            let options = Some(change.options());
            let request = v1::DeletePolicyRequest { name: policy.clone(), options, ..Default::default() };
            call!(ctx.client()?, PolicyServiceClient, delete_policy, request)?;
            let would = if change.dry_run { "would be " } else { "" };
            render::print(&format!("{} {would}deleted", safe(&policy)))?;
            Ok(exit::DONE)
        }
    }
}

async fn declare(ctx: &Ctx, args: PolicyArgs) -> Outcome {
    let change = args.change.clone();
    if let Some(file) = args.file {
        return apply::run(ctx, apply::ApplyArgs::of(file, change), Some("Policy")).await;
    }
    let spec = spec(args)?;
    let request = v1::ApplyPolicyRequest {
        spec: Some(spec.clone()),
        options: Some(change.options()),
        ..Default::default()
    };
    let answer = call!(ctx.client()?, PolicyServiceClient, apply_policy, request)?;
    let word = match (change.dry_run, answer.changed) {
        (true, true) => "would be applied",
        (false, true) => "applied",
        (_, false) => "unchanged",
    };
    // A dry run has declared nothing: what would be is shown as it was asked for.
    let shown = match answer.policy {
        Some(policy) if !change.dry_run => policy,
        _ => v1::Policy { name: spec.name.clone(), spec: Some(spec), ..Default::default() },
    };
    render::answer(ctx.global.output, &shown, "quorate.v1.Policy", None, |_| {
        format!("policy {} {word}: {}", safe(&shown.name), asks(&shown))
    })?;
    Ok(exit::DONE)
}

/// What the words say.
fn spec(args: PolicyArgs) -> Result<v1::PolicySpec, Failure> {
    let PolicyArgs {
        policy,
        file: _,
        services,
        kinds,
        risk,
        approvals,
        role,
        users,
        expires,
        select,
        change,
    } = args;
    let reason = change.reason.filter(|reason| !reason.trim().is_empty()).ok_or_else(|| {
        Failure::usage("a policy needs a reason: it is told to everybody who is held up")
            .with_hint("give --reason TEXT")
    })?;
    let kind = |word: OperationWord| match word {
        OperationWord::Rollout => v1::OperationKind::Rollout,
        OperationWord::Backup => v1::OperationKind::Backup,
        OperationWord::Rotation => v1::OperationKind::Rotation,
        OperationWord::Run => v1::OperationKind::Run,
    };
    let risk = risk.map_or(v1::PolicyRisk::Unspecified, |word| match word {
        RiskWord::Disruptive => v1::PolicyRisk::Disruptive,
        RiskWord::Destructive => v1::PolicyRisk::Destructive,
    });
    let role = role.map_or("", |word| match word {
        RoleWord::Operator => "OPERATOR",
        RoleWord::Admin => "ADMIN",
    });
    let expires = expires
        .map(prost_types::Duration::try_from)
        .transpose()
        .map_err(|_| Failure::usage("--expires: the time is too long"))?;
    Ok(v1::PolicySpec {
        name: policy.unwrap_or_default(),
        selector: select.selector()?,
        services,
        kinds: kinds.into_iter().map(|word| kind(word).into()).collect(),
        risk: risk.into(),
        approvals,
        role: role.to_owned(),
        users,
        expires,
        reason,
    })
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let (client, consistency) = (ctx.client()?, ctx.global.consistency());
    let client = &client;
    let (policies, next_page_token) = pages(limit, |page_token, page_size| async move {
        let request = v1::ListPoliciesRequest { page_size, page_token, consistency };
        let answer = call!(client, PolicyServiceClient, list_policies, request)?;
        Ok((answer.policies, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListPoliciesResponse { policies, next_page_token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListPoliciesResponse", Some("policies"), |_| {
        table(&answer.policies)
    })?;
    Ok(exit::DONE)
}

async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetPolicyRequest { name, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, PolicyServiceClient, get_policy, request)?;
    let policy = answer.policy.unwrap_or_default();
    render::answer(ctx.global.output, &policy, "quorate.v1.Policy", None, |_| {
        let spec = policy.spec.clone().unwrap_or_default();
        format!(
            "{}\n\nReason      {}\nDeclared    by {} at {}",
            table(std::slice::from_ref(&policy)),
            dash(&spec.reason),
            dash(&policy.applied_by),
            time(policy.created.as_ref(), "-"),
        )
    })?;
    Ok(exit::DONE)
}

fn table(policies: &[v1::Policy]) -> String {
    let mut columns =
        Columns::new(&["policy", "covers", "nodes", "services", "approvals", "by", "expires", "reason"]);
    for policy in policies {
        let spec = policy.spec.clone().unwrap_or_default();
        columns.row([
            safe(&policy.name),
            work(&spec),
            nodes(spec.selector.as_ref()),
            services(&spec.services),
            spec.approvals.to_string(),
            approvers(&spec),
            lasting(spec.expires.as_ref()),
            dash(&spec.reason),
        ]);
    }
    columns.finish("No policies: nothing needs an approval. `quorate policy apply NAME` declares one.")
}

/// The operations that it covers.
fn work(spec: &v1::PolicySpec) -> String {
    let word = |kind: &i32| json::word("quorate.v1.OperationKind", *kind).to_ascii_lowercase();
    let mut parts: Vec<String> = spec.kinds.iter().map(word).collect();
    match spec.risk() {
        v1::PolicyRisk::Disruptive => parts.push("disruptive".to_owned()),
        v1::PolicyRisk::Destructive => parts.push("destructive".to_owned()),
        v1::PolicyRisk::Unspecified if parts.is_empty() => parts.push("disruptive".to_owned()),
        v1::PolicyRisk::Unspecified => {}
    }
    safe(&parts.join(","))
}

fn approvers(spec: &v1::PolicySpec) -> String {
    match (spec.role.as_str(), spec.users.is_empty()) {
        ("", true) => "any operator".to_owned(),
        ("", false) => safe(&spec.users.join(",")),
        (role, _) => safe(&format!("any {role}")),
    }
}

fn lasting(span: Option<&prost_types::Duration>) -> String {
    let Some(span) = span else { return "24h".to_owned() };
    let seconds = u64::try_from(span.seconds).unwrap_or_default();
    quorate_model::DurationMs::from_secs(seconds).to_string()
}

/// One line: what a policy asks for, and of what.
fn asks(policy: &v1::Policy) -> String {
    let spec = policy.spec.clone().unwrap_or_default();
    let nodes =
        if spec.selector.is_none() { "the whole fleet".to_owned() } else { nodes(spec.selector.as_ref()) };
    let services =
        if spec.services.is_empty() { String::new() } else { format!(", {}", services(&spec.services)) };
    format!(
        "{} approval(s) by {} for {} on {nodes}{services}",
        spec.approvals.max(1),
        approvers(&spec),
        work(&spec)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_as_one_line() {
        let bare = v1::Policy { spec: Some(v1::PolicySpec::default()), ..Default::default() };
        assert_eq!(asks(&bare), "1 approval(s) by any operator for disruptive on the whole fleet");
        let spec = v1::PolicySpec {
            selector: Some(v1::Selector { labels: "zone=a".into(), ..Default::default() }),
            services: vec!["ledger".into()],
            kinds: vec![v1::OperationKind::Rollout.into(), v1::OperationKind::Run.into()],
            approvals: 2,
            users: vec!["ann".into(), "bob\u{1b}[2J".into()],
            ..Default::default()
        };
        let text = asks(&v1::Policy { spec: Some(spec), ..Default::default() });
        assert!(text.starts_with("2 approval(s) by ann,bob"), "{text}");
        assert!(text.ends_with(" for rollout,run on zone=a, ledger") && !text.contains('\u{1b}'), "{text}");
    }
}
