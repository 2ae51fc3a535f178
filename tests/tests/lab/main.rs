//! The lab: packages, units and guides on real hosts with systemd, and what hosts do to them.
//!
//! A harness of its own: one fleet of three coordinators and five agents serves all scenarios one after another. Needs root
//! and Debian's tools, and says so when they are missing. `cargo test -p quorate-tests --test lab [-- PART_OF_A_NAME …]`.

use std::process::ExitCode;
use std::time::Instant;

use quorate_tests::harness::{Test, run};
use quorate_tests::lab::{LabFleet, enter};

mod actions;
mod agents;
mod clock;
mod coordinators;
mod disk;
mod driver;
mod drop_ins;
mod firewall;
mod freeze;
mod guest;
mod install;
mod loops;
mod lose;
mod metrics;
mod packages;
mod reboot;
mod rotation;
mod silences;

const TESTS: &[Test<LabFleet>] = &[
    ("install::by_the_guide_to_a_rolling_restart", install::by_the_guide_to_a_rolling_restart),
    ("install::units_are_locked_in", install::units_are_locked_in),
    ("install::fields_of_the_journal", install::fields_of_the_journal),
    ("guest::added_and_cut_off", guest::added_and_cut_off),
    ("metrics::a_real_prometheus_scrapes", metrics::a_real_prometheus_scrapes),
    ("driver::odd_units", driver::odd_units),
    ("driver::a_member_stopped_by_hand", driver::a_member_stopped_by_hand),
    ("freeze::by_the_guide", freeze::by_the_guide),
    ("actions::every_one_in_its_sandbox", actions::every_one_in_its_sandbox),
    ("rotation::x33_reloads_are_staggered", rotation::x33_reloads_are_staggered),
    ("packages::x22_by_the_guide", packages::x22_by_the_guide),
    ("packages::one_version_and_nothing_else", packages::one_version_and_nothing_else),
    ("drop_ins::releases_behind_a_balancer", drop_ins::releases_behind_a_balancer),
    ("silences::one_address_and_no_more", silences::one_address_and_no_more),
    ("firewall::a_host_that_cuts_itself_off", firewall::a_host_that_cuts_itself_off),
    ("agents::restarted_during_an_action", agents::restarted_during_an_action),
    ("agents::killed_during_an_action", agents::killed_during_an_action),
    ("agents::upgraded_during_an_action", agents::upgraded_during_an_action),
    ("reboot::in_the_middle_of_a_step", reboot::in_the_middle_of_a_step),
    ("clock::jumps_on_a_voters_host", clock::jumps_on_a_voters_host),
    ("coordinators::leaders_host_cut_off", coordinators::leaders_host_cut_off),
    ("coordinators::frozen_leader", coordinators::frozen_leader),
    ("disk::full_on_a_coordinator", disk::full_on_a_coordinator),
    ("disk::full_on_an_agent", disk::full_on_an_agent),
    ("lose::a_coordinators_log", lose::a_coordinators_log),
    ("loops::beside_ours", loops::beside_ours),
    ("guest::certificate_ends_meanwhile", guest::certificate_ends_meanwhile),
    ("guest::gone_for_good", guest::gone_for_good),
];

fn new_fleet(ground: &quorate_tests::lab::Ground) -> LabFleet {
    let begun = Instant::now();
    let fleet = LabFleet::install(ground).unwrap_or_else(|error| panic!("no fleet: {error:#}"));
    println!("  installed in {:.0} s", begun.elapsed().as_secs_f32());
    fleet
}

fn main() -> ExitCode {
    let begun = Instant::now();
    if std::env::args().any(|arg| arg == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    match enter(|ground| run(TESTS, || new_fleet(ground))) {
        Ok(code) => {
            println!("lab: {:.0} s", begun.elapsed().as_secs_f32());
            code
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
