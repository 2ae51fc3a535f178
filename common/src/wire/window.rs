//! Windows as declared.

use quorate_model::window::{ANNOUNCE_DEFAULT, ANNOUNCE_MAX, WINDOW_SERVICES_MAX};
use quorate_model::{InvalidWindow, Recurrence, WindowSpec};
use quorate_proto::v1;
use quorate_proto::v1::window_spec::When;

use super::Invalid;
use super::invalid::each;
use super::selector::{read_optional_selector, write_selector};
use super::text::{is_deceptive, read_name};
use super::time::{read_duration, write_duration};

/// A window as its owner declares it. Whether there is such a zone and such a day is not looked at: that takes the zones.
///
/// # Errors
/// [`Invalid`] with the field: no reason, not five fields, too long, …
pub fn read_window(message: v1::WindowSpec) -> Result<WindowSpec, Invalid> {
    let v1::WindowSpec { name, selector, services, zone, when, duration, owner, announce, quiet, reason } =
        message;
    if quiet && !announce.is_empty() {
        return Err(Invalid::new("announce", "it must be empty, because quiet says never"));
    }
    let span = |time| read_duration("", Some(time)).map(Option::unwrap_or_default);
    let announce = each("announce", announce, ANNOUNCE_MAX, span)?;
    let spec = WindowSpec {
        name: read_name("name", name)?,
        selector: read_optional_selector("selector", selector)?,
        services: each("services", services, WINDOW_SERVICES_MAX, |text| read_name("", text))?,
        zone: read_name("zone", zone)?,
        when: match when {
            Some(When::Start(start)) => Recurrence::Once { start: read_name("start", start)? },
            Some(When::Cron(expr)) => Recurrence::Cron { expr },
            None => return Err(Invalid::new("when", "start or cron must be set")),
        },
        duration: read_duration("duration", duration)?.ok_or_else(|| Invalid::missing("duration"))?,
        owner,
        announce: if announce.is_empty() && !quiet { ANNOUNCE_DEFAULT.to_vec() } else { announce },
        reason,
    };
    spec.check().map_err(|why: InvalidWindow| Invalid {
        reason: why.reason(),
        field: why.field().to_owned(),
        why: why.to_string(),
        place: None,
    })?;
    // They are shown to everybody who is held up.
    for (field, text) in [("reason", &spec.reason), ("owner", &spec.owner)] {
        if text.chars().any(is_deceptive) {
            return Err(Invalid::new(field, "it holds a control or text direction character"));
        }
    }
    Ok(spec)
}

/// As a message.
#[must_use]
pub fn write_window(spec: &WindowSpec) -> v1::WindowSpec {
    let WindowSpec { name, selector, services, zone, when, duration, owner, announce, reason } = spec;
    v1::WindowSpec {
        name: name.as_str().to_owned(),
        selector: selector.as_ref().map(write_selector),
        services: services.iter().map(|name| name.as_str().to_owned()).collect(),
        zone: zone.as_str().to_owned(),
        when: Some(match when {
            Recurrence::Once { start } => When::Start(start.as_str().to_owned()),
            Recurrence::Cron { expr } => When::Cron(expr.clone()),
        }),
        duration: Some(write_duration(*duration)),
        owner: owner.clone(),
        announce: announce.iter().copied().map(write_duration).collect(),
        quiet: announce.is_empty(),
        reason: reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::Reason;

    use super::*;

    fn secs(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    fn message() -> v1::WindowSpec {
        v1::WindowSpec {
            name: "saturdays".into(),
            selector: Some(v1::Selector { labels: "zone in (a,b)".into(), ..Default::default() }),
            services: vec!["ledger".into(), "web".into()],
            zone: "Europe/Berlin".into(),
            when: Some(When::Cron("0 22 * * 6".into())),
            duration: Some(secs(4 * 3_600)),
            owner: "the exchange desk".into(),
            announce: vec![secs(86_400), secs(3_600)],
            quiet: false,
            reason: "agreed with the exchange".into(),
        }
    }

    #[test]
    fn windows_come_back() {
        let once = Some(When::Start("2026-12-24T22:00".into()));
        let bare = v1::WindowSpec {
            selector: None,
            services: vec![],
            owner: String::new(),
            announce: vec![],
            quiet: true,
            when: once,
            ..message()
        };
        for message in [message(), bare] {
            let spec = read_window(message.clone()).unwrap();
            assert_eq!(write_window(&spec), message);
        }
        let silent = read_window(v1::WindowSpec { announce: vec![], ..message() }).unwrap();
        assert_eq!(silent.announce, ANNOUNCE_DEFAULT, "nothing said means the default");
        assert_eq!(read_window(write_window(&silent)), Ok(silent));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let cron = |text: &str| Some(When::Cron(text.into()));
        let start = |text: &str| Some(When::Start(text.into()));
        for (field, bad) in [
            ("name", v1::WindowSpec { name: "Saturdays".into(), ..message() }),
            ("selector", v1::WindowSpec { selector: Some(v1::Selector::default()), ..message() }),
            ("services", v1::WindowSpec { services: vec!["x".into(); 101], ..message() }),
            ("services", v1::WindowSpec { services: vec!["x".into(); 2], ..message() }),
            ("services[1]", v1::WindowSpec { services: vec!["x".into(), "../y".into()], ..message() }),
            ("zone", v1::WindowSpec { zone: String::new(), ..message() }),
            ("zone", v1::WindowSpec { zone: "../../etc/passwd".into(), ..message() }),
            ("when", v1::WindowSpec { when: None, ..message() }),
            ("start", v1::WindowSpec { when: start("tomorrow"), ..message() }),
            ("cron", v1::WindowSpec { when: cron("0 22 * *"), ..message() }),
            ("cron", v1::WindowSpec { when: cron("* * * * *"), ..message() }),
            ("cron", v1::WindowSpec { when: cron(&"0".repeat(129)), ..message() }),
            ("duration", v1::WindowSpec { duration: None, ..message() }),
            ("duration", v1::WindowSpec { duration: Some(secs(59)), ..message() }),
            ("duration", v1::WindowSpec { duration: Some(secs(7 * 86_400 + 1)), ..message() }),
            ("duration", v1::WindowSpec { duration: Some(secs(-1)), ..message() }),
            ("owner", v1::WindowSpec { owner: "x".repeat(257), ..message() }),
            ("owner", v1::WindowSpec { owner: "a\u{202e}b".into(), ..message() }),
            ("announce", v1::WindowSpec { announce: vec![secs(60); 9], ..message() }),
            ("announce", v1::WindowSpec { announce: vec![secs(60); 2], ..message() }),
            ("announce", v1::WindowSpec { quiet: true, ..message() }),
            ("announce[0]", v1::WindowSpec { announce: vec![secs(-60)], ..message() }),
            ("reason", v1::WindowSpec { reason: String::new(), ..message() }),
            ("reason", v1::WindowSpec { reason: "a\u{202e}b".into(), ..message() }),
        ] {
            assert_eq!(read_window(bad.clone()).unwrap_err().field, field, "{bad:?}");
        }
        let empty = v1::WindowSpec { selector: Some(v1::Selector::default()), ..message() };
        assert_eq!(read_window(empty).unwrap_err().reason, Reason::EmptySelector);
    }
}
