//! `quorum`: each request at as many copies as it takes, and no leader.
//!
//! # The problem
//!
//! A shard whose leader is lost serves nobody until there is another one. Where writes need not be ordered, only the newest value of a key be
//! found again, nobody needs to lead: it is enough that whoever reads meets whoever wrote. Each member of the shard has a *weight*; a read hears
//! members that weigh R, a write is stored by members that weigh W, and R + W is more than all weigh together. So of any read and any write
//! before it one member has seen both (Gifford, "Weighted voting for replicated data", 1979).
//!
//! # How
//!
//! Any member takes a request and sees it through. It makes of a write a row, whole and with its version ([`kv::merged`]), and everywhere the
//! highest version is what counts. A key is a register of many writers and readers (Attiya, Bar-Noy, Dolev, "Sharing memory robustly in
//! message-passing systems", 1995; Lynch, Shvartsman, 1997):
//!
//! ```text
//!        n1 (weighs 1)              n2 (weighs 2)         n3 (weighs 1)           R = 2, W = 3
//!   Propose [t7: put k]
//!   look k ───────────────────────▶ look                  look
//!     ◀──────────────── k at 10 ─── found
//!   n1 and n2 weigh 3: enough. The row is k at 11
//!   store k at 11 ────────────────▶ Append                Append
//!   Append                            │ sync, table         │ sync, table
//!     │ sync, table                   ▼                     ▼
//!     ▼            ◀────────────── stored                 stored
//!   n1 and n2 weigh 3: Reply [t7]
//! ```
//!
//! - *Write*: look for the newest version of its keys at members that weigh R; make the row above it; store it at all; done when
//!   members that weigh W have it, durably and applied. Own versions rise under a ceiling in the log ([`crate::issue`]).
//! - *Read*: look at members that weigh R, and take of each key the newest row. If those that showed it weigh less than W, a later read may
//!   miss them: so it is *written back* until its holders weigh W, and answered then ([`reads`]).
//! - *Before and after*: a write that begins while less than W is within reach has failed, and is stored nowhere. When it was sent, it
//!   is in doubt until W have it: nobody takes it back ([`writes`]).
//! - What a member takes in is an entry of its own log ([`stores`]): its order is nobody else's. An acknowledgement counts by the weight of its
//!   node, once.
//! - Writes of one turn share a round, and what comes meanwhile shares the next one.
//!
//! # Who was away
//!
//! - *Hints*: rows that a member did not acknowledge wait for it in the memory of whoever wrote them, and are sent when it is back. They count for
//!   no write. There is room for some ([`peers`]); the oldest are given up, and all are lost with their node.
//! - *Repair* makes up for that: members compare digests of their rows, and bring what is newer to each other ([`repair`]).
//!
//! # What was deleted
//!
//! A deletion is a row, a tombstone. Who forgot it would take an old value for news; so it goes only when everybody has it and nothing older
//! is under way, without a clock ([`collect`]).
//!
//! # The end of an epoch
//!
//! A member that is sealed answers nothing of its epoch any more, once that is in its log. When sealed members weigh more than the total less W
//! and less R, no write can be acknowledged and no read answered; what is newest among them is the state to go on from.
//!
//! # What holds
//!
//! 1. A key is a linearizable register: a read shows the last write that was acknowledged before it was asked, or a later one; and never an
//!    older one than a read that was answered before.
//! 2. What was acknowledged is durable at members that weigh W. What has failed is nowhere.
//! 3. A key and a version name one row.
//!
//! # Caveats
//!
//! Keys are apart: a write of several keys is one for each, and a range is a read of each of its keys. What depends on what is there
//! (updates, transactions) wants an order, and is refused. `bounded` reads miss nothing that was acknowledged, and may show a write that is under
//! way before a later one does not; `local` ones show what this member has, whose age nobody knows.
//!
//! A deletion counts what it found: of two at the same time each may have found the value, and both count it.
//!
//! A linearizable read may need W where those that show the newest row weigh less: with weights 1, 2, 1 and W = 3 none is answered without the
//! heavy member. A bounded one is.
//!
//! A write that is in doubt may show and be gone again for readers that meet other members, until a read that shows it has written it back, or
//! repair has brought it everywhere. A value whose time is over stays on the disk until somebody reads it.
//!
//! A member whose log or table was lost is not made whole here: it starts anew in another epoch.

pub(crate) mod bonds;
mod collect;
mod describe;
pub mod fuzz;
mod gather;
mod inputs;
pub(crate) mod message;
pub mod observe;
mod peers;
mod reads;
mod repair;
mod rounds;
mod seal;
pub(crate) mod stores;
mod weights;
mod writes;

