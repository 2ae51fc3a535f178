//! `backup.create` and `backup.verify`, with the pause around the reading.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::backup::{BackupPolicy, BackupReceipt};
use quorate_model::{ActionOutcome, BackupId, DurationMs, HookName, InstanceId, ObligationId, ServiceName};

use super::manifest::{FORMAT, Header};
use super::plan::{self, Checked, Pause};
use super::store::{Names, Store};
use super::walk::Tree;
use super::{create, verify};
use crate::actions::job::{Task, on_thread};
use crate::actions::{ActionContext, ActionError, Undo};

/// Longest run of a resume hook: long enough for a busy service, short enough that a hanging one is noticed.
const RESUME_MAX: Duration = Duration::from_secs(60);
/// A resume that failed is tried once more at once; after that the obligation's keeper goes on.
const RESUME_TRIES: u32 = 2;

/// Everything that both halves need.
struct Request {
    store: Arc<Store>,
    names: Names,
    header: Header,
    checked: Checked,
    roots: Vec<PathBuf>,
}

/// `backup.create`.
pub(in crate::actions) async fn create(
    context: &ActionContext,
    service: &ServiceName,
    backup: &BackupId,
    policy: &BackupPolicy,
) -> Result<ActionOutcome, ActionError> {
    let begun = context.clock.monotonic();
    let checked = plan::check(policy).map_err(|(field, why)| ActionError::invalid(field, why))?;
    context.service(service)?;
    let request = Arc::new(request(context, service, backup, policy, checked).await?);
    let (found, measure) = prepare(context, &request).await?;
    if let Some(receipt) = found {
        return Ok(outcome(format!("backup {backup} was complete already"), receipt));
    }
    let instance = InstanceId { node: context.node.clone(), service: service.clone() };
    let mut paused = DurationMs::ZERO;
    let writer = match &request.checked.pause {
        None => read(context, &request, measure, DurationMs(u64::MAX)).await?,
        Some(pause) => {
            let (writer, lasted) = paused_read(context, &request, measure, pause, &instance).await?;
            paused = lasted;
            writer
        }
    };
    let shared = Arc::clone(&request);
    let task = Task { total_bytes: measure.content_bytes, ..Task::new("verifying the backup") };
    let work = move |job: &mut _| create::finish(writer, &shared.store, &shared.header, job);
    let mut receipt = on_thread(context, task, work).await?;
    receipt.paused = paused;
    receipt.took = context.clock.monotonic().minus(begun);
    let message =
        format!("backup {backup}: {} files, {} bytes, verified", receipt.files, receipt.content_bytes);
    Ok(outcome(message, receipt))
}

fn outcome(message: String, receipt: BackupReceipt) -> ActionOutcome {
    ActionOutcome { message, backup: Some(receipt), ..ActionOutcome::default() }
}

async fn request(
    context: &ActionContext,
    service: &ServiceName,
    backup: &BackupId,
    policy: &BackupPolicy,
    checked: Checked,
) -> Result<Request, ActionError> {
    let header = Header {
        format: FORMAT,
        backup: backup.to_string(),
        node: context.node.to_string(),
        service: service.to_string(),
        created_ms: context.clock.wall().0,
        paths: policy.paths.clone(),
        exclude: policy.exclude.clone(),
    };
    let dir = context.backup_dir.clone();
    let store =
        on_thread(context, Task::new("opening the folder of backups"), move |_| Store::open(&dir)).await?;
    let roots = context.allowed_roots.clone();
    Ok(Request { store: Arc::new(store), names: Names::new(backup), header, checked, roots })
}

fn tree(request: &Request) -> Result<Tree, ActionError> {
    let store = request.store.identity()?;
    Tree::open(&request.roots, &request.checked.paths, request.checked.exclude.clone(), store)
}

/// A finished backup of this id, or the measure of the tree with enough room for it.
async fn prepare(
    context: &ActionContext,
    request: &Arc<Request>,
) -> Result<(Option<BackupReceipt>, create::Measure), ActionError> {
    let shared = Arc::clone(request);
    let reserve = context.limits.reserve_bytes;
    on_thread(context, Task::new("measuring the backup"), move |job| {
        shared.store.clean()?;
        if let Some(receipt) = create::existing(&shared.store, &shared.names, &shared.header, job)? {
            return Ok((Some(receipt), create::Measure::default()));
        }
        let tree = tree(&shared)?;
        let measure = match create::measure(&tree, job) {
            // Only a count: what vanished meanwhile needs no room.
            Err(ActionError::Changed { .. }) => create::measure(&tree, job)?,
            done => done?,
        };
        shared.store.room_for(create::needed(measure), reserve)?;
        Ok((None, measure))
    })
    .await
}

