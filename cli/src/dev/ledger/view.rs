//! What one instance believes about the group: pure, no clock, no IO.
//!
//! **Invariant:** nobody is shown as serving who did not say so itself in its last report, and no leader is shown
//! while fewer than a majority of the declared voters serve.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::record::Version;

/// Failed polls in a row after which a silent (not refusing) peer counts as down: one lost answer on a busy machine is
/// no failure. A refused connection counts at once.
pub(super) const SILENT_POLLS: u32 = 3;

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// A caught-up voter.
    Serving,
    /// Answers nothing but 503 yet.
    Starting,
    /// Answers, but lags.
    CatchingUp,
    /// Stopped, stopping, unhealthy or silent.
    Down,
}

/// What all members agree on in the end: the higher term and the higher pause number win.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) term: u64,
    pub(super) leader_id: Option<u32>,
    /// Grows with each pause or resume. There is no expiry: paused stays paused until somebody resumes.
    pub(super) pause_epoch: u64,
    pub(super) paused: bool,
    /// Grows with every change of members.
    #[serde(default)]
    pub(super) roster_epoch: u64,
    /// Who is a member since then, one bit an id; who the file names until the first change.
    #[serde(default)]
    pub(super) roster: u64,
}

impl Standing {
    /// Takes over what a peer knows better. On equal numbers the lower leader id and the pause win, so all agree.
    fn adopt(&mut self, other: &Self) {
        let better_claim = match (self.leader_id, other.leader_id) {
            (None, Some(_)) => true,
            (Some(own), Some(theirs)) => theirs < own,
            (_, None) => false,
        };
        if other.term > self.term || (other.term == self.term && better_claim) {
            (self.term, self.leader_id) = (other.term, other.leader_id);
        }
        if other.roster_epoch > self.roster_epoch {
            (self.roster_epoch, self.roster) = (other.roster_epoch, other.roster);
        }
        if other.pause_epoch > self.pause_epoch {
            (self.pause_epoch, self.paused) = (other.pause_epoch, other.paused);
        } else if other.pause_epoch == self.pause_epoch {
            self.paused |= other.paused;
        }
    }
}

/// What an instance says about itself (`GET /cluster/self`, `POST /cluster/announce`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) node_id: u32,
    /// Start of the process, microseconds since 1970: a restarted peer's reports are newer than its old ones.
    pub(super) generation: u64,
    /// Counts the reports of one process, so that a late answer never overwrites a newer announcement.
    pub(super) change: u64,
    pub(super) status: Status,
    pub(super) lag: u64,
    pub(super) standing: Standing,
    pub(super) head: Version,
}

impl Report {
    pub(super) fn serving(&self) -> bool {
        self.status == Status::Serving
    }
}

/// The last word of a peer, and how often it was silent since.
#[derive(Debug, Clone, Default)]
struct Peer {
    report: Option<Report>,
    failures: u32,
    refused: bool,
}

impl Peer {
    fn current(&self) -> Option<&Report> {
        self.report.as_ref().filter(|_| !self.refused && self.failures < SILENT_POLLS)
    }
}

/// The group as this instance sees it.
#[derive(Debug)]
pub(super) struct View {
    own_id: u32,
    /// This instance's own state.
    pub(super) status: Status,
    pub(super) lag: u64,
    pub(super) standing: Standing,
    /// The members until somebody changes them.
    first: BTreeSet<u32>,
    peers: BTreeMap<u32, Peer>,
}

impl View {
    pub(super) fn new(own_id: u32, peers: impl IntoIterator<Item = u32>, standing: Standing) -> Self {
        let peers: BTreeMap<u32, Peer> = peers.into_iter().map(|id| (id, Peer::default())).collect();
        let first = peers.keys().copied().chain(std::iter::once(own_id)).collect();
        Self { own_id, status: Status::Starting, lag: 0, standing, first, peers }
    }

    /// The same, where not everybody who is known is a member from the first.
    pub(super) fn with_members(mut self, members: &[u32]) -> Self {
        if !members.is_empty() {
            self.first = members.iter().copied().collect();
        }
        self
    }

    /// Whether somebody is a member now.
    pub(super) fn is_member(&self, id: u32) -> bool {
        if self.standing.roster_epoch == 0 {
            return self.first.contains(&id);
        }
        1_u64.checked_shl(id).is_some_and(|bit| self.standing.roster & bit != 0)
    }

    /// This instance and everybody it knows.
    fn known(&self) -> impl Iterator<Item = u32> {
        self.peers.keys().copied().chain(std::iter::once(self.own_id))
    }

