//! A run in lines that a person can read.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kv::view::Member;
use kv::{Error, Op, Reply};
use node::wire::Frame;
use placement::map::Map;

use crate::events::Way;

/// Takes the lines. It outlives a run that panics.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Arc<Mutex<Vec<String>>>>);

impl Trace {
    pub fn new(wanted: bool) -> Trace {
        Trace(wanted.then(Arc::default))
    }

    pub fn add(&self, now: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines.lock().expect("no holder of the trace panics").push(format!("{} {}", time(now), line()));
        }
    }

    pub fn take(&self) -> Vec<String> {
        self.0.as_ref().map_or_else(Vec::new, |lines| {
            std::mem::take(&mut *lines.lock().expect("no holder of the trace panics"))
        })
    }
}

/// A time as seconds.
pub(crate) fn time(micros: u64) -> String {
    format!("{:4}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

pub(crate) fn ways(ways: &[Way]) -> String {
    ways.iter().map(|(from, to)| format!("{from}->{to}")).collect::<Vec<_>>().join(" ")
}

/// What a frame says.
pub(crate) fn frame(bytes: &Bytes) -> String {
    match Frame::decode(bytes) {
        Ok(Frame::Protocol { shard, body, .. }) => {
            // A frame does not say of which protocol it is.
            let describe = match () {
                () if replication::raft::observe::message(&body).is_some() => replication::raft::describe,
                () if replication::primary::observe::message(&body).is_some() => {
                    replication::primary::describe
                }
                () if replication::quorum::observe::message(&body).is_some() => replication::quorum::describe,
                () if replication::broadcast::observe::message(&body).is_some() => {
                    replication::broadcast::describe
                }
                () => replication::two_phase::describe,
            };
            let said = describe(&body);
            format!("shard {shard}: {said}")
        }
        Ok(Frame::Forward { token, shard, op, .. }) => {
            let op = kv::Stamped::decode(&op)
                .map_or_else(|error| error.to_string(), |stamped| self::op(&stamped.op));
            format!("shard {shard}: forward {token}: {op}")
        }
        Ok(Frame::Answer { token, result: answer, .. }) => format!("answer {token}: {}", result(&answer)),
        Ok(Frame::Announce(_)) => "announce".into(),
        Ok(Frame::Map(map)) => self::map(&map),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

/// A map, without what does not change or matters to nobody else.
pub(crate) fn map(map: &Map) -> String {
    let members = |members: &[Member]| {
        let texts = members.iter().map(|member| format!("{}#{}", member.node, member.replica));
        texts.collect::<Vec<_>>().join(" ")
    };
    let nodes =
        map.nodes.iter().map(|(id, row)| format!("{id} {} {} {:?}", row.name, row.duty.name(), row.state));
    let shards = map.shards.iter().map(|(id, row)| {
        let change = map.changes.get(id).map_or_else(String::new, |change| {
            format!(" -> {} in {} ({:?}, {:?})", members(&change.to), change.epoch, change.phase, change.why)
        });
        let (epoch, revision) = (row.epoch, row.revision);
        format!("{id}: {} in {epoch}.{revision} led by {}{change}", members(&row.members), row.leader)
    });
    let (nodes, shards) = (nodes.collect::<Vec<_>>().join(", "), shards.collect::<Vec<_>>().join("; "));
    format!("map {}: nodes {nodes}; shards {shards}", map.revision)
}

pub(crate) fn op(op: &Op) -> String {
    format!("{op:?}")
}

pub(crate) fn result(result: &Result<Reply, Error>) -> String {
    match result {
        Ok(reply) => format!("{:?} at {} by {}", reply.answer, reply.receipt.version, reply.receipt.node),
        Err(error) => format!("{error:?}"),
    }
}
