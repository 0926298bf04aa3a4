//! What a node is told on its command line.

use std::path::PathBuf;

use kv::Protocol;
use kv::cluster::Terms;
use kv::keyspace::{Bus, Weighed};
use placement::Limits;
use storage::{History, Kind};

use crate::{Listen, address};

/// The settings of one node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name, as in `peers`.
    pub name: String,
    /// Its data folder; made when it is not there. `None` = nothing is ever written to the disk, and all that it stores ends
    /// with the process: of a cluster of one with engine `memory` only.
    pub data: Option<PathBuf>,
    /// Where clients connect. The first is the one that clients of the cluster are told of, and `--listen` on a command line.
    pub listen: Vec<Listen>,
    /// Name and HOST:PORT of the peer port of each node that founds the cluster, this one included. Empty and nobody to join = a
    /// cluster of one.
    pub peers: Vec<(String, String)>,
    /// HOST:PORT of the client ports of nodes of a cluster that a new node is to be one of; not with `peers`. A node that is one of
    /// a cluster has no use for them.
    pub join: Vec<String>,
    /// Where other nodes are told to connect: HOST:PORT. `None` = as `peers` has it, else as `listen_peer`, else as the map.
    pub advertise_peer: Option<String>,
    /// Where it listens for other nodes: HOST:PORT. `None` = where they are told to connect.
    pub listen_peer: Option<String>,
    /// What fails together with this node, as a rack or a data center. `None` = as before; at first nothing.
    pub zone: Option<String>,
    /// Where the rows are.
    pub engine: Kind,
    /// How many revisions of a key are kept. Fixed when the cluster is founded; `None` = as it was, or as usual.
    pub history: Option<History>,
    /// How long those of a deleted key are kept, in microseconds; `u64::MAX` = for ever. Fixed when the cluster is founded;
    /// `None` = as it was, or as usual.
    pub deleted_micros: Option<u64>,
    /// How many shards the keyspace has. Fixed when the cluster is founded; `None` = as it was, or as usual.
    pub shards: Option<u32>,
    /// On how many nodes each shard is, where there are so many: 1 to [`Config::REPLICAS_MAX`]. Fixed when the cluster is
    /// founded; `None` = as it was, or as usual.
    pub replicas: Option<u16>,
    /// How the shards of the keyspace agree. Fixed when the cluster is founded, by all nodes alike; `None` = as usual.
    pub protocol: Option<Protocol>,
    /// What the nodes weigh, in the order of their names, and what reads and writes need of it: of a cluster of as many nodes whose protocol
    /// is [`Protocol::Quorum`], each with a copy. Fixed when it is founded, by all nodes alike; `None` = all the same, and a majority.
    pub weighed: Option<Weighed>,
    /// Cores that serve connections, and that the shards are dealt out to as far as there are shards; `None` = one a processor.
    pub cores: Option<usize>,
    /// Bytes of log entries kept in memory for followers that lag; one further behind gets a snapshot.
    pub entry_cache_bytes: usize,
    /// The table is flushed and old segments of the log go when the log has grown by so many bytes: it bounds what a start
    /// must replay, and what the log takes of the disk. At least [`Config::CHECKPOINT_BYTES_MIN`].
    pub checkpoint_bytes: u64,
    /// How replicas go from node to node.
    pub moves: Moves,
    /// Whether it takes faults ([`kv::fault`]).
    pub lab: bool,
    /// Whether it founds a cluster that is laid out by zones: the directory is on this node alone, and its shards are on it only while
    /// no node that names a zone is there ([`Map::founding_by_zones`](placement::map::Map::founding_by_zones)). Of a cluster of one.
    pub by_zones: bool,
    /// Whether the process ends once it has left its cluster ([`crate::Failure::Left`]), and does not go on to tell its clients so.
    pub ends_when_left: bool,
    /// What carries the writes of the keyspace that a cluster begins with, where that is under `broadcast`.
    pub bus: Bus,
    /// What it writes to standard error.
    pub stderr: Stderr,
}

/// How replicas go from node to node. Who leads the directory decides when and how many: nodes are to be started alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moves {
    /// A node that has been dead for so long is gone, and its replicas are made again elsewhere. At least
    /// [`Moves::GRACE_MICROS_MIN`].
    pub grace_micros: u64,
    /// So many shards change their members at once; 1 or more.
    pub max: usize,
    /// So many bytes a second a node sends to make replicas elsewhere: 0 = as fast as it goes, else at least
    /// [`Moves::BYTES_PER_SECOND_MIN`].
    pub bytes_per_second: u64,
}

impl Moves {
    /// A node is dead only after some seconds of silence, and one that restarts must not lose its replicas.
    pub const GRACE_MICROS_MIN: u64 = 1_000_000;
    /// With less, a piece of a snapshot would take seconds, and a shard for ever.
    pub const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

