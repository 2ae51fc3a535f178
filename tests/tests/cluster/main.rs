//! Process tests: the real binaries, real mutual TLS, on loopback.
//!
//! A harness of its own, because one fleet serves all tests one after another and must be ended whatever happens; a
//! static would never be dropped. `cargo test -p quorate-tests --test cluster [-- PART_OF_A_NAME …]`.
//!
//! `QUORATE_ROUNDS` is the number of rounds with a killed leader (2 here, 50 for a release), `QUORATE_KILL_POINTS` the number
//! of rollouts in which somebody is killed (2 here, 60 for a release), `QUORATE_SEED` repeats the moments of a run.

use std::process::ExitCode;

use quorate_tests::cluster::Fleet;
use quorate_tests::harness::{Test, run};

mod alarm;
mod alerts;
mod approvals;
mod artifact;
mod backup;
mod calendar;
mod certificate;
mod config;
mod control;
mod crashes;
mod files;
mod gates;
mod handover;
mod hooks;
mod identity;
mod kills;
mod maintenance;
mod members;
mod pair;
mod planning;
mod postgresql;
mod procedures;
mod ready;
mod rebuild;
mod refusals;
mod restart;
mod schedules;
mod secret;
mod shapes;
mod silences;
mod traffic;
mod transport;
mod turns;
mod upgrade;
mod voters;

