//! `quorate diff`: what a fleet file would change.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Ctx, Outcome};
use crate::client::Client;
use crate::failure::{Failure, exit};
use crate::files::canon::{self, Change, Line};
use crate::files::kinds::Usage;
use crate::files::{self, Document};
use crate::render::style::{self, safe};
use crate::render::{self, talk};

/// Flags of `diff`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  quorate diff -f fleet.yaml\n  quorate diff -f fleet/ --detailed-exitcode   # 8: something would change\n  quorate diff -f fleet.yaml -o json | jq '.changes[] | select(.change != \"NONE\").name'"
)]
pub struct DiffArgs {
    /// Fleet file, or a folder of .yaml, .yml and .json files; `-` for standard input; may be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Exit code 8 when something would change
    #[arg(long)]
    detailed_exitcode: bool,
}

/// One document and what it would change.
pub(super) struct Difference<'a> {
    document: &'a Document,
    change: Change,
    lines: Vec<Line>,
}

/// Runs it.
///
/// # Errors
/// Exit code 2 for an invalid file, before anything is asked; otherwise what the API gives.
pub async fn run(ctx: &Ctx, args: DiffArgs) -> Outcome {
    let documents = files::declared(&args.files, None)?;
    let found = compare(ctx, &ctx.client()?, &documents).await?;
    if ctx.global.output.is_table() {
        let shown: Vec<String> = found.iter().map(Difference::text).collect();
        render::print(&shown.join("\n"))?;
    } else {
        let changes: Vec<Value> = found.iter().map(Difference::json).collect();
        render::structured(ctx.global.output, json!({ "changes": changes }), Some("changes"))?;
    }
    let changed = found.iter().filter(|one| one.change != Change::None).count();
    talk(&format!("{} document(s), {changed} would change", found.len()));
    Ok(if args.detailed_exitcode && changed > 0 { exit::PENDING } else { exit::DONE })
}

/// Compares every document with what is stored.
///
/// # Errors
/// What the API gives.
pub(super) async fn compare<'a>(
    ctx: &Ctx,
    client: &Client,
    documents: &'a [Document],
) -> Result<Vec<Difference<'a>>, Failure> {
    let mut found = Vec::new();
    for document in documents {
        let stored = match document.kind.usage {
            Usage::Declared { get, apply: _ } => get(client, document.name.clone(), ctx.global.consistency())
                .await
                .map_err(|e| document.placed(e))?,
            Usage::Started(_) => None,
        };
        let (change, lines) = canon::difference(document.kind, stored.as_deref(), &document.canonical()?)?;
        found.push(Difference { document, change, lines });
    }
    Ok(found)
}

impl Difference<'_> {
    /// As a unified diff, coloured where anstream lets colour through.
    pub(super) fn text(&self) -> String {
        let title = safe(&self.document.title());
        let head = match self.change {
            Change::None => return format!("{title}: unchanged"),
            Change::Create => format!("{title}: would be created"),
            Change::Update => format!("{title}: would change"),
        };
        let lines = self.lines.iter().map(|line| {
            let text = shown(&line.text());
            match line {
                Line::Place(_) => style::paint(&text, anstyle::AnsiColor::Cyan),
                Line::Same(_) => text,
                Line::Gone(_) => style::paint(&text, anstyle::AnsiColor::Red),
                Line::New(_) => style::paint(&text, anstyle::AnsiColor::Green),
            }
        });
        std::iter::once(style::bold(&head)).chain(lines).collect::<Vec<_>>().join("\n")
    }

    /// As the contract shows it.
    pub(super) fn json(&self) -> Value {
        let lines: Vec<String> = self.lines.iter().map(Line::text).collect();
        json!({
            "kind": self.document.kind.word,
            "name": self.document.name,
            "change": self.change.word(),
            "diff": lines,
        })
    }
}

/// A line as it stands, unless something in it would drive the terminal.
fn shown(line: &str) -> String {
    let safe_line = safe(line);
    // Escaping doubles backslashes, which do no harm here.
    if safe_line.replace("\\\\", "\\") == line { line.to_owned() } else { safe_line }
}
