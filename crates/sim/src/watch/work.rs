//! Applying an entry is so much work as its ops ask for: the rows it reads are bounded by what its ops name, by
//! what it writes and removes, and a constant (`storage`: a turn stays short, whatever the shard has been through before).
//!
//! The mark of a removed row counts when it is passed over again and again; see `machine::engine`.

use kv::{Entry, Op};

use super::logs::Logs;
use super::{Invariant, Seen};

/// Whatever the entry: the next deadline is looked at, and the state.
const ROWS_PER_ENTRY: u64 = 16;
/// A request that was run before is looked up.
const ROWS_PER_OP: u64 = 2;
/// A key is looked up by a condition and by an op.
const ROWS_PER_KEY: u64 = 2;
/// A range is passed over, and an older revision looked for, up to a limit (`storage`'s ranges and trims).
const ROWS_PER_RANGE: u64 = 4096;
const ROWS_PER_TRIM: u64 = 16;
/// A row that comes in has those passed over that a history of counts keeps of its key, and what is too much.
const ROWS_PER_MERGED: u64 = 12;
/// A row is looked up before it is written or removed; one that has expired is found in the index first.
const ROWS_PER_WRITTEN: u64 = 2;

pub(super) struct Work;

impl Invariant for Work {
    fn name(&self) -> &'static str {
        "an entry is bounded work"
    }

    fn holds_of_merged(&self) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        let Seen::Applied { node, shard, index, entry, asked, .. } = *seen else { return Ok(()) };
        let bound = ROWS_PER_ENTRY + ROWS_PER_WRITTEN * asked.written;
        if asked.read <= bound || asked.read <= bound + accounted(entry) {
            return Ok(());
        }
        Err(format!(
            "{node} applied entry {index} of shard {shard}, visited {} rows and wrote {}, and its ops account for no more \
             than {}",
            asked.read,
            asked.written,
            bound + accounted(entry)
        ))
    }
}

/// Rows that the ops of an entry may look up.
fn accounted(entry: &bytes::Bytes) -> u64 {
    let Ok(entry) = Entry::decode(entry) else { return 0 };
    let mut keys = 0;
    entry.ops.iter().for_each(|stamped| stamped.op.for_each_key(&mut |_| keys += 1));
    let of_ranges = entry.ops.iter().map(|stamped| match &stamped.op {
        Op::DeleteRange { .. } | Op::TrimRange { .. } => ROWS_PER_RANGE,
        Op::Trim { .. } => ROWS_PER_TRIM,
        Op::Merge { rows } => ROWS_PER_MERGED * rows.len() as u64,
        _ => 0,
    });
    of_ranges.sum::<u64>() + ROWS_PER_OP * entry.ops.len() as u64 + ROWS_PER_KEY * keys
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kv::{NodeId, ShardId, Stamped, Version};
    use storage::Asked;

    use super::*;

    #[test]
    fn entry_that_visits_more_than_its_ops_account_for_is_seen() {
        let see = |entry: &Bytes, read, written| {
            let asked = Asked { read, written };
            let (node, shard, last) = (NodeId(1), ShardId(1), Version::ZERO);
            let seen = Seen::Applied { node, shard, index: kv::Index(1), entry, last, results: &[], asked };
            Work.see(&seen, &Logs::default())
        };
        let get_all = Op::GetAll { keys: vec!["a".into(), "b".into()], at: None };
        let entry = Entry::encode(Version::ZERO, &[Stamped { id: None, op: get_all }.encode()]);
        assert_eq!(see(&Bytes::new(), ROWS_PER_ENTRY + 6, 3), Ok(()));
        assert!(see(&Bytes::new(), ROWS_PER_ENTRY + 7, 3).is_err());
        assert_eq!(see(&entry, ROWS_PER_ENTRY + 6, 0), Ok(()), "an op and two keys");
        assert!(see(&entry, ROWS_PER_ENTRY + 7, 0).is_err());
    }
}
