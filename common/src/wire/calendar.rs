//! The calendar: freezes as declared, and their etags.

use quorate_model::calendar::FREEZE_SERVICES_MAX;
use quorate_model::{FreezeSpec, InvalidFreeze, Revision, Timestamp};
use quorate_proto::v1;

use super::Invalid;
use super::invalid::each;
use super::selector::{read_optional_selector, write_selector};
use super::text::{is_deceptive, read_name};
use super::time::{read_timestamp, write_timestamp};

/// Longest etag in bytes: the digits of the largest log index.
const ETAG_MAX_BYTES: usize = 20;

/// A freeze as its owner declares it.
///
/// # Errors
/// [`Invalid`] with the field: no reason, an end before its start, an empty selector, …
pub fn read_freeze(message: v1::FreezeSpec) -> Result<FreezeSpec, Invalid> {
    let v1::FreezeSpec { name, selector, services, reason, starts, ends } = message;
    let moment = |field, time| Ok(Some(read_timestamp(field, time)?).filter(|at| *at != Timestamp::ZERO));
    let spec = FreezeSpec {
        name: read_name("name", name)?,
        selector: read_optional_selector("selector", selector)?,
        services: each("services", services, FREEZE_SERVICES_MAX, |text| read_name("", text))?,
        reason,
        starts: moment("starts", starts)?,
        ends: moment("ends", ends)?,
    };
    spec.check().map_err(|why: InvalidFreeze| Invalid {
        reason: why.reason(),
        field: why.field().to_owned(),
        why: why.to_string(),
        place: None,
    })?;
    // It is shown to everybody who is held up.
    if spec.reason.chars().any(is_deceptive) {
        return Err(Invalid::new("reason", "it holds a control or text direction character"));
    }
    Ok(spec)
}

/// As a message.
#[must_use]
pub fn write_freeze(spec: &FreezeSpec) -> v1::FreezeSpec {
    let FreezeSpec { name, selector, services, reason, starts, ends } = spec;
    v1::FreezeSpec {
        name: name.as_str().to_owned(),
        selector: selector.as_ref().map(write_selector),
        services: services.iter().map(|name| name.as_str().to_owned()).collect(),
        reason: reason.clone(),
        starts: starts.and_then(write_timestamp),
        ends: ends.and_then(write_timestamp),
    }
}

/// The revision that an etag stands for; none when nothing is said.
///
/// # Errors
/// [`Invalid`] when it is no etag of ours.
pub fn read_etag(field: &str, etag: &str) -> Result<Option<Revision>, Invalid> {
    if etag.is_empty() {
        return Ok(None);
    }
    let bad = || Invalid::new(field, "it is not an etag of this call");
    if etag.len() > ETAG_MAX_BYTES || !etag.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    etag.parse().map(|revision| Some(Revision(revision))).map_err(|_| bad())
}

/// What stands for a thing as it is at a revision.
#[must_use]
pub fn write_etag(revision: Revision) -> String {
    revision.to_string()
}

#[cfg(test)]
mod tests {
    use quorate_model::Reason;

    use super::*;

    fn message() -> v1::FreezeSpec {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        v1::FreezeSpec {
            name: "year-end".into(),
            selector: Some(v1::Selector { labels: "zone in (a,b)".into(), ..Default::default() }),
            services: vec!["ledger".into(), "web".into()],
            reason: "the books are closed".into(),
            starts: at(1_000),
            ends: at(2_000),
        }
    }

    #[test]
    fn freezes_come_back() {
        let bare = v1::FreezeSpec { name: "now".into(), reason: "an incident".into(), ..Default::default() };
        for message in [message(), bare] {
            let spec = read_freeze(message.clone()).unwrap();
            assert_eq!(write_freeze(&spec), message);
        }
        let spec = read_freeze(v1::FreezeSpec { starts: None, ends: None, ..message() }).unwrap();
        assert_eq!((spec.starts, spec.ends), (None, None), "absent is no moment in 1970");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        for (field, bad) in [
            ("name", v1::FreezeSpec { name: "Year End".into(), ..message() }),
            ("selector", v1::FreezeSpec { selector: Some(v1::Selector::default()), ..message() }),
            ("services", v1::FreezeSpec { services: vec!["x".into(); 101], ..message() }),
            ("services", v1::FreezeSpec { services: vec!["x".into(); 2], ..message() }),
            ("services[1]", v1::FreezeSpec { services: vec!["x".into(), "../y".into()], ..message() }),
            ("reason", v1::FreezeSpec { reason: String::new(), ..message() }),
            ("reason", v1::FreezeSpec { reason: "x".repeat(257), ..message() }),
            ("reason", v1::FreezeSpec { reason: "a\u{202e}b".into(), ..message() }),
            ("starts", v1::FreezeSpec { starts: at(-1), ..message() }),
            ("ends", v1::FreezeSpec { ends: at(1_000), ..message() }),
        ] {
            assert_eq!(read_freeze(bad.clone()).unwrap_err().field, field, "{bad:?}");
        }
        let empty = v1::FreezeSpec { selector: Some(v1::Selector::default()), ..message() };
        assert_eq!(read_freeze(empty).unwrap_err().reason, Reason::EmptySelector);
    }

    #[test]
    fn etags_come_back_and_others_are_refused() {
        for revision in [0, 7, u64::MAX] {
            assert_eq!(read_etag("etag", &write_etag(Revision(revision))), Ok(Some(Revision(revision))));
        }
        assert_eq!(read_etag("etag", ""), Ok(None));
        for bad in ["-1", "+1", " 1", "0x1", "18446744073709551616", &"1".repeat(30)] {
            assert_eq!(read_etag("etag", bad).unwrap_err().field, "etag", "{bad}");
        }
    }
}
