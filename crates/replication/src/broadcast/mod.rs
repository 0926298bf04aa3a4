//! `broadcast`: any copy takes a request by itself, and passes writes on.
//!
//! # The problem
//!
//! A shard that is to serve wherever one of its nodes is, cut off from all others too, cannot ask any of them before it answers. Then copies differ
//! for a while; what can be had is that they become the same again, that nothing acknowledged is lost on the way, and that nothing that was
//! deleted comes back.
//!
//! # How
//!
//! A member makes of a write a row, whole and with its version ([`kv::merged`]), puts it in its own log and table, answers, and publishes it. The
//! others merge it: of each key the highest version wins (Thomas, "A majority consensus approach to concurrency control", 1979, whose rule it is). Rows spread as an
//! epidemic does (Demers et al., "Epidemic algorithms for replicated database maintenance", 1987): at once by publication, and what is missed by asking.
//!
//! ```text
//!        n1                          n2                    n3
//!   Propose [t7: put k]
//!   look at the own table
//!   Append k at 11
//!     │ sync
//!   publish 1: 9─11 ───────────────▶ merge k at 11   ✗
//!     │ table                          │ sync
//!   Reply [t7]                       has 1:11              has 1:9
//!        ... a second later ...
//!   has 1:11 ──────────────────────────────────────────▶  fetch of 1 above 9
//!   1: 9─11 ────────────────────────────────────────────▶  merge, sync, has 1:11
//! ```
//!
//! - *Writes* ([`writes`]) wait for nobody but the own disk. Own versions rise under a ceiling in the log ([`crate::issue`]).
//! - *What was made* ([`spread`]): a member's rows are a chain, and of each member all others know up to where they have it: a version vector (Parker et al.,
//!   "Detection of mutual inconsistency in distributed systems", 1983; as in Bayou: Petersen et al., "Flexible update propagation for weakly consistent
//!   replication", 1997). It is in the log, in the same append as the rows ([`intake`]): what a member says it has, it has after a crash too. Gaps are asked for;
//!   of a last word that was lost the vectors tell, which are published once a second until all say the same. Then nobody says anything.
//! - *Who was away for long* [compares](compare) tables.
//! - *What was deleted* is a row, a tombstone, until it is [settled](collect): all have it, and nothing older can come.
//! - *Who begins* asks all others what they have, and serves when it has that; one that does not answer within [`PATIENCE_MICROS`] is not waited for.
//!
//! # What holds
//!
//! 1. Members that have the same vectors have the same rows.
//! 2. At one member no key goes back to an older row; a client that stays with it reads its own writes, and the answers of its writes are exact
//!    for what the member had seen.
//! 3. An acknowledged write is durable at the member that took it, and shows at all in the end, unless a later one of its key does.
//! 4. A read at a version up to what is *stable* at its member (it has all that any member made up to it, and they have promised to make nothing
//!    below) is answered alike for ever, as far as revisions are kept. Each answer says how far behind that is.
//! 5. What was deleted does not come back.
//!
//! # Caveats
//!
//! What a member has acknowledged and not passed on is lost with its disk. Of two writes of a key at once one is lost, whole: the one of the
//! lower version, which is of the clock that is behind.
//!
//! How far an answer is behind is told by this node's clock, of what others made by theirs: it is as true as these agree, to 10 ms.
//!
//! Linearizable and bounded reads are refused: nobody knows what others took a moment ago. What depends on what is there (updates, transactions)
//! wants an order, and is refused.
//!
//! Requests are remembered by the member that took them, in memory: one that is sent again elsewhere, or after a restart, is in doubt.
//!
//! Who missed so much that the links of it are gone gets newest rows, and of earlier revisions those that a row took the place of; two that
//! were written at once and are both replaced may be lacking there.
//!
//! A member whose log or table was lost is not made whole here: it starts anew in another epoch. Nor do members come or go but with the epoch.

mod collect;
mod compare;
mod describe;
pub mod fuzz;
mod inputs;
mod intake;
mod message;
pub mod observe;
mod seal;
mod spread;
mod writes;

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{NodeId, Position, Protocol, ReplicaId, Version};
use mutant::Mutant;

use self::collect::Collector;
use self::compare::Compare;
use self::intake::Intake;
use self::seal::Seal;
use self::spread::{Peer, Spread};
use self::writes::Writes;
use crate::issue::Issue;
use crate::journal::Journal;
use crate::quorum::Counts;
use crate::random::Random;
use crate::record::{Header, Record, Vector};
use crate::recovery::Recovery;
use crate::{Instant, Ticket, Token, Unfit, View};

pub use self::describe::describe;

