//! What consistency costs: the same load on shards of one copy, and on replica groups of which more and more members are waited for.
//!
//! # The problem
//!
//! A group of replicas can answer faster than it agrees. How much faster, and how often the answer is then an old one, depends on the
//! machine and on the load, so whoever chooses wants to see it measured on their own.
//!
//! # How
//!
//! ```text
//!   Cluster ── nodes of its own, processes on this machine
//!      │  a keyspace for each Form                                        (form)
//!      ▼
//!   Load ───── so many clients, each a put or a get at a time, half and half, of as many keys as the seed had   (load)
//!      │  a put and a get of one copy go to the node that leads the key's shard, any other get to the members in turn
//!      ▼
//!   Figures ── answers a second, reads that were wrong, by how much      (figures)
//!      ▼
//!   Row ────── a line of the table, an object in JSON, a bar of the plot  (report, plot; store)
//! ```
//!
//! First one shard of one copy, then 2, 4, 8, spread over the nodes. Then two shards of which each node has a copy, under `primary`: a
//! put waits for 0, 1, 2 secondaries, and gets are asked at the levels `local` and `bounded`; at last it waits for all, and gets are
//! linearizable at every member.
//!
//! For example, with three secondaries of which a put waits for one: n1 orders, n2 has each put before it is acknowledged, n3 and n4 get
//! what is written every 100 ms. A client puts k through n1 and is answered; the next get of k is asked at n3, which has the value of
//! 60 ms ago. That read is *wrong*: its answer is older than a put that was acknowledged before the read began. Its receipt says that it may
//! miss the last 130 ms, so it is not *untrue*.
//!
//! # A store with a slow node
//!
//! The same load on three copies of one shard, as the classic store has them: *centralized*, under `two-phase`, where a put goes to the master
//! and is on all copies or nowhere; *decentralized*, under `quorum`, whose nodes weigh 1, 2, 1, where a put needs 3 of it and a get 2, and any
//! node takes either. First while all is well, then while the answers of each node in turn are late: those to clients, and its votes and
//! acknowledgements to the others ([`store`]).
//!
//! # What holds
//!
//! - One process asks everything and notes when it asked and when it knew. So no clock is compared with another.
//! - A linearizable read is never wrong. One at `bounded(ms)` misses no more than that and than its receipt says, one at `local` no more
//!   than its receipt says. A read that does is untrue, and the evaluation says so.
//!
//! # Caveats
//!
//! Clients and nodes share the machine, so more nodes are more work for the same cores: shards do not add up here as they do on machines of
//! their own. The clients take every key as often as every other, and the keys are few: wrong reads are more than with many keys.
//!
//! A client asks nodes in turn and waits for each answer. So of a store without a master every third request is at the slow node itself: the
//! median says what the others do, and requests a second what clients get that ask all alike.

mod figures;
mod form;
mod load;
mod measure;
mod picture;
mod plot;
mod report;
pub mod store;

pub use form::{NODES_MIN, STORE_NODES};
pub use measure::{Plan, Progress};
pub use plot::plot;
pub use report::{Row, render};

use crate::Error;

/// Measures shards of one copy, and groups; what came of each. `stop` ends it early and says why; `say` hears how far it is. At least
/// [`NODES_MIN`] nodes.
///
/// # Errors
/// [`Error::Unavailable`] when the nodes do not start or do not serve; what they wrote is kept then.
pub async fn shards(
    plan: &Plan,
    stop: impl Future<Output = String>,
    say: impl FnMut(Progress),
) -> Result<Vec<Row>, Error> {
    let measured = measure::run(plan, &form::shards(plan.nodes), stop, say).await?;
    Ok(measured.iter().map(Row::of).collect())
}
