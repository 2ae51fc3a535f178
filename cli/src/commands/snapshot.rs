//! `quorate cluster snapshot`: the coordinators' whole state as a file, and whether all members hold the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use quorate_common::saved::{SAVED_MAX_BYTES, SavedHeader, decode};
use quorate_proto::v1;
use quorate_proto::v1::admin_service_client::AdminServiceClient;

use super::{Ctx, Outcome};
use crate::args::Change;
use crate::call;
use crate::failure::{Failure, exit};
use crate::render::style::{safe, title};
use crate::render::table::{Columns, dash};
use crate::render::{self, json, talk};

/// Snapshots of the coordinators' state
#[derive(Subcommand, Clone, Debug)]
pub enum SnapshotCommand {
    /// Builds one on the answering member now, in its own directory
    Build {
        #[command(flatten)]
        change: Change,
    },
    /// Saves the whole state to a file of mode 0600: keep it as you keep the coordinators' disks
    #[command(
        after_help = "Applications' backups are not in it, nor the CA's key: keep a copy of ca.pem and ca.key of a member's tls directory with it.\n\nExamples:\n  quorate cluster snapshot save quorate.snapshot --reason nightly\n  quorate cluster snapshot save quorate.snapshot --addr coord3:7443 --stale"
    )]
    Save {
        /// The file; it must not be there yet
        file: PathBuf,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Checks a saved file whole and shows what it holds; asks nobody
    #[command(
        after_help = "Exit codes: 0 whole, 1 damaged or no such file.\n\nExamples:\n  quorate cluster snapshot inspect quorate.snapshot -o json"
    )]
    Inspect {
        /// The file
        file: PathBuf,
    },
    /// Checks a saved file and says how a new cluster is made of it; changes nothing
    #[command(
        after_help = "A restore is made on the coordinator's own host, in an empty data directory.\n\nExamples:\n  quorate cluster snapshot restore quorate.snapshot"
    )]
    Restore {
        /// The file
        file: PathBuf,
    },
    /// Compares the state of all members behind the same log entry; exit code 1 when it is not the same everywhere
    #[command(
        after_help = "Examples:\n  quorate cluster snapshot verify\n  quorate cluster snapshot verify -o json"
    )]
    Verify,
}

/// Runs it.
///
/// # Errors
/// What the API, the file or the terminal gives.
pub async fn run(ctx: &Ctx, command: SnapshotCommand) -> Outcome {
    match command {
        SnapshotCommand::Build { change } => {
            let request = v1::TriggerSnapshotRequest { options: Some(change.options()) };
            let answer = call!(ctx.client()?, AdminServiceClient, trigger_snapshot, request)?;
            render::answer(ctx.global.output, &answer, "quorate.v1.TriggerSnapshotResponse", None, |_| {
                format!("snapshot at index {}", answer.index)
            })?;
            Ok(exit::DONE)
        }
        SnapshotCommand::Save { file, reason } => save(ctx, &file, reason.unwrap_or_default()).await,
        SnapshotCommand::Inspect { file } => {
            show(ctx, &read(&file)?.0, &file)?;
            Ok(exit::DONE)
        }
        SnapshotCommand::Restore { file } => {
            let header = read(&file)?.0;
            show(ctx, &header, &file)?;
            talk(
                "On the host of the new first member, with an empty data directory and ca.pem and ca.key of the cluster:",
            );
            talk("  runuser -u quorate-coordinator -- quorate-coordinator restore FILE --ca DIRECTORY");
            talk("  systemctl start quorate-coordinator");
            talk("Then let further members join: quorate cluster join. Nothing was changed.");
            Ok(exit::DONE)
        }
        SnapshotCommand::Verify => verify(ctx).await,
    }
}

