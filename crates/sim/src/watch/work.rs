//! Applying an entry is so much work as its ops ask for: the rows it visits in the engine are bounded by what its ops name, by
//! what it writes and removes, and a constant (`storage`: a turn stays short, whatever the shard has been through before).
//!
//! The mark of a removed row counts when it is passed over again and again; see `machine::engine`.

use kv::Entry;

use super::logs::Logs;
use super::{Invariant, Seen};

/// Whatever the entry: the next deadline is looked at, and the state.
const ROWS_PER_ENTRY: u64 = 16;
/// A request that was run before is looked up.
const ROWS_PER_OP: u64 = 2;
/// A key is looked up by a condition and by an op.
const ROWS_PER_KEY: u64 = 2;
/// A row is looked up before it is written or removed; one that has expired is found in the index first.
const ROWS_PER_WRITTEN: u64 = 2;

pub(super) struct Work;

impl Invariant for Work {
    fn name(&self) -> &'static str {
        "an entry is bounded work"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        let Seen::Applied { node, shard, index, entry, visited, .. } = *seen else { return Ok(()) };
        let bound = ROWS_PER_ENTRY + ROWS_PER_WRITTEN * visited.written;
        if visited.rows <= bound || visited.rows <= bound + asked(entry) {
            return Ok(());
        }
        Err(format!(
            "{node} applied entry {index} of shard {shard}, visited {} rows and wrote {}, and its ops account for no more \
             than {}",
            visited.rows,
            visited.written,
            bound + asked(entry)
        ))
    }
}

/// Rows that the ops of an entry may look up.
fn asked(entry: &bytes::Bytes) -> u64 {
    let Ok(entry) = Entry::decode(entry) else { return 0 };
    let mut keys = 0;
    entry.ops.iter().for_each(|stamped| stamped.op.for_each_key(&mut |_| keys += 1));
    ROWS_PER_OP * entry.ops.len() as u64 + ROWS_PER_KEY * keys
}
