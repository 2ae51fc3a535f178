//! Whether all members hold the same state (I-7): each takes a digest of its own at every thousandth log index and compares
//! it with those of the others. A member that stands alone with its state stops, and does not come back under its number:
//! every answer of it would be doubtful.
//!
//! Must never repair, and never wait for an answer before entries are applied. Digests of different releases are not
//! compared, because a release may encode the same state otherwise; nor is one member stopped because another one is wrong:
//! where those that could decide are silent, both go on for a minute.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sha2::Digest as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::store::Blocking;

use super::codec;
use super::error::ProposeError;
use super::machine::{Applied, Machine, StateHandle};
use super::network::Network;
use super::node::RaftNode;
use super::status::RaftStatus;
use super::transport::{Header, PeerError, PeerReply, PeerRequest};
use super::types::Raft;

/// Digests a member keeps: members may be a few thousand entries apart and still find a common index.
pub(crate) const DIGESTS_KEPT: usize = 8;

/// Time between two comparisons. Divergence is a bug or broken memory; a few thousand entries later is soon enough.
const EVERY: Duration = Duration::from_secs(2);

/// How often others are asked about one index. One that is down that long takes part in a later comparison.
const ASK: u32 = 30;

/// How long one member may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// SHA-256 of the replicated state as it was right after one log index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateDigest {
    /// The log index.
    pub index: u64,
    /// The digest of the encoded state.
    pub sha256: [u8; 32],
}

/// What this member has taken, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Digests {
    all: Arc<Mutex<VecDeque<StateDigest>>>,
    newest: watch::Sender<u64>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { all: Arc::default(), newest: watch::Sender::new(0) }
    }
}

impl Digests {
    pub(crate) fn list(&self) -> Vec<StateDigest> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn push(&self, digest: StateDigest) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == DIGESTS_KEPT {
            all.pop_front();
        }
        all.push_back(digest);
        drop(all);
        self.newest.send_replace(digest.index);
    }
}

/// The state machine's side: hands over the state at the right indexes and goes on.
pub(crate) struct Sampler<M> {
    every: u64,
    states: mpsc::Sender<Arc<Applied<M>>>,
}

impl<M> Sampler<M> {
    /// At most one state waits: each one that is held makes the next entry copy the whole state.
    pub(crate) fn new(every: u64) -> (Self, mpsc::Receiver<Arc<Applied<M>>>) {
        let (states, taken) = mpsc::channel(1);
        (Self { every, states }, taken)
    }

    /// Looks whether the state as it stands is one to compare. While an earlier one waits it is passed over.
    pub(crate) fn look(&self, applied: &Arc<Applied<M>>) {
        let due = |index: u64| index.checked_rem(self.every) == Some(0);
        if applied.last.is_some_and(|last| due(last.index)) {
            drop(self.states.try_send(Arc::clone(applied)));
        }
    }
}

fn sha256(state: &impl Serialize) -> Result<[u8; 32], ProposeError> {
    Ok(sha2::Sha256::digest(&codec::encode("state", state)?).into())
}

/// Takes the digests of the states that come.
pub(crate) async fn sample<M: Machine>(
    mut states: mpsc::Receiver<Arc<Applied<M>>>,
    digests: Digests,
    blocking: Blocking,
) {
    while let Some(applied) = states.recv().await {
        let index = applied.last.map_or(0, |last| last.index);
        let outcome = blocking.run(move || sha256(&applied.state)).await;
        match outcome {
            Ok(Ok(sha256)) => digests.push(StateDigest { index, sha256 }),
            Ok(Err(error)) => tracing::error!(%error, index, "the state has no digest"),
            Err(error) if error.is_cancelled() => return,
            Err(error) => tracing::error!(%error, index, "the state has no digest"),
        }
    }
}

/// What a comparison says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All members hold the same.
    Same,
    /// Nobody contradicts, somebody has not answered.
    Waiting,
    /// A majority of the voters holds what this member holds; these do not.
    Others(Contradiction),
    /// Somebody holds something else, and too few have answered to tell who is wrong.
    Doubtful(Contradiction),
    /// Somebody holds something else, and no majority of the voters can hold what this member holds.
    Alone(Contradiction),
}

/// Members that hold another state than this one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contradiction {
    index: u64,
    members: Vec<u64>,
}

