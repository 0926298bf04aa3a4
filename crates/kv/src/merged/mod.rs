//! Merged stores: rows that carry their version, and merge by maximum.
//!
//! # The problem
//!
//! Where the replicas of a shard agree on an order, a write says what is to be done, and each replica works out what comes of it. Without an
//! order two replicas would work out different things: each has seen other writes before. So what travels has to be the outcome itself.
//!
//! # How it is solved
//!
//! Who accepts a write makes of it a [`Row`] for each key: the revision as a whole, with its version, when the key came to be, how often it was
//! written, which version it took the place of. Nobody changes it any more. A replica keeps of each key the row of the highest
//! [`Rank`], whatever order rows come in and however often (a join-semilattice: Shapiro et al., "Conflict-free Replicated Data Types", 2011;
//! the register where the last writer wins):
//!
//! ```text
//!   n1 takes put k=a      row k at 10, value a              n1: 10          n2: 10  ->  20      n3: 20  (10 changes nothing)
//!   n3 takes delete k     row k at 20, deleted, was 10      n1: 10  ->  20
//! ```
//!
//! A deletion is a row too, a *tombstone*: a replica that forgot it would take the value for news when another still has it. It stays until all have
//! it and nothing older is under way; then the store [collects](crate::Op::Collect) it.
//!
//! An expiry is a row as well: the same version as the value it ends, ranked right above it ([`Row::expire`]). Any replica may make it, and
//! all make the same; a write that did not see the value has a version of its own and stands above or below both. Were it a tombstone of a newer version, it could take the
//! place of a later write.
//!
//! A trim makes no revision either: it makes the row again that stays, with its version as the *floor* of its key ([`Row::trim`]). Nothing below a
//! floor is kept, whenever it comes, and of two floors the higher counts; so a late revision does not come back, and who has another floor
//! has another name for the same row:
//!
//! ```text
//!   n1 takes trim k       k at 20 again, floor 20           n1: 20/20       n2: 20  ->  20/20       n2 drops k at 10
//!   n3 takes put k=b      row k at 30                       n1: 30/20       n2: 30/20               n3: 30  ->  30/20
//! ```
//!
//! # What is here
//!
//! | | |
//! |---|---|
//! | [`Row`], [`Rank`] | a revision with the floor of its key, and the order of revisions |
//! | [`Look`], [`Found`] | what a replica is asked about what it holds, and its answer; both travel between nodes |
//! | [`Newest`] | rows of several replicas, of each key the newest |
//! | [`look`], [`make`], [`answer`] | what an op has to see first, the rows that it makes, and what it answers |
//! | [`refusal`] | why an op cannot be had without an order, under a protocol |
//! | [`bucket`], [`digest`] | how two replicas find out where they differ (Merkle's trees, of two levels) |
//!
//! # Guarantees
//!
//! - Rows with one key and rank have the same bytes, and those of one version and expiry differ in the floor only. That is their maker's promise: a
//!   version is issued once.
//! - The merge is commutative, associative and idempotent, and so is what is kept of earlier revisions.
//!
//! # Caveats
//!
//! Who accepts a write counts changes as far as it knows: of two writes at once both may count the same number. The later version wins, whole.

mod look;
mod newest;
mod ops;
mod row;

pub use look::{
    BUCKETS, Found, LOOK_BYTES_MAX, LOOK_ROWS_MAX, Look, Named, bucket, decode_found, decode_look, digest,
    encode_found, encode_look,
};
pub use newest::Newest;
pub use ops::{answer, look, make, refusal};
pub use row::{Rank, Row, decode_named, decode_row, encode_named, encode_row};
