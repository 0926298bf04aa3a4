//! The wires of earlier systems, so that their clients go on as they are. Each is a thin translation: what it stores lies
//! in an ordinary keyspace, with the same log, engines and limits as everything else.
//!
//! - [`pairs`]: texts under numbers, insert-if-absent, and a central server that says who has which.
//! - [`shards`]: texts under numbers, of which each server has a range, and a master that says who has which.
//! - [`store`]: texts under texts on several nodes, each of which a client may have answer late.
//! - [`versioned`]: texts under texts, of which earlier values are kept and read.

mod caller;
mod connection;
pub mod pairs;
pub mod shards;
pub mod store;
pub mod versioned;
