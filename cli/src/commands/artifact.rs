//! `quorate artifact`.

mod push;
mod source;

use std::path::PathBuf;

use clap::Subcommand;
use quorate_model::Digest;
use quorate_proto::v1;
use quorate_proto::v1::artifact_service_client::ArtifactServiceClient;

use super::{Ctx, Outcome, pages};
use crate::args::{Change, Page};
use crate::client::Client;
use crate::failure::{Failure, exit};
use crate::render;
use crate::render::style::{self, safe};
use crate::render::table::{self, Columns, dash};
use crate::{call, confirm};

/// Fewest digits of a digest that name an artifact.
const PREFIX_MIN: usize = 8;
/// Most artifacts named in an error.
const NAMED: usize = 5;

/// Artifacts: files that hosts install, known by their sha256
#[derive(Subcommand, Clone, Debug)]
pub enum ArtifactCommand {
    /// Pushes a file to the coordinators; goes on where an interrupted push stopped
    #[command(
        after_help = "Examples:\n  quorate artifact push ledger-1.9.2.tar.zst\n  quorate artifact push ledger-1.9.2.tar.zst --signature release.minisig -o json"
    )]
    Push {
        /// The file
        file: PathBuf,
        /// minisign signature; FILE.minisig when that exists
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        #[command(flatten)]
        change: Change,
    },
    /// Every artifact, newest first
    #[command(
        alias = "ls",
        after_help = "Examples:\n  quorate artifact list\n  quorate artifact list -o name"
    )]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One artifact, and the members that have it
    #[command(
        after_help = "Examples:\n  quorate artifact show ledger-1.9.2.tar.zst\n  quorate artifact show 9c1f03aa"
    )]
    Show {
        /// Its digest, at least 8 digits of it, or its file name
        artifact: String,
    },
    /// Takes an artifact off the list; every coordinator removes its bytes
    #[command(alias = "rm", after_help = "Examples:\n  quorate artifact delete ledger-1.9.1.tar.zst --yes")]
    Delete {
        /// Its digest, at least 8 digits of it, or its file name
        artifact: String,
        #[command(flatten)]
        change: Change,
    },
}

/// Runs it.
///
/// # Errors
/// What the API, the file or the terminal gives.
pub async fn run(ctx: &Ctx, command: ArtifactCommand) -> Outcome {
    match command {
        ArtifactCommand::Push { file, signature, change } => {
            let artifact = push::push(ctx, &file, signature.as_deref(), &change).await?;
            let would = if change.dry_run { "would be " } else { "" };
            answer(ctx, &artifact, |artifact| {
                format!("{} {would}pushed as {}", safe(&artifact.file_name), safe(&artifact.digest))
            })
        }
        ArtifactCommand::List { page } => list(ctx, page.limit).await,
        ArtifactCommand::Show { artifact } => {
            let found = find(ctx, &ctx.client()?, &artifact).await?;
            answer(ctx, &found, detail)
        }
        ArtifactCommand::Delete { artifact, change } => delete(ctx, &artifact, &change).await,
    }
}

fn answer(ctx: &Ctx, artifact: &v1::Artifact, text: impl FnOnce(&v1::Artifact) -> String) -> Outcome {
    render::answer(ctx.global.output, artifact, "quorate.v1.Artifact", None, |_| text(artifact))?;
    Ok(exit::DONE)
}

async fn all(ctx: &Ctx, client: &Client, limit: Option<u32>) -> Result<(Vec<v1::Artifact>, String), Failure> {
    let consistency = ctx.global.consistency();
    pages(limit, |page_token, page_size| async move {
        let request = v1::ListArtifactsRequest { page_size, page_token, consistency };
        let answer = call!(client, ArtifactServiceClient, list_artifacts, request)?;
        Ok((answer.artifacts, answer.next_page_token))
    })
    .await
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let (artifacts, token) = all(ctx, &ctx.client()?, limit).await?;
    let answer = v1::ListArtifactsResponse { artifacts, next_page_token: token };
    let name = "quorate.v1.ListArtifactsResponse";
    render::answer(ctx.global.output, &answer, name, Some("artifacts"), |wide| {
        let mut columns = Columns::new(&["digest", "file", "size", "signed", "held by", "age", "by"]);
        for artifact in &answer.artifacts {
            let digest = safe(&artifact.digest);
            columns.row([
                if wide { digest } else { digest.chars().take(12).collect() },
                safe(&artifact.file_name),
                table::bytes(artifact.size),
                if artifact.signature.is_empty() { "no" } else { "yes" }.to_owned(),
                dash(&artifact.holders.join(",")),
                table::age(artifact.created.as_ref()),
                dash(&artifact.created_by),
            ]);
        }
        columns.finish("No artifacts. `quorate artifact push FILE` brings the first.")
    })?;
    Ok(exit::DONE)
}

