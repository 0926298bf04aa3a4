//! The programs of a store that keeps the earlier values of each key: a server ([`server`]), and a client that asks one thing ([`client`]).
//!
//! ```text
//!   versioned-client put --key k --value v ──▶ versioned-server 40000 ◀──▶ versioned-server 40001, each with all keys
//! ```
//!
//! The options of the programs before, in Portuguese, are taken for the same.

mod client;
mod server;

pub use client::{Args as ClientArgs, run as run_client};
pub use server::{Args as ServerArgs, run as run_server};

/// Where a server listens when nothing is said.
const PORT: u16 = 40_000;
