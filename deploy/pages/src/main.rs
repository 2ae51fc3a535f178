//! Writes the manual pages of all programs.
//!
//! Job: one page for each program and each command below it, from the very types that parse the command line, so that no page
//! can name a flag that does not exist. Run by `deploy/build.sh`: `quorate-pages DIRECTORY [DATE]`. Must never be shipped, nor be
//! needed to build what is shipped: it links all programs' crates.

mod page;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Command, CommandFactory, Parser};
use page::{Page, Program};
use quorate_agent::options::{AgentOptions, HelperOptions};
use quorate_cli::cli::Cli;
use quorate_cli::failure::exit;
use quorate_coordinator::options::Options;

/// The contract's exit codes, which hold for every command of `quorate`.
const EXIT_CODES: [(u8, &str); 10] = [
    (exit::DONE, "Done; for waits, the wanted end was reached."),
    (exit::FAILED, "It ran and failed."),
    (exit::USAGE, "Wrong usage, an invalid file, or input needed and none possible."),
    (exit::REFUSED, "Refused; nothing was changed."),
    (exit::UNREACHABLE, "No coordinator can be reached, or there is no leader."),
    (exit::TIMED_OUT, "The timeout passed; the operation goes on."),
    (exit::NOT_FOUND, "There is no such thing."),
    (exit::NOT_ALLOWED, "Not allowed, or not logged in."),
    (exit::PENDING, "Still pending; with --detailed-exitcode, there are changes."),
    (exit::DETACHED, "Ctrl-C: detached, the operation goes on."),
];

/// Where `quorate` looks, likewise.
const FILES: [(&str, &str); 2] = [
    (
        "$XDG_CONFIG_HOME/quorate/config.toml",
        "Contexts: addresses, CA, certificate, key. $QUORATE_CONFIG names another file.",
    ),
    ("/etc/quorate/cli.toml", "The same for all users of a host."),
];

const ALL: [(&str, &str); 4] =
    [("quorate", "1"), ("quorate-agent", "8"), ("quorate-coordinator", "8"), ("quorate-helper", "8")];

/// Writes the manual pages of all programs into a folder.
#[derive(Parser)]
struct Arguments {
    /// The folder; it is made.
    directory: PathBuf,
    /// Date of the pages, `YYYY-MM-DD`; empty when it does not matter.
    #[arg(default_value = "")]
    date: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let directory = arguments.directory;
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let pages = all(&arguments.date)?;
    for page in &pages {
        let file = directory.join(&page.file);
        std::fs::write(&file, &page.text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{} pages in {}", pages.len(), directory.display());
    Ok(())
}

fn all(date: &str) -> anyhow::Result<Vec<Page>> {
    let mut found = Vec::new();
    for (command, section) in [
        (Cli::command(), "1"),
        (AgentOptions::command(), "8"),
        (HelperOptions::command(), "8"),
        (Options::command(), "8"),
    ] {
        // `help` repeats every command below itself.
        let mut command: Command = command.disable_help_subcommand(true);
        command.build();
        let people = section == "1";
        let program = Program {
            section,
            date: date.to_owned(),
            exit_codes: if people { EXIT_CODES.to_vec() } else { Vec::new() },
            files: if people { FILES.to_vec() } else { vec![] },
            see_also: ALL.into_iter().filter(|(name, _)| *name != command.get_name()).collect(),
        };
        found.extend(page::pages(&program, &command, None)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
