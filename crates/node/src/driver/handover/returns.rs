//! A shard that goes back: its heir is gone for good, and who was sealed for it goes on in an epoch of its own.
//!
//! ```text
//!   map                       who had it, epoch 3
//!   Switch to n2, epoch 4     sealed at 42
//!   n2 is gone for good
//!   Switch to n1, epoch 5     flushes; one synced record makes its rows those of epoch 5
//!                             opens: serves from 43 on, announces epoch 5
//! ```
//!
//! Nothing is copied. Until the record is synced the replica is the sealed one, after a crash too; from then on it is that of the
//! later epoch. The lost heir may have opened epoch 4 and served it: what it acknowledged is lost with it, as whoever gave it up was
//! told (`placement::Refusal::Heir`).

use kv::view::Revision;
use kv::{Epoch, Position, ShardId};
use placement::map::{Change, Phase};
use replication::View;

use super::super::Flush;
use super::super::core::Core;
use super::super::replica::Replica;
use super::giver::handed_over;
use super::inheriting;
use crate::node::Node;
use crate::record::Made;
use crate::recovery::Begun;
use crate::seat::Seat;

/// A sealed replica that goes on in a later epoch.
#[derive(Debug)]
pub(in crate::driver) struct Returning {
    seat: Seat,
    /// The append that says so; `None` = its rows are being flushed.
    ticket: Option<u64>,
}

impl Core {
    /// Has the shards go on that come back to this node.
    pub fn return_shards(&mut self, node: &Node) {
        let mut begun = Vec::new();
        for (&shard, replica) in &mut self.replicas {
            if replica.sealed.is_some() && replica.returning.is_none() {
                replica.returning = returning(node, shard, replica.view().epoch);
                begun.extend(replica.returning.as_ref().map(|back| (shard, back.seat.view.epoch)));
            }
        }
        for (shard, epoch) in begun {
            tracing::info!(%shard, %epoch, "a shard comes back to this node, as its heir is gone");
            self.flush(Flush::Returning(shard, epoch));
        }
    }

    /// The rows of a shard that comes back are flushed: the log is to say in which epoch they go on.
    pub fn returning_flushed(&mut self, shard: ShardId, epoch: Epoch, result: Result<(), String>) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let is_it = |back: &&mut Returning| back.seat.view.epoch == epoch;
        let Some(back) = replica.returning.as_mut().filter(is_it) else { return };
        if let Err(error) = result {
            tracing::warn!(%shard, %error, "what comes back could not be flushed; it is tried again");
            replica.returning = None;
            return;
        }
        back.ticket = Some(self.ticket + 1);
        self.records.extend(replica.returned().expect("it was just said to come back"));
    }

    /// All appends up to this ticket are synced: the shards go on of which one says so.
    pub fn open_returned(&mut self, node: &Node) {
        let durable = self.durable;
        let is_ready = |replica: &&Replica| {
            let ticket = replica.returning.as_ref().and_then(|back| back.ticket);
            ticket.is_some_and(|ticket| ticket <= durable)
        };
        let ready: Vec<ShardId> =
            self.replicas.values().filter(is_ready).map(|replica| replica.shard).collect();
        for shard in ready {
            self.give_parts_away(node, shard);
            let before = self.replicas.remove(&shard).expect("it was just looked at");
            let (at, made) = (before.sealed_at(), before.returned_made());
            let back = before.returning.expect("it was just looked at");
            self.inputs.retain(|(of, _)| *of != shard);
            let begun = Begun::inherit(&node.config, shard, &back.seat, made, at);
            let begun = begun.expect("a log of one record contradicts nothing");
            tracing::info!(%shard, epoch = %back.seat.view.epoch, %at, "this node goes on with a shard that came back");
            self.begin_replica(Replica::new(shard, begun, at, before.last), false);
            self.has_news = true;
        }
    }
}

impl Replica {
    /// What the log says of it once it has been told that it goes on in a later epoch.
    pub fn returned(&self) -> Option<[wal::Record; 2]> {
        let back = self.returning.as_ref().filter(|back| back.ticket.is_some())?;
        Some(inheriting(self.shard, &back.seat, &self.returned_made(), self.sealed_at()))
    }

    fn sealed_at(&self) -> Position {
        self.sealed.expect("only who was sealed is handed a shard back")
    }

    fn returned_made(&self) -> Made {
        let back = self.returning.as_ref().expect("it comes back");
        Made { number: back.seat.number, revision: back.seat.revision, ..self.made_logged() }
    }
}

/// The seat of this node in the epoch that it is to begin with what it was sealed with, if the map says so.
fn returning(node: &Node, shard: ShardId, epoch: Epoch) -> Option<Returning> {
    let is_certain = |change: &&Change| change.phase == Phase::Switch && !change.why.makes_parts();
    let change = handed_over(node, shard, epoch).filter(is_certain)?;
    let number = change.to.iter().find(|member| member.node == node.config.me)?.replica;
    let view = View { epoch: change.epoch, revision: Revision(1), members: change.to.clone() };
    let (protocol, revision) = (node.config.map.shards[&shard].protocol, node.config.map.revision);
    let seat = Seat { protocol, view, number, revision, inherits: Some(epoch) };
    Some(Returning { seat, ticket: None })
}
