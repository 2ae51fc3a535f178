use super::*;

fn config() -> LedgerConfig {
    toml::from_str("node = 'n'\nid = 1\nport = 1\ndata_dir = '/d'\nlog_file = '/l'\n").expect("a good file")
}

#[test]
fn a_start_goes_through_503_and_a_shrinking_lag_to_voter() {
    let (config, good) = (config(), Misbehave::default());
    let step = |now, ms| next_status(now, ms, &config, &good);
    assert_eq!(step(Status::Starting, 399), (Status::Starting, 0));
    assert_eq!(step(Status::Starting, 400), (Status::CatchingUp, 120));
    assert_eq!(step(Status::CatchingUp, 1599), (Status::CatchingUp, 1));
    assert_eq!(step(Status::CatchingUp, 1600), (Status::Serving, 0));
}

#[test]
fn misbehaviour_bends_the_way() {
    let config = config();
    let slow = Misbehave { slow_start_ms: Some(5000), ..Misbehave::default() };
    assert_eq!(next_status(Status::Starting, 4999, &config, &slow), (Status::Starting, 0));
    assert_eq!(next_status(Status::Serving, 10, &config, &slow), (Status::Serving, 0));
    let stuck = Misbehave { never_catch_up: true, ..Misbehave::default() };
    assert_eq!(next_status(Status::CatchingUp, 1 << 40, &config, &stuck), (Status::CatchingUp, STUCK_LAG));
    assert_eq!(next_status(Status::Serving, 1 << 40, &config, &stuck), (Status::Serving, 0));
    let ill = Misbehave { unhealthy_after_ms: Some(2000), ..Misbehave::default() };
    assert_eq!(next_status(Status::Serving, 1999, &config, &ill), (Status::Serving, 0));
    assert_eq!(next_status(Status::Serving, 2000, &config, &ill), (Status::Down, 0));
    assert_eq!(next_status(Status::Down, 2001, &config, &Misbehave::default()), (Status::Serving, 0));
}
