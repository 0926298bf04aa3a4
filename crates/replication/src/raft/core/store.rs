//! The log as the raft crate reads it: from memory.

use std::cell::RefCell;

use ::raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use ::raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::super::snapshots::Snapshots;
use super::wire;
use kv::{Index, NodeId};

use crate::View;
use crate::entries::{Entries, LogEntry};
use crate::record::State;

/// The log as the crate reads it.
pub(super) struct Store {
    pub(super) log: Entries,
    pub(super) state: State,
    pub(super) view: View,
    pub(super) snapshots: RefCell<Snapshots>,
}

impl Store {
    /// The members as the crate wants them.
    pub(super) fn conf_state(&self) -> ConfState {
        wire::members(&self.view)
    }
}

impl Storage for Store {
    fn initial_state(&self) -> ::raft::Result<RaftState> {
        let State { term, vote, commit } = self.state;
        let (term, vote, commit) = (term.0, vote.0, commit.0);
        Ok(RaftState::new(HardState { term, vote, commit, ..HardState::default() }, self.conf_state()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> ::raft::Result<Vec<Entry>> {
        if low <= self.log.base().index.0 {
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
        let least = Index(least).max(self.log.base().index);
        let at = self
            .snapshots
            .borrow_mut()
            .take(NodeId(to), least)
            .ok_or(StorageError::SnapshotTemporarilyUnavailable)?;
        let mut snapshot = wire::snapshot(at);
        snapshot.mut_metadata().set_conf_state(self.conf_state());
        Ok(snapshot)
    }
}