/// In this order: the last one takes a node away, and without it the fleet would not come up again.
const TESTS: &[Test] = &[
    ("shapes::answers_have_the_fields_of_the_contract", shapes::answers_have_the_fields_of_the_contract),
    ("shapes::exit_codes", shapes::exit_codes),
    ("files::diffed_applied_and_refused", files::diffed_applied_and_refused),
    ("restart::rolling_restart_keeps_two_of_three", restart::rolling_restart_keeps_two_of_three),
    ("restart::leader_killed_at_a_random_moment", restart::leader_killed_at_a_random_moment),
    (
        "pair::the_writer_finds_nothing_where_one_follows_the_other_and_two_at_once",
        pair::the_writer_finds_nothing_where_one_follows_the_other_and_two_at_once,
    ),
    (
        "postgresql::a_killed_primary_is_rewound_and_what_only_it_had_is_kept",
        postgresql::a_killed_primary_is_rewound_and_what_only_it_had_is_kept,
    ),
    (
        "postgresql::a_rejoin_that_was_killed_ends_with_a_copy_and_nothing_is_lost",
        postgresql::a_rejoin_that_was_killed_ends_with_a_copy_and_nothing_is_lost,
    ),
    ("refusals::a_stopped_voter_blocks_the_others", refusals::a_stopped_voter_blocks_the_others),
    ("alarm::it_names_who_is_missing_whoever_leads", alarm::it_names_who_is_missing_whoever_leads),
    (
        "alarm::a_dead_node_is_noticed_in_time_and_none_by_a_new_leader",
        alarm::a_dead_node_is_noticed_in_time_and_none_by_a_new_leader,
    ),
    ("alarm::x2_nobody_left_is_no_silence", alarm::x2_nobody_left_is_no_silence),
    ("alarm::x3_a_target_that_vanished_is_missed", alarm::x3_a_target_that_vanished_is_missed),
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
    ("kills::rollouts_end_whoever_is_killed", kills::rollouts_end_whoever_is_killed),
    ("config::a_good_one_is_rolled_out_and_confirmed", config::a_good_one_is_rolled_out_and_confirmed),
    (
        "config::one_that_its_check_refuses_touches_nothing",
        config::one_that_its_check_refuses_touches_nothing,
    ),
    ("config::one_that_turns_unhealthy_is_taken_back", config::one_that_turns_unhealthy_is_taken_back),
    ("config::a_host_alone_puts_the_file_before_back", config::a_host_alone_puts_the_file_before_back),
    (
        "maintenance::x23_the_file_stays_until_the_rollback_has_proved_it",
        maintenance::x23_the_file_stays_until_the_rollback_has_proved_it,
    ),
    ("maintenance::a_host_alone_ends_it", maintenance::a_host_alone_ends_it),
    ("maintenance::somebody_elses_file_stays", maintenance::somebody_elses_file_stays),
    (
        "gates::an_expression_over_nothing_is_refused_with_its_place",
        gates::an_expression_over_nothing_is_refused_with_its_place,
    ),
    ("gates::a_worse_metric_stops_the_rollout", gates::a_worse_metric_stops_the_rollout),
    (
        "alerts::a_gate_waits_for_what_fires_and_for_who_does_not_answer",
        alerts::a_gate_waits_for_what_fires_and_for_who_does_not_answer,
    ),
    (
        "silences::it_lasts_until_the_rollback_has_proved_it",
        silences::it_lasts_until_the_rollback_has_proved_it,
    ),
    ("silences::a_host_alone_ends_it", silences::a_host_alone_ends_it),
    ("silences::its_own_opens_no_gate", silences::its_own_opens_no_gate),
    ("silences::one_that_cannot_be_set", silences::one_that_cannot_be_set),
    ("gates::a_renewed_certificate_is_really_served", certificate::a_renewed_certificate_is_really_served),
    (
        "secret::one_that_a_member_does_not_confirm_goes_back_everywhere",
        secret::one_that_a_member_does_not_confirm_goes_back_everywhere,
    ),
    (
        "secret::a_new_one_everywhere_before_the_old_one_goes",
        secret::a_new_one_everywhere_before_the_old_one_goes,
    ),
    ("calendar::a_window_holds_and_opens", calendar::a_window_holds_and_opens),
    ("calendar::windows_are_declared", calendar::windows_are_declared),
    (
        "approvals::nothing_begins_before_somebody_else_says_yes",
        approvals::nothing_begins_before_somebody_else_says_yes,
    ),
    ("calendar::a_schedule_runs_once_across_leaders", schedules::a_schedule_runs_once_across_leaders),
    ("calendar::schedules_are_declared", schedules::schedules_are_declared),
    ("transport::nothing_without_a_certificate", transport::nothing_without_a_certificate),
    ("transport::only_tls_1_3", transport::only_tls_1_3),
    ("transport::strangers_and_expired_are_refused", transport::strangers_and_expired_are_refused),
    ("identity::an_agent_speaks_for_itself_only", identity::an_agent_speaks_for_itself_only),
    ("identity::a_token_works_once", identity::a_token_works_once),
    (
        "traffic::a_restart_an_upgrade_and_a_release_taken_back_drop_no_request",
        traffic::a_restart_an_upgrade_and_a_release_taken_back_drop_no_request,
    ),
    (
        "procedures::x21_a_fixed_wait_cuts_what_is_open_and_a_drain_does_not",
        procedures::x21_a_fixed_wait_cuts_what_is_open_and_a_drain_does_not,
    ),
    (
        "procedures::x23_maintenance_ends_before_anybody_looks",
        procedures::x23_maintenance_ends_before_anybody_looks,
    ),
    (
        "hooks::a_migration_runs_once_though_its_leader_is_killed",
        hooks::a_migration_runs_once_though_its_leader_is_killed,
    ),
    ("ready::a_host_that_is_not_ready_is_left_alone", ready::a_host_that_is_not_ready_is_left_alone),
    ("ready::a_copy_comes_before_a_restart", ready::a_copy_comes_before_a_restart),
    ("planning::zones_and_time_are_told", planning::zones_and_time_are_told),
    ("planning::a_schedule_is_run_by_hand", planning::a_schedule_is_run_by_hand),
    (
        "handover::the_leader_hands_over_before_its_restart",
        handover::the_leader_hands_over_before_its_restart,
    ),
    (
        "handover::a_leader_that_cannot_hand_over_is_left_alone",
        handover::a_leader_that_cannot_hand_over_is_left_alone,
    ),
    (
        "voters::x17_a_member_leaves_only_where_the_rest_can_go_on",
        voters::x17_a_member_leaves_only_where_the_rest_can_go_on,
    ),
    ("rebuild::x16_the_last_good_copy_is_not_removed", rebuild::x16_the_last_good_copy_is_not_removed),
    (
        "rebuild::a_damaged_member_is_rebuilt_from_the_others",
        rebuild::a_damaged_member_is_rebuilt_from_the_others,
    ),
    (
        "rebuild::one_that_does_not_catch_up_gets_its_own_data_back",
        rebuild::one_that_does_not_catch_up_gets_its_own_data_back,
    ),
    ("members::leadership_is_handed_over_under_load", members::leadership_is_handed_over_under_load),
    (
        "members::a_transfer_that_cannot_end_well_is_refused",
        members::a_transfer_that_cannot_end_well_is_refused,
    ),
    ("members::a_leader_that_is_told_to_stop_hands_over", members::a_leader_that_is_told_to_stop_hands_over),
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
