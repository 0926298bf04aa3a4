//! One line for people: what a member is at present, and what a message says.

use bytes::Bytes;
use kv::NodeId;

use super::Broadcast;
use super::message::Message;
use super::spread::Peer;
use crate::quorum::message::show_version;
use crate::record::show_vector;

impl Broadcast {
    /// Such as `n1 last=6 applied=5 has {1:9.1 2:7.2} stable=7.2 {2 3:away}`: node, the last entry of its log, how far that is applied, what it has of
    /// each, durably, and up to where it has all of all; and the other members.
    pub fn describe(&self) -> String {
        let (last, applied) = (self.journal.last(), self.journal.applied());
        let mut line = format!(
            "n{} last={last} applied={applied} has {{{}}} stable={}",
            self.config.id,
            show_vector(&self.intake.have),
            show_version(self.stable)
        );
        let peer =
            |(node, peer): (&NodeId, &Peer)| format!("{node}{}", if peer.is_near { "" } else { ":away" });
        line.push_str(&format!(" {{{}}}", Vec::from_iter(self.peers.iter().map(peer)).join(" ")));
        if self.is_comparing() {
            line.push_str(" compares");
        }
        if self.returning.is_some() {
            line.push_str(" returning");
        }
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