    /// Takes somebody in, or out; whether that changed anything. The last member stays, and only who is known can join.
    pub(super) fn set_member(&mut self, id: u32, member: bool) -> Result<bool, &'static str> {
        let Some(bit) = 1_u64.checked_shl(id).filter(|_| self.known().any(|known| known == id)) else {
            return Err("nobody of this group's file has this number");
        };
        if self.is_member(id) == member {
            return Ok(false);
        }
        if !member && self.voters() == 1 {
            return Err("it is the last member");
        }
        let now = self.known().filter(|known| self.is_member(*known));
        let now = now.fold(0, |roster, known| roster | 1_u64.checked_shl(known).unwrap_or(0));
        self.standing.roster = if member { now | bit } else { now & !bit };
        self.standing.roster_epoch += 1;
        Ok(true)
    }

    /// A peer answered or announced itself. An unknown id or an older report is ignored.
    pub(super) fn heard(&mut self, report: Report) {
        let Some(peer) = self.peers.get_mut(&report.node_id) else { return };
        let newest = peer
            .report
            .as_ref()
            .is_none_or(|old| (old.generation, old.change) <= (report.generation, report.change));
        if newest {
            self.standing.adopt(&report.standing);
            *peer = Peer { report: Some(report), failures: 0, refused: false };
        }
    }

    /// A peer did not answer (`refused`: nothing listens there at all).
    pub(super) fn missed(&mut self, id: u32, refused: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.failures = peer.failures.saturating_add(1);
            peer.refused = refused;
        }
    }

    /// The last report of a peer that is there.
    pub(super) fn peer(&self, id: u32) -> Option<&Report> {
        self.peers.get(&id)?.current()
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Report> {
        self.peers.values().filter_map(Peer::current)
    }

    pub(super) fn voters(&self) -> usize {
        self.known().filter(|id| self.is_member(*id)).count()
    }

    pub(super) fn required(&self) -> usize {
        self.voters() / 2 + 1
    }

    fn serves(&self, id: u32) -> bool {
        if !self.is_member(id) {
            return false;
        }
        if id == self.own_id {
            self.status == Status::Serving
        } else {
            self.peer(id).is_some_and(Report::serving)
        }
    }

    /// Members that serve, as far as is known.
    pub(super) fn serving(&self) -> usize {
        let own = usize::from(self.serves(self.own_id));
        own + self.peers().filter(|report| report.serving() && self.is_member(report.node_id)).count()
    }

    /// The leader, if it serves and a majority does.
    pub(super) fn leader(&self) -> Option<u32> {
        let leader = self.standing.leader_id?;
        (self.serves(leader) && self.serving() >= self.required()).then_some(leader)
    }

    /// Takes the leadership if it is free and this instance is the lowest one serving. Returns whether it did.
    pub(super) fn claim(&mut self) -> bool {
        let free = self.standing.leader_id.is_none_or(|leader| !self.serves(leader));
        let lowest = !self.peers().any(|report| self.serves(report.node_id) && report.node_id < self.own_id);
        if !free || !lowest || !self.serves(self.own_id) || self.serving() < self.required() {
            return false;
        }
        self.standing.term += 1;
        self.standing.leader_id = Some(self.own_id);
        true
    }

    /// Gives the leadership to another member that serves. Returns whether it did: only who leads can.
    pub(super) fn hand_over(&mut self, to: u32) -> bool {
        if self.leader() != Some(self.own_id) || to == self.own_id || !self.serves(to) {
            return false;
        }
        self.standing.term += 1;
        self.standing.leader_id = Some(to);
        true
    }

    /// Records a pause or a resume, newer than every one known.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.standing.pause_epoch += 1;
        self.standing.paused = paused;
    }

    /// Takes over a standing that came with a forwarded pause or resume.
    pub(super) fn adopt(&mut self, standing: &Standing) {
        self.standing.adopt(standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node_id: u32, change: u64, status: Status, standing: Standing) -> Report {
        Report { node_id, generation: 1, change, status, lag: 0, standing, head: Version::default() }
    }

    fn view(own: u32) -> View {
        View::new(own, (1..=3).filter(|id| *id != own), Standing::default())
    }

    fn led(term: u64, leader_id: u32) -> Standing {
        Standing { term, leader_id: Some(leader_id), ..Standing::default() }
    }

    #[test]
    fn the_lowest_serving_member_leads_only_with_a_majority() {
        let mut two = view(2);
        two.status = Status::Serving;
        assert!(!two.claim(), "alone of three");
        two.heard(report(3, 1, Status::CatchingUp, Standing::default()));
        assert!(!two.claim(), "a learner is no voter");
        two.heard(report(3, 2, Status::Serving, Standing::default()));
        assert!(two.claim());
        assert_eq!((two.leader(), two.standing.term), (Some(2), 1));
        two.missed(3, true);
        assert_eq!(two.leader(), None, "the majority is gone");
        assert!(!two.claim());
    }

    #[test]
    fn only_who_leads_hands_over_and_only_to_one_that_serves() {
        let mut one = view(1);
        one.status = Status::Serving;
        one.heard(report(2, 1, Status::Serving, Standing::default()));
        assert!(!one.hand_over(2), "it does not lead");
        assert!(one.claim());
        assert!(!one.hand_over(1) && !one.hand_over(3) && !one.hand_over(9));
        assert!(one.hand_over(2));
        assert_eq!((one.leader(), one.standing.term), (Some(2), 2));
        assert!(!one.claim() && !one.hand_over(2), "the lower id does not take it back");
    }

    #[test]
    fn the_leader_stays_when_a_lower_id_returns() {
        let mut one = view(1);
        one.status = Status::Serving;
        one.heard(report(2, 1, Status::Serving, led(4, 2)));
        assert!(!one.claim());
        assert_eq!((one.leader(), one.standing.term), (Some(2), 4));
        one.heard(report(3, 1, Status::Serving, led(4, 2)));
        one.missed(2, true);
        assert!(one.claim());
        assert_eq!((one.leader(), one.standing.term), (Some(1), 5));
    }

    #[test]
    fn two_claims_of_one_term_end_with_the_lower_id() {
        let (mut one, mut three) = (view(1), view(3));
        one.standing = led(2, 1);
        three.standing = led(2, 3);
        one.heard(report(3, 1, Status::Serving, led(2, 3)));
        three.heard(report(1, 1, Status::Serving, led(2, 1)));
        assert_eq!((one.standing.leader_id, three.standing.leader_id), (Some(1), Some(1)));
    }

    #[test]
    fn one_lost_answer_is_no_failure_but_a_refusal_is() {
        let mut one = view(1);
        one.heard(report(2, 1, Status::Serving, Standing::default()));
        for _ in 1..SILENT_POLLS {
            one.missed(2, false);
            assert_eq!(one.serving(), 1);
        }
        one.missed(2, false);
        assert_eq!(one.serving(), 0);
        one.heard(report(2, 1, Status::Serving, Standing::default()));
        assert_eq!(one.serving(), 1);
        one.missed(2, true);
        assert_eq!(one.serving(), 0);
    }

    #[test]
    fn a_late_answer_does_not_overwrite_a_newer_report() {
        let mut one = view(1);
        one.heard(report(2, 7, Status::Serving, Standing::default()));
        one.heard(report(2, 6, Status::CatchingUp, Standing::default()));
        assert!(one.peer(2).is_some_and(Report::serving));
        let restarted = Report { generation: 2, ..report(2, 0, Status::Starting, Standing::default()) };
        one.heard(restarted);
        assert_eq!(one.peer(2).map(|report| report.status), Some(Status::Starting));
        one.heard(report(9, 1, Status::Serving, led(99, 9)));
        assert_eq!((one.standing.term, one.voters()), (0, 3), "a stranger has no say");
    }

    #[test]
    fn members_join_and_leave_and_the_newest_roster_wins() {
        let mut one = view(1).with_members(&[1, 2]);
        one.status = Status::Serving;
        one.heard(report(3, 1, Status::Serving, Standing::default()));
        assert_eq!((one.voters(), one.serving(), one.required()), (2, 1, 2), "a stranger does not count");
        assert_eq!(one.set_member(3, true), Ok(true));
        assert_eq!(one.set_member(3, true), Ok(false), "told twice");
        assert_eq!((one.voters(), one.serving(), one.standing.roster_epoch), (3, 2, 1));
        assert!(one.set_member(9, true).is_err() && one.set_member(64, true).is_err());
        let mut two = view(2).with_members(&[1, 2]);
        two.heard(report(1, 1, Status::Serving, one.standing));
        assert!(two.is_member(3), "told by another");
        assert_eq!(one.set_member(1, false), Ok(true));
        assert!(one.leader().is_none() && !one.claim(), "who has left neither leads nor claims");
        assert_eq!((one.set_member(2, false), one.set_member(3, false).is_err()), (Ok(true), true));
    }

    #[test]
    fn a_pause_outlives_leaders_and_the_newest_word_wins() {
        let mut one = view(1);
        one.set_paused(true);
        one.heard(report(2, 1, Status::Serving, led(9, 2)));
        assert!(one.standing.paused);
        let mut resumed = one.standing;
        resumed.pause_epoch += 1;
        resumed.paused = false;
        one.heard(report(2, 2, Status::Serving, resumed));
        assert!(!one.standing.paused);
        let stale = Standing { pause_epoch: 1, paused: true, ..Standing::default() };
        one.heard(report(3, 1, Status::Serving, stale));
        assert!(!one.standing.paused);
    }
}
