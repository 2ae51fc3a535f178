//! Freezes and windows.

use super::*;

/// One with everything that a freeze may say stays; one with nothing but a reason is deleted.
pub(super) fn freezes(log: &mut Log) {
    let change = |command| Command::Calendar(Box::new(command));
    let bare = FreezeSpec {
        name: FreezeName::new("at-once").unwrap(),
        selector: None,
        services: vec![],
        reason: "an incident".into(),
        starts: None,
        ends: None,
    };
    let full = FreezeSpec {
        name: FreezeName::new("year-end").unwrap(),
        selector: Some(Selector::parse_labels("zone in (a,b),!spare").unwrap()),
        services: vec![WorkloadName::new("ledger").unwrap()],
        reason: "the books are closed".into(),
        starts: Some(log.now().plus(DurationMs::from_secs(3_600))),
        ends: Some(log.now().plus(DurationMs::from_secs(7_200))),
    };
    log.user(change(CalendarCommand::ApplyFreeze { spec: full, expect: Some(Revision(0)) }));
    log.user(change(CalendarCommand::ApplyFreeze { spec: bare.clone(), expect: None }));
    log.user(change(CalendarCommand::DeleteFreeze { name: bare.name, expect: None }));
}

/// One with everything that a window may say stays, with openings and an announcement; a bare one is deleted.
pub(super) fn windows(log: &mut Log) {
    let change = |command| Command::Calendar(Box::new(command));
    let bare = WindowSpec {
        name: WindowName::new("christmas").unwrap(),
        selector: None,
        services: vec![],
        zone: ZoneName::new("UTC").unwrap(),
        when: Recurrence::Once { start: LocalTime::new("2026-12-24T22:00").unwrap() },
        duration: DurationMs::from_secs(3_600),
        owner: String::new(),
        announce: vec![],
        reason: "nobody trades".into(),
    };
    let full = WindowSpec {
        name: WindowName::new("saturdays").unwrap(),
        selector: Some(Selector::parse_labels("zone in (a,b),!spare").unwrap()),
        services: vec![WorkloadName::new("ledger").unwrap()],
        zone: ZoneName::new("Europe/Berlin").unwrap(),
        when: Recurrence::Cron { expr: "0 22 * * 6".into() },
        duration: DurationMs::from_secs(4 * 3_600),
        owner: "the exchange desk".into(),
        announce: ANNOUNCE_DEFAULT.to_vec(),
        reason: "agreed with the exchange".into(),
    };
    let name = full.name.clone();
    log.user(change(CalendarCommand::ApplyWindow { spec: full, expect: Some(Revision(0)) }));
    let revision = log.state.windows[&name].revision;
    let now = log.now();
    let after = |hours: u64| now.plus(DurationMs::from_secs(hours * 3_600));
    let opening = |hours| Occurrence { start: after(hours), end: after(hours + 4) };
    log.add(
        Principal::System,
        change(CalendarCommand::SetOpenings {
            name: name.clone(),
            revision,
            until: after(24 * 60),
            openings: vec![opening(20), opening(188)],
        }),
    );
    let before = DurationMs::from_secs(86_400);
    log.add(Principal::System, change(CalendarCommand::Announce { window: name, start: after(20), before }));
    log.user(change(CalendarCommand::ApplyWindow { spec: bare.clone(), expect: None }));
    log.user(change(CalendarCommand::DeleteWindow { name: bare.name, expect: None }));
}
