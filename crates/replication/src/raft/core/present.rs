//! What the core is at present.

use ::raft::{ProgressState, StateRole};
use kv::cluster::Role;
use kv::{Index, ReplicaId, Term};

use super::{Core, Progress, UNCOMMITTED_BYTES_MAX, wire};
use crate::entries::Entries;
use crate::record::{Header, State};
use crate::{UNAPPLIED_BYTES_MAX, UNSYNCED_MAX, View};

impl Core {
    /// Its number.
    pub(in super::super) fn id(&self) -> ReplicaId {
        wire::replica(self.raw.raft.id)
    }

    pub(in super::super) fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    pub(in super::super) fn leader(&self) -> Option<ReplicaId> {
        Some(wire::replica(self.raw.raft.leader_id)).filter(|leader| leader.0 != 0)
    }

    pub(in super::super) fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    pub(in super::super) fn last(&self) -> Index {
        Index(self.raw.raft.raft_log.last_index())
    }

    pub(in super::super) fn durable(&self) -> Index {
        Index(self.raw.raft.raft_log.persisted)
    }

    pub(in super::super) fn commit(&self) -> Index {
        Index(self.raw.raft.raft_log.committed)
    }

    pub(in super::super) fn state(&self) -> State {
        let raft = &self.raw.raft;
        State { term: Term(raft.term), vote: wire::replica(raft.vote), commit: self.commit() }
    }

    /// The members as of the last entry that was given out: those that count.
    pub(in super::super) fn view(&self) -> &View {
        self.raw.store().view()
    }

    /// The members as of an entry that was given out and is not before the log.
    pub(in super::super) fn view_at(&self, index: Index) -> &View {
        self.raw.store().view_at(index)
    }

    pub(in super::super) fn head(&self) -> Header {
        self.head
    }

    pub(in super::super) fn log(&self) -> &Entries {
        &self.raw.store().log
    }

    /// As a leader: the last index that a replica has acknowledged.
    pub(in super::super) fn acknowledged(&self, replica: ReplicaId) -> Option<Index> {
        let progress = self.raw.raft.prs().get(wire::id(replica))?;
        (self.role() == Role::Leader).then_some(Index(progress.matched))
    }

    /// As a leader: how far a replica is.
    pub(in super::super) fn progress(&self, replica: ReplicaId) -> Option<Progress> {
        let progress = self.raw.raft.prs().get(wire::id(replica))?;
        Some(Progress {
            matched: Index(progress.matched),
            commit: Index(progress.committed_index),
            next: Index(progress.next_idx),
            probes: progress.state == ProgressState::Probe,
            waits: progress.is_paused() && progress.state != ProgressState::Snapshot,
            snapshot: progress.state == ProgressState::Snapshot,
        })
    }

    /// As a leader: whether a replica waits for a snapshot, be it made or on its way.
    pub(in super::super) fn awaits_snapshot(&self, replica: ReplicaId) -> bool {
        let is_made = self.raw.store().snapshots.borrow().is_made_for(replica);
        is_made || self.progress(replica).is_some_and(|progress| progress.snapshot)
    }

    /// As a leader: who is to lead in its place.
    pub(in super::super) fn transferee(&self) -> Option<ReplicaId> {
        self.raw.raft.lead_transferee.map(wire::replica)
    }

    /// On how many nodes a committed entry is synced, as far as is known.
    pub(in super::super) fn copies(&self, index: Index) -> u32 {
        let progress = self.raw.raft.prs();
        let majority = self.view().majority();
        let known = match self.role() {
            Role::Leader => progress.iter().filter(|(_, progress)| progress.matched >= index.0).count(),
            _ => 0,
        };
        known.max(majority) as u32
    }

    /// Whether it leads and has committed an entry of its term.
    pub(in super::super) fn has_committed(&self) -> bool {
        self.role() == Role::Leader && self.raw.raft.commit_to_current_term()
    }

    /// Whether it may append an entry now.
    pub(in super::super) fn may_propose(&self) -> bool {
        let raft = &self.raw.raft;
        self.role() == Role::Leader
            && raft.lead_transferee.is_none()
            && self.last().since(self.durable()) < UNSYNCED_MAX as u64
            && raft.uncommitted_size() < UNCOMMITTED_BYTES_MAX / 2
            && self.log().unapplied_bytes() < UNAPPLIED_BYTES_MAX
    }
}
