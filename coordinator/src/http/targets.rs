//! What Prometheus should scrape, as `http_sd` reads it.
//!
//! An agent's metrics are on its own loopback (7481): the targets name the port on the host, for a Prometheus agent on that
//! host or behind a relay; the label `quorate_node` says whose they are.

use quorate_core::state::{Member, Node};
use serde_json::{Value, json};

use crate::api::Api;

/// The agent's metrics port (contract.md).
const AGENT_PORT: u16 = 7481;

/// One group of targets per coordinator and node, in name order.
pub(super) fn list(api: &Api) -> String {
    let groups: Vec<Value> = api.look(|state| {
        let members = state.members.present().map(member);
        members.chain(state.nodes.all_present().map(node)).collect()
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

fn node(node: &Node) -> Value {
    let host = host(&node.address);
    let target =
        if host.contains(':') { format!("[{host}]:{AGENT_PORT}") } else { format!("{host}:{AGENT_PORT}") };
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
