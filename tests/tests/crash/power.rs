//! F-7: the power goes while batches are under way.

use quorate_tests::crash::coordinator_load::Coordinator;
use quorate_tests::crash::journal_load::Helper;
use quorate_tests::crash::run::{Own, Plan, Subject, Tally, sweep};
use quorate_tests::crash::shim::Fault;

use crate::{number, seed};

pub(crate) fn plan(states: u64) -> Plan {
    Plan { states, seed: seed(), generations: 2, fault: Fault::default(), stop_at_first: false }
}

/// Nothing lost, nothing torn, and every state opens: a machine whose power went must come back by itself.
fn assert_clean(subject: &dyn Subject, plan: &Plan, tally: &Tally) {
    println!("  {}: {tally}", subject.name());
    println!("  again with QUORATE_SEED={} QUORATE_STATES={}", plan.seed, plan.states);
    assert!(tally.states >= plan.states && tally.acked >= plan.states / 2, "too little happened: {tally}");
    assert!(tally.clean(), "{:#?}", tally.examples);
}

fn cut(subject: &dyn Subject) {
    let plan = plan(number("QUORATE_STATES", 40));
    let tally = sweep(subject, &plan);
    assert_clean(subject, &plan, &tally);
}

pub(crate) fn wrapper_alone() {
    cut(&Own::wrapper());
}

pub(crate) fn member_store() {
    cut(&Own::member_store());
}

pub(crate) fn coordinator() {
    cut(&Coordinator);
}

pub(crate) fn agent_helper() {
    cut(&Helper);
}
