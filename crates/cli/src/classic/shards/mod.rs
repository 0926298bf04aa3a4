//! The programs of a store whose servers each have a range of the keys, or share one: a shard master and its servers.
//!
//! ```text
//!   shard-master h:50000        a node: the directory, and the rows while no server is there
//!   shard-server h:50001        a node by itself ── Join(h:50001) ──▶ a node of the master's cluster
//!                                      ▲                                     │
//!                                      └──────────── Leave(h:50001) ─────────┘
//! ```
//!
//! A server changes what it is by starting anew in the same process ([`member`]): what it is to be stands in its folder
//! ([`kept`]), so it goes on from there whatever ends it.
//!
//! # Caveats
//!
//! Without `--data` a folder of the system's temporary ones is used, and removed at the end; after a kill -9 it stays there.

mod kept;
mod master;
mod member;
mod node;

pub use master::{Args as MasterArgs, run as run_master};
pub use member::{Args as ServerArgs, run as run_server};
