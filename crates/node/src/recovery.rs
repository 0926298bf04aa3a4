//! From the log's records back to replicas.
//!
//! Order of a start: the log is read and each record handed to [`Recovery::replay`]; then every replica's generation is
//! loaded from the table, which tells what it has applied; then the replicas begin, and what was agreed on and not
//! applied comes out of them as [`crate::Job::Apply`] again. A table that has applied less than the log can bring it is
//! damaged: the only copy of a shard refuses to start, a replica of several does not vote until the others made it whole.
//!
//! The log alone says which replicas there are, for the map that it holds may be older than they are. It says
//! - of each replica how it was made ([`record::Made`]), before anything else;
//! - of one that was dropped, that it is gone ([`record::Gone`]): what was written of it before counts no more, and of its rows
//!   some may be left, of no use;
//! - which map was the newest.
//!
//! A replica of which the log says nothing begins with nothing when the map names this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv::codec::Malformed;
use kv::{NodeId, Position, Protocol, ShardId};
use placement::map::Map;
use placement::rows::Unreadable;
use replication::{Replicate, Unfit, View, broadcast, primary, quorum, raft, single, two_phase};
use storage::{Applied, Layout};

use crate::Config;
use crate::job::layout_of;
use crate::record::{
    self, Gone, KIND_GONE, KIND_LATELY, KIND_MADE, KIND_MAP, KIND_PROTOCOL, Made, STREAM_NODE,
};
use crate::seat::Seat;
use crate::watch::Lately;

/// Why a node cannot start from what is on its disk.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A record that passed its checksum has no meaning: another version of the program wrote it.
    #[error(
        "a log record of shard {shard} cannot be understood ({why}): it was written by another version of capstan; start that one"
    )]
    Malformed {
        /// Its shard.
        shard: ShardId,
        /// What is wrong.
        why: Malformed,
    },
    /// A map that passed its checksum has no meaning.
    #[error(
        "the map in the log cannot be understood ({0}): it was written by another version of capstan; start that one"
    )]
    Map(#[from] Unreadable),
    /// A replica cannot begin from its log.
    #[error("shard {shard}: {why}")]
    Unfit {
        /// The shard.
        shard: ShardId,
        /// Why.
        why: Unfit,
    },
}

/// What the log told.
#[derive(Default)]
pub struct Recovery {
    shards: BTreeMap<ShardId, Found>,
    map: Option<Map>,
    map_revision: u64,
}

/// What it told of a shard.
#[derive(Default)]
struct Found {
    made: Option<Made>,
    log: replication::Recovery,
    gone: Option<Gone>,
    lately: Option<Lately>,
}

impl Found {
    /// Whether there is a replica. One of which nothing is known but that it was made has promised nothing: the map says whether
    /// it is made once more.
    fn is_replica(&self) -> bool {
        self.log.written_by().is_some()
    }

    /// The generation of its rows.
    fn generation(&self) -> u32 {
        let next = || self.gone.map_or(0, |gone| gone.next_generation());
        self.made.map_or_else(next, |made| made.generation)
    }

    fn replay(&mut self, record: &wal::Record) -> Result<(), Malformed> {
        match record.kind {
            KIND_MADE => self.make_replica(record::read_made(&record.body)?),
            KIND_PROTOCOL => self.log.replay(&record.body)?,
            KIND_GONE => self.drop_replica(record::read_gone(&record.body)?),
            KIND_LATELY => self.take_lately(record::read_lately(&record.body)?),
            _ => return Err(Malformed("a record has an unknown kind")),
        }
        Ok(())
    }

    fn take_lately(&mut self, next: Lately) {
        match &mut self.lately {
            Some(lately) => lately.extend(next),
            None => self.lately = Some(next),
        }
    }

    /// One that begins where an earlier one had been: of that, nothing is left.
    fn make_replica(&mut self, made: Made) {
        self.gone.take_if(|gone| made.generation < gone.next_generation());
        self.made = Some(made);
    }

