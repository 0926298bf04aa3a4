//! The machine: what a node says, what it answers, what it makes of an answer, and what it writes down before.

use std::collections::{BTreeMap, BTreeSet};

use kv::{ClusterId, NodeId};
use mutant::Mutant;

use super::hello::{Hello, Purpose, Welcome};
use super::own::Identity;

/// The incarnations that the other nodes were met under.
pub type Incarnations = BTreeMap<NodeId, u64>;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// This must survive a power loss first: write it, report it ([`Greeter::written`]) and ask again.
    Write(Write),
    /// It is decided.
    Say(T),
}

/// Something that must be in the data folder before a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What the folder keeps from now on.
    pub kept: Kept,
    /// What is noted by it, to be told when it cannot be written.
    pub what: &'static str,
}

/// What a data folder keeps, each whole in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Whose it is.
    Identity(Identity),
    /// Who the others are.
    Incarnations(Incarnations),
}

/// Whether a node that was called is one of ours; if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// It is; frames may flow.
    Ours,
    /// Not now, or it is the one that is wrong.
    NotNow(String),
    /// This node cannot go on like this, and another start would end the same way.
    Hopeless(String),
}

/// What a running node decides of who it is and who the others are.
#[derive(Clone, Debug)]
pub struct Greeter {
    /// As it is written in the folder.
    own: Identity,
    /// As they are written in the folder.
    known: Incarnations,
    /// The others that a newcomer has not been welcomed by since it was started.
    unmet: BTreeSet<NodeId>,
    /// Those whose last word was that this node and they do not belong together.
    strangers: BTreeSet<NodeId>,
}

impl Greeter {
    /// Of what the data folder keeps.
    ///
    /// # Panics
    /// When the folder is of no incarnation, or knows one of a node that is not of the cluster.
    pub fn new(own: Identity, known: Incarnations) -> Greeter {
        assert!(own.incarnation != 0, "a folder has an incarnation");
        assert!(known.keys().all(|node| own.name_of(*node).is_some()), "only nodes of the cluster were met");
        let unmet = own.others().filter(|_| own.newcomer).collect();
        Greeter { own, known, unmet, strangers: BTreeSet::new() }
    }

    /// Who this node is, as it is written.
    pub fn identity(&self) -> &Identity {
        &self.own
    }

    /// What to say first to a node that is called.
    pub fn hello(&self, to: NodeId, purpose: Purpose) -> Hello {
        Hello {
            purpose,
            from: self.own.me,
            to,
            name: self.own.name().to_owned(),
            terms: self.own.terms(),
            cluster: self.own.cluster,
            incarnation: self.own.incarnation,
            newcomer: self.own.newcomer,
            founding: self.is_founding(),
        }
    }

    /// What to answer to a hello.
    pub fn answer(&mut self, hello: &Hello) -> Step<Welcome> {
        if let Err(refused) = self.check(hello) {
            return Step::Say(refused);
        }
        if let Some(write) = self.adopt(hello.cluster) {
            return Step::Write(write);
        }
        let Some(cluster) = self.own.cluster else {
            return Step::Say(Welcome::Later(self.own.waits()));
        };
        if let Some(write) = self.remember(hello.from, hello.incarnation) {
            return Step::Write(write);
        }
        let Identity { incarnation, newcomer, .. } = self.own;
        Step::Say(Welcome::Yes { cluster, incarnation, newcomer })
    }

    /// What to make of the answer of a node that was called.
    ///
    /// # Panics
    /// When that is no other node of the cluster.
    pub fn meet(&mut self, by: NodeId, welcome: &Welcome) -> Step<Met> {
        assert!(by != self.own.me && self.own.name_of(by).is_some(), "other nodes of the cluster are called");
        match welcome {
            Welcome::Yes { cluster, incarnation, newcomer } => {
                self.welcomed(by, *cluster, *incarnation, *newcomer)
            }
            Welcome::Later(why) => Step::Say(Met::NotNow(why.clone())),
            Welcome::Stranger(why) => Step::Say(self.called_a_stranger(by, why)),
            Welcome::No(why) => Step::Say(Met::Hopeless(why.clone())),
        }
    }

    /// This node is whole again.
    pub fn rejoined(&mut self) -> Step<()> {
        match self.own.rejoining {
            true => Step::Write(self.change(|own| own.rejoining = false)),
            false => Step::Say(()),
        }
    }

    /// The log has something that is about to be acknowledged.
    pub fn log_begins(&mut self) -> Step<()> {
        match self.own.begun {
            true => Step::Say(()),
            false => Step::Write(self.change(|own| own.begun = true)),
        }
    }

    /// The folder keeps this from now on.
    ///
    /// # Panics
    /// When it is not what this greeter asked for last: another node's, or of another cluster.
    pub fn written(&mut self, write: Write) {
        match write.kept {
            Kept::Identity(own) => {
                let is_mine = (own.me, own.incarnation) == (self.own.me, self.own.incarnation);
                assert!(is_mine, "a folder stays its node's");
                let is_kept = self.own.cluster.is_none_or(|cluster| own.cluster == Some(cluster));
                assert!(is_kept, "the id of a cluster never changes");
                self.own = own;
            }
            Kept::Incarnations(known) => {
                assert!(self.known.keys().all(|node| known.contains_key(node)), "who was met is remembered");
                self.known = known;
            }
        }
    }