async fn save(ctx: &Ctx, file: &Path, reason: String) -> Outcome {
    let fail = |error: io::Error| Failure::usage(format!("{}: {error}", file.display()));
    if file.exists() {
        return Err(Failure::usage(format!("{} is there already; nothing was written", file.display())));
    }
    let request = v1::SaveSnapshotRequest { consistency: ctx.global.consistency(), reason };
    let mut stream = call!(ctx.client()?, AdminServiceClient, save_snapshot, request)?;
    let mut bytes = Vec::new();
    while let Some(v1::SaveSnapshotResponse { data }) = stream.message().await? {
        bytes.extend_from_slice(&data);
        if bytes.len() as u64 > SAVED_MAX_BYTES {
            return Err(Failure::failed("the coordinator sends more than a snapshot may hold"));
        }
    }
    // Before the file has its name: what is there under it is whole.
    let damaged = |error| Failure::failed(format!("the snapshot did not come whole: {error}"));
    let (header, _) = decode(&bytes).map_err(damaged)?;
    keep(file, &bytes).map_err(fail)?;
    show(ctx, &header, file)?;
    talk(
        "It holds hashes of tokens, certificates, addresses and the audit: keep it as you keep the coordinators' disks.",
    );
    Ok(exit::DONE)
}

/// Written aside, synced, then named; never over something else.
fn keep(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = file.as_os_str().to_owned();
    aside.push(format!(".{}.tmp", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = (|| {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::hard_link(&aside, file)
    })();
    let removed = fs::remove_file(&aside);
    written.and(removed)?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn read(file: &Path) -> Result<(SavedHeader, usize), Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("{}: {error}", safe(&file.display().to_string())))
    };
    let mut bytes = Vec::new();
    let source = File::open(file).map_err(|error| fail(&error))?;
    source.take(SAVED_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    let (header, state) = decode(&bytes).map_err(|error| fail(&error))?;
    Ok((header, state.len()))
}

fn show(ctx: &Ctx, header: &SavedHeader, file: &Path) -> Result<(), Failure> {
    if !ctx.global.output.is_table() {
        let value = serde_json::to_value(header).map_err(|e| Failure::failed(e.to_string()))?;
        return render::structured(ctx.global.output, value, None);
    }
    let counts = header.counts.iter().map(|(noun, n)| format!("{} {n}", safe(noun)));
    let rows = [
        ("file", safe(&file.display().to_string())),
        ("cluster", format!("{} ({})", safe(&header.cluster_name), safe(&header.cluster_id))),
        (
            "saved",
            format!(
                "{} by {}, release {}",
                safe(&header.saved_at),
                safe(&header.member),
                safe(&header.version)
            ),
        ),
        ("stands at", format!("log index {}, term {}, level {}", header.index, header.term, header.level)),
        ("state", format!("sha256 {}", safe(&header.state_sha256))),
        ("holds", counts.collect::<Vec<_>>().join(", ")),
    ];
    render::print(&rows.map(|(what, text)| format!("{what:<10} {text}")).join("\n"))
}

async fn verify(ctx: &Ctx) -> Outcome {
    let request = v1::CompareStateRequest {};
    let answer = call!(ctx.client()?, AdminServiceClient, compare_state, request)?;
    let kind = "quorate.v1.CompareStateResponse";
    render::answer(ctx.global.output, &answer, kind, Some("members"), |_| {
        let mut columns = Columns::new(&["member", "state", "index", "sha256"]);
        for member in &answer.members {
            columns.row([
                safe(&member.name),
                title(&json::word("quorate.v1.StateVerdict", member.verdict)),
                member.index.to_string(),
                dash(&member.sha256),
            ]);
        }
        columns.finish("No members.")
    })?;
    if !answer.ok {
        talk(
            "Not every member was found to hold the same state. One that differs stops by itself: look at its log.",
        );
    }
    Ok(if answer.ok { exit::DONE } else { exit::FAILED })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_saved_file_is_private_whole_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("quorate.snapshot");
        keep(&file, b"bytes").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"bytes");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(keep(&file, b"other").is_err());
        assert_eq!(fs::read(&file).unwrap(), b"bytes");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half written stays");
        // What is no snapshot is said to be none.
        let refused = read(&file).unwrap_err();
        assert_eq!(refused.code, exit::FAILED);
    }
}
