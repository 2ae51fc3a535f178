//! The blocking half of `backup.create`: measure, read, compare, seal, verify, publish.

use std::sync::Arc;

use quorate_model::backup::BackupReceipt;

use super::copy::Copier;
use super::manifest::Header;
use super::plan::{self, Effort};
use super::store::{Names, Store};
use super::verify::{self, Verified};
use super::walk::{Entry, Tree, changed, path_of};
use super::writer::Writer;
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::Kind;

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    pub(super) entries: u64,
    pub(super) content_bytes: u64,
}

/// Counts a tree, before anything is paused.
pub(super) fn measure(tree: &Tree, job: &mut Job) -> Result<Measure, ActionError> {
    let mut sum = Measure::default();
    tree.walk(job, &mut |_, at| {
        sum.entries += 1;
        if at.seen.kind == Kind::File {
            // Holes of a sparse file read as zeros and compress to nothing.
            sum.content_bytes = sum.content_bytes.saturating_add(at.seen.size.min(at.seen.allocated));
        }
        Ok(())
    })?;
    Ok(sum)
}

/// Reads the whole tree into a new archive; a change on the way is met by doing all of it once more.
pub(super) fn read(
    tree: &Tree,
    store: &Arc<Store>,
    names: &Names,
    header: &Header,
    effort: Effort,
    job: &mut Job,
) -> Result<Writer, ActionError> {
    match attempt(tree, store, names, header, effort, job) {
        Err(ActionError::Changed { .. }) => attempt(tree, store, names, header, effort, job),
        done => done,
    }
}

fn attempt(
    tree: &Tree,
    store: &Arc<Store>,
    names: &Names,
    header: &Header,
    effort: Effort,
    job: &mut Job,
) -> Result<Writer, ActionError> {
    let mut out = Writer::open(store, names, header, effort)?;
    let mut copier = Copier::new();
    let mut stamps: Vec<u64> = Vec::new();
    tree.walk(job, &mut |job, at| {
        if !at.is_store {
            stamps.push(at.stamp());
        }
        copier.entry(job, &mut out, at)
    })?;
    compare(tree, &stamps, job)?;
    Ok(out)
}

/// Walks again: every entry must be as it was when it was read.
fn compare(tree: &Tree, stamps: &[u64], job: &mut Job) -> Result<(), ActionError> {
    let mut rest = stamps.iter();
    let mut last = Vec::new();
    tree.walk(job, &mut |_, at: &Entry<'_>| {
        if at.is_store {
            return Ok(());
        }
        at.member.clone_into(&mut last);
        match rest.next() {
            Some(stamp) if *stamp == at.stamp() => Ok(()),
            Some(_) | None => Err(changed(at.member, "it changed while other files were read")),
        }
    })?;
    match rest.next() {
        None => Ok(()),
        Some(_) => Err(ActionError::Changed { path: path_of(&last), why: "something after it vanished" }),
    }
}

/// Seals, reads again in full, and only then publishes.
pub(super) fn finish(
    out: Writer,
    store: &Store,
    header: &Header,
    job: &mut Job,
) -> Result<BackupReceipt, ActionError> {
    let sealed = out.seal(job, header.created_ms)?;
    let names = sealed.part();
    let verified = verify::check(store, &names.part, job)?;
    let path = store.path(&names.part);
    let damaged = |why: &str| ActionError::Damaged { path: path.clone(), why: why.to_owned() };
    if verified.sha256 != sealed.sha256 || verified.size_bytes != sealed.size_bytes {
        return Err(damaged("it reads back differently from what was written"));
    }
    if verified.manifest_sha256 != sealed.manifest_sha256 || verified.totals != sealed.totals {
        return Err(damaged("its manifest reads back differently"));
    }
    sealed.publish()?;
    Ok(receipt(store, names, &verified))
}

/// A published archive of this id, if there is one: it must be whole and be the one that was asked for.
pub(super) fn existing(
    store: &Store,
    names: &Names,
    wanted: &Header,
    job: &mut Job,
) -> Result<Option<BackupReceipt>, ActionError> {
    let path = store.path(&names.archive);
    if store.folder.look(&names.archive).map_err(|e| ActionError::io("looking at", &path, e))?.is_none() {
        return Ok(None);
    }
    let verified = verify::check(store, &names.archive, job)?;
    let found = &verified.header;
    let differs = [
        (found.backup != wanted.backup, "backup id"),
        (found.service != wanted.service, "service"),
        (found.node != wanted.node, "node"),
        (found.paths != wanted.paths || found.exclude != wanted.exclude, "list of paths"),
    ];
    if let Some((_, what)) = differs.iter().find(|(differs, _)| *differs) {
        return Err(ActionError::Occupied { path, why: format!("it has another {what}") });
    }
    Ok(Some(receipt(store, names, &verified)))
}

/// What to report about a verified archive.
pub(super) fn receipt(store: &Store, names: &Names, verified: &Verified) -> BackupReceipt {
    BackupReceipt {
        path: store.path(&names.archive).to_string_lossy().into_owned(),
        size_bytes: verified.size_bytes,
        sha256: verified.sha256.clone(),
        manifest_sha256: verified.manifest_sha256.clone(),
        files: verified.totals.files,
        content_bytes: verified.totals.content_bytes,
        ..BackupReceipt::default()
    }
}

/// The size that must be free before anything is written.
pub(super) fn needed(measure: Measure) -> u64 {
    plan::needed_bytes(measure.content_bytes, measure.entries)
}
