//! From the log's records back to replicas.
//!
//! Order of a start: the log is read and each record handed to [`Recovery::replay`]; then every shard's generation is
//! loaded from the table, which tells what it has applied; then the replicas begin, and what was agreed on and not
//! applied comes out of them as [`crate::Job::Apply`] again. A table that has applied less than the log can bring it is
//! damaged: the only copy of a shard refuses to start, a replica of several does not vote until the others made it whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::codec::{Malformed, Reader, put_uint};
use kv::{Protocol, ShardId};
use replication::{Protocol as Replica, raft, single};
use storage::Applied;

use crate::Config;

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
    /// The log begins behind the end of the table.
    #[error("shard {shard}: {why}")]
    Behind {
        /// The shard.
        shard: ShardId,
        /// Which part is missing.
        why: String,
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
    log: raft::Recovery,
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
    ) -> Result<Box<dyn Replica>, RecoveryError> {
        let found = self.shards.remove(&shard).unwrap_or_default();
        let at = (applied.index, applied.term);
        Ok(match config.protocol {
            Protocol::Single => {
                let behind = |lost: single::Lost| RecoveryError::Behind { shard, why: lost.to_string() };
                Box::new(single::Single::new(config.me, found.log, at).map_err(behind)?)
            }
            Protocol::Raft => {
                let members = config.nodes.iter().map(|(id, _)| *id).collect();
                let seed = crate::session::mix(config.seed ^ u64::from(shard.0));
                let mut raft = raft::Config::new(config.me, members, seed);
                raft.cache_bytes = config.entry_cache_bytes / config.map.shards().len();
                Box::new(raft::Raft::new(raft, found.log, at))
            }
        })
    }
}

/// The record that makes a generation current.
pub(crate) fn generation_record(shard: ShardId, generation: u32) -> wal::Record {
    let mut body = bytes::BytesMut::new();
    put_uint(&mut body, u64::from(generation));
    wal::Record { stream: shard.0, kind: KIND_GENERATION, body: body.freeze() }
}

fn read_generation(body: &Bytes) -> Result<u32, Malformed> {
    let mut reader = Reader::new(body.clone());
    let generation = reader.u32()?;
    reader.end()?;
    Ok(generation)
}
