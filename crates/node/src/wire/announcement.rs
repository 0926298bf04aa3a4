//! What a node tells of itself, as bytes.

use bytes::{BufMut, BytesMut};
use kv::cluster::Role;
use kv::codec::{self, Malformed, Reader};
use kv::{Epoch, NodeId, ShardId};
use replication::Revision;

use super::{Announced, Announcement, Copied, Newcomers};

impl Announcement {
    pub(super) fn encode(&self, into: &mut BytesMut) {
        codec::put_uint(into, self.clock);
        into.put_u8(u8::from(self.clock_settled));
        codec::put_uint(into, u64::from(self.pid));
        codec::put_bytes(into, self.address.as_bytes());
        codec::put_bytes(into, self.peer.as_bytes());
        codec::put_bytes(into, self.zone.as_bytes());
        into.put_u64(self.incarnation);
        into.put_u8(u8::from(self.disk_full));
        into.put_u8(u8::from(self.stopping));
        codec::put_uint(into, self.map);
        codec::put_uint(into, self.kept);
        codec::put_list(into, &self.replicas, |into, replica| {
            codec::put_uint(into, u64::from(replica.shard.0));
            codec::put_uint(into, replica.epoch.0);
            codec::put_uint(into, replica.revision.0);
            into.put_u64(replica.members);
            into.put_u8(match replica.newcomers {
                Newcomers::Behind => 0,
                Newcomers::Ready => 1,
                Newcomers::Gone => 2,
            });
            into.put_u8(match replica.role {
                Role::Unknown => 0,
                Role::Follower => 1,
                Role::Candidate => 2,
                Role::Leader => 3,
                Role::Member => 4,
            });
            codec::put_uint(into, replica.leader.map_or(0, |leader| leader.0));
            codec::put_uint(into, replica.term);
            codec::put_uint(into, replica.applied);
            codec::put_uint(into, replica.lease_reads);
            codec::encode_usage(into, replica.usage);
            codec::put_list(into, &replica.copied, |into, (node, copied)| {
                codec::put_uint(into, node.0);
                codec::put_uint(into, copied.done);
                codec::put_uint(into, copied.total);
            });
            codec::put_list(into, &replica.heirs, |into, heir| codec::put_uint(into, heir.0));
        });
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Announcement, Malformed> {
        Ok(Announcement {
            clock: reader.uint()?,
            clock_settled: reader.bool()?,
            pid: reader.u32()?,
            address: reader.text()?,
            peer: reader.text()?,
            zone: reader.text()?,
            incarnation: reader.u64()?,
            disk_full: reader.bool()?,
            stopping: reader.bool()?,
            map: reader.uint()?,
            kept: reader.uint()?,
            replicas: reader.list(|reader| {
                Ok(Announced {
                    shard: ShardId(reader.u32()?),
                    epoch: Epoch(reader.uint()?),
                    revision: Revision(reader.uint()?),
                    members: reader.u64()?,
                    newcomers: match reader.u8()? {
                        0 => Newcomers::Behind,
                        1 => Newcomers::Ready,
                        2 => Newcomers::Gone,
                        _ => return Err(Malformed("newcomers have an unknown tag")),
                    },
                    role: match reader.u8()? {
                        0 => Role::Unknown,
                        1 => Role::Follower,
                        2 => Role::Candidate,
                        3 => Role::Leader,
                        4 => Role::Member,
                        _ => return Err(Malformed("a role has an unknown tag")),
                    },
                    leader: Some(NodeId(reader.uint()?)).filter(|leader| leader.0 != 0),
                    term: reader.uint()?,
                    applied: reader.uint()?,
                    lease_reads: reader.uint()?,
                    usage: codec::decode_usage(reader)?,
                    copied: reader.list(|reader| {
                        let (node, done, total) = (NodeId(reader.uint()?), reader.uint()?, reader.uint()?);
                        Ok((node, Copied { done, total }))
                    })?,
                    heirs: reader.list(|reader| Ok(NodeId(reader.uint()?)))?,
                })
            })?,
        })
    }
}
