//! Watches: who wants to hear of changes is given each of them once, in order, from whichever replica still keeps them.
//!
//! # The problem
//!
//! A change is to reach its watchers although leaders change, shards move, nodes restart and connections break. A stream of changes
//! from one node has to be found again at another one, at the right place, and whoever reads slowly must not fill a node's memory.
//!
//! # How it is solved
//!
//! Nothing is pushed. All replicas of a shard apply the same entries with the same versions, so each keeps the same changes
//! ([`Feeds`]), as many as there is room for; and a watcher asks for *what comes after a version* ([`Pull`]). What has nothing to
//! answer yet waits a while at the feed's end ([`Waits`]). So where a watch is, is one version for each range of slots, and nobody
//! but the one who serves the client remembers it ([`Watched`]).
//!
//! ```text
//!   Watched (client's node)              a node with a replica of shard 7
//!     slots 0-8191, after 11  ── Pull ─▶ feed: floor 3 │ 10 put a │ 11 put b │ 15 delete a │ 20 put a │ through 20
//!                             ◀─ Given ─ 15 delete a, 20 put a, through 20
//!     slots 0-8191, after 20  ── Pull ─▶ waits; what is applied next is looked at once for all that wait with its filter
//!        the node dies
//!     slots 0-8191, after 20  ── Pull ─▶ another node: from the same place
//! ```
//!
//! - A pull is served by the replica on the node itself; without one, by that of another node, the leader's first. A node that keeps
//!   too little ([`Held::Trimmed`]) is passed over as long as another one may keep more.
//! - A replica that is dropped leaves its feed behind for a while: who was slow is served from it, and goes on elsewhere.
//! - When a shard is none of the map's any more, its slots are others' now. Who has been given all that is left of it asks those.
//!
//! # What holds
//!
//! 1. A feed holds *every* change of its shard with a version above its floor and up to `through`, and nothing else: it takes what
//!    the table has applied, in order, and what may be missing (a snapshot came in, a start) raises the floor.
//! 2. Versions rise from entry to entry, and an op has one: what is answered ends between two versions, so what comes after is the
//!    rest.
//! 3. Nothing is held for a reader but one answer for each shard: the feed is the queue. Who falls behind it is told so.
//!
//! # Caveats
//!
//! - A replica that is cut off from its leader has nothing new, and its watchers hear nothing until it has again.
//! - A feed is in memory. A start has what a stop wrote of it, the newest part ([`lately`]); after a crash, what the log brings after
//!   the last flush of the table.
//! - The shard of the directory has no feed.

mod feed;
mod lately;
mod pull;
#[cfg(test)]
mod tests;
mod waits;
mod watched;

pub(crate) use feed::{Feeds, Held, Source};
pub use lately::Lately;
pub use pull::{Given, Pull, Pulled};
pub(crate) use waits::Waits;
pub use watched::Watched;

/// Bytes of changes that a node keeps, all cores together: a second or two of a full load, which is what a reader that is not
/// slow may be behind.
pub const FEED_BYTES_MAX: usize = 64 << 20;
/// How long a change is kept at most, in microseconds: as long as a client may be away and go on.
pub const FEED_MICROS_MAX: u64 = 10 * 60 * 1_000_000;