/// Compares. `peers` has the digests of those that answered, none for those of another release.
fn judge(
    me: u64,
    own: &[StateDigest],
    voters: &BTreeSet<u64>,
    others: &BTreeSet<u64>,
    peers: &BTreeMap<u64, Option<Vec<StateDigest>>>,
) -> Verdict {
    for digest in own.iter().rev() {
        let (mut same, mut differ) = (BTreeSet::from([me]), BTreeSet::new());
        for (id, theirs) in peers {
            let found = theirs.iter().flatten().find(|found| found.index == digest.index);
            match found {
                Some(found) if found.sha256 == digest.sha256 => same.insert(*id),
                Some(_) => differ.insert(*id),
                None => false,
            };
        }
        if differ.is_empty() {
            continue;
        }
        let contradiction = Contradiction { index: digest.index, members: differ.iter().copied().collect() };
        let same = same.intersection(voters).count();
        let silent = voters.len().saturating_sub(same).saturating_sub(differ.intersection(voters).count());
        return if same * 2 > voters.len() || (voters.contains(&me) && differ.is_disjoint(voters)) {
            // A learner alone never stops a voter.
            Verdict::Others(contradiction)
        } else if (same + silent) * 2 > voters.len() {
            Verdict::Doubtful(contradiction)
        } else {
            Verdict::Alone(contradiction)
        };
    }
    let newest = own.last().map_or(0, |digest| digest.index);
    let compared = |id: &u64| match peers.get(id) {
        Some(Some(theirs)) => theirs.last().is_some_and(|found| found.index >= newest),
        Some(None) => true,
        None => false,
    };
    if others.iter().all(compared) { Verdict::Same } else { Verdict::Waiting }
}

/// Compares this member with the others, and says when it has to stop.
pub(crate) struct Comparer {
    pub(crate) digests: Digests,
    pub(crate) raft: Raft,
    pub(crate) network: Network,
    pub(crate) stop: CancellationToken,
    /// One sentence when this member stands alone.
    pub(crate) alone: watch::Sender<Option<String>>,
}

impl Comparer {
    pub(crate) async fn run(self) {
        let mut newest = self.digests.newest.subscribe();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut left = 0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stop.cancelled() => return,
            }
            if newest.has_changed().unwrap_or(false) {
                newest.mark_unchanged();
                left = ASK;
            }
            if left == 0 {
                continue;
            }
            left -= 1;
            match self.compare().await {
                Verdict::Same => left = 0,
                Verdict::Waiting => {}
                Verdict::Others(Contradiction { index, members }) => {
                    left = 0;
                    tracing::error!(
                        index,
                        ?members,
                        "members hold another state than the majority: they stop"
                    );
                }
                // One of the two is wrong, and to go on for long with a wrong state is worse than to stop.
                Verdict::Doubtful(contradiction) if left == 0 => {
                    return self.stop_alone(&contradiction).await;
                }
                Verdict::Doubtful(Contradiction { index, members }) => {
                    tracing::error!(
                        index,
                        ?members,
                        "members hold another state than this one; the others shall decide"
                    );
                }
                Verdict::Alone(contradiction) => return self.stop_alone(&contradiction).await,
            }
        }
    }

    async fn stop_alone(&self, contradiction: &Contradiction) {
        let Contradiction { index, members } = contradiction;
        let why = format!(
            "the state of this member differs from that of {members:?} at log index {index} and no majority holds the \
             same (I-7)"
        );
        tracing::error!("{why}");
        self.alone.send_replace(Some(why));
        // No more votes, no more entries. The process is about to end, and does not start again under this number.
        drop(self.raft.shutdown().await);
    }

    async fn compare(&self) -> Verdict {
        let status = RaftStatus::new(&self.raft.metrics().borrow());
        let me = self.network.member_id;
        let mut peers = BTreeMap::new();
        for member in status.members.iter().filter(|member| member.id != me) {
            let header = Header { cluster_id: self.network.cluster_id, sender_id: me, target_id: member.id };
            let call = self.network.transport.call(header, &member.address, PeerRequest::Status, ANSWER);
            if let Ok(Ok(PeerReply::Status(peer))) = tokio::time::timeout(ANSWER, call).await {
                let ours = peer.version == env!("CARGO_PKG_VERSION");
                peers.insert(member.id, ours.then_some(peer.digests));
            }
        }
        let others = status.members.iter().map(|member| member.id).filter(|id| *id != me).collect();
        judge(me, &self.digests.list(), &status.voters().collect(), &others, &peers)
    }
}

/// The digest of the state as it is now; what is held for it is let go at once.
pub(crate) async fn digest<M: Machine>(
    state: StateHandle<M>,
    blocking: Blocking,
) -> Result<StateDigest, ProposeError> {
    let work = move || {
        let shared = state.share();
        Ok(StateDigest { index: shared.revision(), sha256: sha256(&*shared)? })
    };
    blocking.run(work).await.map_err(|error| ProposeError::Malformed(error.to_string()))?
}

