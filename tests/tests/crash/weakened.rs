//! The same sweeps with one rule taken out: the suite must find what the rule prevents.

use std::path::PathBuf;
use std::process::Command;

use quorate_tests::crash::run::{Own, Plan, Subject, sweep};
use quorate_tests::crash::shim::Fault;
use quorate_tests::workspace;

use crate::power::plan;

/// States after which a missing rule counts as not found.
const STATES: u64 = 400;

fn found(subject: &dyn Subject, lie: Option<&str>) {
    let fault = Fault { lie: lie.map(str::to_owned), ..Fault::default() };
    let plan = Plan { fault, stop_at_first: true, ..plan(STATES) };
    let tally = sweep(subject, &plan);
    println!("  {} {}: {tally}", subject.name(), lie.unwrap_or_default());
    if let Some(example) = tally.examples.first() {
        println!("  {example}");
    }
    assert!(tally.lost + tally.torn + tally.refused > 0, "the suite does not notice: {tally}");
    assert_eq!(tally.broken, 0, "{:#?}", tally.examples);
}

/// `sled.flush()` alone, without our `fdatasync`.
pub(crate) fn without_the_barrier() {
    found(&Own::wrapper(), Some("fdatasync db"));
    found(&Own::member_store(), Some("fdatasync db"));
}

/// The committed index written, but not made durable.
pub(crate) fn without_save_committed() {
    found(&Own::member_store(), Some("dsync committed"));
}

/// Values over 4 KiB in one record: sled then writes them to files that the barrier does not cover.
pub(crate) fn without_the_4k_rule() {
    found(
        &Own { name: "wrapper without the 4 KiB rule".to_owned(), program: example(), ..Own::wrapper() },
        None,
    );
}

/// The load built with the feature. It takes the place of no product: an example is never shipped.
fn example() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(workspace::root());
    build.args(["build", "--locked", "-p", "quorate-durable", "--example", "crash_load"]);
    build.args(["--features", "without-4k-rule"]);
    let output = build.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // This program lies in target/debug/deps.
    let own = std::env::current_exe().expect("a test knows its own path");
    let target = own.ancestors().nth(2).expect("it lies two folders deep");
    target.join("examples/crash_load")
}
