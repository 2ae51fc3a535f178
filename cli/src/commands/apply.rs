//! `quorate apply`: declares what fleet files hold.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::diff::{self, Difference};
use super::{Ctx, Outcome};
use crate::args::Change;
use crate::client::Client;
use crate::failure::{Failure, exit};
use crate::files::kinds::{Turn, Usage};
use crate::files::{self, Document};
use crate::render::style::safe;
use crate::render::{self, talk};

/// Flags of `apply`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Everything is read and checked, here and by the coordinators, before the first document is applied.\n\nExamples:\n  quorate apply -f fleet.yaml --dry-run                        # shows the difference\n  quorate apply -f fleet.yaml --reason 'new group'\n  quorate apply -f services/ -f groups.yaml\n  quorate apply -f fleet.yaml --dry-run --detailed-exitcode   # 8: something would change"
)]
pub struct ApplyArgs {
    /// Fleet file, or a folder of .yaml, .yml and .json files; `-` for standard input; may be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Exit code 8 when something changed, or with --dry-run would change
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    change: Change,
}

impl ApplyArgs {
    /// Those of a noun that has flags of its own.
    #[must_use]
    pub fn of(file: PathBuf, change: Change) -> Self {
        Self { files: vec![file], detailed_exitcode: false, change }
    }
}

/// Declares every document of the files; services before the groups that use them, and both before the freezes that name them.
///
/// # Errors
/// Exit code 2 for an invalid file, before anything is sent; otherwise what the API gives.
pub async fn run(ctx: &Ctx, args: ApplyArgs, only: Option<&str>) -> Outcome {
    let documents = files::declared(&args.files, only)?;
    let client = ctx.client()?;
    let mut run =
        Run { ctx, client: &client, documents: &documents, change: &args.change, results: Vec::new() };
    let checked = run.check().await?;
    if args.change.dry_run {
        run.results = checked;
        run.show_dry(&diff::compare(ctx, &client, &documents).await?)?;
    } else {
        run.apply().await?;
        run.show()?;
    }
    let changed = run.results.iter().filter(|changed| **changed).count();
    talk(&format!("{} document(s), {changed} changed", run.results.len()));
    Ok(if args.detailed_exitcode && changed > 0 { exit::PENDING } else { exit::DONE })
}

struct Run<'a> {
    ctx: &'a Ctx,
    client: &'a Client,
    documents: &'a [Document],
    change: &'a Change,
    /// Whether each document so far changed anything.
    results: Vec<bool>,
}

impl Run<'_> {
    /// Lets the coordinators judge every document. A later one is judged as if only its own service were declared before
    /// it; what else they change of one another comes out when they are applied.
    async fn check(&self) -> Result<Vec<bool>, Failure> {
        let mut changed = Vec::new();
        for (index, document) in self.documents.iter().enumerate() {
            let asked = self.send(document, index, true).await;
            changed.push(asked.map_err(|failure| document.placed(failure))?);
        }
        Ok(changed)
    }

    async fn apply(&mut self) -> Result<(), Failure> {
        for (index, document) in self.documents.iter().enumerate() {
            match self.send(document, index, false).await {
                Ok(changed) => {
                    self.results.push(changed);
                    let line = format!("{} {}", safe(&document.title()), word(changed));
                    if self.ctx.global.output.is_table() { render::print(&line)? } else { talk(&line) }
                }
                Err(failure) => return Err(self.stopped(document.placed(failure))),
            }
        }
        Ok(())
    }

    async fn send(&self, document: &Document, index: usize, validate_only: bool) -> Result<bool, Failure> {
        let Usage::Declared { get: _, apply } = document.kind.usage else { return Ok(false) };
        let mut options = self.change.options();
        options.validate_only = validate_only;
        // A request id given by the caller stands for all files: each document gets its own, derived from it.
        if self.change.request_id.is_some() && index > 0 {
            options.request_id = format!("{}.{index}", options.request_id);
        }
        apply(self.client, Turn { document, all: self.documents, options }).await
    }

    /// What was applied before the one that was not.
    fn stopped(&self, failure: Failure) -> Failure {
        let done: Vec<String> = self
            .documents
            .iter()
            .zip(&self.results)
            .filter(|(_, changed)| **changed)
            .map(|(document, _)| document.title())
            .collect();
        if done.is_empty() {
            return failure;
        }
        let mut failure = failure.clone().with_code(files::after_changes(failure.code));
        failure.why.push(("applied before".to_owned(), done.join(", ")));
        failure
    }

    fn show(&self) -> Result<(), Failure> {
        if self.ctx.global.output.is_table() {
            return Ok(());
        }
        let items = self.documents.iter().zip(&self.results).map(|(document, changed)| {
            json!({"name": document.title(), "kind": document.kind.word, "changed": changed})
        });
        let items: Vec<Value> = items.collect();
        render::structured(self.ctx.global.output, json!({ "results": items }), Some("results"))
    }

    fn show_dry(&self, found: &[Difference<'_>]) -> Result<(), Failure> {
        if self.ctx.global.output.is_table() {
            let shown: Vec<String> = found.iter().map(Difference::text).collect();
            return render::print(&shown.join("\n"));
        }
        let items = self.documents.iter().zip(&self.results).zip(found).map(|((document, changed), one)| {
            let mut item = one.json();
            item["name"] = Value::String(document.title());
            item["changed"] = Value::Bool(*changed);
            item
        });
        let items: Vec<Value> = items.collect();
        render::structured(self.ctx.global.output, json!({ "results": items }), Some("results"))
    }
}

const fn word(changed: bool) -> &'static str {
    if changed { "applied" } else { "unchanged" }
}
