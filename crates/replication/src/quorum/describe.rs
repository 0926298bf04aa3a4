//! One line for people: what a member is at present, and what a message says.

use bytes::Bytes;

use super::Quorum;
use super::message::{Message, show_version};

impl Quorum {
    /// Such as `n1 last=6 durable=6 applied=5 ceiling=9.1 rounds=2 {2 3:away,4 hints}`: node, the last entry of its log, how far that is synced
    /// and applied, up to where it may issue versions, how many rounds are open; and the other members, with what is to be said of them.
    /// `sealed` is one that answers nothing more.
    pub fn describe(&self) -> String {
        let (last, durable, applied) = (self.journal.last(), self.journal.durable(), self.journal.applied());
        let ceiling = show_version(self.issue.ceiling());
        let mut line =
            format!("n{} last={last} durable={durable} applied={applied} ceiling={ceiling}", self.config.id);
        if self.rounds.count() > 0 {
            line.push_str(&format!(" rounds={}", self.rounds.count()));
        }
        let peer = |(node, peer): (&kv::NodeId, &super::Peer)| {
            let is = match (peer.life, peer.is_silent) {
                (None, _) => ":away",
                (_, true) => ":silent",
                _ => "",
            };
            let hints = if peer.hints() > 0 { format!(",{} hints", peer.hints()) } else { String::new() };
            format!("{node}{is}{hints}")
        };
        line.push_str(&format!(" {{{}}}", Vec::from_iter(self.peers.iter().map(peer)).join(" ")));
        if let Some(seal) = &self.seal {
            line.push_str(&format!(" sealed, then epoch {}", seal.next));
        }
        line
    }
}

/// A message ([`crate::Output::Send`]'s body), for people.
pub fn describe(body: &Bytes) -> String {
    match Message::decode(body) {
        Ok(message) => message.to_string(),
        Err(error) => error.to_string(),
    }
}
