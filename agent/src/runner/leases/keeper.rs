//! What actions are told of the leases on this host. Must never: change one.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_model::{DurationMs, Epoch, GroupName, LeaseTimes, ServiceName};
use tokio::sync::OwnedMutexGuard;

use super::machine::{Phase, Taking};
use super::{Known, Leases, not_live};
use crate::actions::{LeaseKeeper, LeaseNow};

impl LeaseKeeper for Leases {
    fn standing(&self, group: &GroupName, epoch: Epoch) -> LeaseNow {
        let Some(lease) = self.of(group).map(|known| known.lease) else { return LeaseNow::NotYet };
        match lease.taking(epoch) {
            Taking::Same => {}
            Taking::New | Taking::OlderFirst => return LeaseNow::NotYet,
            Taking::Stale => return LeaseNow::Over(format!("a newer lease of {group} is known here")),
        }
        let left = lease.left((self.now)());
        match lease.phase {
            Phase::TakenUp { .. } => LeaseNow::NotYet,
            Phase::Live { .. } if left != DurationMs::ZERO => {
                LeaseNow::Live { left, needed: needed(&LeaseTimes::of(lease.ttl)) }
            }
            Phase::Live { .. } | Phase::Stopping { .. } | Phase::Released { .. } => {
                LeaseNow::Over(not_live(group, &lease))
            }
        }
    }

    fn stopping(&self, service: &ServiceName) -> Option<String> {
        let known = self.known();
        let stopping = known.iter().find(|(_, Known { leased, .. })| {
            leased.service == *service && matches!(leased.lease.phase, Phase::Stopping { .. })
        });
        stopping.map(|(group, known)| not_live(group, &known.leased.lease))
    }

    fn promoting<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, OwnedMutexGuard<()>> {
        self.promotion(group).lock_owned().boxed()
    }

    fn changed(&self, within: Duration) -> BoxFuture<'_, ()> {
        let mut changes = self.changes.subscribe();
        async move {
            // Both ends say the same: look again.
            let _ = tokio::time::timeout(within, changes.changed()).await;
        }
        .boxed()
    }
}

/// What must be left of it before a hook is begun: a third, and never less than a second.
fn needed(times: &LeaseTimes) -> DurationMs {
    times.ttl.minus(times.demote_after).max(DurationMs::from_secs(1))
}
