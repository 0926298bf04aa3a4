//! Who this node is, as all its connections share it: the decisions are [`node::identity`]'s, and what they need is written to
//! the data folder here, one decision after the other.

use std::io;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use kv::{ClusterId, NodeId};
use node::identity::{Greeter, Hello, Life, Lives, Met, Nodes, Purpose, Step, Welcome, Write, encode_lives};
use placement::map::Map;
use tokio::sync::watch;

use super::places::Places;
use crate::folder::Folder;

/// This node's identity, those of the others it has met, and who there is.
pub(crate) struct Identities {
    folder: Folder,
    places: Places,
    greeter: Mutex<Greeter>,
    cluster: watch::Sender<Option<ClusterId>>,
    nodes: watch::Sender<Nodes>,
    lives: watch::Sender<Lives>,
    left: watch::Sender<bool>,
}

impl Identities {
    /// Of a data folder, the map that the node starts with, and what it was told of where its nodes are.
    pub fn new(folder: Folder, map: &Map, places: Places) -> Result<Identities, crate::Failure> {
        let greeter = Greeter::new(folder.identity().clone(), folder.lives()?, places.nodes(map));
        Ok(Identities {
            cluster: watch::Sender::new(greeter.identity().cluster),
            nodes: watch::Sender::new(greeter.nodes().clone()),
            lives: watch::Sender::new(greeter.lives().clone()),
            left: watch::Sender::new(false),
            greeter: Mutex::new(greeter),
            places,
            folder,
        })
    }

    /// Which cluster this is, once that is known.
    pub fn cluster(&self) -> watch::Receiver<Option<ClusterId>> {
        self.cluster.subscribe()
    }

    /// The nodes that there are.
    pub fn nodes(&self) -> watch::Receiver<Nodes> {
        self.nodes.subscribe()
    }

    /// What this node does while it does not know its cluster.
    pub fn waits(&self) -> String {
        self.greeter().identity().waits()
    }

    /// Where a node is, if it is a member.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.greeter().nodes().members.get(&node).map(|member| member.address.clone())
    }

    /// The id of this node.
    pub fn me(&self) -> NodeId {
        self.folder.identity().me
    }

    /// What to say first to a node.
    pub fn hello(&self, to: NodeId, purpose: Purpose) -> Hello {
        self.greeter().hello(to, purpose)
    }

    /// What to answer to a hello. An error is this node's own: the caller is to try again.
    pub fn answer(&self, hello: &Hello) -> io::Result<Welcome> {
        self.decide(|greeter| greeter.answer(hello))
    }

    /// Takes the answer of a node that was called. An error is this node's own: it is to call again.
    pub fn meet(&self, node: NodeId, welcome: &Welcome) -> io::Result<Met> {
        let met = self.decide(|greeter| greeter.meet(node, welcome))?;
        if matches!(met, Met::Left(_)) {
            self.left.send_replace(true);
        }
        Ok(met)
    }

    /// Whether this node has left the cluster.
    pub fn left(&self) -> watch::Receiver<bool> {
        self.left.subscribe()
    }

    /// What a newcomer is told of the lives of the nodes.
    pub fn acquaintances(&self) -> Bytes {
        encode_lives(&self.greeter().acquaintances())
    }

    /// There is a later map.
    pub fn follow(&self, map: &Map) {
        let mut greeter = self.greeter();
        greeter.set_nodes(self.places.nodes(map));
        self.publish(&greeter);
    }

    /// Until a node is met in another life than this, or is no member any more: connections of this life are over then.
    pub async fn parted(&self, node: NodeId, life: Life) {
        let mut lives = self.lives.subscribe();
        // The sender is here.
        let _ = lives.wait_for(|lives| lives.get(&node) != Some(&life)).await;
    }

    /// The log has something that is about to be acknowledged.
    pub fn log_begins(&self) -> io::Result<()> {
        self.decide(Greeter::log_begins)
    }

    /// Asks until it is decided, and writes what must be written before. Nobody else is answered meanwhile.
    fn decide<T>(&self, ask: impl Fn(&mut Greeter) -> Step<T>) -> io::Result<T> {
        let mut greeter = self.greeter();
        loop {
            let step = ask(&mut greeter);
            self.publish(&greeter);
            match step {
                Step::Say(said) => return Ok(said),
                Step::Write(write) => {
                    self.folder.keep(&write.kept).map_err(|error| noting(&write, &error))?;
                    greeter.written(write);
                }
            }
        }
    }

    /// Lets those know who wait for what has changed.
    fn publish(&self, greeter: &Greeter) {
        renew(&self.cluster, &greeter.identity().cluster);
        renew(&self.nodes, greeter.nodes());
        renew(&self.lives, greeter.lives());
    }

    fn greeter(&self) -> MutexGuard<'_, Greeter> {
        self.greeter.lock().expect("no holder of the greeter panics")
    }
}

fn renew<T: Clone + PartialEq>(published: &watch::Sender<T>, now: &T) {
    published.send_if_modified(|before| {
        let differs = before != now;
        if differs {
            before.clone_from(now);
        }
        differs
    });
}

fn noting(write: &Write, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot note in the data folder {}: {error}", write.what))
}

#[cfg(test)]
mod tests;
