//! Members that take requests by themselves: what they say to others, and to clients, is durable where it was made.
//!
//! - What is published is in the synced log of the member that made it.
//! - What is acknowledged is in the synced log of the member that took it.
//! - A member that has begun answers nothing before it has what the others had made by then, unless it has waited for those that say nothing.

use bytes::Bytes;
use kv::merged::Row;
use kv::{Class, Key, NodeId, Op, Reply, ShardId, Version};
use replication::broadcast::PATIENCE_MICROS;
use replication::broadcast::observe::{Message, message};

use super::Merged;

/// Its clock may be fast: so much of its patience is over when all of it is, at least.
const PATIENT_MICROS: u64 = PATIENCE_MICROS * 8 / 10;

/// When a member began, and what the others had made and synced by then.
pub(super) type Begun = (u64, Vec<(Key, Version)>);

impl Merged {
    /// Whether a node has a row of a key, or a later one, in its synced log.
    fn has_synced(&self, node: NodeId, shard: ShardId, key: &Key, version: Version) -> bool {
        let copy = self.copies.get(&(node, shard));
        copy.and_then(|copy| copy.held.get(key)).is_some_and(|held| held.version >= version)
    }

    /// A frame leaves a node: what it has made and tells the others before it is synced.
    pub fn published(&self, node: NodeId, frame: &Bytes) -> Option<String> {
        let (shard, body) = node::observe::message(frame)?;
        if !self.broadcast.contains(&shard) {
            return None;
        }
        let Some(Message::Rows(rows)) = message(&body) else { return None };
        let own = self.members[&shard].iter().find(|member| member.node == node)?.replica;
        let is_early =
            |row: &&Row| row.version.replica() == own && !self.has_synced(node, shard, &row.key, row.version);
        let row = rows.iter().find(is_early)?;
        Some(format!(
            "what members merge was made durably: {node} tells of {row} of shard {shard}, and has not synced it"
        ))
    }

    /// What of an acknowledged write is not durable at the member that took it alone.
    pub(super) fn undurable(&self, op: &Op, reply: &Reply) -> Option<String> {
        let (shard, version, node) = (reply.receipt.shard, reply.receipt.version, reply.receipt.node);
        if !self.broadcast.contains(&shard) || op.class() == Class::Read {
            return None;
        }
        let lacks = |key: &&Key| !self.has_synced(node, shard, key, version);
        let key = self.versions.get(&(shard, version))?.iter().find(lacks)?;
        Some(format!(
            "what is acknowledged is durable where it was taken: {op:?} is answered {reply:?}, and {key:?} is not synced"
        ))
    }

    /// A process has begun.
    pub(super) fn begins(&mut self, node: NodeId, now: u64) {
        for shard in &self.broadcast {
            let mut made = Vec::new();
            for member in self.members[shard].iter().filter(|member| member.node != node) {
                let held = self.copies.get(&(member.node, *shard)).map(|copy| &copy.held);
                let own =
                    held.into_iter().flatten().filter(|(_, rank)| rank.version.replica() == member.replica);
                made.extend(own.map(|(key, rank)| (key.clone(), rank.version)));
            }
            self.begun.insert((node, *shard), (now, made));
        }
    }

    /// A node answers: what it lacks of what the others had made when it began.
    pub fn answers_early(&self, node: NodeId, reply: &Reply, now: u64) -> Option<String> {
        let shard = reply.receipt.shard;
        let (begun, made) = self.begun.get(&(node, shard))?;
        if now > begun + PATIENT_MICROS || reply.receipt.node != node {
            return None;
        }
        let lacks = |(key, version): &&(Key, Version)| !self.has_synced(node, shard, key, *version);
        let (key, version) = made.iter().find(lacks)?;
        Some(format!(
            "who begins has what the others had before it answers: {node} answers for shard {shard}, and lacks {key:?} at {version}"
        ))
    }
}
