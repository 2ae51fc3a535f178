//! Process tests: the real binaries, real mutual TLS, on loopback.
//!
//! A harness of its own, because one fleet serves all tests one after another and must be ended whatever happens; a
//! static would never be dropped. `cargo test -p quorate-tests --test cluster [-- PART_OF_A_NAME …]`.
//!
//! `QUORATE_ROUNDS` is the number of rounds with a killed leader (2 here, 50 for a release), `QUORATE_SEED` repeats the
//! moments of a run.

use std::process::ExitCode;

use quorate_tests::cluster::Fleet;
use quorate_tests::harness::{Test, run};

mod artifact;
mod backup;
mod calendar;
mod control;
mod crashes;
mod files;
mod gates;
mod identity;
mod ready;
mod refusals;
mod restart;
mod shapes;
mod traffic;
mod transport;
mod turns;
mod upgrade;

/// In this order: the last one takes a node away, and without it the fleet would not come up again.
const TESTS: &[Test] = &[
    ("shapes::answers_have_the_fields_of_the_contract", shapes::answers_have_the_fields_of_the_contract),
    ("shapes::exit_codes", shapes::exit_codes),
    ("files::diffed_applied_and_refused", files::diffed_applied_and_refused),
    ("restart::rolling_restart_keeps_two_of_three", restart::rolling_restart_keeps_two_of_three),
    ("restart::leader_killed_at_a_random_moment", restart::leader_killed_at_a_random_moment),
    ("refusals::a_stopped_voter_blocks_the_others", refusals::a_stopped_voter_blocks_the_others),
    ("crashes::agent_killed_during_a_restart", crashes::agent_killed_during_a_restart),
    ("crashes::helper_killed_during_a_restart", crashes::helper_killed_during_a_restart),
    ("crashes::both_killed_during_a_restart", crashes::both_killed_during_a_restart),
    ("backup::written_verified_and_opened_by_tar", backup::written_verified_and_opened_by_tar),
    ("backup::writes_resume_after_a_crash_in_the_pause", backup::writes_resume_after_a_crash_in_the_pause),
    ("artifact::pushed_copied_and_resumed", artifact::pushed_copied_and_resumed),
    ("control::paused_resumed", control::paused_resumed),
    ("control::aborted_at_a_safe_stop", control::aborted_at_a_safe_stop),
    ("control::a_canary_is_promoted", control::a_canary_is_promoted),
    ("control::a_waiting_gate_is_explained", control::a_waiting_gate_is_explained),
    ("turns::three_operations_take_turns", turns::three_operations_take_turns),
    ("control::frozen_and_thawed", control::frozen_and_thawed),
    ("control::freezes_are_declared", control::freezes_are_declared),
    (
        "upgrade::a_new_version_everywhere_and_no_write_fails",
        upgrade::a_new_version_everywhere_and_no_write_fails,
    ),
    ("upgrade::one_that_turns_unhealthy_is_taken_back", upgrade::one_that_turns_unhealthy_is_taken_back),
    ("upgrade::one_that_crashes_at_once_is_taken_back", upgrade::one_that_crashes_at_once_is_taken_back),
    ("upgrade::one_that_fades_is_taken_back", upgrade::one_that_fades_is_taken_back),
    ("upgrade::back_to_the_release_before", upgrade::back_to_the_release_before),
    (
        "gates::an_expression_over_nothing_is_refused_with_its_place",
        gates::an_expression_over_nothing_is_refused_with_its_place,
    ),
    ("gates::a_worse_metric_stops_the_rollout", gates::a_worse_metric_stops_the_rollout),
    ("calendar::a_window_holds_and_opens", calendar::a_window_holds_and_opens),
    ("calendar::windows_are_declared", calendar::windows_are_declared),
    ("transport::nothing_without_a_certificate", transport::nothing_without_a_certificate),
    ("transport::only_tls_1_3", transport::only_tls_1_3),
    ("transport::strangers_and_expired_are_refused", transport::strangers_and_expired_are_refused),
    ("identity::an_agent_speaks_for_itself_only", identity::an_agent_speaks_for_itself_only),
    ("identity::a_token_works_once", identity::a_token_works_once),
    ("ready::a_host_that_is_not_ready_is_left_alone", ready::a_host_that_is_not_ready_is_left_alone),
    ("ready::a_copy_comes_before_a_restart", ready::a_copy_comes_before_a_restart),
    ("traffic::a_restart_drops_no_request", traffic::a_restart_drops_no_request),
    ("shapes::a_fleet_of_one_is_ready_too", shapes::a_fleet_of_one_is_ready_too),
    ("shapes::audit_is_unbroken", shapes::audit_is_unbroken),
    ("shapes::stop_leaves_no_process", shapes::stop_leaves_no_process),
    ("identity::a_removed_node_is_out_at_once", identity::a_removed_node_is_out_at_once),
];

/// The fleet of all tests: six nodes, of which the last is removed by one of them.
fn new_fleet() -> Fleet {
    Fleet::start(3, 6)
}

fn main() -> ExitCode {
    quorate_common::tls::install();
    run(TESTS, new_fleet)
}