impl<M: Machine> RaftNode<M> {
    /// What a member's state is now, then the digests that all members take, and its release. Asks whichever member.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn digests_of(
        &self,
        member: u64,
        address: &str,
        timeout: Duration,
    ) -> Result<(Vec<StateDigest>, String), PeerError> {
        if member == self.id() {
            let now = (self.handler().digest)().await.map_err(PeerError::NoReply)?;
            let all = std::iter::once(now).chain(self.handler().digests.list()).collect();
            return Ok((all, env!("CARGO_PKG_VERSION").to_owned()));
        }
        match self.call(member, address, PeerRequest::Digest, timeout).await? {
            PeerReply::Digests { digests, version } => Ok((digests, version)),
            _ => Err(PeerError::NoReply("a reply of another kind".to_owned())),
        }
    }

    /// SHA-256 of the encoded state, and the index it stands at: equal on all members at the same index (I-7).
    ///
    /// # Errors
    /// When the state does not encode.
    pub fn digest(&self) -> Result<StateDigest, ProposeError> {
        let shared = self.state().share();
        Ok(StateDigest { index: shared.revision(), sha256: sha256(&*shared)? })
    }

    /// The digests this member has taken at the indexes where all members take one, oldest first.
    #[must_use]
    pub fn digests(&self) -> Vec<StateDigest> {
        self.handler().digests.list()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who answered what.
    type Answers<'a> = &'a [(u64, Option<&'a [StateDigest]>)];

    fn at(index: u64, byte: u8) -> StateDigest {
        StateDigest { index, sha256: [byte; 32] }
    }

    fn verdict(
        me: u64,
        own: &[StateDigest],
        voters: &[u64],
        peers: &[(u64, Option<&[StateDigest]>)],
    ) -> Verdict {
        let voters: BTreeSet<u64> = voters.iter().copied().collect();
        let others = voters.iter().copied().filter(|id| *id != me).collect();
        let peers = peers.iter().map(|(id, all)| (*id, all.map(<[_]>::to_vec))).collect();
        judge(me, own, &voters, &others, &peers)
    }

    fn contradicted(index: u64, members: &[u64]) -> Contradiction {
        Contradiction { index, members: members.to_vec() }
    }

    #[test]
    fn the_one_that_stands_alone_stops_and_the_majority_goes_on() {
        let (right, wrong) = ([at(1000, 1), at(2000, 1)], [at(1000, 1), at(2000, 9)]);
        let peers: Answers<'_> = &[(2, Some(&right)), (3, Some(&wrong))];
        assert_eq!(verdict(1, &right, &[1, 2, 3], peers), Verdict::Others(contradicted(2000, &[3])));
        let peers: Answers<'_> = &[(1, Some(&right)), (2, Some(&right))];
        assert_eq!(verdict(3, &wrong, &[1, 2, 3], peers), Verdict::Alone(contradicted(2000, &[1, 2])));
        // A learner has no vote and no majority of its own, and stops no voter.
        let peers: Answers<'_> = &[(1, Some(&right))];
        assert_eq!(verdict(4, &wrong, &[1], peers), Verdict::Alone(contradicted(2000, &[1])));
        let peers: Answers<'_> = &[(4, Some(&wrong))];
        assert_eq!(verdict(1, &right, &[1, 2, 3], peers), Verdict::Others(contradicted(2000, &[4])));
    }

    #[test]
    fn a_member_is_not_stopped_by_another_one_that_is_wrong() {
        let (right, wrong) = ([at(1000, 1), at(2000, 1)], [at(1000, 1), at(2000, 9)]);
        // The third is down, behind, or of another release.
        for third in [None, Some(Some(&right[..1])), Some(None)] {
            let mut peers = vec![(3, Some(&wrong[..]))];
            peers.extend(third.map(|answer| (2, answer)));
            assert_eq!(verdict(1, &right, &[1, 2, 3], &peers), Verdict::Doubtful(contradicted(2000, &[3])));
        }
        let peers: Answers<'_> = &[(2, Some(&wrong))];
        assert_eq!(verdict(1, &right, &[1, 2], peers), Verdict::Alone(contradicted(2000, &[2])));
    }

    #[test]
    fn an_old_difference_is_found_behind_newer_indexes_that_nobody_shares() {
        let own = [at(1000, 1), at(2000, 1)];
        let theirs = [at(1000, 7), at(3000, 1)];
        let peers: Answers<'_> = &[(2, Some(&theirs)), (3, Some(&theirs))];
        assert_eq!(verdict(1, &own, &[1, 2, 3], peers), Verdict::Alone(contradicted(1000, &[2, 3])));
    }

    #[test]
    fn nothing_is_the_same_before_everybody_has_answered() {
        let own = [at(1000, 1)];
        let peers: Answers<'_> = &[(2, Some(&own))];
        assert_eq!(verdict(1, &own, &[1, 2, 3], peers), Verdict::Waiting);
        let behind: Answers<'_> = &[(2, Some(&own)), (3, Some(&[]))];
        assert_eq!(verdict(1, &own, &[1, 2, 3], behind), Verdict::Waiting);
        // Another release: never compared, never waited for.
        let mixed: Answers<'_> = &[(2, Some(&own)), (3, None)];
        assert_eq!(verdict(1, &own, &[1, 2, 3], mixed), Verdict::Same);
        assert_eq!(verdict(1, &own, &[1], &[]), Verdict::Same);
    }
}
