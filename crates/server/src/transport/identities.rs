//! Which cluster this is, and who its nodes are: what nodes agree on before anything else flows between them.
//!
//! # The problem
//!
//! Addresses and names say little: `127.0.0.1:7401` is another cluster on another machine, and every cluster has an `n1`. A
//! client or a node that follows an address to a cluster that is not its own must find out before anything is written
//! there. So each cluster has an id, a random number ([`kv::ClusterId`]), and two nodes, or a client and a node, that do not
//! have the same have nothing to say to each other.
//!
//! # How nodes agree on it
//!
//! One node draws it: the founder, whose name sorts first, at its first start in a new folder. All others begin without one.
//! The first frame in both directions of every connection ([`Hello`], [`Welcome`]) tells it:
//!
//! ```text
//!   n1, the founder, has 5e     n2, new, has none           n3, new, has none
//!     │ ── hello, 5e ─────────────▶ │                            │
//!     │         writes 5e, syncs it │                            │
//!     │ ◀────── welcome to 5e ───── │                            │
//!     │ ── frames ────────────────▶ │ ◀──── hello, none ──────── │
//!     │                             │ ───── welcome to 5e ─────▶ │  writes 5e, syncs it
//!     │                             │ ◀──── frames ───────────── │
//! ```
//!
//! - Whoever has none takes the one that the other has, from the founder or from any node that took it before, and has it on
//!   disk before it answers, or before it sends a frame. Two that have none part and try again.
//! - Frames flow, in either direction, on no connection whose ends have not both written the same id. So nobody is elected,
//!   and nothing is acknowledged, but by a majority that has agreed on the id.
//! - Two that have different ones refuse each other. Which of the two is wrong at this address they cannot tell: a node ends
//!   for it only if it has no place yet (it has no id), or so many others call it a stranger that those left and it are no
//!   majority. A stray node can therefore not take a cluster down by answering at one of its addresses.
//! - An id that is written never changes. Until then the node serves nobody, and says whom it waits for.
//!
//! # Incarnations
//!
//! A folder has a random incarnation, and nodes remember each other's. A node under a known name with another one has lost
//! what it had promised: it is refused, unless it comes with --rejoin. Such a newcomer draws no id, not even the founder: the
//! cluster is there, and tells it. It says that it is new until each of the others has welcomed it, which may be long after it
//! was made whole: one may be down or cut off meanwhile, and must not refuse it for another when it is back.
//!
//! A founder that lost its folder and comes without --rejoin draws another id. It says that it is founding, having met nobody,
//! and the first node that has an id tells it that its folder was wiped.
//!
//! # Caveats
//!
//! - A founder that is lost before it has told anybody keeps the others waiting: start it anew. Once one other has the id, the
//!   founder is a node like any other.
//! - Those who know nothing cannot contradict: when a founder is wiped and started without --rejoin, every node that has the id
//!   is cut off, and the rest are as new as it is, then they found another cluster. It is told apart as soon as the others are
//!   back, and by every client of before, but what was acknowledged is with the others only.
//! - A new node belongs to the first cluster that lists its name and welcomes it: check --peers.
//! - The id is no secret, and proves nothing to who does not mean well.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard};

use kv::{ClusterId, NodeId};
use tokio::sync::watch;

use super::hello::{Hello, Purpose, Welcome};
use crate::folder::{Folder, Identity};

/// This node's identity, and those of the others it has met.
pub(crate) struct Identities {
    folder: Folder,
    me: NodeId,
    /// As it is written in the folder.
    own: Mutex<Identity>,
    cluster: watch::Sender<Option<ClusterId>>,
    /// The others that a newcomer has not been welcomed by.
    unmet: Mutex<BTreeSet<NodeId>>,
    known: Mutex<BTreeMap<String, u64>>,
    /// Those whose last word was that this node and they do not belong together.
    strangers: Mutex<BTreeSet<NodeId>>,
}

/// Whether a node that was called is one of ours; if not, why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// It is; frames may flow.
    Ours,
    /// Not now, or it is the one that is wrong.
    NotNow(String),
    /// This node cannot go on like this.
    Hopeless(String),
}

impl Identities {
    pub fn new(folder: Folder, me: NodeId) -> Result<Identities, crate::Failure> {
        let known = Mutex::new(folder.known_peers()?);
        let own = folder.identity.clone();
        let others = (1..=own.nodes.len() as u64).map(NodeId).filter(|node| *node != me);
        let unmet = Mutex::new(others.filter(|_| own.newcomer || own.rejoining).collect());
        let cluster = watch::Sender::new(own.cluster);
        Ok(Identities {
            own: Mutex::new(own),
            cluster,
            unmet,
            folder,
            me,
            known,
            strangers: Mutex::default(),
        })
    }

