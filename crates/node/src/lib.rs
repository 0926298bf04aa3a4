//! What a node does to its shards, as a state machine without I/O.
//!
//! A [`Driver`], of which a node has one a core ([`cores`]), is given inputs (requests of clients, frames of other nodes,
//! completions of the log and of the table) and hands out [`Work`]: append to the log, send to a node, run a job on the table,
//! answer a client. Its owner reads the clock, and carries the work out: the server with threads, files and sockets, the
//! simulator with none of them. The same inputs at the same times give the same work.
//!
//! ```text
//!             Part ─▶ route ──▶ replica's protocol ──▶ Append ─▶ log ──▶ Durable ─┐
//!    client           │  ▲                                                         │
//!             Answer ◀┘  └── Forward / Answer ◀──▶ the node that serves it         │
//!                ▲                                                                 ▼
//!                └───────────── Done ◀── table ◀── Job::Apply / Job::Read ◀── protocol
//! ```
//!
//! A request is split into one [`Part`] a shard by [`route::Plan`], and each part lives in the driver until it is
//! answered: served here or forwarded as the local replica says, tried again under its own id when that changes; without a local
//! replica, forwarded to who leads. Which replicas there are, the map says. Snapshots
//! come in under a generation of their own and are switched to by one log record. A checkpoint writes again, at the log's
//! head, what is not yet in the table's files, so that old segments can go however idle a shard is.
//!
//! # Caveats
//!
//! A shard has one core. A turn handles what it is given; the owner bounds that.

pub mod bus;
mod config;
pub mod cores;
mod directory;
mod driver;
pub mod faults;
#[doc(hidden)]
pub mod fuzz;
pub mod gather;
pub mod identity;
mod job;
pub mod log;
mod node;
pub mod observe;
mod record;
mod recovery;
pub mod route;
mod seat;
mod session;
pub mod stop;
pub mod watch;
pub mod wire;

pub use config::Config;
pub use directory::GRACE_MICROS;
pub use driver::{Driver, Input, OPEN_BYTES_MAX, OPEN_MAX, Part, SnapshotPart, Work};
pub use job::{Done, Executor, Job, Ran};
pub use node::clock::Now;
pub use node::peers::ANNOUNCE_MICROS;
pub use recovery::{Recovery, RecoveryError};
pub use session::mix;