    /// Whether this node has drawn the id of the cluster, and nobody else is known to have it.
    fn is_founding(&self) -> bool {
        self.known.is_empty() && self.own.cluster.is_some()
    }

    fn check(&self, hello: &Hello) -> Result<(), Welcome> {
        let own = &self.own;
        if hello.terms != own.terms() {
            return Err(Welcome::Stranger(format!(
                "node {} belongs to another cluster or was given other options ({}) than node {} ({}): all nodes of \
                 a cluster are started with the same --peers, --shards, --history and --deleted-history",
                hello.name,
                hello.terms,
                own.name(),
                own.terms()
            )));
        }
        if own.name_of(hello.from) != Some(&hello.name) || hello.from == own.me {
            return Err(Welcome::Stranger(format!("node {} is no other node of this cluster", hello.name)));
        }
        if let Some(cluster) = own.cluster.filter(|own| hello.cluster.is_some_and(|theirs| theirs != *own)) {
            return Err(self.another_cluster(hello, cluster));
        }
        if hello.to != own.me {
            return Err(Welcome::Stranger(format!(
                "node {} calls node {} and finds node {} at its address: check the addresses in --peers of both",
                hello.name,
                own.name_of(hello.to).unwrap_or("of another cluster"),
                own.name()
            )));
        }
        self.is_known(hello.from, hello.incarnation, hello.newcomer).map_err(Welcome::No)
    }

    fn another_cluster(&self, hello: &Hello, own: ClusterId) -> Welcome {
        let theirs = hello.cluster.map_or_else(|| "none".into(), |id| id.to_string());
        let name = self.own.name();
        if hello.founding {
            return Welcome::No(format!(
                "node {} founds cluster {theirs}, and {name} knows its cluster as {own} already: node {} comes with another \
                 data folder than the one that founded it (it was wiped), or its --peers name nodes of another cluster. \
                 {COME_BACK}",
                hello.name, hello.name,
            ));
        }
        let why = format!(
            "node {} is of another cluster ({theirs}) than node {name} ({own}): check the addresses in --peers of both",
            hello.name,
        );
        if self.is_founding() { Welcome::Later(why) } else { Welcome::Stranger(why) }
    }

    /// A node that has no cluster takes the other's.
    fn adopt(&mut self, theirs: Option<ClusterId>) -> Option<Write> {
        let theirs = theirs.filter(|_| self.own.cluster.is_none())?;
        if mutant::is(Mutant::ClusterBeforeItsWrite) {
            self.own.cluster = Some(theirs);
            return None;
        }
        Some(Write { what: "which cluster this is", ..self.change(|own| own.cluster = Some(theirs)) })
    }

    fn welcomed(&mut self, by: NodeId, theirs: ClusterId, incarnation: u64, newcomer: bool) -> Step<Met> {
        if let Err(why) = self.is_known(by, incarnation, newcomer) {
            return Step::Say(Met::NotNow(why));
        }
        if let Some(write) = self.adopt(Some(theirs)) {
            return Step::Write(write);
        }
        if self.own.cluster != Some(theirs) {
            let name = self.shown(by);
            let why = format!("node {name} is of another cluster ({theirs}): check its address in --peers");
            return Step::Say(Met::NotNow(why));
        }
        if let Some(write) = self.remember(by, incarnation) {
            return Step::Write(write);
        }
        let is_last = self.unmet.iter().all(|other| *other == by);
        if self.own.newcomer && (is_last || mutant::is(Mutant::NewcomerForgetsTooEarly)) {
            return Step::Write(self.change(|own| own.newcomer = false));
        }
        self.unmet.remove(&by);
        self.strangers.remove(&by);
        Step::Say(Met::Ours)
    }

    /// Another node does not want this one, and one of the two is in the wrong place.
    fn called_a_stranger(&mut self, by: NodeId, why: &str) -> Met {
        self.strangers.insert(by);
        let nodes = self.own.nodes.len();
        let has_majority = nodes - self.strangers.len() > nodes / 2;
        match self.own.cluster.is_some() && has_majority {
            true => Met::NotNow(why.to_owned()),
            false => Met::Hopeless(why.to_owned()),
        }
    }

    /// Compares a node's incarnation with the one it was known under.
    fn is_known(&self, node: NodeId, incarnation: u64, newcomer: bool) -> Result<(), String> {
        match self.known.get(&node) {
            Some(&before)
                if before != incarnation && !newcomer && !mutant::is(Mutant::IncarnationNotChecked) =>
            {
                Err(format!(
                    "node {} comes with another data folder than the one it was known under: the folder was wiped, or is \
                     another node's. {COME_BACK}",
                    self.shown(node)
                ))
            }
            _ => Ok(()),
        }
    }

    fn remember(&self, node: NodeId, incarnation: u64) -> Option<Write> {
        let is_new = self.known.get(&node) != Some(&incarnation);
        is_new.then(|| {
            let mut known = self.known.clone();
            known.insert(node, incarnation);
            Write { kept: Kept::Incarnations(known), what: "who another node is" }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Identity)) -> Write {
        let mut own = self.own.clone();
        change(&mut own);
        Write { kept: Kept::Identity(own), what: "what has become of this node" }
    }

    fn shown(&self, node: NodeId) -> &str {
        self.own.name_of(node).unwrap_or("of another cluster")
    }
}

/// What who lost a folder is to do.
const COME_BACK: &str = "What it had acknowledged is missing there. Give it its own folder back, or start it once with \
                         --rejoin on an empty folder: the others then make it whole";
