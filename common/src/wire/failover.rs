//! How the primary role of a group is held and moved, as declared.

use quorate_model::lease::{
    FAILOVER_TIMEOUT_MAX, HOLD_DOWN, HOLD_DOWN_MAX, LEASE_TTL, LEASE_TTL_MAX, LEASE_TTL_MIN,
};
use quorate_model::{DurationMs, FailoverSpec, HookName};
use quorate_proto::v1;

use super::Invalid;
use super::text::read_name;
use super::time::{read_duration_or, write_duration};

/// Longest time of a hook where nothing is said.
const TIMEOUT: DurationMs = DurationMs::from_secs(60);

/// As declared.
///
/// # Errors
/// [`Invalid`] with the field: no hook that promotes, a span beyond its limits.
pub fn read(message: v1::GroupFailover) -> Result<FailoverSpec, Invalid> {
    let v1::GroupFailover {
        promote_hook,
        switch_hook,
        rejoin_hook,
        timeout,
        ttl,
        manual,
        max_lag,
        hold_down,
    } = message;
    let hook = |field: &str, name: String| -> Result<Option<HookName>, Invalid> {
        if name.is_empty() { Ok(None) } else { read_name(field, name).map(Some) }
    };
    let or = |span: DurationMs, other| if span == DurationMs::ZERO { other } else { span };
    let timeout = or(read_duration_or("timeout", timeout, TIMEOUT)?, TIMEOUT);
    if timeout > FAILOVER_TIMEOUT_MAX {
        return Err(Invalid::new("timeout", "it is longer than an hour"));
    }
    let ttl = or(read_duration_or("ttl", ttl, LEASE_TTL)?, LEASE_TTL);
    if ttl < LEASE_TTL_MIN || ttl > LEASE_TTL_MAX {
        return Err(Invalid::new("ttl", format!("it must be {LEASE_TTL_MIN} to {LEASE_TTL_MAX}")));
    }
    let hold_down = read_duration_or("hold_down", hold_down, HOLD_DOWN)?;
    if hold_down > HOLD_DOWN_MAX {
        return Err(Invalid::new("hold_down", "it is longer than a week"));
    }
    Ok(FailoverSpec {
        ttl,
        promote: read_name("promote_hook", promote_hook)?,
        switch: hook("switch_hook", switch_hook)?,
        rejoin: hook("rejoin_hook", rejoin_hook)?,
        timeout,
        automatic: !manual,
        max_lag,
        hold_down,
    })
}

/// As a message.
#[must_use]
pub fn write(spec: &FailoverSpec) -> v1::GroupFailover {
    let FailoverSpec { ttl, promote, switch, rejoin, timeout, automatic, max_lag, hold_down } = spec;
    let name = |hook: &Option<HookName>| hook.as_ref().map(ToString::to_string).unwrap_or_default();
    v1::GroupFailover {
        promote_hook: promote.to_string(),
        switch_hook: name(switch),
        rejoin_hook: name(rejoin),
        timeout: Some(write_duration(*timeout)),
        ttl: Some(write_duration(*ttl)),
        manual: !automatic,
        max_lag: *max_lag,
        hold_down: Some(write_duration(*hold_down)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_beyond_its_limits_is_refused() {
        let good = v1::GroupFailover { promote_hook: "promote".into(), ..v1::GroupFailover::default() };
        let spec = read(good.clone()).unwrap();
        assert_eq!((spec.ttl, spec.automatic, spec.hold_down), (LEASE_TTL, true, HOLD_DOWN));
        assert_eq!(read(write(&spec)).unwrap(), spec);
        let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let field = |message| read(message).unwrap_err().field;
        assert_eq!(field(v1::GroupFailover::default()), "promote_hook");
        assert_eq!(field(v1::GroupFailover { ttl: span(2), ..good.clone() }), "ttl");
        assert_eq!(field(v1::GroupFailover { ttl: span(301), ..good.clone() }), "ttl");
        assert_eq!(field(v1::GroupFailover { timeout: span(3_601), ..good.clone() }), "timeout");
        assert_eq!(field(v1::GroupFailover { hold_down: span(604_801), ..good.clone() }), "hold_down");
        assert_eq!(field(v1::GroupFailover { switch_hook: "a b".into(), ..good }), "switch_hook");
    }
}
