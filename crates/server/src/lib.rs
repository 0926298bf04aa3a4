//! A node's threads, sockets, files and clock.
//!
//! [`run`] opens the data folder, recovers, and then does what the driver ([`node::Driver`]) hands out. It decides no
//! order: everything that happens is put into one inbox, and the driver's turns take it from there.
//!
//! ```text
//!   clients ──▶ a dialect       ──▶ handle ──┐            ┌──▶ log thread      one write, one fdatasync
//!   nodes  ◀──▶ transport ──────────────────▶ inbox ─▶ core ──▶ engine thread  (engine `disk`, whatever may take long)
//!   clock ───────────────────────────────────┘            └──▶ background      flushes, compactions
//! ```
//!
//! The core, its connections and the transport share one current-thread runtime, so a request on one of its connections
//! crosses no thread on the way to the driver. With more than one core the others serve connections only.
//!
//! # Caveats
//!
//! Transport between nodes is neither encrypted nor authenticated: keep the peer ports on a network you trust.

mod address;
mod config;
mod connections;
mod core;
mod counted;
mod descriptors;
mod engine;
mod failure;
mod folder;
mod handle;
mod inbox;
mod journal;
mod listen;
mod log;
mod run;
mod time;
mod transport;

pub use config::{Config, Stderr};
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
