//! `quorate apply`: fleet files, one or several YAML or JSON documents with `kind: Service|ServiceGroup|Freeze|Rollout`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use serde_json::Value;

use super::{Ctx, Outcome};
use crate::args::Change;
use crate::call;
use crate::failure::{Failure, exit};
use crate::render::json;
use crate::render::style::safe;
use crate::render::{self, talk};

/// Largest fleet file; a thousand services fit.
const MAX_BYTES: u64 = 1024 * 1024;
/// Most documents in one file.
const MAX_DOCUMENTS: usize = 1_000;

/// Flags of `apply`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  quorate apply -f fleet.yaml --dry-run\n  quorate apply -f fleet.yaml --reason 'new group'\n  quorate apply -f fleet.yaml --dry-run --detailed-exitcode   # 8: something would change"
)]
pub struct ApplyArgs {
    /// Fleet file; `-` for standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    file: PathBuf,
    /// Exit code 8 when something changed, or with --dry-run would change
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    change: Change,
}

impl ApplyArgs {
    /// Those of a noun that has flags of its own.
    #[must_use]
    pub const fn of(file: PathBuf, change: Change) -> Self {
        Self { file, detailed_exitcode: false, change }
    }
}

/// What a fleet file declares.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// Its services, in order.
    pub services: Vec<v1::ServiceSpec>,
    /// Its groups, in order.
    pub groups: Vec<v1::GroupSpec>,
    /// Its freezes, in order.
    pub freezes: Vec<v1::FreezeSpec>,
}

/// Reads a fleet file; `only` one kind of document, when that is said.
///
/// # Errors
/// Exit code 2 for an invalid file.
pub fn declared(path: &Path, only: Option<&str>) -> Result<Declared, Failure> {
    let mut found = Declared::default();
    for (number, (kind, value)) in read(path)?.into_iter().enumerate() {
        if only.is_some_and(|only| only != kind) {
            return Err(at(path, number, &format!("kind {kind:?} does not belong here")));
        }
        let name_it = |e: Failure| at(path, number, &e.what);
        match kind.as_str() {
            "Service" => {
                found.services.push(json::from_json(value, "quorate.v1.ServiceSpec").map_err(name_it)?);
            }
            "ServiceGroup" => {
                found.groups.push(json::from_json(value, "quorate.v1.GroupSpec").map_err(name_it)?);
            }
            "Freeze" => {
                found.freezes.push(json::from_json(value, "quorate.v1.FreezeSpec").map_err(name_it)?);
            }
            "Rollout" => {
                return Err(at(path, number, "a Rollout is started, not applied")
                    .with_hint(format!("quorate rollout start -f {}", path.display())));
            }
            other => {
                return Err(at(
                    path,
                    number,
                    &format!("kind {other:?} is not known; known are Service, ServiceGroup, Freeze, Rollout"),
                ));
            }
        }
    }
    Ok(found)
}

/// Declares every document of a file; services before the groups that use them, and both before the freezes that name them.
///
/// # Errors
/// Exit code 2 for an invalid file, before anything is sent; otherwise what the API gives.
pub async fn run(ctx: &Ctx, args: ApplyArgs, only: Option<&str>) -> Outcome {
    let Declared { services, groups, freezes } = declared(&args.file, only)?;
    let client = ctx.client()?;
    let mut results = Vec::new();
    for spec in &services {
        let name = format!("service {}", spec.name);
        let options = Some(options(&args.change, &results));
        let request = v1::ApplyServiceRequest { spec: Some(spec.clone()), options };
        let answer = call!(client, GroupServiceClient, apply_service, request)?;
        results.push((name, answer.changed));
    }
    for spec in groups {
        let name = format!("group {}", spec.name);
        // A dry run has declared nothing: the group is judged together with its service of this file.
        let own = |service: &&v1::ServiceSpec| args.change.dry_run && service.name == spec.service;
        let with_service = services.iter().find(own).cloned();
        let options = Some(options(&args.change, &results));
        let request = v1::ApplyGroupRequest { spec: Some(spec), options, with_service };
        let answer = call!(client, GroupServiceClient, apply_group, request)?;
        results.push((name, answer.changed));
    }
    for spec in freezes {
        let name = format!("freeze {}", spec.name);
        let options = Some(options(&args.change, &results));
        let request = v1::ApplyFreezeRequest { spec: Some(spec), options, ..Default::default() };
        let answer = call!(client, ScheduleServiceClient, apply_freeze, request)?;
        results.push((name, answer.changed));
    }
    told(ctx, &args.change, &results)?;
    let changed = results.iter().any(|(_, changed)| *changed);
    Ok(if args.detailed_exitcode && changed { exit::PENDING } else { exit::DONE })
}

/// A request id given by the caller stands for the whole file: each document gets its own, derived from it.
fn options(change: &Change, done: &[(String, bool)]) -> v1::ChangeOptions {
    let mut options = change.options();
    if change.request_id.is_some() && !done.is_empty() {
        options.request_id = format!("{}.{}", options.request_id, done.len());
    }
    options
}

fn told(ctx: &Ctx, change: &Change, results: &[(String, bool)]) -> Result<(), Failure> {
    let word = |changed: bool| match (change.dry_run, changed) {
        (true, true) => "would change",
        (false, true) => "applied",
        (_, false) => "unchanged",
    };
    if ctx.global.output.is_table() {
        let lines: Vec<String> = results.iter().map(|(n, c)| format!("{} {}", safe(n), word(*c))).collect();
        render::print(&lines.join("\n"))?;
    } else {
        let items: Vec<Value> =
            results.iter().map(|(n, c)| serde_json::json!({"name": n, "changed": c})).collect();
        render::structured(ctx.global.output, serde_json::json!({"results": items}), Some("results"))?;
    }
    let changed = results.iter().filter(|(_, c)| *c).count();
    talk(&format!("{} document(s), {changed} changed", results.len()));
    Ok(())
}

/// The one `kind: Rollout` document of a file.
///
/// # Errors
/// Exit code 2 for an invalid file.
pub fn rollout_file(path: &Path) -> Result<v1::WorkSpec, Failure> {
    let mut documents = read(path)?;
    match (documents.pop(), documents.is_empty()) {
        (Some((kind, value)), true) if kind == "Rollout" => {
            json::from_json(value, "quorate.v1.WorkSpec").map_err(|e| at(path, 0, &e.what))
        }
        _ => {
            Err(Failure::usage(format!("{}: one document with `kind: Rollout` is expected", path.display()))
                .with_hint("kind: Rollout\nrolling: { group: ledger, kind: restart }"))
        }
    }
}

fn at(path: &Path, number: usize, why: &str) -> Failure {
    Failure::usage(format!("{}: document {}: {why}", path.display(), number.saturating_add(1)))
}

fn read(path: &Path) -> Result<Vec<(String, Value)>, Failure> {
    let fail = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| fail(e.to_string()))?;
    } else {
        let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail("larger than 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| fail(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|e| fail(e.to_string()))?;
    if documents.len() > MAX_DOCUMENTS {
        return Err(fail(format!("more than {MAX_DOCUMENTS} documents")));
    }
    let mut found = Vec::new();
    for (number, document) in documents.into_iter().enumerate() {
        let Value::Object(mut object) = document else {
            return Err(at(path, number, "a document is a map that begins with `kind:`"));
        };
        match object.remove("kind") {
            Some(Value::String(kind)) => found.push((kind, Value::Object(object))),
            Some(_) | None => return Err(at(path, number, "`kind:` is missing or no text")),
        }
    }
    if found.is_empty() {
        return Err(fail("it holds no document".to_owned()));
    }
    Ok(found)
}
