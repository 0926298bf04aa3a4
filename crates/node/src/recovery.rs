//! From the log's records back to replicas.
//!
//! Order of a start: the log is read and each record handed to [`Recovery::replay`]; then every shard's generation is
//! loaded from the table, which tells what it has applied; then the replicas begin, and what was agreed on and not
//! applied comes out of them as [`crate::Job::Apply`] again. A table that has applied less than the log can bring it is
//! damaged: the only copy of a shard refuses to start, a replica of several does not vote until the others made it whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::codec::{Malformed, Reader, put_uint};
use kv::{Epoch, NodeId, Position, Protocol, ShardId};
use replication::{Replicate, Unfit, View, raft, single};
use storage::Applied;

use crate::Config;

/// Every shard serves in this epoch as long as none is handed over.
const FIRST_EPOCH: Epoch = Epoch(1);

/// A record of a shard's protocol.
pub const KIND_PROTOCOL: u8 = 1;
/// A shard's current generation.
pub const KIND_GENERATION: u8 = 2;

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
    /// A replica cannot begin from its log.
    #[error("shard {shard}: {why}")]
    Unfit {
        /// The shard.
        shard: ShardId,
        /// Why.
        why: Unfit,
    },
}

/// What the log told, shard by shard.
#[derive(Default)]
pub struct Recovery {
    shards: BTreeMap<ShardId, Found>,
}

#[derive(Default)]
struct Found {
    generation: u32,
    log: replication::Recovery,
}

impl Recovery {
    /// Takes the next record of the log.
    pub fn replay(&mut self, record: &wal::Record) -> Result<(), RecoveryError> {
        let shard = ShardId(record.stream);
        let found = self.shards.entry(shard).or_default();
        let taken = match record.kind {
            KIND_GENERATION => read_generation(&record.body).map(|generation| found.generation = generation),
            KIND_PROTOCOL => found.log.replay(&record.body),
            _ => Err(Malformed("a record has an unknown kind")),
        };
        taken.map_err(|why| RecoveryError::Malformed { shard, why })
    }

    /// The current generation of a shard.
    pub fn generation(&self, shard: ShardId) -> u32 {
        self.shards.get(&shard).map_or(0, |found| found.generation)
    }

    /// A shard's replica as it was, its table being at `applied`.
    pub(crate) fn replica(
        &mut self,
        config: &Config,
        shard: ShardId,
        applied: Applied,
    ) -> Result<Box<dyn Replicate>, RecoveryError> {
        let found = self.shards.remove(&shard).unwrap_or_default();
        let at = Position::new(applied.index, applied.term);
        let nodes: Vec<NodeId> = config.nodes.iter().map(|(id, _)| *id).collect();
        let view = View::of(FIRST_EPOCH, &nodes);
        let replica: Result<Box<dyn Replicate>, Unfit> = match config.protocol {
            Protocol::Single => single::Single::new(config.me, view, found.log, at).map(boxed),
            Protocol::Raft => {
                let seed = crate::session::mix(config.seed ^ u64::from(shard.0));
                let mut raft = raft::Config::new(config.me, view, seed);
                raft.cache_bytes = config.entry_cache_bytes / config.map.shards().len();
                raft.lost = config.rejoining;
                raft::Raft::new(raft, found.log, at).map(boxed)
            }
        };
        replica.map_err(|why| RecoveryError::Unfit { shard, why })
    }
}

fn boxed(replica: impl Replicate + 'static) -> Box<dyn Replicate> {
    Box::new(replica)
}

/// The record that makes a generation current.
pub(crate) fn generation_record(shard: ShardId, generation: u32) -> wal::Record {
    let mut body = bytes::BytesMut::new();
    put_uint(&mut body, u64::from(generation));
    wal::Record { stream: shard.0, kind: KIND_GENERATION, body: body.freeze() }
}

pub(crate) fn read_generation(body: &Bytes) -> Result<u32, Malformed> {
    let mut reader = Reader::new(body.clone());
    let generation = reader.u32()?;
    reader.end()?;
    Ok(generation)
}
