//! Pairs of a number and a text, and a central server that says which server has which.
//!
//! The problem: several servers hold pairs, each its own, and a client knows a key but not the server. So every *pair server*
//! can register its keys at a *central server*, whose directory says who registered a key last. A client asks the central
//! server for the owner, and the owner for the text.
//!
//! ```text
//!           Insert(1, "one")                               Register("h:5001", {1, 2})
//!           Insert(2, "two")         ┌───────────────────┐     ┌───────────────────────┐
//! client ── Activate("h:5000") ─────▶│pair server h:5001 │────▶│central server h:5000  │
//!                                    │  1 "one"  2 "two" │     │  1 → h:5002           │
//!                                    └───────────────────┘     │  2 → h:5001           │
//!           Insert(1, "uno")         ┌───────────────────┐     │                       │
//! client ── Activate("h:5000") ─────▶│pair server h:5002 │────▶│                       │
//!                                    │  1 "uno"          │     └───────────────────────┘
//!                                    └───────────────────┘ Register("h:5002", {1})
//!                                              ▲                          ▲
//!                    Consult(1) answers "uno"  └── client of the centre ──┘ Map(1) answers "h:5002"
//! ```
//!
//! The second server registered key 1 after the first one, so it owns it, and clients of the centre read "uno". Nobody asked
//! whether the texts are the same. A central server with [`check`](Central::new) does: it consults both servers and keeps the
//! old owner where the texts differ.
//!
//! # What it does in the store
//!
//! Both servers are listeners of ordinary nodes, and what they keep is the listener's keyspace: it is logged, synced and
//! replicated as everything else, and readable over every other dialect.
//!
//! | call | op |
//! |---|---|
//! | Insert | an insert: 0 where it was met, else -1 |
//! | Consult, Map | a get; the empty text when there is no row |
//! | Activate | ranges over the keys, a page at a time, and a Register per page (`activate.rs`) |
//! | Register | put-alls, of as many keys as an op takes; with check a get-all and compare-and-puts (`check.rs`) |
//! | Terminate | of a central server a count of its keys; then the process ends |
//!
//! A key is four bytes, big-endian, with the sign bit turned around: so the keys of a keyspace are in the order of their
//! numbers, from -2147483648 to 2147483647. The value of a pair is its text as UTF-8, that of a row of the directory is the
//! owner's HOST:PORT.
//!
//! Errors are gRPC statuses as over the dialect native, and [`PairClient`] and [`CentralClient`] turn them back into
//! [`kv::Error`]. Those of a server that is not Capstan's are taken by their code.
//!
//! # Caveats
//!
//! - The empty text cannot be told from no text.
//! - A directory says who registered last, not who is alive, and not whether that server still has the key.
//! - Activate and a count are no snapshot: each page is a read of its own. An Activate or Register that fails in the middle is
//!   in doubt, and what it registered stays; doing it again is harmless.
//! - Rows whose key is not four bytes, or whose value is no UTF-8, are another dialect's. Counts and Activate leave the
//!   first out, and Consult and Map refuse the second.
//! - A server connects to whatever address Activate names, or, with check, an owner of keys.

mod activate;
mod address;
mod central;
mod check;
mod client;
#[doc(hidden)]
pub mod fuzz;
mod page;
mod pair;
mod register;
mod row;

pub use central::Central;
pub use client::{CentralClient, PairClient};
pub use pair::Pairs;

/// The messages and services, as generated.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    /// Of a pair server.
    pub mod keyvalue {
        tonic::include_proto!("keyvalue");

        /// The description, as reflection serves it.
        pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyvalue.bin"));
    }

    /// Of a central server.
    pub mod central {
        tonic::include_proto!("central");

        /// The description, as reflection serves it.
        pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/central.bin"));
    }
}

/// What Insert answers when the text was stored.
const STORED: i32 = 0;
/// And when the key is in use.
const IN_USE: i32 = -1;
