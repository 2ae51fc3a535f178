//! `quorate token`: the right to join.

use clap::{Subcommand, ValueEnum};
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;

use super::{Ctx, Outcome, pages};
use crate::args::{Change, Page};
use crate::call;
use crate::failure::{Failure, exit};
use crate::render::style::{safe, title};
use crate::render::table::{Columns, dash};
use crate::render::{self, json, talk};

/// Who may join with a token
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// A host
    Agent,
    /// A coordinator
    Coordinator,
    /// A person or automation
    User,
}

/// Single-use, expiring rights to join
#[derive(Subcommand, Clone, Debug)]
pub enum TokenCommand {
    /// Makes a token; the only time its secret is shown
    #[command(
        after_help = "Examples:\n  quorate token create --name node7 --label zone=a > token; chmod 600 token\n  quorate token create --purpose coordinator --ttl 10m"
    )]
    Create {
        /// Who may join
        #[arg(long, value_enum, default_value = "agent")]
        purpose: Purpose,
        /// The only name it may be used for
        #[arg(long, alias = "node", value_name = "NAME")]
        name: Option<String>,
        /// Label the node will have, key=value; may be given several times
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// How long it may be used, at most 7 days
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: std::time::Duration,
        /// For users: what they may do (viewer, operator, admin)
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Tokens, without their secrets
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Makes a token useless
    Revoke {
        /// Its id
        token_id: String,
        #[command(flatten)]
        change: Change,
    },
}

/// Runs it.
///
/// # Errors
/// What the API gives.
pub async fn run(ctx: &Ctx, command: TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create { purpose, name, labels, ttl, role, change } => {
            create(ctx, purpose, name, &labels, ttl, role, &change).await
        }
        TokenCommand::List { page } => list(ctx, page.limit).await,
        TokenCommand::Revoke { token_id, change } => {
            let request =
                v1::RevokeTokenRequest { token_id: token_id.clone(), options: Some(change.options()) };
            let answer = call!(ctx.client()?, FleetServiceClient, revoke_token, request)?;
            let token = answer.enrollment_token.unwrap_or_default();
            render::answer(ctx.global.output, &token, "quorate.v1.EnrollmentToken", None, |_| {
                format!("{} revoked", safe(&token_id))
            })?;
            Ok(exit::DONE)
        }
    }
}

async fn create(
    ctx: &Ctx,
    purpose: Purpose,
    name: Option<String>,
    labels: &[String],
    ttl: std::time::Duration,
    role: Option<String>,
    change: &Change,
) -> Outcome {
    let mut pairs = std::collections::BTreeMap::new();
    for label in labels {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--label {label:?}: write KEY=VALUE")))?;
        pairs.insert(key.to_owned(), value.to_owned());
    }
    let purpose = match purpose {
        Purpose::Agent => v1::TokenPurpose::Agent,
        Purpose::Coordinator => v1::TokenPurpose::Coordinator,
        Purpose::User => v1::TokenPurpose::User,
    };
    let ttl = prost_types::Duration::try_from(ttl).map_err(|e| Failure::usage(format!("--ttl: {e}")))?;
    let request = v1::CreateTokenRequest {
        purpose: purpose.into(),
        name: name.unwrap_or_default(),
        labels: pairs,
        ttl: Some(ttl),
        options: Some(change.options()),
        access_role: role.unwrap_or_default().to_ascii_uppercase(),
    };
    let answer = call!(ctx.client()?, FleetServiceClient, create_token, request)?;
    render::answer(ctx.global.output, &answer, "quorate.v1.CreateTokenResponse", None, |_| {
        answer.token.clone()
    })?;
    talk("It works once. Keep it in a file of mode 0600; it is not shown again.");
    Ok(exit::DONE)
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let (tokens, token) = pages(limit, |page_token, page_size| {
        let client = &client;
        async move {
            let request = v1::ListTokensRequest { page_size, page_token };
            let answer = call!(client, FleetServiceClient, list_tokens, request)?;
            Ok((answer.tokens, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListTokensResponse { tokens, next_page_token: token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListTokensResponse", Some("tokens"), |_| {
        let mut columns = Columns::new(&["id", "purpose", "name", "state", "by"]);
        for token in &answer.tokens {
            let left = token.expires.as_ref().map_or(0, |t| t.seconds - jiff::Timestamp::now().as_second());
            let state = match (token.revoked, token.used_by.is_empty(), left > 0) {
                (true, ..) => "revoked".to_owned(),
                (_, false, _) => format!("used by {}", safe(&token.used_by)),
                (.., true) => {
                    format!(
                        "valid for {}",
                        quorate_model::DurationMs::from_secs(u64::try_from(left).unwrap_or(0))
                    )
                }
                (.., false) => "expired".to_owned(),
            };
            columns.row([
                safe(&token.token_id),
                title(&json::word("quorate.v1.TokenPurpose", token.purpose)),
                dash(&token.name),
                state,
                dash(&token.created_by),
            ]);
        }
        columns.finish("No tokens.")
    })?;
    Ok(exit::DONE)
}
