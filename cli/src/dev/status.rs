//! `quorate dev status`: which processes of a fleet live.

use std::io::Write as _;
use std::process::ExitCode;

use super::fleet::{Fleet, FleetState, Slot};
use super::layout::Layout;
use super::process::Identity;

/// Not ready yet (contract: exit codes).
const PENDING: u8 = 8;

/// Prints the state. 0: ready and all processes live; 8: starting; 1: anything else.
///
/// # Errors
/// When `fleet.json` cannot be read.
pub(super) fn status(layout: &Layout, json: bool) -> anyhow::Result<ExitCode> {
    let Some(fleet) = Fleet::load(layout)? else {
        eprintln!("no fleet was ever started in {}", layout.dir().display());
        return Ok(ExitCode::FAILURE);
    };
    let supervisor = fleet.live_supervisor();
    let daemons = fleet.daemons();
    let alive = |slot: &Slot| {
        daemons
            .iter()
            .find(|(known, identity)| known == slot && identity.alive())
            .map(|(_, identity)| *identity)
    };
    let slots: Vec<Slot> = fleet
        .coordinators
        .iter()
        .map(|member| Slot::Coordinator(member.name.clone()))
        .chain(
            fleet
                .agents
                .iter()
                .flat_map(|agent| [Slot::Helper(agent.node.clone()), Slot::Agent(agent.node.clone())]),
        )
        .collect();
    let down = slots.iter().filter(|slot| alive(slot).is_none()).count();
    let mut out = std::io::stdout().lock();
    let printed = if json {
        serde_json::to_writer_pretty(&mut out, &fleet).map_err(Into::into).and_then(|()| writeln!(out))
    } else {
        table(&mut out, &fleet, supervisor, &slots, alive)
    };
    match printed {
        // `status | head` ends quietly.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(match fleet.state {
        FleetState::Ready if supervisor.is_some() && down == 0 => ExitCode::SUCCESS,
        FleetState::Starting if supervisor.is_some() => ExitCode::from(PENDING),
        FleetState::Ready | FleetState::Starting | FleetState::Failed | FleetState::Stopped => {
            ExitCode::FAILURE
        }
    })
}

fn table(
    out: &mut impl std::io::Write,
    fleet: &Fleet,
    supervisor: Option<Identity>,
    slots: &[Slot],
    alive: impl Fn(&Slot) -> Option<Identity>,
) -> std::io::Result<()> {
    let word = |identity: Option<Identity>| {
        identity.map_or_else(|| "down".to_owned(), |identity| format!("up    pid {}", identity.pid))
    };
    let state = match fleet.state {
        FleetState::Starting if supervisor.is_some() => "starting",
        FleetState::Ready if supervisor.is_some() => "ready",
        FleetState::Starting | FleetState::Ready => "its supervisor is gone",
        FleetState::Failed => "failed to come up",
        FleetState::Stopped => "stopped",
    };
    writeln!(out, "{:<18} {state}", "fleet")?;
    if !fleet.message.is_empty() {
        writeln!(out, "{}", fleet.message)?;
    }
    writeln!(out, "{:<18} {}", "supervisor", word(supervisor))?;
    for slot in slots {
        writeln!(out, "{:<18} {}", slot.to_string(), word(alive(slot)))?;
    }
    for instance in fleet.instances.iter().chain(&fleet.pair) {
        writeln!(
            out,
            "{:<18} http://127.0.0.1:{}  {}",
            format!("{} on {}", instance.service, instance.node),
            instance.port,
            instance.dir.display()
        )?;
    }
    Ok(())
}
