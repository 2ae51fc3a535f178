//! Moves the primary role of a group whose primary is lost, without being asked.
//!
//! Whether it is lost, and whether anybody may move its role now, is the core's to say; here it is planned as anybody's move is,
//! and refused where theirs would be.

use std::collections::BTreeMap;

use quorate_core::command::OperationCommand;
use quorate_core::plan::{failovers_due, plan};
use quorate_core::state::plan::Goal;
use quorate_core::{Command, Observations, State};
use quorate_model::{GroupName, OperationId, Timestamp, minted};

/// Most moves begun in one round: a whole zone may be lost at once, and what else is due must get through.
const AT_ONCE: usize = 16;

/// Why a move was refused the last time, by group: told when it changes.
#[derive(Default)]
pub(super) struct Moves {
    refused: BTreeMap<GroupName, String>,
}

impl Moves {
    /// The moves to begin now.
    pub(super) fn due(
        &mut self,
        state: &State,
        obs: &Observations,
        now: Timestamp,
        mint: &mut dyn FnMut() -> u64,
    ) -> Vec<Command> {
        self.refused.retain(|name, _| state.groups.contains_key(name));
        let mut due = Vec::new();
        for request in failovers_due(state, obs, now).into_iter().take(AT_ONCE) {
            let Goal::Failover { group, .. } = &request.goal else { continue };
            let group = group.clone();
            match plan(state, obs, &request, now, mint) {
                Ok(plan) => {
                    self.refused.remove(&group);
                    let Ok(id) = OperationId::new(minted("r", mint())) else { continue };
                    tracing::warn!(%group, operation = %id, why = request.reason, "the primary is lost: its role is moved");
                    due.push(Command::Operation(Box::new(OperationCommand::Start { id, plan })));
                }
                Err(refusal) => self.tell(&group, refusal.what()),
            }
        }
        due
    }

    fn tell(&mut self, name: &GroupName, why: String) {
        if self.refused.get(name) != Some(&why) {
            tracing::error!(group = %name, why, "the primary is lost, and nobody can take over now");
            self.refused.insert(name.clone(), why);
        }
    }
}
