//! AdminService: the state as a whole, saved to a file or compared between members.
//!
//! Must never: give out a file that a reader could take for whole when it is not, or call states the same that were not
//! looked at behind the same log entry.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use quorate_common::saved::{FORMAT, SavedHeader, encode};
use quorate_common::tls::hex;
use quorate_common::wire::limits::REASON_MAX_BYTES;
use quorate_common::wire::text::read_text;
use quorate_core::State;
use quorate_model::MemberId;
use quorate_proto::v1;
use tokio::time::Instant;
use tonic::Status;

use super::backend::{Encoded, StateDigest};
use super::caller::Caller;
use super::context::{Api, Change, Served};
use super::members::Done;
use super::status::Failure;

/// The stream of `SaveSnapshot`.
pub(super) type SavedStream = Pin<Box<dyn Stream<Item = Result<v1::SaveSnapshotResponse, Status>> + Send>>;

/// Bytes of one message (proto).
const CHUNK: usize = 256 << 10;
/// How long members are asked again until they stand at the same index.
const COMPARE: Duration = Duration::from_secs(8);
/// Between two rounds.
const AGAIN: Duration = Duration::from_millis(50);

impl Api {
    pub(super) async fn save_snapshot(
        &self,
        caller: &Caller,
        request: v1::SaveSnapshotRequest,
    ) -> Result<Served<SavedStream>, Failure> {
        let v1::SaveSnapshotRequest { consistency, reason } = request;
        let reason = read_text("reason", reason, REASON_MAX_BYTES)?;
        self.fresh(consistency).await?;
        let made = self.backend().encoded().await?;
        let index = made.index;
        let header = self.header(&made);
        let file = tokio::task::spawn_blocking(move || encode(header, &made.bytes)).await;
        let file =
            file.ok().and_then(Result::ok).ok_or(Failure::Internal("a state was not put into a file"))?;
        // The file holds everything: that somebody took it is on record. Without a majority nobody can write that down.
        if consistency != i32::from(v1::Consistency::Stale) {
            let change = Change { request_id: caller.request.get().clone(), reason, validate_only: false };
            let outcome = Ok(format!("log index {index}, {} bytes", file.len()));
            let done = Done { action: "cluster.save_snapshot", resource: "cluster".to_owned(), outcome };
            self.record(caller, &change, done).await;
        }
        let mut left = bytes::Bytes::from(file);
        let chunks = std::iter::from_fn(move || {
            let next = left.split_to(left.len().min(CHUNK));
            (!next.is_empty()).then(|| Ok(v1::SaveSnapshotResponse { data: next.into() }))
        });
        Ok(Served { message: Box::pin(futures::stream::iter(chunks)) as SavedStream, index })
    }

    fn header(&self, made: &Encoded) -> SavedHeader {
        let state = &made.state;
        let at = jiff::Timestamp::from_millisecond(self.backend().now().0).unwrap_or_default();
        SavedHeader {
            format: FORMAT,
            cluster_id: state.cluster.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            cluster_name: state.cluster.name.clone(),
            index: made.index,
            term: made.term,
            leader_id: made.leader,
            member: self.health().name.to_string(),
            saved_at: at.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level: state.settings.level,
            state_sha256: String::new(),
            counts: counts(state),
        }
    }

    pub(super) async fn compare_state(&self) -> Result<Served<v1::CompareStateResponse>, Failure> {
        let index = self.backend().linearize().await?;
        let deadline = Instant::now() + COMPARE;
        let mut kept: BTreeMap<MemberId, Vec<StateDigest>> = BTreeMap::new();
        let found = loop {
            for (member, digests) in self.backend().digests().await {
                let all = kept.entry(member).or_default();
                for digest in digests.into_iter().flatten() {
                    if !all.contains(&digest) {
                        all.push(digest);
                    }
                }
            }
            let found = judge(&kept);
            let whole = found.members.values().all(|(verdict, _)| *verdict != v1::StateVerdict::NotCompared);
            if whole || Instant::now() >= deadline {
                break found;
            }
            tokio::time::sleep(AGAIN).await;
        };
        Ok(Served { message: self.compared(&found), index })
    }

    fn compared(&self, found: &Compared) -> v1::CompareStateResponse {
        let names: BTreeMap<MemberId, String> =
            self.look(|state| state.members.present().map(|m| (m.id, m.name.to_string())).collect());
        let row = |(member, name): (&MemberId, &String)| {
            let seen = found.members.get(member);
            let (verdict, digest) = seen.copied().unwrap_or((v1::StateVerdict::NotCompared, None));
            v1::MemberDigest {
                name: name.clone(),
                verdict: verdict.into(),
                index: digest.map_or(0, |digest| digest.index),
                sha256: digest.map(|digest| hex(&digest.sha256)).unwrap_or_default(),
            }
        };
        let members: Vec<v1::MemberDigest> = names.iter().map(row).collect();
        let same = i32::from(v1::StateVerdict::Same);
        let ok = members.iter().all(|member| member.verdict == same);
        v1::CompareStateResponse { ok, index: found.index, members }
    }
}

