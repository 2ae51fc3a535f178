//! One zone after the other: the targets of one are done before those of the next begin.
//!
//! Inside a zone the roles rule as ever; the zone of who leads comes last. Where the two orders contradict each other, the zone
//! has its way, and the plan says so.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Target, order};
use crate::observations::Observations;
use crate::state::State;

/// Nodes named in one sentence.
const NAMED_MAX: usize = 10;

/// The targets in order, cut where a zone ends.
pub(super) struct Zones<'t> {
    pub(super) parts: Vec<Vec<&'t Target>>,
    pub(super) notes: Vec<String>,
}

/// Sorts targets that are in the order of their roles by the zone that a label names; one part when none does.
pub(super) fn split<'t>(
    state: &State,
    obs: &Observations,
    label: Option<&str>,
    targets: Vec<&'t Target>,
) -> Zones<'t> {
    let Some(label) = label else { return Zones { parts: Vec::from([targets]), notes: Vec::new() } };
    let mut by_name: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
    for target in targets {
        let node = state.nodes.present(&target.node);
        let name = node.and_then(|node| node.labels.get(label)).map_or("", String::as_str);
        by_name.entry(name).or_default().push(target);
    }
    let leads = |target: &&Target| {
        target.action.service().is_some_and(|service| order::leads(state, obs, service, &target.node))
    };
    let learns = |target: &&Target| {
        target.action.service().is_some_and(|service| order::learns(state, obs, service, &target.node))
    };
    let mut zones: Vec<(&str, Vec<&Target>)> = by_name.into_iter().collect();
    zones.sort_by_key(|(_, targets)| targets.iter().any(&leads));
    let shown = |name: &str| if name.is_empty() { String::from("(none)") } else { String::from(name) };
    let names: Vec<String> = zones.iter().map(|(name, _)| shown(name)).collect();
    let mut notes = Vec::from([format!("order by {label}, one after the other: {}", names.join(", "))]);
    if let Some((_, bare)) = zones.iter().find(|(name, _)| name.is_empty()) {
        let nodes: Vec<&str> = bare.iter().take(NAMED_MAX).map(|target| target.node.as_str()).collect();
        let more = bare.len().saturating_sub(nodes.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!("{}{more}: without a label {label}, a zone of its own", nodes.join(", ")));
    }
    let mut earlier = false;
    for (name, targets) in &zones {
        // A learner would go before every follower; its zone keeps it behind those of the zones before.
        for target in targets.iter().filter(|target| earlier && learns(target)) {
            notes.push(format!(
                "{} learns, and goes with its zone {} all the same",
                target.node,
                shown(name)
            ));
        }
        earlier |= targets.iter().any(|target| !learns(target));
    }
    if let [.., (name, last)] = zones.as_slice()
        && zones.len() > 1
        && last.iter().any(leads)
    {
        notes.push(format!("{} comes last: who leads is there", shown(name)));
    }
    Zones { parts: zones.into_iter().map(|(_, targets)| targets).collect(), notes }
}
