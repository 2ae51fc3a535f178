//! Failover with real processes on loopback: a primary and its standby under a lease, a client that never stops writing, and
//! faults. `cargo test -p quorate-tests --test failover [-- PART_OF_A_NAME …]`.

use std::process::ExitCode;

use quorate_tests::harness::{Test, run};

mod faults;
mod guide;
mod moves;
mod pair;
mod rounds;

use pair::Pair;

const TESTS: &[Test<Pair>] = &[
    ("moves::a_switchover_loses_nothing_and_comes_back", moves::a_switchover_loses_nothing_and_comes_back),
    ("moves::a_primary_that_is_killed_is_replaced", moves::a_primary_that_is_killed_is_replaced),
    ("moves::a_host_that_nobody_hears_stops_its_primary", moves::a_host_that_nobody_hears_stops_its_primary),
    ("moves::a_primary_beside_a_cut_off_leader_goes_on", moves::a_primary_beside_a_cut_off_leader_goes_on),
    ("guide::x19_one_curl_makes_two_primaries", guide::x19_one_curl_makes_two_primaries),
    ("rounds::faults_lose_nothing", rounds::faults_lose_nothing),
    ("rounds::faults_find_no_two_primaries", rounds::faults_find_no_two_primaries),
];

fn main() -> ExitCode {
    quorate_common::tls::install();
    run(TESTS, Pair::start)
}