    /// A checkpoint writes it again until nothing is left, when another replica may have been made since.
    fn drop_replica(&mut self, gone: Gone) {
        if self.made.is_none_or(|made| made.generation < gone.next_generation()) {
            (self.made, self.log) = (None, replication::Recovery::default());
        }
        self.gone = Some(gone);
    }
}

impl Recovery {
    /// Takes the next record of the log.
    pub fn replay(&mut self, record: &wal::Record) -> Result<(), RecoveryError> {
        let shard = ShardId(record.stream);
        if record.stream == STREAM_NODE && record.kind == KIND_MAP {
            self.replay_map(Map::decode(&record.body)?);
            return Ok(());
        }
        let taken = self.shards.entry(shard).or_default().replay(record);
        taken.map_err(|why| RecoveryError::Malformed { shard, why })
    }

    fn replay_map(&mut self, map: Map) {
        if self.map_revision <= map.revision {
            self.map_revision = map.revision;
            self.map = Some(map);
        }
    }

    /// The map to start with: the newest in the log; `founding` where it has none.
    pub fn map(&mut self, founding: Map) -> Arc<Map> {
        Arc::new(self.take_map().unwrap_or(founding))
    }

    /// The newest map in the log, once; `None` = it has none.
    pub fn take_map(&mut self) -> Option<Map> {
        self.map.take()
    }

    /// Each replica of a node that starts with a map, the generation of its rows, and how they lie if it is empty.
    pub fn replicas(&self, me: NodeId, map: &Map) -> BTreeMap<ShardId, (u32, Layout)> {
        let logged = self.shards.iter().filter(|(_, found)| found.is_replica()).map(|(shard, _)| *shard);
        let is_wanted = |shard: &ShardId| {
            let gone = self.shards.get(shard).and_then(|found| found.gone);
            let seat = Seat::of(map, *shard, me);
            gone.is_none_or(|gone| gone.revision <= map.revision)
                && seat.is_some_and(|seat| seat.begins_empty())
        };
        let wanted = map.shards.keys().copied().filter(is_wanted);
        let all: BTreeSet<ShardId> = logged.chain(wanted).collect();
        let rows = |shard: ShardId| {
            let found = self.shards.get(&shard);
            let logged = found.and_then(|found| found.log.written_by()).map(|(protocol, _)| protocol);
            let protocol = logged.or_else(|| map.shards.get(&shard).map(|row| row.protocol));
            (found.map_or(0, Found::generation), protocol.map_or(Layout::Ordered, layout_of))
        };
        all.into_iter().map(|shard| (shard, rows(shard))).collect()
    }

    /// Whether the log says anything of a shard.
    pub fn knows(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }

    /// What a shard had changed before the last stop, once.
    pub(crate) fn lately(&mut self, shard: ShardId) -> Option<Lately> {
        self.shards.get_mut(&shard)?.lately.take()
    }

    /// The replicas that were dropped, and of which rows may be left.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (ShardId, Gone)> + '_ {
        self.shards.iter().filter_map(|(shard, found)| Some((*shard, found.gone?)))
    }

    /// The revision of the newest map in the log; 0 = it has none.
    pub(crate) fn map_revision(&self) -> u64 {
        self.map_revision
    }

    /// A replica as it was, its table being at `applied`; or as the map wants it, with nothing. True: it is a new one.
    pub(crate) fn replica(
        &mut self,
        config: &Config,
        shard: ShardId,
        applied: Applied,
    ) -> Result<(Begun, bool), RecoveryError> {
        let found = self.shards.remove(&shard).unwrap_or_default();
        let (generation, seat) = (found.generation(), Seat::of(&config.map, shard, config.me));
        let Some((protocol, _)) = found.log.written_by() else {
            let seat = seat.expect("a replica that is not in the log is in the map");
            return Begun::make(config, shard, &seat, generation).map(|begun| (begun, true));
        };
        let at = Position::new(applied.index, applied.term);
        let logged = found.log.view().cloned().or(seat.map(|seat| seat.view));
        let why = Malformed("nothing says who the members are");
        let view = logged.ok_or(RecoveryError::Malformed { shard, why })?;
        let number = view.member(config.me).map(|member| member.replica).unwrap_or_default();
        let made = found.made.unwrap_or(Made { number, revision: 0, generation: 0 });
        let replica = begin(config, shard, protocol, view, found.log, at)?;
        Ok((Begun { protocol, made, replica }, false))
    }
}

