//! A node's threads, sockets, files and clock.
//!
//! [`run`] opens the data folder, recovers, and then does what the drivers ([`node::Driver`]) hand out. It decides no
//! order: everything that happens is put into the inbox of a core, and the turns of its driver take it from there.
//!
//! ```text
//!                                          a core:
//!   clients ──▶ a dialect       ──▶ handle ──┐            ┌──▶ engine thread   (engine `disk`, whatever may take long)
//!   nodes  ◀──▶ transport ──────────────────▶ inbox ─▶ core ──▶ log thread      one write, one fdatasync   ┐ one for all
//!   clock ───────────────────────────────────┘            └──▶ background      flushes, compactions       ┘ cores
//! ```
//!
//! A core, its connections and its driver share one current-thread runtime, so a request on one of its connections for one of
//! its shards crosses no thread on the way. What is for a shard of another core goes over the desk of the thread that asks into
//! that core's inbox, and the answer comes back by the outbox of the core that asked. The transport is the first core's. Cores beyond the number of shards
//! serve connections only.
//!
//! # Caveats
//!
//! Transport between nodes is neither encrypted nor authenticated: keep the peer ports on a network you trust.

mod address;
pub mod bus;
mod busy;
mod config;
mod connections;
mod core;
mod counted;
mod descriptors;
mod desk;
mod engine;
mod failure;
mod faults;
mod folder;
mod founding;
mod handle;
mod inbox;
mod join;
mod journal;
mod listen;
mod log;
mod outbox;
mod reached;
mod routes;
mod run;
mod signals;
mod thread;
mod time;
mod transport;
mod unknown;
mod view;
mod waiting;
mod watches;

pub use config::{Config, Moves, Stderr};
pub use failure::Failure;
pub use listen::Listen;
pub use run::run;
pub use storage::{History, Kind};
#[doc(hidden)]
pub use transport::fuzz;

/// A random number from the system: for identities, not for secrets.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
