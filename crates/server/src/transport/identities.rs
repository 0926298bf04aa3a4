//! Who this node is, as all its connections share it: the decisions are [`node::identity`]'s, and what they need is written to
//! the data folder here, one decision after the other.

use std::io;
use std::sync::{Mutex, MutexGuard};

use kv::{ClusterId, NodeId};
use node::identity::{Greeter, Hello, Met, Purpose, Step, Welcome, Write};
use tokio::sync::watch;

use crate::folder::Folder;

/// This node's identity, and those of the others it has met.
pub(crate) struct Identities {
    folder: Folder,
    greeter: Mutex<Greeter>,
    cluster: watch::Sender<Option<ClusterId>>,
}

impl Identities {
    /// Of a data folder.
    pub fn new(folder: Folder) -> Result<Identities, crate::Failure> {
        let greeter = Greeter::new(folder.identity().clone(), folder.incarnations()?);
        let cluster = watch::Sender::new(folder.identity().cluster);
        Ok(Identities { folder, greeter: Mutex::new(greeter), cluster })
    }

    /// Which cluster this is, once that is known.
    pub fn cluster(&self) -> watch::Receiver<Option<ClusterId>> {
        self.cluster.subscribe()
    }

    /// What this node does while it does not know its cluster.
    pub fn waits(&self) -> String {
        self.greeter().identity().waits()
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
        self.decide(|greeter| greeter.meet(node, welcome))
    }

    /// This node is whole again.
    pub fn rejoined(&self) -> io::Result<()> {
        self.decide(Greeter::rejoined)
    }

    /// The log has something that is about to be acknowledged.
    pub fn log_begins(&self) -> io::Result<()> {
        self.decide(Greeter::log_begins)
    }

    /// Asks until it is decided, and writes what must be written before. Nobody else is answered meanwhile.
    fn decide<T>(&self, ask: impl Fn(&mut Greeter) -> Step<T>) -> io::Result<T> {
        let mut greeter = self.greeter();
        loop {
            match ask(&mut greeter) {
                Step::Say(said) => return Ok(said),
                Step::Write(write) => {
                    self.folder.keep(&write.kept).map_err(|error| noting(&write, &error))?;
                    greeter.written(write);
                    let cluster = greeter.identity().cluster;
                    self.cluster.send_if_modified(|known| std::mem::replace(known, cluster) != cluster);
                }
            }
        }
    }

    fn greeter(&self) -> MutexGuard<'_, Greeter> {
        self.greeter.lock().expect("no holder of the greeter panics")
    }
}

fn noting(write: &Write, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot note in the data folder {}: {error}", write.what))
}

#[cfg(test)]
mod tests;