    fn validate(&self) -> Result<(), String> {
        if self.grace_micros < Moves::GRACE_MICROS_MIN {
            return Err("--grace: a node that restarts is away for a moment: give it 1s or more".into());
        }
        if self.max == 0 {
            return Err("--moves-max 0: a shard could never move; give 1 or more".into());
        }
        match self.bytes_per_second {
            0 | Moves::BYTES_PER_SECOND_MIN.. => Ok(()),
            few => Err(format!(
                "--move-rate {few}: it takes 64K a second or more to be done one day; 0 is no limit"
            )),
        }
    }
}

impl Default for Moves {
    /// Ten minutes for a node to come back, and a part of what a disk or a network takes, so that clients have the rest.
    fn default() -> Moves {
        Moves { grace_micros: node::GRACE_MICROS, max: Limits::default().changes, bytes_per_second: 64 << 20 }
    }
}

/// What a node writes to standard error. CAPSTAN_JOURNAL says how much that is of the journal, where any goes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stderr {
    /// Nothing.
    Nothing,
    /// The journal.
    Journal,
    /// This line when it serves, and the journal's warnings and errors.
    Line(String),
}

impl Config {
    /// Entries that lagging followers may still need: a few seconds of a busy node.
    pub const ENTRY_CACHE_BYTES: usize = 64 << 20;
    /// How much the log grows before a checkpoint when nothing else is said: a start reads it within a second or two.
    pub const CHECKPOINT_BYTES: u64 = node::log::CHECKPOINT_BYTES;
    /// Less is not worth a checkpoint: each writes something of every shard to the log.
    pub const CHECKPOINT_BYTES_MIN: u64 = 1 << 20;
    /// Shards of a keyspace when nothing else is said.
    pub const SHARDS: u32 = 4;
    /// Replicas of a shard when nothing else is said: the fewest of which one may be lost.
    pub const REPLICAS: u16 = 3;
    /// Each write goes to all of them; whoever is safe from the loss of seven at once has other worries.
    pub const REPLICAS_MAX: u16 = kv::keyspace::REPLICAS_MAX;
    /// Revisions of a key when nothing else is said.
    pub const HISTORY: u32 = 16;
    /// How long those of a deleted key are kept when nothing else is said: long enough to notice a mistake.
    pub const DELETED_MICROS: u64 = 5 * 60 * 1_000_000;

    /// What the cluster is founded with, if this node founds it.
    pub(crate) fn terms(&self) -> Terms {
        let history = self.history.unwrap_or(History::Count(Config::HISTORY));
        Terms {
            shards: self.shards.unwrap_or(Config::SHARDS),
            replicas: self.replicas.unwrap_or(Config::REPLICAS),
            history: counted(history),
            deleted_micros: self.deleted_micros.unwrap_or(Config::DELETED_MICROS),
        }
    }

    /// The first option that says something else than what was fixed: its name, what is fixed, and what it says.
    pub(crate) fn contradicts(&self, fixed: &Terms) -> Option<(&'static str, String, String)> {
        let history = |count: Option<u32>| count.map_or("all".into(), |count| count.to_string());
        let deleted = |micros: u64| if micros == u64::MAX { "all".into() } else { format!("{micros}us") };
        let said = [
            ("--shards", fixed.shards.to_string(), self.shards.map(|shards| shards.to_string())),
            ("--replicas", fixed.replicas.to_string(), self.replicas.map(|replicas| replicas.to_string())),
            ("--history", history(fixed.history), self.history.map(|said| history(counted(said)))),
            ("--deleted-history", deleted(fixed.deleted_micros), self.deleted_micros.map(deleted)),
        ];
        let other = |(option, fixed, said): (_, String, Option<String>)| {
            said.filter(|said| *said != fixed).map(|said| (option, fixed, said))
        };
        said.into_iter().find_map(other)
    }

    /// Where other nodes are told to connect, if the settings say so.
    pub(crate) fn peer(&self) -> Option<&String> {
        let listed = self.peers.iter().find(|(name, _)| *name == self.name).map(|(_, address)| address);
        self.advertise_peer.as_ref().or(listed).or(self.listen_peer.as_ref())
    }

