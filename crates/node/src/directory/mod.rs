//! The directory: who decides where everything is, and how the decision is written down.
//!
//! # The problem
//!
//! A cluster has one map ([`Map`]): its nodes, its shards, and the changes of shards that are under way. Nodes join, die and are
//! asked to leave; somebody has to turn that into the next map, one step after the other. Whoever it is may be cut off, stop for a
//! minute, or crash between any two steps, and the one that takes over must not contradict what was decided.
//!
//! # How it is solved
//!
//! The map is stored like everything else: as rows of a shard ([`ShardId::DIRECTORY`]), which raft keeps on the first nodes. No second
//! consensus, log, recovery or snapshot is needed. What remains is a client of that shard, and this is it.
//!
//! - **Who decides**: the node whose replica orders that shard. It reads all rows, and decides from then on with what it read
//!   (`leader`). Two nodes may believe to be the one for a while. It does not matter:
//! - **Each change is a transaction** that holds only while the row `revision` is what was read. Of two that were made of the same
//!   map one fails, and who made it reads again. So does who gets an answer in doubt, or loses the role.
//! - **It looks, it does not listen.** Ten times a second it compares what it sees of the cluster (`seen`) with what the map says, and
//!   writes the difference (`duties`): nodes that live or died for a while (`health`), or say other addresses; changes whose
//!   shard has the members it was to have; then what [`placement::plan`] would do next. Nothing is remembered that
//!   is not in the map, so a new leader goes on where the last one stopped, wherever that was.
//! - **A dropped name waits** until enough of its nodes have heard of the drop (`names`): mostly less than a second. Who asks for it
//!   meanwhile is refused, and asks again.
//! - **A keyspace is created on nodes that answer.** A node counts as alive for some seconds after its last word, and may be cut off by
//!   then. So all are asked for a word first, and who has said none within half a second gets no replica of it (`leader`).
//! - **What people ask** (`asks`) becomes an event of the map, and is answered when the transaction has held, or refused when the
//!   map refuses it. What changes nothing is answered behind a transaction as well, with nothing in it: it proves that the map is
//!   still the one the answer was made of.
//! - **Anybody may be asked.** A node passes on what it is asked to whom it believes to lead, and tries again elsewhere until the time
//!   is up (`desk`): every ask may be sent again.
//! - **Everybody acts on the map alone.** A map goes to the node that leads, from there by revision to all others, and each
//!   makes and drops its own replicas by it ([`crate::Driver`]).
//!
//! # An example
//!
//! `n4` joins through `n2`; `n1` leads the directory, and is cut off in the middle. Numbers are revisions.
//!
//! ```text
//!      n2                 n1 (leads: 7)               shard 0              n3
//!   Join n4 ── Ask ─────▶ 8 = 7 with n4
//!                         "revision is 7" ──────────▶ 8
//!           ◀─ Told ───── node 4                                          (hears of 8, asks for it)
//!                         plan: shard 5 from n1 to n4
//!                         "revision is 8" ──────────▶ 9
//!                         cut off                                          leads: reads 9
//!                         plan: "revision is 9" ─ ✗
//!                                                                          shard 5 has n4: done
//!                                                     10 ◀──────────────── "revision is 9"
//!                         back: follows, forgets all
//! ```
//!
//! # Founding
//!
//! The nodes that found a cluster compute the same map, of revision 1, from how they were started. The first that leads the shard and
//! finds no rows adds the cluster's id and writes it, if there is no revision yet: revision 2. Nodes that join get a place in a map
//! that is there.
//!
//! # Guarantee
//!
//! The rows of the shard are one history of maps, each the outcome of an event, or a plan, of the one before it; each sound
//! ([`Map::check`]). What an answer says was so in one of them, between question and answer. Nothing is planned in the first seconds
//! of a leader, nor while most nodes are not alive.
//!
//! # Caveats
//!
//! - How long a node has been dead, and a change has been under way, its leader counts; another leader counts from its own
//!   beginning. A dead node whose directory changes hands every few minutes is never declared gone: people can ([`Ask::Replace`]).
//! - A clock that runs fast shortens the grace. It is minutes, and clocks differ by far less.
//! - While the shard has no majority there is no directory: nothing is decided, and the nodes go on serving by the map they have.
//! - A change that its shard cannot make (a new member that is never caught up) stays under way until somebody gives it up.

mod asks;
mod desk;
mod dump;
mod duties;
mod follow;
mod health;
mod keyspaces;
mod lately;
mod leader;
mod moves;
mod names;
mod ruling;
pub(crate) mod seen;
#[cfg(test)]
mod tests;

use std::sync::Arc;

#[cfg(doc)]
use self::seen::SeenNode;
#[cfg(doc)]
use kv::ShardId;
use kv::admin::{Answer, Ask};
use kv::{ClusterId, Error, NodeId, Op, Reply};
use placement::Limits;
use placement::map::Map;
use replication::Instant;