    /// What never changes of the identity; see [`Identities::own`] for the rest.
    fn fixed(&self) -> &Identity {
        &self.folder.identity
    }

    fn own(&self) -> MutexGuard<'_, Identity> {
        self.own.lock().expect("no holder of the identity panics")
    }

    fn is_newcomer(&self) -> bool {
        !self.unmet.lock().expect("no holder of the unmet panics").is_empty()
    }

    /// Which cluster this is, once that is known.
    pub fn cluster(&self) -> watch::Receiver<Option<ClusterId>> {
        self.cluster.subscribe()
    }

    /// What this node does while it does not know its cluster.
    pub fn waits(&self) -> String {
        let Identity { name, rejoining, .. } = self.fixed();
        match rejoining {
            true => format!(
                "{name} comes back with nothing and waits for another node to tell it which cluster it is of"
            ),
            false => format!("{name} waits for {}, which founds the cluster", self.fixed().founder()),
        }
    }

    /// What to say first.
    pub fn hello(&self, purpose: Purpose) -> Hello {
        let known_nobody = self.known.lock().expect("no holder of the incarnations panics").is_empty();
        let newcomer = self.is_newcomer();
        let own = self.own();
        Hello {
            purpose,
            from: self.me,
            name: own.name.clone(),
            options: own.options(),
            cluster: own.cluster,
            incarnation: own.incarnation,
            newcomer,
            founding: known_nobody && own.cluster.is_some(),
        }
    }

    /// What to answer to a hello. An error is this node's own: the caller is to try again.
    pub fn answer(&self, hello: &Hello) -> io::Result<Welcome> {
        if let Err(refused) = self.check(hello) {
            return Ok(refused);
        }
        let Some(cluster) = self.agree(hello.cluster)? else {
            return Ok(Welcome::Later(self.waits()));
        };
        if hello.cluster.is_some_and(|theirs| theirs != cluster) {
            return Ok(self.another_cluster(hello, cluster));
        }
        self.remember(&hello.name, hello.incarnation)?;
        let incarnation = self.fixed().incarnation;
        Ok(Welcome::Yes { cluster, incarnation, newcomer: self.is_newcomer() })
    }

    fn check(&self, hello: &Hello) -> Result<(), Welcome> {
        let own = self.fixed();
        if hello.options != own.options() {
            return Err(Welcome::Stranger(format!(
                "node {} belongs to another cluster or was given other options ({}) than node {} ({}): all nodes of \
                 a cluster are started with the same --peers, --shards, --history and --deleted-history",
                hello.name,
                hello.options,
                own.name,
                own.options()
            )));
        }
        if own.nodes.get((hello.from.0 as usize).wrapping_sub(1)) != Some(&hello.name)
            || hello.from == self.me
        {
            return Err(Welcome::Stranger(format!("node {} is no other node of this cluster", hello.name)));
        }
        let cluster = self.own().cluster;
        match cluster.filter(|own| hello.cluster.is_some_and(|theirs| theirs != *own)) {
            Some(own) => Err(self.another_cluster(hello, own)),
            None => self.is_known(&hello.name, hello.incarnation, hello.newcomer).map_err(Welcome::No),
        }
    }

    fn another_cluster(&self, hello: &Hello, own: ClusterId) -> Welcome {
        let theirs = hello.cluster.map_or_else(|| "none".into(), |id| id.to_string());
        if hello.founding {
            return Welcome::No(format!(
                "node {} founds cluster {theirs}, and {} knows its cluster as {own} already: node {} comes with another data \
                 folder than the one that founded it (it was wiped), or its --peers name nodes of another cluster. {}",
                hello.name,
                self.fixed().name,
                hello.name,
                COME_BACK
            ));
        }
        Welcome::Stranger(format!(
            "node {} is of another cluster ({theirs}) than node {} ({own}): check the addresses in --peers of both",
            hello.name,
            self.fixed().name
        ))
    }

    /// The cluster of this node and one that says this: its own, or the other's, which it has written then.
    fn agree(&self, theirs: Option<ClusterId>) -> io::Result<Option<ClusterId>> {
        let mut own = self.own();
        if own.cluster.is_none() && theirs.is_some() {
            let adopted = Identity { cluster: theirs, ..own.clone() };
            self.write(&adopted, "which cluster this is")?;
            *own = adopted;
            self.cluster.send_replace(theirs);
        }
        Ok(own.cluster)
    }

    /// Takes the answer of a node that was called.
    pub fn meet(&self, node: NodeId, welcome: Welcome) -> io::Result<Met> {
        match welcome {
            Welcome::Yes { cluster, incarnation, newcomer } => {
                self.welcomed(node, cluster, incarnation, newcomer)
            }
            Welcome::Later(why) => Ok(Met::NotNow(why)),
            Welcome::Stranger(why) => Ok(self.called_a_stranger(node, why)),
            Welcome::No(why) => Ok(Met::Hopeless(why)),
        }
    }

    fn welcomed(&self, by: NodeId, theirs: ClusterId, incarnation: u64, newcomer: bool) -> io::Result<Met> {
        let name = self.name_of(by);
        if let Err(why) = self.is_known(&name, incarnation, newcomer) {
            return Ok(Met::NotNow(why));
        }
        if self.agree(Some(theirs))? != Some(theirs) {
            let why = format!("node {name} is of another cluster ({theirs}): check its address in --peers");
            return Ok(Met::NotNow(why));
        }
        self.remember(&name, incarnation)?;
        self.strangers.lock().expect("no holder of the strangers panics").remove(&by);
        let mut unmet = self.unmet.lock().expect("no holder of the unmet panics");
        if unmet.len() == 1 && unmet.contains(&by) {
            self.change(|own| own.newcomer = false)?;
        }
        unmet.remove(&by);
        Ok(Met::Ours)
    }

    /// Another node does not want this one, and one of the two is in the wrong place.
    fn called_a_stranger(&self, by: NodeId, why: String) -> Met {
        let mut strangers = self.strangers.lock().expect("no holder of the strangers panics");
        strangers.insert(by);
        let nodes = self.fixed().nodes.len();
        let has_majority = nodes - strangers.len() > nodes / 2;
        if self.own().cluster.is_some() && has_majority { Met::NotNow(why) } else { Met::Hopeless(why) }
    }

    /// Compares a node's incarnation with the one it was known under.
    fn is_known(&self, name: &str, incarnation: u64, newcomer: bool) -> Result<(), String> {
        let known = self.known.lock().expect("no holder of the incarnations panics");
        match known.get(name) {
            Some(&before) if before != incarnation && !newcomer => Err(format!(
                "node {name} comes with another data folder than the one it was known under: the folder was wiped, \
                 or is another node's. {COME_BACK}"
            )),
            _ => Ok(()),
        }
    }

    /// Remembers a node's incarnation. An error is this node's fault: it is not known yet then.
    fn remember(&self, name: &str, incarnation: u64) -> io::Result<()> {
        let mut known = self.known.lock().expect("no holder of the incarnations panics");
        if known.get(name) == Some(&incarnation) {
            return Ok(());
        }
        let mut now_known = known.clone();
        now_known.insert(name.to_owned(), incarnation);
        let written = self.folder.remember_peers(&now_known);
        written.map_err(|error| noting(&format!("who node {name} is"), &error))?;
        *known = now_known;
        Ok(())
    }

    /// This node is whole again.
    pub fn rejoined(&self) -> io::Result<()> {
        self.change(|own| own.rejoining = false)
    }

    /// The log has something that is about to be acknowledged.
    pub fn log_begins(&self) -> io::Result<()> {
        if self.own().begun {
            return Ok(());
        }
        self.change(|own| own.begun = true)
    }

    fn change(&self, change: impl FnOnce(&mut Identity)) -> io::Result<()> {
        let mut own = self.own();
        let mut changed = own.clone();
        change(&mut changed);
        self.write(&changed, "what has become of this node")?;
        *own = changed;
        Ok(())
    }

    fn write(&self, identity: &Identity, what: &str) -> io::Result<()> {
        self.folder.remember_identity(identity).map_err(|error| noting(what, &error))
    }

    /// The name of a node.
    fn name_of(&self, node: NodeId) -> String {
        let place = (node.0 as usize).wrapping_sub(1);
        self.fixed().nodes.get(place).cloned().unwrap_or_default()
    }
}

/// What who lost a folder is to do.
const COME_BACK: &str = "What it had acknowledged is missing there. Give it its own folder back, or start it once with \
                         --rejoin on an empty folder: the others then make it whole";

fn noting(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot note in the data folder {what}: {error}"))
}

#[cfg(test)]
mod tests;
