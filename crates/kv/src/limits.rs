//! Every limit that a user can meet, with its reason. The errors name them.

/// A key is at least one byte: an empty key cannot be told from a missing one on several wires.
pub const KEY_BYTES_MIN: usize = 1;
/// A key is at most 16 KiB: keys stay in memory in indexes and filters.
pub const KEY_BYTES_MAX: usize = 16 << 10;
/// A value is at most 8 MiB: a larger one would hold up the heartbeats behind it.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// All keys and values of one op together: one value of the largest size, and room for its frame.
pub const OP_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);
/// A put-all, a get-all, a transaction or one step of a delete-range or trim touches at most so many keys: it is evaluated
/// in one go, and nothing else of its shard is meanwhile.
pub const KEYS_PER_OP_MAX: usize = 10_000;
/// One step of a trim forgets at most so many older revisions, for the same reason.
pub const TRIM_REVISIONS_MAX: usize = 10_000;
/// Rows of one page of a range, revisions of one page of a history.
pub const PAGE_ROWS_MAX: usize = 10_000;
/// Bytes of one page of either: it ends before the row that would pass this (a single larger row is a page).
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Conditions of one transaction.
pub const CONDITIONS_MAX: usize = 128;
/// Unanswered requests of one session: what a shard must remember for one client.
pub const SESSION_WINDOW: u64 = 512;
/// Slots of the key space: the number Redis Cluster uses, so its clients hash alike.
pub const SLOTS: u16 = 16_384;
/// A request may wait for at most so long, whatever it asks: a day-old request is nobody's any more.
pub const TIMEOUT_MILLIS_MAX: u64 = 10 * 60 * 1000;
