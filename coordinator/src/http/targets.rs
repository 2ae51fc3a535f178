//! What Prometheus should scrape, as `http_sd` reads it.
//!
//! Coordinators serve their metrics to everybody. An agent serves its metrics on its own loopback, where no other host can
//! reach them, so agents are no targets by themselves: `?agents=PORT` lists every node at that port, for those who put a relay
//! there (a TLS proxy, a tunnel). The label `quorate_node` says whose they are.

use quorate_core::state::{Member, Node};
use serde_json::{Value, json};

use crate::api::Api;

/// Reads the query: the port at which agents are relayed, none when there is none.
///
/// # Errors
/// What is wrong, for the one who asked.
pub(super) fn agents(query: Option<&str>) -> Result<Option<u16>, &'static str> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let port = query.strip_prefix("agents=").ok_or("only agents=PORT is understood here")?;
    match port.parse() {
        Ok(0) | Err(_) => Err("agents: it must be a port, 1 to 65535"),
        Ok(port) => Ok(Some(port)),
    }
}

/// One group of targets per coordinator, and per node when agents are relayed at a port; in name order.
pub(super) fn list(api: &Api, agents: Option<u16>) -> String {
    let groups: Vec<Value> = api.look(|state| {
        let members = state.members.present().map(member);
        let nodes = agents.into_iter().flat_map(|port| state.nodes.all_present().map(move |n| node(n, port)));
        members.chain(nodes).collect()
    });
    Value::Array(groups).to_string()
}

fn member(member: &Member) -> Value {
    json!({
        "targets": [member.http],
        "labels": {
            "job": "quorate-coordinator",
            "__scheme__": "https",
            "__metrics_path__": "/metrics",
            "quorate_member": member.name.as_str(),
        },
    })
}

fn node(node: &Node, port: u16) -> Value {
    let host = host(&node.address);
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    json!({
        "targets": [target],
        "labels": {
            "job": "quorate-agent",
            "__metrics_path__": "/metrics",
            "quorate_node": node.name.as_str(),
            "quorate_status": node.status.as_str(),
        },
    })
}

/// The host of `host` or `host:port`, IPv6 with or without brackets.
fn host(address: &str) -> &str {
    if let Some(rest) = address.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match address.matches(':').count() {
        1 => address.split(':').next().unwrap_or(address),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_asked_for_by_a_port_or_not_at_all() {
        assert_eq!((agents(None), agents(Some(""))), (Ok(None), Ok(None)));
        assert_eq!(agents(Some("agents=7482")), Ok(Some(7482)));
        for bad in ["agents=", "agents=0", "agents=65536", "agents=x", "agents=1&x=2", "nodes=1", "agents"] {
            assert!(agents(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_host_is_found_in_every_form() {
        for (address, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:5", "10.0.0.1"),
            ("::1", "::1"),
            ("[::1]:5", "::1"),
            ("h.example:5", "h.example"),
        ] {
            assert_eq!(host(address), expected);
        }
    }
}
