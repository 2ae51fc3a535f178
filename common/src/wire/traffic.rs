//! Traffic: how an instance is taken out of its load balancer, and what was measured there.

use quorate_model::traffic::{POOL_NAME_MAX_BYTES, is_pool_name};
use quorate_model::{DurationMs, OnTimeout, TrafficReceipt, TrafficSpec};
use quorate_proto::v1;

use super::Invalid;
use super::limits::OUTCOME_TEXT_MAX_BYTES;
use super::text::{read_filled, read_name, read_text};
use super::time::{read_duration_or, write_duration};

/// How long connections may take to end when the message says nothing (proto).
const DRAIN_TIMEOUT: DurationMs = DurationMs::from_secs(60);
/// Longest wait for connections: a lane that waits longer holds everybody up.
const DRAIN_TIMEOUT_MAX: DurationMs = DurationMs::from_secs(24 * 3_600);
/// Servers that must serve when the message says nothing (proto).
const MIN_UP: u32 = 1;
/// Most that may be asked for: as many servers as the largest group has members.
const MIN_UP_MAX: u32 = 500;

/// How one instance is taken out of its load balancer.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_traffic(message: v1::TrafficSpec) -> Result<TrafficSpec, Invalid> {
    let v1::TrafficSpec { adapter, backend, server, drain_timeout, on_timeout, min_up } = message;
    let drain_timeout = match read_duration_or("drain_timeout", drain_timeout, DRAIN_TIMEOUT)? {
        DurationMs::ZERO => DRAIN_TIMEOUT,
        longer if longer > DRAIN_TIMEOUT_MAX => {
            return Err(Invalid::new("drain_timeout", "it is longer than a day"));
        }
        fits => fits,
    };
    let on_timeout = match v1::OnTimeout::try_from(on_timeout) {
        Ok(v1::OnTimeout::Unspecified | v1::OnTimeout::Fail) => OnTimeout::Fail,
        Ok(v1::OnTimeout::Proceed) => OnTimeout::Proceed,
        Err(_) => return Err(Invalid::new("on_timeout", "it must be FAIL or PROCEED")),
    };
    let min_up = min_up.unwrap_or(MIN_UP);
    if min_up > MIN_UP_MAX {
        return Err(Invalid::new("min_up", format!("{MIN_UP_MAX} is the limit")));
    }
    Ok(TrafficSpec {
        adapter: read_name("adapter", adapter)?,
        backend: read_pool_name("backend", backend)?,
        server: read_server("server", server)?,
        drain_timeout,
        on_timeout,
        min_up,
    })
}

const NO_NAME: &str = "only letters, digits, '.', '_', '-', ':', '[' and ']' are allowed";

fn read_pool_name(field: &str, name: String) -> Result<String, Invalid> {
    let name = read_filled(field, name, POOL_NAME_MAX_BYTES)?;
    if is_pool_name(&name) { Ok(name) } else { Err(Invalid::new(field, NO_NAME)) }
}

/// A name that may hold variables: what they are filled with is checked on the host.
fn read_server(field: &str, name: String) -> Result<String, Invalid> {
    let name = read_filled(field, name, POOL_NAME_MAX_BYTES)?;
    let plain: String = name.chars().filter(|c| !matches!(c, '$' | '{' | '}')).collect();
    if is_pool_name(&plain) { Ok(name) } else { Err(Invalid::new(field, NO_NAME)) }
}

/// As a message.
#[must_use]
pub fn write_traffic(traffic: &TrafficSpec) -> v1::TrafficSpec {
    let TrafficSpec { adapter, backend, server, drain_timeout, on_timeout, min_up } = traffic;
    let on_timeout = match on_timeout {
        OnTimeout::Fail => v1::OnTimeout::Fail,
        OnTimeout::Proceed => v1::OnTimeout::Proceed,
    };
    v1::TrafficSpec {
        adapter: adapter.to_string(),
        backend: backend.clone(),
        server: server.clone(),
        drain_timeout: Some(write_duration(*drain_timeout)),
        on_timeout: on_timeout as i32,
        min_up: Some(*min_up),
    }
}

/// What was measured at a load balancer.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_receipt(message: v1::TrafficReceipt) -> Result<TrafficReceipt, Invalid> {
    let v1::TrafficReceipt {
        backend,
        server,
        balancers,
        others_up,
        connections_before,
        connections_after,
        waited,
    } = message;
    Ok(TrafficReceipt {
        backend: read_text("backend", backend, OUTCOME_TEXT_MAX_BYTES)?,
        server: read_text("server", server, OUTCOME_TEXT_MAX_BYTES)?,
        balancers,
        others_up,
        connections_before,
        connections_after,
        waited: read_duration_or("waited", waited, DurationMs::ZERO)?,
    })
}

/// As a message.
#[must_use]
pub fn write_receipt(receipt: &TrafficReceipt) -> v1::TrafficReceipt {
    let TrafficReceipt {
        backend,
        server,
        balancers,
        others_up,
        connections_before,
        connections_after,
        waited,
    } = receipt;
    v1::TrafficReceipt {
        backend: backend.clone(),
        server: server.clone(),
        balancers: *balancers,
        others_up: *others_up,
        connections_before: *connections_before,
        connections_after: *connections_after,
        waited: Some(write_duration(*waited)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::TrafficSpec {
        v1::TrafficSpec {
            adapter: "edge".into(),
            backend: "app".into(),
            server: "${node}".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_declaration_comes_back_with_its_defaults() {
        let traffic = read_traffic(message()).unwrap();
        assert_eq!((traffic.drain_timeout, traffic.on_timeout), (DRAIN_TIMEOUT, OnTimeout::Fail));
        assert_eq!(traffic.min_up, 1);
        assert_eq!(read_traffic(write_traffic(&traffic)), Ok(traffic));
        let alone = read_traffic(v1::TrafficSpec { min_up: Some(0), ..message() }).unwrap();
        assert_eq!(alone.min_up, 0, "said is not the same as left out");
        let receipt = TrafficReceipt { connections_before: Some(3), ..TrafficReceipt::default() };
        assert_eq!(read_receipt(write_receipt(&receipt)), Ok(receipt));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |message| read_traffic(message).unwrap_err().field;
        assert_eq!(field(v1::TrafficSpec { adapter: String::new(), ..message() }), "adapter");
        assert_eq!(field(v1::TrafficSpec { backend: "${node}".into(), ..message() }), "backend");
        for server in ["", "a b", "a;b", "a/b", "${node}\n"] {
            assert_eq!(field(v1::TrafficSpec { server: server.into(), ..message() }), "server", "{server:?}");
        }
        assert_eq!(field(v1::TrafficSpec { on_timeout: 7, ..message() }), "on_timeout");
        assert_eq!(field(v1::TrafficSpec { min_up: Some(501), ..message() }), "min_up");
        let long = Some(write_duration(DurationMs::from_secs(90_000)));
        assert_eq!(field(v1::TrafficSpec { drain_timeout: long, ..message() }), "drain_timeout");
    }
}
