//! One replica as the driver keeps it: its protocol, and what is on its way.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::keyspace::{Rules, Standing};
use kv::{Class, Index, Level, NodeId, Position, Protocol, ShardId, Term, Version};
use replication::{Duty, Instant, MemberStatus, Replicate, Route, Status, Ticket, Token, View};
use storage::ShardSnapshot;

use super::fence::Later;
use super::handover::{Giving, Returning};
use super::install::{Install, Stage};
use super::split::CutHere;
use crate::directory::seen::digest;
use crate::node::Node;
use crate::record::Made;
use crate::recovery::Begun;
use crate::wire::{Announced, Copied, Newcomers};

/// A replica of a shard on this node.
pub(super) struct Replica {
    pub shard: ShardId,
    pub protocol: Box<dyn Replicate>,
    /// How the replicas of its shard agree.
    pub kind: Protocol,
    /// How it was made, and the current generation of its rows.
    pub made: Made,
    /// When it was last told the time.
    pub ticked: Option<Instant>,
    /// Something happened to it in this turn.
    pub is_touched: bool,
    /// The newest version that its table has told.
    pub last: Version,
    /// What its shard goes by, and what it holds, as its table has told.
    pub standing: Standing,
    /// What its shard is to go by.
    pub wanted: Rules,
    /// Its last ticket of an append, 0 = none yet.
    pub appended: Ticket,
    /// Entries that the table is applying.
    pub applying: VecDeque<Applying>,
    /// Reads that wait until the shard's version is raised.
    pub advance: Option<Advance>,
    /// Snapshots taken and not yet sent.
    pub snapshots: BTreeMap<NodeId, Box<ShardSnapshot>>,
    /// How far those are that were sent last, or are on their way.
    pub copied: BTreeMap<NodeId, Copied>,
    /// A snapshot that is coming in.
    pub install: Option<Install>,
    /// So many jobs of dropped installs are still to be done.
    pub stale_jobs: u64,
    /// When its role was last offered to another node.
    pub offered: Option<Instant>,
    /// What is known of later epochs and revisions of its shard.
    pub later: Later,
    /// The last entry that was given to the table; `None` = not known: a snapshot came in since.
    pub given: Option<Position>,
    /// The last entry of its epoch, once it is sealed.
    pub sealed: Option<Position>,
    /// What it keeps for those to whom its shard is handed over.
    pub giving: Option<Giving>,
    /// What it knows of the parts that its shard is cut into, on this node.
    pub cut: CutHere,
    /// It was sealed, and goes on in a later epoch: its heir is gone.
    pub returning: Option<Returning>,
}

/// An entry handed to the table.
pub(super) struct Applying {
    pub index: Index,
    pub tokens: Vec<Token>,
    pub copies: u32,
}

/// A raise of the version that is on its way.
pub(super) struct Advance {
    pub token: Token,
    pub readers: Vec<Token>,
}

impl Replica {
    /// One that begins, its table having applied what is up to `applied`, its newest version being `last`.
    pub fn new(shard: ShardId, begun: Begun, applied: Position, last: Version) -> Replica {
        Replica {
            shard,
            protocol: begun.replica,
            kind: begun.protocol,
            made: begun.made,
            ticked: None,
            is_touched: false,
            last,
            standing: Standing::default(),
            wanted: Rules::default(),
            appended: Ticket::default(),
            applying: VecDeque::new(),
            advance: None,
            snapshots: BTreeMap::new(),
            copied: BTreeMap::new(),
            install: None,
            stale_jobs: 0,
            offered: None,
            later: Later::default(),
            given: Some(applied),
            sealed: None,
            giving: None,
            cut: CutHere::default(),
            returning: None,
        }
    }

