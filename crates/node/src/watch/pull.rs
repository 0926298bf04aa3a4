//! What a watcher asks a shard, and what it is answered.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use kv::codec::{self, Malformed, Reader};
use kv::watch::{Change, Filter};
use kv::{Error, ShardId, Version};

/// What comes next of a shard?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The shard.
    pub shard: ShardId,
    /// The keys.
    pub filter: Filter,
    /// Changes after this version; `None` = where it is now, and no changes.
    pub after: Option<Version>,
    /// How long to wait for a change, in microseconds. 0 = it is answered at once.
    pub wait_micros: u64,
}

/// What a pull is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// All changes of such keys up to a version.
    Given(Given),
    /// Nobody keeps what comes right after the version.
    Trimmed {
        /// The first version that could be begun at.
        oldest: Version,
        /// Everybody was asked who may keep more. Else somebody is away, and may come back.
        is_sure: bool,
    },
    /// The shard is none of the map's any more, and nobody has anything of it that comes after the version.
    Gone,
    /// No replica could be asked.
    Failed(Error),
}

/// Changes in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Those of the keys that were asked for. Whoever asked the same shares them.
    pub changes: Arc<[Change]>,
    /// All up to here. Never before the version that was asked after.
    pub through: Version,
}

impl Given {
    /// No changes up to a version.
    pub fn nothing(through: Version) -> Given {
        Given { changes: Arc::new([]), through }
    }
}

impl Pull {
    /// Its shard comes first: frames are dealt by it.
    pub(crate) fn encode(&self, into: &mut BytesMut) {
        codec::put_uint(into, u64::from(self.shard.0));
        codec::encode_filter(into, &self.filter);
        codec::put_option(into, self.after, codec::put_version);
        codec::put_uint(into, self.wait_micros);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Pull, Malformed> {
        Ok(Pull {
            shard: ShardId(reader.u32()?),
            filter: codec::decode_filter(reader)?,
            after: reader.option(Reader::version)?,
            wait_micros: reader.uint()?,
        })
    }
}

impl Pulled {
    pub(crate) fn encode(&self, into: &mut BytesMut) {
        match self {
            Pulled::Given(Given { changes, through }) => {
                into.put_u8(1);
                codec::put_list(into, changes, codec::encode_change);
                codec::put_version(into, *through);
            }
            Pulled::Trimmed { oldest, is_sure } => {
                into.put_u8(2);
                codec::put_version(into, *oldest);
                into.put_u8(u8::from(*is_sure));
            }
            Pulled::Gone => into.put_u8(3),
            Pulled::Failed(error) => {
                into.put_u8(4);
                codec::encode_result(into, &Err::<(), _>(error.clone()), |_, _| {});
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Pulled, Malformed> {
        Ok(match reader.u8()? {
            1 => {
                let changes = reader.list(codec::decode_change)?.into();
                Pulled::Given(Given { changes, through: reader.version()? })
            }
            2 => Pulled::Trimmed { oldest: reader.version()?, is_sure: reader.bool()? },
            3 => Pulled::Gone,
            4 => match codec::decode_result(reader, |_| Ok(()))? {
                Err(error) => Pulled::Failed(error),
                Ok(()) => return Err(Malformed("a pull failed without an error")),
            },
            _ => return Err(Malformed("the answer to a pull has an unknown tag")),
        })
    }
}