    /// Checks what can be checked before anything is touched.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.contains(['=', ',', '/']) {
            return Err(format!("'{}' is no name for a node: letters and digits will do", self.name));
        }
        if let Some(shards) = self.shards.filter(|shards| !(1..=1024).contains(shards)) {
            return Err(format!("--shards {shards}: a keyspace has 1 to 1024 shards"));
        }
        self.validate_terms()?;
        if self.checkpoint_bytes < Config::CHECKPOINT_BYTES_MIN {
            return Err(format!(
                "--checkpoint-log {}: a checkpoint writes to the log itself, so it takes 1M or more to be worth one",
                self.checkpoint_bytes
            ));
        }
        let mut names: Vec<&str> = self.peers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("--peers names {} twice", twice[0]));
        }
        if !self.peers.is_empty() && !names.contains(&self.name.as_str()) {
            return Err(format!(
                "--peers does not name this node, {}: list all nodes, this one too",
                self.name
            ));
        }
        if self.peers.len() > 1023 {
            return Err(format!("--peers lists {} nodes: a cluster has at most 1023", self.peers.len()));
        }
        self.validate_join()?;
        self.validate_weights()?;
        self.moves.validate()?;
        self.validate_volatile()?;
        self.validate_addresses()
    }

    /// What a node needs that is to join a cluster.
    fn validate_join(&self) -> Result<(), String> {
        match self.join.is_empty() || self.peers.is_empty() {
            true => Ok(()),
            false => Err("--join and --peers: --peers lists the nodes that found a new cluster together, and --join names nodes of \
                          a cluster that is there; leave one of them out"
                .into()),
        }
    }

    /// Whoever weighs something is one of the first nodes, and has a copy.
    fn validate_weights(&self) -> Result<(), String> {
        let Some(Weighed { weights, votes }) = self.weighed else { return Ok(()) };
        if self.protocol != Some(Protocol::Quorum) {
            return Err("weights are for a cluster that is founded with a keyspace under quorum".into());
        }
        let count = usize::from(weights.count());
        if count != self.peers.len() || self.replicas != Some(weights.count()) {
            return Err(format!("there are {count} weights: each of the first nodes has one, and a copy"));
        }
        votes.check(&weights.each())
    }

    /// A cluster that begins with one node grows into what it wants; one of several begins with it.
    fn validate_terms(&self) -> Result<(), String> {
        if matches!(self.history, Some(History::Micros(_))) {
            return Err("--history: a cluster is founded with a count of revisions, or all".into());
        }
        let Some(replicas) = self.replicas else { return Ok(()) };
        if !(1..=Config::REPLICAS_MAX).contains(&replicas) {
            return Err(format!("--replicas {replicas}: a shard has 1 to {} replicas", Config::REPLICAS_MAX));
        }
        if self.peers.len() > 1 && usize::from(replicas) > self.peers.len() {
            return Err(format!(
                "--replicas {replicas}: each is on a node of its own, and --peers lists {} nodes: list more, or ask for fewer",
                self.peers.len()
            ));
        }
        Ok(())
    }

    /// What cannot be without a data folder.
    fn validate_volatile(&self) -> Result<(), String> {
        if self.data.is_some() {
            return Ok(());
        }
        if !self.join.is_empty() {
            return Err("--join: a node without a data folder would forget what it had promised to the others; give it one with \
                        --data"
                .into());
        }
        if self.peers.len() > 1 {
            return Err(format!(
                "--peers lists {} nodes, and this one has no data folder: after a start it would have forgotten what it had \
                 promised to the others; give it one with --data, or let it be alone",
                self.peers.len()
            ));
        }
        if self.peer().is_some() {
            return Err("a node without a data folder is alone for ever, and nodes do not connect to it: leave --peers, \
                        --listen-peer and --advertise-peer out, or give it a data folder with --data"
                .into());
        }
        if self.engine != Kind::Memory {
            return Err(format!(
                "--engine {}: it needs a data folder; give one with --data, or take --engine memory",
                self.engine.name()
            ));
        }
        Ok(())
    }

    /// Others must be able to connect to what they are told.
    fn validate_addresses(&self) -> Result<(), String> {
        if self.listen.is_empty() {
            return Err("a node listens somewhere: give --listen HOST:PORT".into());
        }
        for (index, listen) in self.listen.iter().enumerate() {
            listen.validate(if index == 0 { "--listen" } else { "the listener" })?;
        }
        // The names of other nodes may not be known yet, and are looked up whenever this node connects.
        let is_checked =
            |(name, address): &&(String, String)| *name == self.name || address::is_numeric(address);
        self.peers.iter().filter(is_checked).try_for_each(|(name, address)| {
            address::reachable(address).map_err(|why| format!("--peers {name}={address}: {why}"))
        })?;
        let Some(peer) = self.peer() else { return Ok(()) };
        address::reachable(peer).map_err(|why| match &self.advertise_peer {
            Some(_) => format!("--advertise-peer {peer}: {why}"),
            None => format!("--listen-peer {peer}: {why}, by --advertise-peer HOST:PORT"),
        })
    }
}

/// As the terms of a cluster have it.
fn counted(history: History) -> Option<u32> {
    match history {
        History::All => None,
        History::Count(count) => Some(count),
        History::Micros(_) => unreachable!("only a keyspace that is altered has a history of a time"),
    }
}
