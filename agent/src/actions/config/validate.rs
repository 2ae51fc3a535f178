//! `config.validate`: brings a content in, has the service's own check look at it, and compares it with what is in place.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use quorate_model::config::CONFIG_MAX_BYTES;
use quorate_model::{ActionOutcome, HookName, InstanceId, Reason, Release, ReleaseReceipt, ServiceName};

use super::diff::{Difference, compare};
use super::file_of;
use super::place::{Found, Place};
use super::record::{Staged, Store, digest_of};
use crate::actions::release::stage;
use crate::actions::{ActionContext, ActionError};

/// Longest run of a check that the host gives no time of its own.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// `config.validate`. What serves is not touched.
pub(in crate::actions) async fn validate(
    context: &ActionContext,
    service: &ServiceName,
    release: &Release,
) -> Result<ActionOutcome, ActionError> {
    context.service(service)?;
    let spec = file_of(release)?;
    let place = Place::new(&context.install.configs, &spec.path)?;
    if !(1..=CONFIG_MAX_BYTES).contains(&release.size) {
        return Err(ActionError::invalid("size", "it is no size of a configuration file"));
    }
    let store = Store::new(&context.releases_dir, place.path());
    let digest = release.artifact.as_str();
    let (mut copy, trust) = stage::bring(context, release).await?;
    let mut bytes = Vec::new();
    let read = (&mut copy.file).take(CONFIG_MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| ActionError::io("reading", &copy.path, e))?;
    drop(copy);
    if digest_of(&bytes) != digest {
        let why = "its bytes are not what was declared".to_owned();
        return Err(ActionError::BadArtifact { why });
    }
    let candidate = store.keep(digest, &bytes)?;
    let checked = match &spec.check {
        Some(hook) => {
            check(context, service, hook, &candidate, place.path()).await?;
            format!("passed {hook}")
        }
        None => "checked by nobody".to_owned(),
    };
    let found = place.read()?;
    let difference = compared(&place, found.as_ref(), bytes, spec.sensitive).await?;
    let mut record = store.load()?;
    let staged = Staged {
        version: release.version.to_string(),
        signed_by: trust.name().to_owned(),
        key: trust.key().to_owned(),
        against: found.as_ref().map(|found| found.digest.clone()),
        at_ms: context.clock.wall().0,
    };
    record.staged.insert(digest.to_owned(), staged.clone());
    store.store(&mut record)?;
    let told = words(&place, found.as_ref(), digest, &difference);
    let whole = difference.text.as_bytes();
    Ok(ActionOutcome {
        message: format!("{} {} {checked}; {told}", spec.name, release.version),
        output_tail: difference.head(),
        output_bytes: whole.len() as u64,
        output_sha256: if whole.is_empty() { String::new() } else { digest_of(whole) },
        release: Some(ReleaseReceipt {
            version: staged.version,
            artifact: digest.to_owned(),
            previous: record.version(staged.against.as_deref()),
            signed_by: staged.signed_by,
            replaces: staged.against.unwrap_or_default(),
        }),
        ..ActionOutcome::default()
    })
}

fn words(place: &Place, found: Option<&Found>, digest: &str, difference: &Difference) -> String {
    let path = place.path().display();
    match found {
        Some(found) if found.digest == digest => format!("{path} holds it already"),
        Some(found) => {
            let short = found.digest.get(..12).unwrap_or_default();
            format!("{} against {path}, sha256 {short}…", difference.words())
        }
        None => format!("{}, {path} does not exist yet", difference.words()),
    }
}

/// Has the service's own check look at the candidate. What it refuses is not staged.
async fn check(
    context: &ActionContext,
    service: &ServiceName,
    hook: &HookName,
    candidate: &Path,
    target: &Path,
) -> Result<(), ActionError> {
    context.check("waiting to check the candidate")?;
    let instance = InstanceId { node: context.node.clone(), service: service.clone() };
    let limit = CHECK_LIMIT.min(Duration::from_millis(context.remaining().0));
    let report = context.hooks.check(hook, &instance, limit, candidate, target).await;
    let report = report.map_err(|e| ActionError::port(format!("running the check {hook}"), e))?;
    if report.ok {
        return Ok(());
    }
    if context.cancel.is_cancelled() {
        return Err(ActionError::Canceled("checking the candidate"));
    }
    let (hook, why, output_tail) = (hook.clone(), report.ended, report.output_tail);
    Err(ActionError::CheckRefused { hook, why, output_tail })
}

/// A comparison of a large file takes its time: off the helper's own threads.
async fn compared(
    place: &Place,
    found: Option<&Found>,
    bytes: Vec<u8>,
    sensitive: bool,
) -> Result<Difference, ActionError> {
    let (path, old) = (place.path().display().to_string(), found.map(|found| found.bytes.clone()));
    let done = tokio::task::spawn_blocking(move || compare(&path, old.as_deref(), &bytes, sensitive)).await;
    done.map_err(|e| ActionError::Refused { reason: Reason::Internal, why: format!("comparing ended: {e}") })
}
