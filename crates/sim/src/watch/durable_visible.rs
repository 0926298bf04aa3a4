//! Durable before visible: what a replica says it holds, it holds synced (rule 2 of `replication`; Raft, figure 2: "updated
//! on stable storage before responding").
//!
//! A vote, an acknowledgement and the term of a message are promises; so is the copy of its own that a leader counts.

use super::logs::Logs;
use super::messages::{Kind, Message};
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct DurableVisible {}

impl Invariant for DurableVisible {
    fn name(&self) -> &'static str {
        "durable before visible"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Status { node, shard, status } => {
                let synced = logs.durable(node, shard).map_or(0, |durable| durable.last);
                match status.durable <= synced {
                    true => Ok(()),
                    false => Err(format!(
                        "shard {shard} on {node} counts on entry {} being synced, and {synced} is the last one that is",
                        status.durable
                    )),
                }
            }
            Seen::Sent { node, to, shard, message, .. } => {
                let durable = logs.durable(node, shard);
                let (last, state) = durable.map_or((0, (0, 0)), |durable| (durable.last, durable.state));
                match keeps(message, u64::from(to.0), last, state) {
                    true => Ok(()),
                    false => Err(format!(
                        "shard {shard} on {node} says {message:?} to {to}, and synced are entries up to {last}, term {} and \
                         the vote for {}",
                        state.0, state.1
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

fn keeps(message: &Message, to: u64, last: u64, (term, vote): (u64, u64)) -> bool {
    match message.kind {
        // Questions, and answers to them, before anybody is asked for a vote: they promise nothing.
        Kind::PreVote | Kind::PreVoteResponse => true,
        // One of an earlier term may leave with the sync of a later one.
        Kind::VoteResponse if !message.reject => message.term < term || (message.term, to) == (term, vote),
        Kind::AppendResponse if !message.reject => message.term <= term && message.index <= last,
        _ => message.term <= term,
    }
}