/// What a comparison gave.
struct Compared {
    index: u64,
    members: BTreeMap<MemberId, (v1::StateVerdict, Option<StateDigest>)>,
}

/// Compares each member behind the newest log entry that it shares with somebody else, with what most hold there.
fn judge(seen: &BTreeMap<MemberId, Vec<StateDigest>>) -> Compared {
    let mut at: BTreeMap<u64, Vec<(MemberId, StateDigest)>> = BTreeMap::new();
    for (member, digests) in seen {
        for digest in digests {
            at.entry(digest.index).or_default().push((*member, *digest));
        }
    }
    let mut members: BTreeMap<MemberId, (v1::StateVerdict, Option<StateDigest>)> =
        seen.keys().map(|member| (*member, (v1::StateVerdict::NotCompared, None))).collect();
    let enough = if seen.len() > 1 { 2 } else { 1 };
    let (mut index, mut most) = (0, 0);
    // Newest last: it stands, unless an older one differs. A difference is never taken back.
    for (here, group) in at.iter().filter(|(_, group)| group.len() >= enough) {
        let holds = |digest: &StateDigest| group.iter().filter(|(_, d)| d.sha256 == digest.sha256).count();
        let majority = group.iter().map(|(_, digest)| digest).max_by_key(|digest| holds(digest));
        for (member, digest) in group {
            let same = majority
                .is_some_and(|majority| holds(majority) == holds(digest) && majority.sha256 == digest.sha256);
            // One against one: nobody can tell who is right, so both differ.
            let tied = majority.is_some_and(|majority| holds(majority) * 2 <= group.len()) && group.len() > 1;
            let verdict = if same && !tied { v1::StateVerdict::Same } else { v1::StateVerdict::Differs };
            let entry = members.entry(*member).or_insert((v1::StateVerdict::NotCompared, None));
            if entry.0 != v1::StateVerdict::Differs {
                *entry = (verdict, Some(*digest));
            }
        }
        if group.len() >= most {
            (index, most) = (*here, group.len());
        }
    }
    Compared { index, members }
}

/// How much a state holds, for people who look at a file.
fn counts(state: &State) -> BTreeMap<String, u64> {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let rows = [
        ("members", state.members.present().count()),
        ("nodes", state.nodes.all_present().count()),
        ("services", state.services.len()),
        ("groups", state.groups.len()),
        ("operations", state.operations.len()),
        ("plans", state.plans.len()),
        ("backups", state.backups.len()),
        ("artifacts", state.artifacts.len()),
        ("schedules", state.schedules.len()),
        ("users", state.users.len()),
        ("tokens", state.tokens.len()),
        ("certificates", state.identities.len()),
        ("auditRecords", state.audit.records.len()),
    ];
    rows.into_iter().map(|(noun, n)| (noun.to_owned(), count(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, byte: u8) -> StateDigest {
        StateDigest { index, sha256: [byte; 32] }
    }

    fn verdicts(seen: &[&[StateDigest]]) -> Vec<v1::StateVerdict> {
        let seen = (1..).zip(seen).map(|(n, digests)| (MemberId(n), digests.to_vec())).collect();
        judge(&seen).members.into_values().map(|(verdict, _)| verdict).collect()
    }

    #[test]
    fn only_states_behind_the_same_entry_are_compared() {
        use v1::StateVerdict::{Differs, NotCompared, Same};
        assert_eq!(verdicts(&[&[at(7, 1)], &[at(7, 1)], &[at(7, 1)]]), [Same, Same, Same]);
        assert_eq!(verdicts(&[&[at(7, 1)], &[at(7, 1)], &[at(7, 2)]]), [Same, Same, Differs]);
        assert_eq!(verdicts(&[&[at(7, 1)], &[at(7, 1)], &[at(6, 2)]]), [Same, Same, NotCompared]);
        assert_eq!(verdicts(&[&[at(7, 1)], &[at(7, 1)], &[]]), [Same, Same, NotCompared]);
        // A later round: what was seen before still counts.
        let (one, two) = ([at(7, 1), at(9, 1)], [at(6, 1), at(7, 1)]);
        assert_eq!(verdicts(&[&one, &two, &[at(9, 1)]]), [Same, Same, Same]);
        // An old difference is not made good by a newer agreement.
        let (right, wrong) = ([at(5, 1), at(9, 1)], [at(5, 3), at(9, 1)]);
        assert_eq!(verdicts(&[&right, &right, &wrong]), [Same, Same, Differs]);
        assert_eq!(verdicts(&[&[at(7, 1)], &[at(7, 2)]]), [Differs, Differs]);
        assert_eq!(verdicts(&[&[at(7, 1)]]), [Same], "a cluster of one agrees with itself");
    }
}
