//! The merged layout: rows come whole, in any order and any number of times, and the copy is the same in the end.
//!
//! # The problem
//!
//! Replicas without an order take in each other's rows as they come ([`kv::merged`]): late ones, the same ones again, an expiry before the value that it
//! ends. Whatever came first, with the same rows two copies must answer alike, and must find out cheaply that they are alike.
//!
//! # How it is solved
//!
//! The newest revision of a key, by rank, is one lookup, as in the ordered layout; ranges, the expiry index and what is counted are the
//! same. The older ones lie by their versions, so a late one goes where it belongs:
//!
//! ```text
//!   merge k@20=b        newest  k       b at 20
//!   merge k@30 deleted  newest  k       deleted at 30, one kept, the oldest at 20      older k, 20   b      tombstone k
//!   merge k@10=a        newest  k       deleted at 30, two kept, the oldest at 10      older k, 10   a
//! ```
//!
//! *What is kept is a function of what came.* With a history of `N` the newest row and the `N - 1` highest values and deletions below it; with
//! all, all; with a time, those that are not older than the newest by more than it, and one before. Each of these drops what can never be wanted
//! again, so the order in which rows come leaves no trace. An expiry is kept as the newest only: below another row the deadline of its value
//! says it all. What was dropped is noted in the newest revision, so that a read before it is `trimmed`.
//!
//! *An expiry is a row.* A sweep makes of a value whose deadline has passed its expiry, which is the same whoever makes it. Until then it is
//! read as expired all the same.
//!
//! *A trim is a floor of its key*: nothing below it is kept, whenever it comes, and what is read below it is `trimmed`. It comes with a row, and
//! stands with the newest revision, merged by maximum; so it is a part of the key's digest, and goes wherever that row goes. With the key's
//! tombstone it is gone:
//!
//! ```text
//!   merge k@20=b, floor 20      newest  k       b at 20, floor 20           (a at 10 is dropped, if it was there)
//!   merge k@10=a                the same
//!   merge k@30=c                newest  k       c at 30, floor 20           older k, 20   b
//! ```
//!
//! *Tombstones stay* until [`Op::Collect`] names them, and they are still the newest of their keys. With a tombstone goes all that is kept before it, and the
//! shard's floor rises to it. There is an index of them ([`Look::Tombstones`](kv::merged::Look)).
//!
//! *Buckets* (`buckets`): the sum of the digests of the newest rows, by a hash of the key, changes with each row and is written with it.
//!
//! # Guarantees
//!
//! - The same rows, in whatever order and however often, give the same rows of the engine, digests and answers, as long as the history is the same and
//!   nothing is collected meanwhile.
//! - `last` is the newest version that was ever merged, or what an advance raised it to.
//!
//! # Caveats
//!
//! - The shard's floor keeps nothing out: a row below it is merged like any other. Who collects has made sure that none is under way.
//! - Of two rows with one key and rank the first stays, and nobody looks whether they are equal: they are.
//! - A write that is not a merge is refused: it has no version yet.
//! - Those who watch are told nothing here: a late row would come behind later ones.
//! - A key whose history is much too long by a new rule, or was trimmed, gets rid of [`Options::step_max`](super::Options) revisions with each row
//!   that comes; those below the floor that are left are not seen any more.

mod buckets;
mod look;
mod older;
mod write;

use kv::merged::Row;
use kv::{Error, Version};

use super::Stop;
use super::layout::Layout;

pub use self::buckets::Buckets;
pub use self::older::{row as older_row, visit_all as visit_older};

/// The newest version of some rows.
pub fn newest(rows: &[Row]) -> Version {
    rows.iter().map(|row| row.version).max().unwrap_or(Version::ZERO)
}

/// Why a layout does not take an op.
pub fn refused(layout: Layout) -> Stop {
    let why = match layout {
        Layout::Ordered => {
            "rows are merged where writes have no order, and the replicas of this shard agree on one"
        }
        Layout::Merged => {
            "the replicas of this shard agree on no order: a write has to be made into rows first"
        }
    };
    Error::Invalid(why.into()).into()
}
