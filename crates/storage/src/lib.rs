//! Where a node keeps its shards: engines of ordered bytes, and the versioned [`Table`] on top that evaluates every op.
//!
//! An [`Engine`] is a map of bytes to bytes in order. There are two: `memory` (a persistent map and checkpoint files) and
//! `disk` (a log-structured merge tree). Neither has a journal: the node's log is the journal. What was written since
//! the last flush is gone after a crash, and comes back when the log is replayed.
//!
//! The [`Table`] keeps all shards of a node in one engine. An entry is applied in one call, together with the sessions
//! it touches and the shard's `applied`; a flush happens between such calls, so the state that survives a crash is
//! the state after some entry, never within one. Replaying an entry that is in that state already does nothing.
//!
//! # Guarantees
//!
//! - Deterministic: the same entries give the same rows, byte for byte, on every replica and engine. No clock, no
//!   randomness, no order of a hash: time is what the entries say. [`Table::digest`] compares two copies.
//! - An op happens wholly or leaves no trace.
//! - A read at a version is repeatable, or refused as trimmed.
//! - What is refused because the disk is full is not lost: it stays in memory, readable, and the flush can be tried again.
//!
//! # Caveats
//!
//! An error of the engine in the middle of applying an entry (a block that cannot be read) leaves that entry half done.
//! The table then refuses to apply and to flush for good: open the folder again, and replay.

mod disk;
mod engine;
mod memory;
mod table;

pub use engine::{
    CACHE_BYTES, Engine, EngineError, Flush, Kind, Maintenance, Resources, View, open, open_with,
};
#[doc(hidden)]
pub use table::fuzz;
pub use table::{
    ANSWER_BYTES_KEPT, Applied, Clock, Done, EXPIRED_PER_APPLY_MAX, History, InstallError, Options, Read,
    SESSION_BYTES_MAX, STEP_MAX, ShardSnapshot, Table,
};
