//! Where a node keeps its shards: engines of ordered bytes, what is new in memory over them, and the versioned [`Table`] on top
//! that evaluates every op.
//!
//! # The problem
//!
//! The replicas of a shard agree on entries, each a batch of ops. Every replica must make the same state of the same
//! entries, byte for byte, on its own and at its own pace. It must come back to that state after a crash in the middle of
//! anything, and say in one number how far it is, so that the log brings what is missing: no entry twice, and none left out.
//!
//! # How it is solved
//!
//! ```text
//!            entry 18 ─▶ Table: evaluates the ops, one by one
//!                          │ rows of keys, older revisions, deadlines, remembered requests, applied = 18
//!                          ▼
//!            Fresh: what was written since the last flush, in memory, each row once
//!                          │ flush: one batch, the state after some entry, never one within an entry
//!                          ▼
//!            Engine: ordered bytes  ── memory: a map, and checkpoint files
//!                                   └─ disk: a log-structured merge tree
//! ```
//!
//! An [`Engine`] is a map of bytes to bytes in order, which takes in whole batches and keeps them. Neither engine has a
//! journal: the node's log is the journal. So what was written since the last flush is in memory only ([`Fresh`]); a crash
//! loses it, and it is made again from the log.
//!
//! A [`Table`] keeps all shards of a core in the node's engine, which the tables of all cores share: a row is of one table, and
//! each table's flush is a batch of its own. An entry is applied in one call, together with the requests it
//! remembers and with `applied`, the number of the entry; a flush is begun between two such calls. An example:
//!
//! ```text
//! applied in memory   16 │ 17 │ 18 │ 19 │            the log holds 1..19
//! flushed                  17                        a flush was begun after 17, and its files are synced
//! crash ─▶ the files say applied = 17 ─▶ the log brings 18 and 19 ─▶ the same bytes as before
//!          18 comes once more (a record that was written again): it is in the state already, and nothing is done
//! ```
//!
//! A copy of a shard is its rows under one *generation*. A snapshot that comes in is written under the next generation,
//! beside the current copy, and becomes the current one at once when the owner loads it. The rows of the old one are
//! removed later, step by step.
//!
//! # Guarantees
//!
//! - Deterministic: the same entries give the same rows on every replica and engine. No clock, no random number, no order
//!   of a hash: time is what the entries say. [`Table::digest`] compares two copies.
//! - An op happens as a whole or leaves no trace.
//! - Entries are applied in order, none twice and none left out.
//! - A read at a version is repeatable, or refused as trimmed.
//! - A full disk loses nothing: what could not be flushed stays in memory, readable, and the flush can be tried again.
//!
//! # Caveats
//!
//! - An error of the engine in the middle of an entry (a block that cannot be read) leaves that entry half done. The table
//!   then refuses to apply and to flush for good: open the folder again, and replay.
//! - Nothing here syncs what an entry wrote: until a flush has run, only the log has it. The log may let go of an entry only
//!   when a flush that was begun after it has run.
//! - All shards of a table are flushed together.
//! - An engine of [`open_volatile`] has no files: its flush succeeds and keeps nothing. It is for a node that leaves nothing on
//!   the disk, whose log has nothing to replay either.

mod disk;
mod engine;
mod format;
mod fresh;
mod keys;
mod memory;
mod row_key;
mod table;

pub use engine::{
    CACHE_BYTES, Engine, EngineError, Flush, Intake, Kind, Maintenance, Resources, Row, View, open,
    open_volatile, open_with,
};
pub use fresh::{Asked, Fresh};
#[doc(hidden)]
pub use table::fuzz;
pub use table::{
    ANSWER_BYTES_KEPT, Applied, Clock, Cut, Done, EXPIRED_PER_APPLY_MAX, History, InstallError, Layout,
    Looked, Options, Orphaned, Read, SESSION_BYTES_MAX, STEP_MAX, ShardSnapshot, Table,
};
