//! What only people can decide about the members of a keyspace's shards: `force` and `dead`.

use kv::admin::{Ruled, Ruling};
use kv::{Protocol, ShardId};

use crate::map::Map;
use crate::refusal::Refusal;

impl Map {
    /// The map after a ruling on a keyspace, and what became of each of its shards. Refused where it is needed for none of them.
    pub fn ruled(&self, keyspace: &str, ruling: &Ruling) -> Result<(Map, Vec<Ruled>), Refusal> {
        let mut next = self.clone();
        let ruled = match ruling {
            Ruling::ForcePrimary { node } => next.force(keyspace, node)?,
            Ruling::DeclareDead { node } => next.declare_dead(keyspace, node)?,
        };
        if !ruled.iter().any(|shard| shard.done) {
            let why = ruled.first().map_or("it has no shards", |shard| shard.why.as_str());
            return Err(Refusal::NotNeeded { keyspace: keyspace.into(), why: why.into() });
        }
        if next != *self {
            next.revision += 1;
        }
        Ok((next, ruled))
    }

    /// The shards of a keyspace, if any of them is under the protocol that a ruling is for.
    pub(crate) fn shards_under(
        &self,
        keyspace: &str,
        protocol: Protocol,
        refusal: impl Fn(String, Protocol) -> Refusal,
    ) -> Result<Vec<ShardId>, Refusal> {
        let known = self.keyspaces.get(keyspace).filter(|known| known.is_for_clients());
        let is = known.ok_or_else(|| Refusal::UnknownKeyspace(keyspace.into()))?.protocol;
        let shards = self.shards_of(keyspace);
        if !shards.iter().any(|(_, shard)| shard.protocol == protocol) {
            return Err(refusal(keyspace.into(), is));
        }
        Ok(shards.into_iter().map(|(id, _)| id).collect())
    }
}
