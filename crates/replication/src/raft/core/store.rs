//! The log as the raft crate reads it: from memory.

use std::cell::RefCell;
use std::collections::VecDeque;

use ::raft::eraftpb::{Entry, HardState, Snapshot};
use ::raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::wire;
use kv::Index;

use crate::entries::{Entries, LogEntry};
use crate::record::State;
use crate::transfer::Snapshots;
use crate::{Revision, View};

/// The log as the crate reads it.
pub(super) struct Store {
    pub(super) log: Entries,
    pub(super) state: State,
    /// The members as of the last entry that was given out, and before that as far back as the log reaches: at least one, in
    /// the order of their revisions.
    pub(super) views: VecDeque<View>,
    pub(super) snapshots: RefCell<Snapshots>,
}

impl Store {
    /// The members as of the last entry that was given out.
    pub(super) fn view(&self) -> &View {
        self.views.back().expect("there is always a view")
    }

    /// The members as of an entry that was given out and is not before the log.
    pub(super) fn view_at(&self, index: Index) -> &View {
        let up_to = self.views.iter().rev().find(|view| view.revision.0 <= index.0);
        up_to.or(self.views.front()).expect("there is always a view")
    }

    /// Forgets the members of before the log.
    pub(super) fn evict_views(&mut self) {
        let base = self.log.base().index;
        while self.views.get(1).is_some_and(|second| second.revision.0 <= base.0) {
            self.views.pop_front();
        }
    }

    /// Whether members have ever changed. Then a log from the first entry leads through changes that a new replica, which
    /// begins with the members of now, cannot follow.
    fn has_changed_members(&self) -> bool {
        self.view().revision > Revision(1)
    }
}

impl Storage for Store {
    fn initial_state(&self) -> ::raft::Result<RaftState> {
        let State { term, vote, commit } = self.state;
        let (term, vote, commit) = (term.0, wire::id(vote), commit.0);
        let state = HardState { term, vote, commit, ..HardState::default() };
        Ok(RaftState::new(state, wire::members(self.view())))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> ::raft::Result<Vec<Entry>> {
        // What may be answered later is what is to be sent.
        let is_sent = context.can_async();
        if low <= self.log.base().index.0 || is_sent && low == 1 && self.has_changed_members() {
            return Err(StorageError::Compacted.into());
        }
        let mut bytes_left = max_size.into().unwrap_or(u64::MAX);
        let mut fits = |entry: &LogEntry| {
            let size = entry.data.len() as u64;
            let fits = entry.index.0 == low || size <= bytes_left;
            bytes_left = bytes_left.saturating_sub(size);
            fits
        };
        Ok(self
            .log
            .range(Index(low), Index(high))
            .take_while(|entry| fits(entry))
            .cloned()
            .map(wire::entry)
            .collect())
    }

    fn term(&self, index: u64) -> ::raft::Result<u64> {
        let missing =
            if index < self.log.base().index.0 { StorageError::Compacted } else { StorageError::Unavailable };
        self.log.term(Index(index)).map(|term| term.0).ok_or(missing.into())
    }

    fn first_index(&self) -> ::raft::Result<u64> {
        Ok(self.log.base().index.next().0)
    }

    fn last_index(&self) -> ::raft::Result<u64> {
        Ok(self.log.last().0)
    }

    fn snapshot(&self, least: u64, to: u64) -> ::raft::Result<Snapshot> {
        // A replica takes no snapshot of a time before it was a member.
        let changed = if self.has_changed_members() { Index(self.view().revision.0) } else { Index::ZERO };
        let least = Index(least).max(self.log.base().index).max(changed);
        let made = self.snapshots.borrow_mut().take(wire::replica(to), least);
        Ok(wire::snapshot(made.ok_or(StorageError::SnapshotTemporarilyUnavailable)?))
    }
}