fn detail(artifact: &v1::Artifact) -> String {
    let signature = match artifact.signature.as_str() {
        "" => "none".to_owned(),
        text => text.lines().map(safe).collect::<Vec<_>>().join("\n           "),
    };
    format!(
        "{}\nsha256     {}\nSize       {} ({} bytes)\nHeld by    {}\nPushed     {} ago by {}\nSignature  {signature}",
        style::bold(&safe(&artifact.file_name)),
        safe(&artifact.digest),
        table::bytes(artifact.size),
        artifact.size,
        dash(&artifact.holders.join(", ")),
        table::age(artifact.created.as_ref()),
        dash(&artifact.created_by),
    )
}

/// The one artifact that a person means.
async fn find(ctx: &Ctx, client: &Client, text: &str) -> Result<v1::Artifact, Failure> {
    if Digest::new(text).is_ok() {
        let consistency = ctx.global.consistency();
        let request = v1::GetArtifactRequest { digest: text.to_owned(), consistency };
        let answer = call!(client, ArtifactServiceClient, get_artifact, request)?;
        return Ok(answer.artifact.unwrap_or_default());
    }
    let (artifacts, _) = all(ctx, client, None).await?;
    choose(artifacts, text)
}

fn is_meant(artifact: &v1::Artifact, text: &str) -> bool {
    artifact.file_name == text || text.len() >= PREFIX_MIN && artifact.digest.starts_with(text)
}

fn choose(artifacts: Vec<v1::Artifact>, text: &str) -> Result<v1::Artifact, Failure> {
    let mut meant: Vec<_> = artifacts.into_iter().filter(|artifact| is_meant(artifact, text)).collect();
    if meant.len() > 1 {
        let mut failure = Failure::usage(format!("{text} names {} artifacts", meant.len()))
            .with_hint("name one by its digest");
        let lines = meant.iter().take(NAMED).map(|a| (a.digest.clone(), a.file_name.clone()));
        failure.why = lines.collect();
        return Err(failure);
    }
    meant.pop().ok_or_else(|| {
        Failure::failed(format!("there is no artifact {text}"))
            .with_code(exit::NOT_FOUND)
            .with_hint("give its digest, at least 8 digits of it, or its file name: quorate artifact list")
    })
}

async fn delete(ctx: &Ctx, text: &str, change: &Change) -> Outcome {
    let client = ctx.client()?;
    let found = find(ctx, &client, text).await?;
    let question = format!(
        "Delete {} ({}, sha256 {}): every coordinator removes it",
        safe(&found.file_name),
        table::bytes(found.size),
        safe(&found.digest)
    );
    confirm::ask(&ctx.global, change, &question)?;
    let request = v1::DeleteArtifactRequest { digest: found.digest.clone(), options: Some(change.options()) };
    let gone = call!(client, ArtifactServiceClient, delete_artifact, request)?.artifact.unwrap_or(found);
    let would = if change.dry_run { "would be " } else { "" };
    answer(ctx, &gone, |artifact| {
        format!("{} {would}deleted ({})", safe(&artifact.file_name), safe(&artifact.digest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(digest: &str, file_name: &str) -> v1::Artifact {
        let digest = format!("{digest:0<64}");
        v1::Artifact { digest, file_name: file_name.into(), ..v1::Artifact::default() }
    }

    #[test]
    fn a_prefix_or_a_file_name_means_one_artifact_or_is_refused() {
        let all = || {
            vec![artifact("9c1f03aa11", "a.tar"), artifact("9c1f03aa22", "b.tar"), artifact("00", "b.tar")]
        };
        assert_eq!(choose(all(), "a.tar").unwrap().digest, artifact("9c1f03aa11", "").digest);
        assert_eq!(choose(all(), "9c1f03aa2").unwrap().file_name, "b.tar");
        for (text, code) in [
            ("b.tar", exit::USAGE),
            ("9c1f03aa", exit::USAGE),
            ("9c1f03", exit::NOT_FOUND),
            ("", exit::NOT_FOUND),
            ("c.tar", exit::NOT_FOUND),
        ] {
            assert_eq!(choose(all(), text).unwrap_err().code, code, "{text:?}");
        }
        assert_eq!(choose(all(), "b.tar").unwrap_err().why.len(), 2);
    }
}
