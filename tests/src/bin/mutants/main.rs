//! Puts named bugs in, one at a time, and shows which test finds each.
//!
//! ```text
//! cargo run -p quorate-tests --bin mutants                # all: prints the table, exit 1 when one survives
//! cargo run -p quorate-tests --bin mutants -- --only fence-ignored,one-fsync-skipped
//! cargo run -p quorate-tests --bin mutants -- --list
//! ```
//!
//! Works on a copy of the tree under `target/mutants`, never on the tree itself. Must never count a bug as found that does
//! not build, or whose tests fail without it too.

mod list;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use list::{MUTANTS, Mutant};
use regex::Regex;

/// Test names shown for one bug.
const SHOWN: usize = 2;

/// Errors of a build that are shown.
const ERRORS: usize = 3;

/// What the suite made of one bug.
enum Verdict {
    Found(Vec<String>),
    Survived,
    NotBuilt(String),
}

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        MUTANTS.iter().for_each(|mutant| println!("{:34} {}", mutant.name, mutant.file));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&args)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests are in the project")?;
    let place = root.join("target/mutants");
    let tree = place.join("tree");
    copy_tree(root, &tree)?;
    let cargo = Cargo { tree: tree.clone(), target: place.join("target") };

    // A test that fails anyway finds nothing.
    let parts: BTreeSet<&[&str]> = chosen.iter().map(|mutant| mutant.tests).collect();
    for part in parts {
        eprintln!("without a bug: cargo test {}", part.join(" "));
        match cargo.test(part)? {
            Verdict::Survived => {}
            Verdict::Found(tests) => bail!("without any bug these fail: {}", tests.join(", ")),
            Verdict::NotBuilt(why) => bail!("the tree does not build: {why}"),
        }
    }

    let mut bad = 0_usize;
    println!("{:34} {:10} BY", "BUG", "VERDICT");
    for mutant in &chosen {
        let begun = Instant::now();
        let verdict = try_one(&cargo, &tree, mutant)?;
        let (word, by) = match verdict {
            Verdict::Found(tests) => {
                let more = tests.len().saturating_sub(SHOWN);
                let mut names = tests.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
                if more > 0 {
                    names.push_str(&format!(" and {more} more"));
                }
                ("found", names)
            }
            Verdict::Survived => ("SURVIVED", mutant.tests.join(" ")),
            Verdict::NotBuilt(why) => ("NOT BUILT", why),
        };
        bad += usize::from(word != "found");
        println!("{:34} {word:10} {by}", mutant.name);
        eprintln!("  {} s", begun.elapsed().as_secs());
    }
    println!("{} of {} bugs found", chosen.len() - bad, chosen.len());
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(args: &[String]) -> anyhow::Result<Vec<&'static Mutant>> {
    match args {
        [] => Ok(MUTANTS.iter().collect()),
        [flag, names] if flag == "--only" => names
            .split(',')
            .map(|name| {
                MUTANTS.iter().find(|m| m.name == name).with_context(|| format!("no bug is called {name:?}"))
            })
            .collect(),
        _ => bail!("usage: mutants [--list | --only NAME,NAME]"),
    }
}

/// Copies what git tracks; files that did not change keep their time, so that cargo builds only what did.
fn copy_tree(root: &Path, tree: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().context("git")?;
    ensure!(listed.status.success(), "git ls-files failed");
    let names = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    let tracked: BTreeSet<PathBuf> =
        names.split('\0').filter(|name| !name.is_empty()).map(|name| tree.join(name)).collect();
    if tree.exists() {
        remove_others(tree, &tracked)?;
    }
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root.join(name), tree.join(name));
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&to, bytes).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}

/// A file that moved since the last copy would be there twice.
fn remove_others(dir: &Path, tracked: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(&path, tracked)?;
        } else if !tracked.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn try_one(cargo: &Cargo, tree: &Path, mutant: &Mutant) -> anyhow::Result<Verdict> {
    let path = tree.join(mutant.file);
    let whole = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let count = whole.matches(mutant.find).count();
    ensure!(count == 1, "{}: its text occurs {count} times in {}", mutant.name, mutant.file);
    fs::write(&path, whole.replace(mutant.find, mutant.put))?;
    let verdict = cargo.test(mutant.tests);
    fs::write(&path, whole)?;
    verdict
}

struct Cargo {
    tree: PathBuf,
    target: PathBuf,
}

impl Cargo {
    /// `cargo test` with these arguments in the copy.
    fn test(&self, args: &[&str]) -> anyhow::Result<Verdict> {
        let (before, filter) = split(args);
        // The daemons that process tests start, then the tests.
        let tests = [&["test", "--no-run"][..], before].concat();
        let starts_daemons = args.contains(&"quorate-tests");
        for build in
            starts_daemons.then_some(&quorate_tests::workspace::BUILD[..]).into_iter().chain([&tests[..]])
        {
            let output = self.command(build).output()?;
            if !output.status.success() {
                return Ok(Verdict::NotBuilt(errors(&String::from_utf8_lossy(&output.stderr))));
            }
        }
        let words = [&["test", "--no-fail-fast"][..], before, &["--"][..], filter].concat();
        let output = self.command(&words).output()?;
        if output.status.success() {
            return Ok(Verdict::Survived);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let failed = Regex::new(r"(?m)^test (\S+)(?: - should panic)? \.\.\. FAILED")?;
        let mut names: Vec<String> = failed.captures_iter(&text).map(|c| c[1].to_owned()).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            // A test process that dies prints no name.
            names.push(errors(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Verdict::Found(names))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command.args(words.iter().take(1)).arg("--locked").args(words.iter().skip(1));
        // No debug information: a build for every bug, on a disk that others use too.
        command.env("CARGO_TARGET_DIR", &self.target).env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.current_dir(&self.tree).stdin(Stdio::null());
        command
    }
}

/// Words for cargo, and names for the harness.
fn split<'a>(args: &'a [&'a str]) -> (&'a [&'a str], &'a [&'a str]) {
    let takes_value = |word: &str| matches!(word, "-p" | "--test");
    let mut at = 0;
    while at < args.len() && args[at].starts_with('-') {
        at += if takes_value(args[at]) { 2 } else { 1 };
    }
    args.split_at(at.min(args.len()))
}

/// The errors that were printed; the first says why, the last only where.
fn errors(text: &str) -> String {
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with("error")).take(ERRORS).collect();
    if found.is_empty() { "no error was printed".to_owned() } else { found.join("; ") }
}
