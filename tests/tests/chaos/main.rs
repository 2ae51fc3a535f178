//! Chaos on loopback: real binaries, real mutual TLS, a network of our own, rolling restarts under faults of every kind, and
//! clients whose every call is judged.
//!
//! `cargo test -p quorate-tests --test chaos`: bounded to about three minutes. `QUORATE_ROUNDS=200` is the full run,
//! `QUORATE_SEED` repeats the faults of a run (not the scheduler of the machine), `QUORATE_PERIOD_MS` is the time between
//! two calls of a client, `QUORATE_FAULTS=KillLeader,Torn` takes only some of the faults.
//!
//! The verdict has three values. A run in which a fault did not happen, or whose load was too small, proves nothing: it is
//! *unknown*, and that is no pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

mod clients;
mod faults;
mod fleet;
mod report;
mod rounds;
mod witness;

use report::Verdict;

fn main() -> ExitCode {
    quorate_common::tls::install();
    // Two of `cargo test`'s own flags; everything else here is one test.
    if std::env::args().any(|arg| arg == "--list") {
        println!("chaos: test");
        return ExitCode::SUCCESS;
    }
    let seed = quorate_tests::random::seed();
    let rounds = std::env::var("QUORATE_ROUNDS").ok().and_then(|n| n.parse().ok());
    let shown = rounds.map(|n: usize| format!("QUORATE_ROUNDS={n} ")).unwrap_or_default();
    println!("\n{shown}QUORATE_SEED={seed} cargo test -p quorate-tests --test chaos");
    let chaos = fleet::Chaos::start();
    let verdict = catch_unwind(AssertUnwindSafe(|| rounds::run(&chaos, seed, rounds)));
    let verdict = verdict.unwrap_or_else(|_| Verdict::Broken("the run itself ended early".to_owned()));
    println!("verdict: {verdict:?}\n");
    match verdict {
        Verdict::Holds => ExitCode::SUCCESS,
        Verdict::Unknown(_) => ExitCode::from(2),
        Verdict::Broken(_) => {
            chaos.fleet.tell();
            ExitCode::FAILURE
        }
    }
}
