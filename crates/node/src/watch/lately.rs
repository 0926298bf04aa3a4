//! What is kept of a feed over a restart, or for the parts of a shard that is cut.
//!
//! A feed is in memory, and a start has what the log brings after the last flush of the table. A stop flushes all, so it writes what
//! its feeds had lately behind its checkpoint ([`Lately`]). All that it says stays true of the shard, whatever becomes of the
//! replica; of use is it where the table of the start is within.

use bytes::BytesMut;
use kv::codec::{self, Malformed, Reader};
use kv::watch::Change;
use kv::{Slot, SlotRange, Version};

/// All changes of a shard above one version and up to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lately {
    pub(crate) floor: Version,
    pub(crate) through: Version,
    pub(crate) changes: Vec<Change>,
}

impl Lately {
    /// What of it is of some slots.
    pub(crate) fn within(&self, slots: SlotRange) -> Lately {
        let Lately { floor, through, ref changes } = *self;
        let own = changes.iter().filter(|change| slots.contains(Slot::of(&change.key)));
        Lately { floor, through, changes: own.cloned().collect() }
    }

    /// The next piece: it goes on where this ends, or takes its place.
    pub(crate) fn extend(&mut self, next: Lately) {
        match next.floor == self.through {
            true => {
                self.through = next.through;
                self.changes.extend(next.changes);
            }
            false => *self = next,
        }
    }

    /// As bytes.
    pub(crate) fn encode(&self, into: &mut BytesMut) {
        codec::put_version(into, self.floor);
        codec::put_version(into, self.through);
        codec::put_list(into, &self.changes, codec::encode_change);
    }

    /// From bytes. The changes are in order, between the two versions.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Lately, Malformed> {
        let (floor, through) = (reader.version()?, reader.version()?);
        let changes = reader.list(codec::decode_change)?;
        let is_within = |change: &Change| floor < change.version && change.version <= through;
        let is_sound = floor <= through
            && changes.iter().all(is_within)
            && changes.is_sorted_by_key(|change| change.version);
        match is_sound {
            true => Ok(Lately { floor, through, changes }),
            false => Err(Malformed("the changes of a shard are not between their versions")),
        }
    }
}
