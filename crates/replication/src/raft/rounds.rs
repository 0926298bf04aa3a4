//! Rounds of reads: when one begins, is issued again, and what its confirmation means.

use bytes::{BufMut, Bytes, BytesMut};
use kv::Index;
use kv::cluster::Role;

use super::Raft;

/// A round of reads that a follower does not see confirmed is issued again after so many heartbeats.
const ROUND_PATIENCE_HEARTBEATS: u64 = 2;
/// The name of a round: who asks, in which life, and the number of the round.
const ROUND_NAME_BYTES: usize = 8 + 8 + 8;

impl Raft {
    /// Begins a round of reads, if one is due and somebody could confirm it. Whether it did.
    pub(super) fn begin_round(&mut self) -> bool {
        if !self.can_ask() {
            return false;
        }
        let Some(number) = self.reads.begin_round(self.now, self.lease.length_micros() / 2) else {
            return false;
        };
        self.core.read_index(&self.round_name(number));
        true
    }

    pub(super) fn repeat_round(&mut self) {
        let patience_micros =
            ROUND_PATIENCE_HEARTBEATS * self.config.heartbeat_ticks as u64 * self.config.tick_micros;
        if self.can_ask()
            && let Some(number) = self.reads.lost_round(self.now, patience_micros)
        {
            self.core.read_index(&self.round_name(number));
        }
    }

    fn can_ask(&self) -> bool {
        match self.core.role() {
            Role::Leader => self.core.has_committed(),
            _ => self.core.leader().is_some(),
        }
    }

    pub(super) fn round_confirmed(&mut self, name: &Bytes, index: Index) {
        // A leader's own rounds go on with the number of the issue.
        let Some(name) = name.first_chunk::<ROUND_NAME_BYTES>() else { return };
        let number = name.last_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        if self.round_name(number) != name[..] {
            return;
        }
        if let Some(began) = self.reads.confirm_round(number, index, self.applied.index)
            && self.core.role() == Role::Leader
        {
            self.lease.confirm(began);
        }
    }

    /// Rounds of all members and all their lives share a leader's table: their names differ.
    pub(super) fn round_name(&self, number: u64) -> Bytes {
        let mut name = BytesMut::with_capacity(ROUND_NAME_BYTES);
        name.put_u64(self.config.id.0);
        name.put_u64(self.life.unwrap_or_default());
        name.put_u64(number);
        name.freeze()
    }
}
