//! Hostile peers and bad input against real processes (reliability.md §5.3, §9): what a stranger, an agent, a user or a
//! member that turned bad can do to a coordinator, and what the others notice of it.
//!
//! `cargo test -p quorate-tests --test hostile [-- PART_OF_A_NAME …]`. Other clients' waiting times and the coordinator's
//! memory are printed; what is asserted is that attackers are cut off within 5 s, that no process ends, and that memory
//! grows by no more than 64 MiB. `QUORATE_ROTATIONS` is the number of certificate rotations (100 here, 1000 for a release).

use std::process::ExitCode;

use quorate_tests::cluster::Fleet;
use quorate_tests::harness::{Test, run};

mod certificates;
mod command_line;
mod declarations;
mod floods;
mod frames;
mod identity;
mod machine;
mod matrix;
mod members;
mod messages;
mod peers;
mod sessions;
mod startup;
mod victim;

/// In this order: the last ones remove identities and start coordinators again.
const TESTS: &[Test] = &[
    ("matrix::every_method_lets_in_exactly_its_roles", matrix::every_method_lets_in_exactly_its_roles),
    ("messages::b1_too_large", messages::b1_too_large),
    ("messages::b2_malformed", messages::b2_malformed),
    ("messages::b3_bad_fields", messages::b3_bad_fields),
    ("messages::b4_request_ids", messages::b4_request_ids),
    ("messages::b5_hostile_texts", messages::b5_hostile_texts),
    ("messages::b5_too_many_labels", messages::b5_too_many_labels),
    ("declarations::b6_unit_names", declarations::b6_unit_names),
    ("declarations::b7_paths", declarations::b7_paths),
    ("declarations::b16_contradictions", declarations::b16_contradictions),
    ("declarations::b16_absurd_plans", declarations::b16_absurd_plans),
    ("messages::b12_tokens", messages::b12_tokens),
    ("sessions::b14_first_words", sessions::b14_first_words),
    ("sessions::b14_two_streams_of_one_agent", sessions::b14_two_streams_of_one_agent),
    ("sessions::b14_reports_of_what_was_never_assigned", sessions::b14_reports_of_what_was_never_assigned),
    ("sessions::b14_bad_messages_end_the_session", sessions::b14_bad_messages_end_the_session),
    ("members::b15_a_member_that_turned_bad", members::b15_a_member_that_turned_bad),
    (
        "certificates::b11_the_server_refuses_the_dirty_set",
        certificates::b11_the_server_refuses_the_dirty_set,
    ),
    ("certificates::b11_every_damaged_byte", certificates::b11_every_damaged_byte),
    ("startup::b11_dirty_files", startup::b11_dirty_files),
    ("startup::b18_foreign_and_newer_data", startup::b18_foreign_and_newer_data),
    ("startup::b19_bad_environments", startup::b19_bad_environments),
    ("machine::b19_file_systems", machine::b19_file_systems),
    ("machine::b19_a_log_that_takes_no_line", machine::b19_a_log_that_takes_no_line),
    ("machine::b19_a_clock_in_1970", machine::b19_a_clock_in_1970),
    ("command_line::b20_arguments_and_streams", command_line::b20_arguments_and_streams),
    ("command_line::b20_two_at_once", command_line::b20_two_at_once),
    ("command_line::b20_ctrl_c_detaches", command_line::b20_ctrl_c_detaches),
    ("floods::b13_frames", floods::b13_frames),
    ("floods::b13_strangers", floods::b13_strangers),
    ("floods::b13_streams_without_end", floods::b13_streams_without_end),
    ("floods::b13_ten_thousand_connections", floods::b13_ten_thousand_connections),
    ("floods::b13_the_http_port", floods::b13_the_http_port),
    ("floods::b14_heartbeats_at_full_speed", floods::b14_heartbeats_at_full_speed),
    ("identity::i27_rotations_fail_no_call", identity::i27_rotations_fail_no_call),
    ("identity::i26_removed_identities_are_out", identity::i26_removed_identities_are_out),
];

fn new_fleet() -> Fleet {
    Fleet::start(3, 4)
}

fn main() -> ExitCode {
    quorate_common::tls::install();
    run(TESTS, new_fleet)
}
