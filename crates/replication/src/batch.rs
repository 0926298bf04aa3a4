//! The ops of a shard that wait for their entry.
//!
//! While [`crate::UNSYNCED_MAX`] entries are on their way to the disk, what arrives waits here; the protocol takes the next
//! entry from the front whenever it may append one. Beyond the limits ops are refused, and nothing of them happens.

use std::collections::VecDeque;

use bytes::Bytes;
use kv::{Entry, Error, Version};

use crate::{ENTRY_BYTES_MAX, ENTRY_OPS_MAX, QUEUE_BYTES_MAX, QUEUE_OPS_MAX, Token};

/// The queue, in the order of arrival.
#[derive(Default)]
pub(crate) struct Batch {
    ops: VecDeque<(Token, Bytes)>,
    bytes: usize,
}

impl Batch {
    /// Takes an op in, or tells why not.
    pub(crate) fn push(&mut self, token: Token, op: Bytes) -> Result<(), Error> {
        if self.ops.len() >= QUEUE_OPS_MAX {
            return Err(full(&format!("{QUEUE_OPS_MAX} ops")));
        }
        if self.bytes + op.len() > QUEUE_BYTES_MAX {
            return Err(full(&format!("{} MiB of ops", QUEUE_BYTES_MAX >> 20)));
        }
        self.bytes += op.len();
        self.ops.push_back((token, op));
        assert!(self.bytes <= QUEUE_BYTES_MAX, "what waits is bounded: {} bytes", self.bytes);
        Ok(())
    }

    /// Takes the next entry out: its bytes, and whose its ops are, in order. `None` = nothing waits.
    pub(crate) fn next(&mut self, proposed: Version) -> Option<(Bytes, Vec<Token>)> {
        let count = self.next_count();
        assert!(count <= ENTRY_OPS_MAX, "an entry is applied in one go: {count} ops");
        let (tokens, ops): (Vec<_>, Vec<_>) = self.ops.drain(..count).unzip();
        self.bytes -= ops.iter().map(Bytes::len).sum::<usize>();
        assert!(!self.ops.is_empty() || self.bytes == 0, "nothing waits, and {} bytes of it", self.bytes);
        (count > 0).then(|| (Entry::encode(proposed, &ops), tokens))
    }

    /// Drops an op that nobody waits for any more. Whether it was here.
    pub(crate) fn forget(&mut self, token: Token) -> bool {
        let found = self.ops.iter().position(|(other, _)| *other == token);
        if let Some((_, op)) = found.and_then(|place| self.ops.remove(place)) {
            assert!(self.bytes >= op.len(), "what goes was counted when it came");
            self.bytes -= op.len();
        }
        found.is_some()
    }

    /// Empties it: whose the ops were.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Token> + '_ {
        self.bytes = 0;
        self.ops.drain(..).map(|(token, _)| token)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// How many ops the next entry holds.
    fn next_count(&self) -> usize {
        let mut bytes = 0;
        let fits = |(_, op): &&(Token, Bytes)| {
            bytes += op.len();
            bytes <= ENTRY_BYTES_MAX
        };
        let fitting = self.ops.iter().take(ENTRY_OPS_MAX).take_while(fits).count();
        fitting.max(usize::from(!self.ops.is_empty()))
    }
}

fn full(limit: &str) -> Error {
    Error::Unavailable(format!(
        "cannot take the write: {limit} of its shard wait for the disk already; nothing of it happened, try again in a moment"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(bytes: usize) -> Bytes {
        kv::Stamped { id: None, op: kv::Op::Get { key: Bytes::from(vec![b'k'; bytes]), at: None } }.encode()
    }

    #[test]
    fn batch_entry_holds_ops_in_order_under_the_proposed_version() {
        let mut batch = Batch::default();
        batch.push(7, op(1)).unwrap();
        batch.push(8, op(2)).unwrap();
        let (entry, tokens) = batch.next(Version::new(5, kv::ReplicaId(1))).unwrap();
        let entry = Entry::decode(&entry).unwrap();
        assert_eq!(tokens, [7, 8]);
        assert_eq!(entry.proposed, Version::new(5, kv::ReplicaId(1)));
        assert_eq!(entry.ops.iter().map(kv::Stamped::encode).collect::<Vec<_>>(), [op(1), op(2)]);
        assert_eq!(batch.next(Version::ZERO), None);
    }

    #[test]
    fn batch_entry_ends_at_its_limits() {
        let mut batch = Batch::default();
        (0..ENTRY_OPS_MAX as u64 + 1).for_each(|token| batch.push(token, op(1)).unwrap());
        assert_eq!(batch.next(Version::ZERO).unwrap().1.len(), ENTRY_OPS_MAX);
        assert_eq!(batch.next(Version::ZERO).unwrap().1.len(), 1);
        (0..3).for_each(|token| batch.push(token, op(ENTRY_BYTES_MAX / 2)).unwrap());
        batch.push(3, op(2 * ENTRY_BYTES_MAX)).unwrap();
        let sizes: Vec<_> = (0..4).map(|_| batch.next(Version::ZERO).unwrap().1.len()).collect();
        assert_eq!(
            sizes,
            [1, 1, 1, 1],
            "two halves and their frames are over the limit; a large op goes alone"
        );
        assert!(batch.is_empty());
    }

    #[test]
    fn batch_full_refuses_and_nothing_happened() {
        let mut batch = Batch::default();
        (0..QUEUE_OPS_MAX as u64).for_each(|token| batch.push(token, op(1)).unwrap());
        let refused = batch.push(0, op(1)).unwrap_err();
        assert_eq!(refused.outcome(), kv::Outcome::Failed);
        assert!(refused.to_string().contains("8192 ops"), "{refused}");

        let mut batch = Batch::default();
        (0..63).for_each(|token| batch.push(token, op(1 << 20)).unwrap());
        assert!(batch.push(63, op(1 << 20)).unwrap_err().to_string().contains("64 MiB"));
        batch.push(63, op(1)).unwrap();
    }

    #[test]
    fn batch_forgotten_op_is_dropped() {
        let mut batch = Batch::default();
        (1..=3).for_each(|token| batch.push(token, op(1)).unwrap());
        assert!(batch.forget(2));
        assert!(!batch.forget(2));
        assert_eq!(batch.next(Version::ZERO).unwrap().1, [1, 3]);
        assert_eq!(batch.bytes, 0);
    }
}