async fn read(
    context: &ActionContext,
    request: &Arc<Request>,
    measure: create::Measure,
    deadline: DurationMs,
) -> Result<super::writer::Writer, ActionError> {
    let shared = Arc::clone(request);
    let effort = plan::effort(request.checked.level, context.limits.workers);
    let task = Task {
        doing: "reading the files of the backup",
        deadline,
        bytes_per_sec: context.limits.backup_bytes_per_sec,
        total_bytes: measure.content_bytes,
    };
    on_thread(context, task, move |job| {
        create::read(&tree(&shared)?, &shared.store, &shared.names, &shared.header, effort, job)
    })
    .await
}

/// Pauses, reads, resumes. The obligation is durable before the pause; whatever happens after that, writes are resumed.
async fn paused_read(
    context: &ActionContext,
    request: &Arc<Request>,
    measure: create::Measure,
    pause: &Pause,
    instance: &InstanceId,
) -> Result<(super::writer::Writer, DurationMs), ActionError> {
    context.check("waiting to pause")?;
    let id = ObligationId::new(format!("{}:resume", context.execution))
        .map_err(|e| ActionError::invalid("execution", e.to_string()))?;
    let undo = Undo::Hook { hook: pause.resume.clone(), instance: instance.clone() };
    let opened = context.obligations.open(&id, undo, pause.limit).await;
    opened.map_err(|e| ActionError::port("taking on the obligation to resume", e))?;
    let begun = context.clock.monotonic();
    // The keeper resumes by itself when the limit is over: what is read after that moment is not of a paused service.
    let deadline = begun.plus(pause.limit);
    let limit = Duration::from_millis(pause.limit.0);
    let result = match run(context, &pause.pause, instance, limit).await {
        Ok(()) => read(context, request, measure, deadline).await,
        Err(e) => Err(e),
    };
    let over = context.clock.monotonic() >= deadline;
    resume(context, &pause.resume, instance, &id).await?;
    let lasted = context.clock.monotonic().minus(begun);
    let writer = result?;
    if over {
        return Err(ActionError::DeadlineExceeded("reading within the limit of the pause"));
    }
    Ok((writer, lasted))
}

async fn run(
    context: &ActionContext,
    hook: &HookName,
    instance: &InstanceId,
    limit: Duration,
) -> Result<(), ActionError> {
    let ran = context.hooks.run(hook, instance, limit).await;
    let report = ran.map_err(|e| ActionError::port(format!("running the hook {hook}"), e))?;
    if report.ok {
        return Ok(());
    }
    Err(ActionError::Hook { hook: hook.clone(), why: report.ended, output_tail: report.output_tail })
}

/// Undoes the pause and says so to the keeper. Runs also when canceled or late, and when the pause itself failed: a hook that
/// failed may have paused all the same.
async fn resume(
    context: &ActionContext,
    hook: &HookName,
    instance: &InstanceId,
    id: &ObligationId,
) -> Result<(), ActionError> {
    let mut last = None;
    for _ in 0..RESUME_TRIES {
        match run(context, hook, instance, RESUME_MAX).await {
            Ok(()) => {
                last = None;
                break;
            }
            Err(e) => last = Some(e),
        }
    }
    if let Some(error) = last {
        return Err(ActionError::StillPaused { message: error.message() });
    }
    // Undone, yet not written down: the keeper will resume a second time, which is what its hook must bear anyway.
    let discharged = context.obligations.discharge(id).await;
    discharged.map_err(|e| ActionError::port("discharging the obligation to resume", e))
}

/// `backup.verify`.
pub(in crate::actions) async fn check(
    context: &ActionContext,
    backup: &BackupId,
    sha256: &str,
) -> Result<ActionOutcome, ActionError> {
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(ActionError::invalid("sha256", "not 64 lower-case hex digits"));
    }
    let begun = context.clock.monotonic();
    let names = Names::new(backup);
    let (dir, wanted, id) = (context.backup_dir.clone(), sha256.to_owned(), backup.to_string());
    let mut receipt = on_thread(context, Task::new("verifying the backup"), move |job| {
        let store = Store::open(&dir)?;
        let verified = verify::check(&store, &names.archive, job)?;
        let damaged =
            |why: &str| ActionError::Damaged { path: store.path(&names.archive), why: why.to_owned() };
        if verified.sha256 != wanted {
            return Err(damaged(&format!("its sha256 is {}, the catalogue says {wanted}", verified.sha256)));
        }
        if verified.header.backup != id {
            return Err(damaged(&format!("it is backup {}", verified.header.backup)));
        }
        Ok(create::receipt(&store, &names, &verified))
    })
    .await?;
    receipt.took = context.clock.monotonic().minus(begun);
    Ok(outcome(format!("backup {backup} is whole: {} files", receipt.files), receipt))
}