use self::desk::Desk;
use self::leader::Leader;
use self::seen::Seen;

/// A node that has been dead for so long is gone for good, unless something else is said: 10 minutes.
pub const GRACE_MICROS: u64 = 600_000_000;

/// What happens to the directory of a node.
#[derive(Debug)]
pub(crate) enum Input {
    /// The time has come to this; first of all in every turn.
    Tick(Standing),
    /// Somebody here asks. Ends in [`Output::Answer`].
    Ask {
        /// The owner's name for it.
        client: u64,
        /// What.
        ask: Ask,
        /// How long to try, in microseconds.
        timeout_micros: u64,
    },
    /// Another node passes on what it was asked.
    Passed {
        /// Who asks, with its own name for it.
        asker: Asker,
        /// What.
        ask: Ask,
    },
    /// The answer to what was passed on to a node.
    Told {
        /// The node.
        from: NodeId,
        /// The desk's name for it.
        token: u64,
        /// The answer.
        result: Result<Answer, Error>,
    },
    /// The connection to a node broke.
    Disconnected(NodeId),
    /// The answer to an [`Output::Request`].
    Answered {
        /// Its number.
        number: u64,
        /// The answer.
        result: Result<Reply, Error>,
    },
    /// What the node sees of the cluster: when [`Directory::looks`] says so.
    Seen(Seen),
}

/// How things stand at this node.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The time.
    pub now: Instant,
    /// The replica here orders the directory's shard, as far as it knows.
    pub leads: bool,
    /// Another node that does so, as far as is known, and can be reached.
    pub leader: Option<NodeId>,
    /// The newest map that is known here.
    pub map: Arc<Map>,
    /// The cluster's id, if it is known.
    pub cluster: Option<ClusterId>,
}

/// What the directory wants done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Ask this of the directory's shard, as fresh as can be; then give [`Input::Answered`].
    Request {
        /// Rises.
        number: u64,
        /// The op.
        op: Op,
    },
    /// Ask all nodes for a word, whatever it is: [`SeenNode::heard`] tells who says one.
    Sound,
    /// This map is written: act on it, and have the others hear of it.
    Map(Arc<Map>),
    /// Pass this on to a node that leads the directory: [`Input::Passed`] there.
    Pass {
        /// The node.
        to: NodeId,
        /// The desk's name for it.
        token: u64,
        /// What is asked.
        ask: Ask,
    },
    /// Answer a node that passed something on: [`Input::Told`] there.
    Tell {
        /// The node.
        to: NodeId,
        /// Its name for it.
        token: u64,
        /// The answer.
        result: Result<Answer, Error>,
    },
    /// Answer somebody here.
    Answer {
        /// Its name.
        client: u64,
        /// The answer.
        result: Result<Answer, Error>,
    },
}

/// Who asks the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The desk of its own node, under this name.
    Own(u64),
    /// That of another node.
    Node {
        /// Which.
        node: NodeId,
        /// Its name for it.
        token: u64,
    },
}

/// The directory at one node: it takes what people ask, and decides while it leads.
#[derive(Debug)]
pub(crate) struct Directory {
    desk: Desk,
    leader: Leader,
}

impl Directory {
    /// Of a node. A node that is dead for the grace is gone; no more than `limits` is moved at once. `seed` differs between the
    /// lives of a node, so that no answer to an
    /// earlier one is taken for its own.
    pub fn new(grace_micros: u64, limits: Limits, seed: u64) -> Directory {
        Directory { desk: Desk::new(seed), leader: Leader::new(grace_micros, limits) }
    }

    /// Whether [`Input::Seen`] is wanted now.
    pub fn looks(&self) -> bool {
        self.leader.looks()
    }

    /// The map that it decides with, while it leads.
    #[cfg(test)]
    pub fn map(&self) -> Option<&Map> {
        self.leader.map()
    }

    /// Takes one input; adds what is to be done to `out`, in order.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        let mut told = Vec::new();
        match input {
            Input::Tick(standing) => {
                self.leader.tick(&standing, &mut told, out);
                self.desk.tick(&standing, out);
            }
            Input::Ask { client, ask, timeout_micros } => self.desk.take(client, ask, timeout_micros, out),
            Input::Passed { asker, ask } => self.leader.ask(asker, ask, &mut told, out),
            Input::Told { from, token, result } => self.desk.told(Some(from), token, result, out),
            Input::Disconnected(node) => self.desk.disconnected(node),
            Input::Answered { number, result } => self.leader.answered(number, result, &mut told, out),
            Input::Seen(seen) => self.leader.see(seen, &mut told, out),
        }
        for (token, ask) in self.desk.for_own_leader() {
            self.leader.ask(Asker::Own(token), ask, &mut told, out);
        }
        for (asker, result) in told {
            match asker {
                Asker::Own(token) => self.desk.told(None, token, result, out),
                Asker::Node { node, token } => out.push(Output::Tell { to: node, token, result }),
            }
        }
    }
}