/// A replica that begins.
pub(crate) struct Begun {
    pub protocol: Protocol,
    pub made: Made,
    pub replica: Box<dyn Replicate>,
}

impl Begun {
    /// One that has nothing yet, as the map wants it.
    pub fn make(
        config: &Config,
        shard: ShardId,
        seat: &Seat,
        generation: u32,
    ) -> Result<Begun, RecoveryError> {
        assert!(seat.begins_empty(), "shard {shard} has a state, and its replica is to begin with it");
        let Seat { protocol, view, number, revision, .. } = seat.clone();
        let log = replication::Recovery::default();
        let replica = begin(config, shard, protocol, view, log, Position::ZERO)?;
        Ok(Begun { protocol, made: Made { number, revision, generation }, replica })
    }

    /// One to which its shard was handed over, as the log has it: its rows are the state as of `at`.
    pub fn inherit(
        config: &Config,
        shard: ShardId,
        seat: &Seat,
        made: Made,
        at: Position,
    ) -> Result<Begun, RecoveryError> {
        let (protocol, view) = (seat.protocol, seat.view.clone());
        let mut log = replication::Recovery::default();
        let taken = log.replay(&replication::inherited(protocol, view.clone(), at));
        taken.map_err(|why| RecoveryError::Malformed { shard, why })?;
        let replica = begin(config, shard, protocol, view, log, at)?;
        Ok(Begun { protocol, made, replica })
    }
}

fn begin(
    config: &Config,
    shard: ShardId,
    protocol: Protocol,
    view: View,
    log: replication::Recovery,
    at: Position,
) -> Result<Box<dyn Replicate>, RecoveryError> {
    let replica: Result<Box<dyn Replicate>, Unfit> = match protocol {
        Protocol::Single => single::Single::new(config.me, view, log, at).map(boxed),
        Protocol::TwoPhase => two_phase::TwoPhase::new(config.me, view, log, at).map(boxed),
        Protocol::Raft => {
            let seed = crate::session::mix(config.seed ^ u64::from(shard.0));
            let mut raft = raft::Config::new(config.me, view, seed);
            raft.cache_bytes = config.entry_cache_bytes / config.replicas();
            raft::Raft::new(raft, log, at).map(boxed)
        }
        Protocol::Broadcast => {
            let seed = crate::session::mix(config.seed ^ u64::from(shard.0));
            let broadcast = broadcast::Config { id: config.me, view, seed };
            broadcast::Broadcast::new(broadcast, log, at).map(boxed)
        }
        Protocol::Quorum => {
            let seed = crate::session::mix(config.seed ^ u64::from(shard.0));
            let total = view.members.iter().map(|member| member.weight).sum();
            let votes = config.map.votes_of(shard, total);
            quorum::Quorum::new(quorum::Config { id: config.me, view, votes, seed }, log, at).map(boxed)
        }
        Protocol::Primary => {
            let seed = crate::session::mix(config.seed ^ u64::from(shard.0));
            let mut primary = primary::Config::new(config.me, view, seed);
            primary.cache_bytes = config.entry_cache_bytes / config.replicas();
            primary.sync = config.map.sync_of(shard);
            primary::Primary::new(primary, log, at).map(boxed)
        }
    };
    replica.map_err(|why| RecoveryError::Unfit { shard, why })
}

fn boxed(replica: impl Replicate + 'static) -> Box<dyn Replicate> {
    Box::new(replica)
}
