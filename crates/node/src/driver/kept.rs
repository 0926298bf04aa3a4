//! Which map a node does not fall back behind, whatever happens to it: the directory waits for that where a keyspace was dropped.
//!
//! A core that takes a map lets go of replicas at once, and its log says so a little later; the map itself is in the appends of the
//! first core. A node that starts again in between may find the map before, or a replica that was to go. So each core says to the
//! first when all that it wrote for a map is synced, and what all have said the node announces ([`crate::wire::Announcement::kept`]).
//! Who leads the directory is told at once while a name waits for it.

use std::collections::VecDeque;

use super::{Driver, Word, Work};
use crate::wire::Frame;

/// What a core knows of it.
#[derive(Debug)]
pub(super) struct KeptMaps {
    /// Revisions on which this core acts, each with the append that has all that follows from it; the oldest first.
    logged: VecDeque<(u64, u64)>,
    /// What each core has said, at the first one.
    cores: Vec<u64>,
}

impl KeptMaps {
    /// Of a node with so many cores, none of which has said anything.
    pub fn new(cores: usize) -> KeptMaps {
        KeptMaps { logged: VecDeque::new(), cores: vec![0; cores] }
    }
}

impl Driver {
    /// This core acts on the map, and what it wants written of that is in the log already, or goes there with the next append.
    pub(super) fn note_map(&mut self) {
        let ticket = self.core.ticket + u64::from(!self.core.records.is_empty());
        self.kept.logged.push_back((ticket, self.node.config.map.revision));
        self.look_at_kept();
    }

    /// More appends may be synced.
    pub(super) fn look_at_kept(&mut self) {
        let mut kept = None;
        while let Some((_, revision)) =
            self.kept.logged.pop_front_if(|(ticket, _)| *ticket <= self.core.durable)
        {
            kept = Some(revision);
        }
        match (kept, self.node.place()) {
            (None, _) => {}
            (Some(revision), 0) => self.kept_by(0, revision),
            (Some(revision), core) => {
                self.core.work.push(Work::Tell { core: 0, word: Word::Kept { core, revision } });
            }
        }
    }

    /// A core does not fall back behind a map. For the first core.
    pub(super) fn kept_by(&mut self, core: usize, revision: u64) {
        self.kept.cores[core] = revision;
        let all = self.kept.cores.iter().copied().min().unwrap_or(0);
        if all <= self.node.kept {
            return;
        }
        self.node.kept = all;
        let waits = !self.node.config.map.dropped.is_empty();
        if let Some(leader) = self.directory_leader().filter(|_| waits) {
            let announcement = Frame::Announce(self.node.announcement(Vec::new()));
            self.core.send(leader, &announcement);
        }
    }
}
