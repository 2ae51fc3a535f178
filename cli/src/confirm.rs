//! Confirmation: none, `[y/N]` with the count of nodes hit, or the name typed. Without a terminal it never prompts.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::args::{Change, Global};
use crate::failure::{Failure, exit};

/// Asks whether to go on; `--yes` and `--dry-run` answer it.
///
/// # Errors
/// Exit code 2 without a terminal, 1 when the answer is no.
pub fn ask(global: &Global, change: &Change, question: &str) -> Result<(), Failure> {
    if change.yes || change.dry_run {
        return Ok(());
    }
    need_terminal(global, "--yes")?;
    let answer = prompt(&format!("{question} [y/N] "))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::failed("not confirmed; nothing was changed").with_code(exit::FAILED))
    }
}

/// Asks for a name to be typed; `--confirm NAME` answers it.
///
/// # Errors
/// Exit code 2 without a terminal or with the wrong name.
pub fn ask_name(
    global: &Global,
    change: &Change,
    given: Option<&str>,
    name: &str,
    what: &str,
) -> Result<(), Failure> {
    if change.dry_run || given == Some(name) {
        return Ok(());
    }
    if given.is_some() {
        return Err(Failure::usage(format!("--confirm does not name {name}; nothing was changed")));
    }
    need_terminal(global, &format!("--confirm {name}"))?;
    let answer = prompt(&format!("{what}. Type {name} to go on: "))?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(Failure::failed("not confirmed; nothing was changed").with_code(exit::FAILED))
    }
}

fn need_terminal(global: &Global, flag: &str) -> Result<(), Failure> {
    if global.no_input || !io::stdin().is_terminal() {
        return Err(Failure::usage("this needs a confirmation and there is nobody to ask")
            .with_hint(format!("give {flag}")));
    }
    Ok(())
}

fn prompt(question: &str) -> Result<String, Failure> {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{question}");
    let _ = err.flush();
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Failure::usage(format!("the answer cannot be read: {e}")))?;
    Ok(answer)
}