/// So long a member that begins waits for the word of the others, and a question for its answer.
pub const PATIENCE_MICROS: u64 = 3_000_000;
/// So often a member says what it has, while others may have something else; and asks again.
pub const VECTOR_MICROS: u64 = 1_000_000;
/// The clocks of nodes are drawn to each other, and differ by less as a rule: an answer counts as so much older.
const CLOCKS_APART_MICROS: u64 = 10_000;

/// What a member goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its node.
    pub id: NodeId,
    /// The members, where the log names none.
    pub view: View,
    /// Differs between starts, and between the shards of a node.
    pub seed: u64,
}

/// A member of a shard.
pub struct Broadcast {
    config: Config,
    view: View,
    replica: ReplicaId,
    /// The log names the members.
    is_view_logged: bool,
    /// When it was called first; `None` = it was not yet.
    begun: Option<Instant>,
    /// It has begun, and serves when it has what those had of whom it heard; `None` = it serves.
    returning: Option<BTreeMap<NodeId, Vector>>,
    now: Instant,
    clock: Version,
    journal: Journal,
    issue: Issue,
    /// A ceiling to go with the next append.
    ceiling: Option<Version>,
    intake: Intake,
    peers: BTreeMap<NodeId, Peer>,
    spread: Spread,
    /// All is here that any member made, and will make, up to this version; and is at all members up to that one, as far as is known.
    stable: Version,
    settled: Version,
    writes: Writes,
    /// Reads whose rows are fetched, and what was stable when they were.
    reads: BTreeMap<Token, Version>,
    looks: BTreeMap<Ticket, Whose>,
    last_look: Ticket,
    /// The last question to another member. It begins elsewhere with each life.
    number: u64,
    compare: Option<Compare>,
    collector: Collector,
    seal: Option<Seal>,
    counts: Counts,
}

/// Who looks at the table.
#[derive(Debug)]
enum Whose {
    Write,
    Compare(u64),
    Collect,
    /// Another member, and what is here beside what is found.
    Peer {
        node: NodeId,
        number: u64,
        have: Vector,
    },
}

impl Broadcast {
    /// The member on a node, from its log and its table (the last entry that it has applied).
    pub fn new(config: Config, recovery: Recovery, applied: Position) -> Result<Broadcast, Unfit> {
        let head = Header { protocol: Protocol::Broadcast, epoch: config.view.epoch };
        let recovered = recovery.finish(Protocol::Broadcast, config.view.clone(), applied)?;
        let too_short = (recovered.ended < applied.index).then_some(recovered.ended);
        if let Some(last) = recovered.lost.or(too_short) {
            return Err(Unfit::Lost { applied: applied.index, last });
        }
        let replica = recovered.replica_on(config.id)?;
        let view = recovered.view;
        let others = view.members.iter().map(|member| member.node).filter(|other| *other != config.id);
        let peers = others.map(|node| (node, Peer::default())).collect();
        let term = recovered.log.term(recovered.log.last()).unwrap_or_default();
        let issuer = if mutant::is(Mutant::VersionsOfOneIssuer) { ReplicaId(1) } else { replica };
        let mut issue = Issue::new(issuer, recovered.ceiling);
        let published = recovered.vector.get(&replica).copied().unwrap_or_default();
        issue.skip(published);
        let (stable, settled, clock) = Default::default();
        let (ceiling, begun, compare, now) = Default::default();
        Ok(Broadcast {
            is_view_logged: recovered.is_view_logged,
            replica,
            begun,
            returning: Some(BTreeMap::new()),
            now,
            clock,
            journal: Journal::new(head, recovered.log, applied.index),
            issue,
            ceiling,
            intake: Intake::new(term, recovered.vector),
            peers,
            spread: Spread::new(published),
            stable,
            settled,
            writes: Writes::default(),
            reads: BTreeMap::new(),
            looks: BTreeMap::new(),
            last_look: Ticket::default(),
            number: Random::new(config.seed).next() >> 1,
            compare,
            collector: Collector::default(),
            seal: recovered.seal.map(Seal::recovered),
            counts: Counts::default(),
            view,
            config,
        })
    }

    /// What it did since it began.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// All that any member made up to this version is here, and nothing more is made below it.
    pub fn stable(&self) -> Version {
        self.stable
    }

    fn head(&self) -> Header {
        self.journal.head()
    }

    /// What is to be written before anything else with the next append: the members, if the log does not name them yet, and a ceiling.
    fn take_notes(&mut self) -> Vec<Bytes> {
        let is_logged = std::mem::replace(&mut self.is_view_logged, true);
        let view = (!is_logged).then(|| Record::View(self.view.clone()));
        let ceiling = self.ceiling.map(Record::Ceiling);
        view.into_iter().chain(ceiling).map(|record| record.encode(self.head())).collect()
    }
}
