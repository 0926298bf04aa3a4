//! A run in lines that a person can read.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kv::{Error, Op, Reply};
use node::wire::Frame;

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
            format!("shard {shard}: {}", replication::raft::describe(&body))
        }
        Ok(Frame::Forward { token, shard, op, .. }) => {
            let op = kv::Stamped::decode(&op)
                .map_or_else(|error| error.to_string(), |stamped| self::op(&stamped.op));
            format!("shard {shard}: forward {token}: {op}")
        }
        Ok(Frame::Answer { token, result: answer, .. }) => format!("answer {token}: {}", result(&answer)),
        Ok(Frame::Announce(_)) => "announce".into(),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
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
