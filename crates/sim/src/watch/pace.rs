//! Ticks keep to the clock: a leader's heartbeats are never nearer to each other than its ticks allow, whatever it missed
//! (`replication`'s ticker: a replica that was stopped must not find all its timeouts over at once).

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};

use super::logs::Logs;
use super::messages::Kind;
use super::{Invariant, Seen};

/// Two heartbeats are two ticks of 50 ms apart, of which one may come up to a tick late; clocks run up to 4 percent fast.
const APART_MICROS_MIN: u64 = 48_000;

#[derive(Default)]
pub(super) struct Pace {
    last: BTreeMap<(ShardId, NodeId, NodeId), u64>,
}

impl Invariant for Pace {
    fn name(&self) -> &'static str {
        "ticks keep to the clock"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Ended { node } => self.last.retain(|(_, from, _), _| *from != node),
            // Those of rounds of reads come when somebody reads.
            Seen::Sent { node, to, shard, message, now, .. }
                if message.kind == Kind::Heartbeat && message.round.is_empty() =>
            {
                if let Some(before) = self.last.insert((shard, node, to), now)
                    && now < before + APART_MICROS_MIN
                {
                    return Err(format!(
                        "{node} sends two heartbeats of shard {shard} to {to} within {} us",
                        now - before
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
