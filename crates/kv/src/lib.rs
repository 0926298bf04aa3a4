//! The vocabulary of Capstan, and its waist.
//!
//! Everything that is asked of the store is an [`Op`]; everything it answers is a [`Reply`] (an [`Answer`] and the
//! [`Receipt`] that tells what was really achieved) or an [`Error`] that knows its [`Outcome`]. All dialects translate
//! bytes into these words, all protocols order them, the versioned table evaluates them, and the checker judges them:
//! the same words from socket to checker.
//!
//! The waist is [`KeyValue`]: the server, the clients of the dialects and the simulated cluster implement it, so a
//! workload, a benchmark or a test is written once and runs against any of them. What is known of the cluster is asked of
//! [`cluster::Cluster`], and what is to change of it of [`admin::Admin`].
//!
//! # Caveats
//!
//! Nothing here does I/O, reads a clock or draws a random number. The [`codec`] is what the log and the peers store and
//! send: its tags are never given a second meaning.

pub mod admin;
mod budget;
pub mod cluster;
pub mod codec;
mod entry;
mod error;
pub mod fault;
#[doc(hidden)]
pub mod fuzz;
mod id;
pub mod keyspace;
pub mod ledger;
mod limits;
pub mod merged;
mod op;
mod order;
mod reply;
mod scope;
mod slot;
mod version;
pub mod view;
mod waist;
pub mod watch;

pub use budget::{Budget, Charge, Share};
pub use entry::{Entry, Stamped};
pub use error::{Error, Outcome};
pub use id::{ClusterId, Epoch, NodeId, ReplicaId, RequestId, ShardId};
pub use limits::*;
pub use op::{Class, Condition, Direction, Expect, Function, Key, Op, Range, Side, Value};
pub use order::{Index, Position, Term};
pub use reply::{Answer, KeyAnswer, Level, Page, Protocol, Receipt, Reply, Revision, Row};
pub use scope::Scope;
pub use slot::{Slot, SlotRange};
pub use version::Version;
pub use waist::{Completions, KeyValue, Request};
