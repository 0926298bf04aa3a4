//! A receipt's copies are real: what was answered is synced on so many nodes when the answer leaves (`kv::Receipt`).
//!
//! The state of an answer is the entry that left its version, with all before it. A node counts if that entry was ever synced on
//! it: a copy that was lost since was one when the leader learned of it.

use std::collections::BTreeMap;

use kv::{Index, NodeId, Receipt, ShardId, Term, Version};

use super::Seen;
use super::logs::Logs;

/// What was synced where.
#[derive(Default)]
pub(super) struct Copies {
    /// The first entry that left a version.
    entries: BTreeMap<(ShardId, Version), Index>,
    /// Of each replica, by the term of its log's last synced entry, the highest index. A log that ends in a later term than that
    /// of a committed entry, or behind it in the same, holds it (Raft §5.4).
    synced: BTreeMap<(ShardId, NodeId), BTreeMap<Term, Index>>,
}

impl Copies {
    /// How a replica is after a turn, or when it is dropped in one: what of its log is synced by then, before that is forgotten.
    pub fn see(&mut self, seen: &Seen<'_>, logs: &Logs) {
        let (Seen::Status { node, shard, .. } | Seen::Gone { node, shard }) = *seen else { return };
        let Some(last) = logs.durable(node, shard).map(|durable| durable.last) else { return };
        if let Some(term) = logs.log(node, shard).and_then(|log| log.term(last)) {
            let highest = self.synced.entry((shard, node)).or_default().entry(term).or_default();
            *highest = last.max(*highest);
        }
    }

    /// An entry left a version.
    pub fn applied(&mut self, shard: ShardId, index: Index, last: Version) {
        self.entries.entry((shard, last)).or_insert(index);
    }

    /// What is wrong with the copies that a receipt of one shard tells.
    pub fn told(&self, receipt: &Receipt, logs: &Logs) -> Option<String> {
        let left =
            self.entries.range((receipt.shard, receipt.version)..=(receipt.shard, Version::MAX)).next();
        let (_, &index) = left?;
        let term = logs.committed(receipt.shard)?.term(index)?;
        let holds = |synced: &&BTreeMap<Term, Index>| synced.range(term..).any(|(_, last)| *last >= index);
        let of_shard = (receipt.shard, NodeId(0))..=(receipt.shard, NodeId::MAX);
        let copies = self.synced.range(of_shard).map(|(_, synced)| synced).filter(holds).count();
        (receipt.copies as usize > copies).then(|| {
            format!(
                "receipts keep what they say: {receipt:?} tells {} copies of entry {index}, and {copies} were synced: {:?}",
                receipt.copies,
                self.synced.range((receipt.shard, NodeId(0))..=(receipt.shard, NodeId::MAX)).collect::<Vec<_>>(),
            )
        })
    }
}