use std::collections::BTreeMap;

use kv::keyspace::Votes;
use kv::{NodeId, Position, Protocol, Version};

use self::collect::Collector;
use self::peers::Peer;
use self::reads::Reads;
use self::rounds::Rounds;
use self::seal::{Asked, Seal};
use self::stores::Stores;
use self::writes::Writes;
use crate::issue::Issue;
use crate::journal::Journal;
use crate::random::Random;
use crate::record::{Header, Record};
use crate::recovery::Recovery;
use crate::{Instant, Unfit, View};

pub use self::describe::describe;

/// So long a request waits for others; then it fails, or is in doubt. Longer than a node that is slow by a second needs, and short
/// enough that a client hears of it within its own patience.
pub const PATIENCE_MICROS: u64 = 3_000_000;
/// What was not answered for so long is sent again. Connections lose nothing while they stand: this is for those that break without a word.
const RESEND_MICROS: u64 = 1_000_000;

/// What a member goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its node.
    pub id: NodeId,
    /// The members and their weights, where the log names none.
    pub view: View,
    /// What reads and writes must weigh.
    pub votes: Votes,
    /// Differs between starts, and between the shards of a node.
    pub seed: u64,
}

/// What it did, for people and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads that had to write back what they found.
    pub write_backs: u64,
    /// Reads that needed not: those that showed the newest weighed W.
    pub skipped: u64,
    /// Rows that were kept for a member and sent to it later.
    pub hints_replayed: u64,
    /// Rows that were kept for a member and given up.
    pub hints_dropped: u64,
    /// Rows that repair brought.
    pub repaired: u64,
    /// Tombstones that it had collected.
    pub collected: u64,
}

/// A member of a shard.
pub struct Quorum {
    config: Config,
    view: View,
    /// The log names the members.
    is_view_logged: bool,
    /// When it was called first; `None` = it was not yet.
    begun: Option<Instant>,
    /// It was connected to members that weigh enough for reads and writes.
    has_met: bool,
    /// Names this life in all that is said.
    life: u64,
    now: Instant,
    clock: Version,
    journal: Journal,
    issue: Issue,
    /// A ceiling to go with the next append.
    ceiling: Option<Version>,
    stores: Stores,
    peers: BTreeMap<NodeId, Peer>,
    rounds: Rounds,
    writes: Writes,
    reads: Reads,
    collector: Collector,
    seal: Option<Seal>,
    /// What members that are sealed ask, until this one is: of each the last question.
    asked: BTreeMap<NodeId, Asked>,
    counts: Counts,
}

impl Quorum {
    /// The member on a node, from its log and its table (the last entry that it has applied).
    pub fn new(config: Config, recovery: Recovery, applied: Position) -> Result<Quorum, Unfit> {
        let head = Header { protocol: Protocol::Quorum, epoch: config.view.epoch };
        let recovered = recovery.finish(Protocol::Quorum, config.view.clone(), applied)?;
        let too_short = (recovered.ended < applied.index).then_some(recovered.ended);
        if let Some(last) = recovered.lost.or(too_short) {
            return Err(Unfit::Lost { applied: applied.index, last });
        }
        let replica = recovered.replica_on(config.id)?;
        let view = recovered.view;
        let others = view.members.iter().map(|member| member.node).filter(|other| *other != config.id);
        let peers = others.map(|node| (node, Peer::default())).collect();
        Ok(Quorum {
            is_view_logged: recovered.is_view_logged,
            begun: None,
            has_met: false,
            life: Random::new(config.seed).next(),
            now: Instant::default(),
            clock: Version::ZERO,
            stores: Stores::new(recovered.log.term(recovered.log.last()).unwrap_or_default()),
            journal: Journal::new(head, recovered.log, applied.index),
            issue: Issue::new(replica, recovered.ceiling),
            ceiling: None,
            peers,
            rounds: Rounds::default(),
            writes: Writes::default(),
            reads: Reads::default(),
            collector: Collector::default(),
            seal: recovered.seal.map(Seal::recovered),
            asked: BTreeMap::new(),
            counts: Counts::default(),
            view,
            config,
        })
    }

    /// What it did since it began.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn head(&self) -> Header {
        self.journal.head()
    }

    /// What is to be written before anything else with the next append: the members, if the log does not name them yet, and a ceiling.
    fn take_notes(&mut self) -> Vec<bytes::Bytes> {
        let is_logged = std::mem::replace(&mut self.is_view_logged, true);
        let view = (!is_logged).then(|| Record::View(self.view.clone()));
        let ceiling = self.ceiling.map(Record::Ceiling);
        view.into_iter().chain(ceiling).map(|record| record.encode(self.head())).collect()
    }
}
