//! Durable before visible: what a replica says it holds, it holds synced (rule 2 of `replication`; Raft, figure 2: "updated
//! on stable storage before responding").
//!
//! A vote, an acknowledgement and the term of a message are promises; so is the copy of its own that a leader counts.

use kv::Index;

use super::durable::Durable;
use super::logs::Logs;
use super::messages::{Kind, Message};
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct DurableVisible {}

impl Invariant for DurableVisible {
    fn name(&self) -> &'static str {
        "durable before visible"
    }

    fn holds_of_merged(&self) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Status { node, shard, status } => {
                let synced = logs.durable(node, shard).map_or(Index::ZERO, |durable| durable.last);
                match status.durable <= synced {
                    true => Ok(()),
                    false => Err(format!(
                        "shard {shard} on {node} counts on entry {} being synced, and {synced} is the last one that is",
                        status.durable
                    )),
                }
            }
            Seen::Sent { node, to, shard, message, .. } => {
                let nothing = Durable::default();
                let durable = logs.durable(node, shard).unwrap_or(&nothing);
                match keeps(message, durable) {
                    true => Ok(()),
                    false => Err(format!(
                        "shard {shard} on {node} says {message:?} to {to}, and synced are entries up to {}, term {} and the \
                         vote for {}",
                        durable.last, durable.state.0, durable.state.1
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

fn keeps(message: &Message, durable: &Durable) -> bool {
    let (term, vote) = durable.state;
    match message.kind {
        // Questions, and answers to them, before anybody is asked for a vote: they promise nothing.
        Kind::PreVote | Kind::PreVoteResponse => true,
        // One of an earlier term may leave with the sync of a later one.
        Kind::VoteResponse if !message.reject => {
            message.term < term || (message.term, message.to) == (term, vote)
        }
        Kind::AppendResponse if !message.reject => {
            message.term <= term && durable.holds(message.term, message.index)
        }
        _ => message.term <= term,
    }
}
