//! Renews the silences of instances that are still worked on: each ends by itself when nobody does.
//!
//! Must never: silence anew what somebody has ended, or renew what is not owed any more.

use std::time::Duration;

use quorate_common::task::Shutdown;
use quorate_model::{DurationMs, ObligationId, ObligationState, Timestamp};

use super::journal::{JournalError, Owed, OwedSilence};
use super::obligations::{Book, Inner};
use crate::actions::Silencing;
use crate::actions::maintenance::silence::{SPAN, Silence};
use crate::host::clock;

/// A silence is renewed when half of its span is over.
const HALF: DurationMs = DurationMs(SPAN.0 / 2);
/// Longest time between two looks; a clock may have been set meanwhile.
const LOOK: Duration = Duration::from_secs(60);
/// An Alertmanager that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(5);

impl Book {
    /// Nobody else changes a silence as long as this is held.
    pub(super) async fn silencing(&self) -> Silencing {
        Silencing(self.silences.clone().lock_owned().await)
    }

    /// Renews what is still waited for, until it is told to stop.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) async fn renew(self: std::sync::Arc<Self>, shutdown: Shutdown) -> Result<(), JournalError> {
        loop {
            let (due, mut wait) = self.renewals(clock::now());
            for id in due {
                if !self.renew_one(&id).await? {
                    wait = wait.min(RETRY);
                }
            }
            tokio::select! {
                biased;
                () = shutdown.triggered() => return Ok(()),
                () = self.extended.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether a silence is one to keep: its work goes on, and nobody has asked for its end.
    fn is_kept(inner: &Inner, id: &ObligationId, owed: &Owed) -> bool {
        owed.held && owed.state == ObligationState::Open && !owed.is_over() && !inner.wanted.contains(id)
    }

    /// Silences whose end comes near and whose obligation does not end with them; and how long there is nothing else to do.
    fn renewals(&self, now: Timestamp) -> (Vec<ObligationId>, Duration) {
        let inner = self.inner();
        let (mut due, mut wait) = (Vec::new(), LOOK);
        for (id, owed) in inner.owed.iter().filter(|(id, owed)| Self::is_kept(&inner, id, owed)) {
            let silence = owed.maintenance.as_ref().and_then(|told| told.silence.as_ref());
            let Some(silence) = silence.filter(|silence| silence.renewed < owed.due_at) else { continue };
            let left = silence.renewed.since(now);
            // More is left than was ever asked for: this clock was set back.
            if left <= HALF || left > SPAN {
                due.push(id.clone());
            } else {
                wait = wait.min(Duration::from_millis(left.minus(HALF).0));
            }
        }
        (due, wait)
    }

    /// Whether it needs no other try. What its end will be is written down before it is asked for, so that it is never taken for
    /// over too early; and not before Alertmanager answers, so that one that is away does not put it off.
    async fn renew_one(&self, id: &ObligationId) -> Result<bool, JournalError> {
        let _silencing = self.silencing().await;
        let owed = {
            let inner = self.inner();
            inner.owed.get(id).filter(|owed| Self::is_kept(&inner, id, owed)).cloned()
        };
        let Some(told) = owed.as_ref().and_then(|owed| owed.maintenance.as_ref()) else { return Ok(true) };
        let (Some(owed), Some(silence)) = (&owed, &told.silence) else { return Ok(true) };
        let there = Silence::new(&silence.silence, &told.operation, &owed.instance);
        let now = clock::now();
        let until = owed.due_at.min(now.plus(SPAN));
        let seen = match self.undoer.allows_alertmanager(&silence.silence.url) {
            Ok(()) => there.look().await,
            Err(why) => Err(why),
        };
        let renewed = match seen {
            Ok(seen) if seen.is_there() => {
                self.note(id, |silence| silence.until = silence.until.max(until)).await?;
                there.set(&seen, seen.reason(&there), now, until).await.map(|_| ())
            }
            Ok(_) => {
                tracing::warn!(obligation = %id, "a silence of ours has ended before its time; it is not set again");
                Ok(())
            }
            Err(why) => Err(why),
        };
        match renewed {
            Ok(()) => {
                self.note(id, |silence| silence.renewed = until).await?;
                Ok(true)
            }
            Err(why) => {
                tracing::warn!(obligation = %id, why, "a silence is not renewed; it is tried again");
                Ok(false)
            }
        }
    }

    /// The work has ended, and its silence has not: its host ends it from now on, and nobody renews it.
    pub(super) async fn end_silence(&self, id: &ObligationId) -> Result<(), JournalError> {
        self.note(id, |silence| silence.over = true).await
    }

    async fn note(
        &self,
        id: &ObligationId,
        change: impl FnOnce(&mut OwedSilence),
    ) -> Result<(), JournalError> {
        let _writing = self.writing.lock().await;
        let Some(mut owed) = self.inner().owed.get(id).cloned() else { return Ok(()) };
        let Some(silence) = owed.maintenance.as_mut().and_then(|told| told.silence.as_mut()) else {
            return Ok(());
        };
        change(silence);
        self.journal.owe(id, &owed).await?;
        self.inner().owed.insert(id.clone(), owed);
        Ok(())
    }
}