    /// Something happens to it: it is among the touched ones, once.
    pub fn touch(&mut self, touched: &mut Vec<ShardId>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(self.shard);
        }
    }

    /// Whether it orders the writes of its shard, as far as it knows.
    pub fn orders(&self) -> bool {
        !self.kind.is_merged() && self.serves(Class::Blind)
    }

    /// Whether it says what its table goes by, and what of it is over: who orders says it for all, and where nobody does and each has
    /// its own time, each for itself.
    pub fn rules(&self) -> bool {
        self.kind != Protocol::Quorum && self.serves(Class::Blind)
    }

    /// Whether it serves requests of a class that want what every replica trusts.
    pub fn serves(&self, class: Class) -> bool {
        self.protocol.route(class, Level::Linearizable) == Route::Here
    }

    /// When it wants to be told the time next; `None` = not of its own accord.
    pub fn wakes(&self) -> Option<Instant> {
        Some(self.protocol.due()).filter(|due| *due < Instant::MAX)
    }

    /// Who belongs to its shard, as far as it knows.
    pub fn view(&self) -> &View {
        self.protocol.view()
    }

    /// The version of now, under its own number. One behind the newest of its shard would be moved past it one by one.
    pub fn now(&self, node: &Node) -> Version {
        Version::new(node.clock.micros().max(self.last.micros()), self.made.number)
    }

    /// How it is, for other nodes.
    pub fn announced(&self) -> Announced {
        let (status, view) = (self.protocol.status(), self.view());
        let learns = &mut status.members.iter().filter(|member| member.duty == Duty::Learner);
        let learn = view.members.iter().filter(|member| matches!(member.duty, Duty::Learner | Duty::Joining));
        let heirs = self.giving.iter().flat_map(Giving::heirs);
        let copied = |node| Some((node, self.copied(node, &status)?));
        let following = self.giving.iter().flat_map(|giving| giving.following.iter().copied());
        Announced {
            shard: self.shard,
            epoch: view.epoch,
            revision: view.revision,
            members: digest(&view.members),
            newcomers: match status.wants_the_gone {
                true => Newcomers::Gone,
                false if learns.all(|member| member.ready) => Newcomers::Ready,
                false => Newcomers::Behind,
            },
            role: status.role,
            leader: status.leader,
            term: status.term.0,
            applied: status.applied.0,
            lease_reads: status.lease_reads,
            usage: self.standing.usage,
            copied: learn.map(|member| member.node).chain(heirs).filter_map(copied).collect(),
            heirs: following.chain(self.cut.ready).collect(),
        }
    }

    /// How far another replica is with what is sent to it: a snapshot, or without one the log.
    fn copied(&self, node: NodeId, status: &Status) -> Option<Copied> {
        let of_log = |member: &MemberStatus| {
            let (done, total) = member.log_bytes;
            Copied { done, total }
        };
        let member = status.members.iter().find(|member| member.node == node && !member.snapshot);
        self.copied.get(&node).copied().or(member.map(of_log))
    }

    /// The table is about to apply an entry.
    pub fn applies(&mut self, term: Term, data: &Bytes, entry: Applying) {
        let at = Position { index: entry.index, term };
        self.given = Some(at);
        if let Some(giving) = &mut self.giving {
            giving.push(at, data.clone());
        }
        let before = self.applying.back().map(|before| before.index);
        assert!(before.is_none_or(|before| entry.index > before), "entries are applied in order");
        assert!(
            self.install.as_ref().is_none_or(|install| !install.is_switching()),
            "nothing is applied until a switch of generations is durable"
        );
        self.applying.push_back(entry);
    }

    /// Whether the rows of a generation are current or coming in.
    pub fn uses(&self, generation: u32) -> bool {
        self.made.generation == generation
            || self.install.as_ref().is_some_and(|install| install.generation == generation)
    }

    /// How it was made, with the generation that the log names: the current one, or the one whose switch is on its way to the
    /// disk.
    pub fn made_logged(&self) -> Made {
        let taken = self.install.as_ref().filter(|install| install.stage != Stage::Coming);
        Made { generation: taken.map_or(self.made.generation, |install| install.generation), ..self.made }
    }
}
