//! The machine: what a node says, what it answers, what it makes of an answer, and what it writes down before.

use std::collections::BTreeSet;

use kv::{ClusterId, NodeId};
use mutant::Mutant;

use super::hello::{Hello, Purpose, Refusal, Welcome};
use super::life::{Beside, Life, Lineage, Lives};
use super::nodes::{Nodes, Place};
use super::own::Identity;

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
    Identity(Box<Identity>),
    /// Who the others are.
    Lives(Lives),
}

/// Whether a node that was called is one of ours; if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// It is; frames may flow.
    Ours,
    /// Not now, or it is the one that is wrong.
    NotNow(String),
    /// This node is a member no more, and was one when it started: it has left, and is needed by nobody.
    Left(String),
    /// This node cannot go on like this, and another start would end the same way.
    Hopeless(String),
}

/// What a running node decides of who it is and who the others are.
#[derive(Clone, Debug)]
pub struct Greeter {
    /// As it is written in the folder.
    own: Identity,
    /// As they are written in the folder, but for those that are gone.
    known: Lives,
    /// Who there is.
    nodes: Nodes,
    /// Those whose last word was that this node and they do not belong together.
    strangers: BTreeSet<NodeId>,
    /// Those that know an earlier map than this node, in which it is not yet.
    behind: BTreeSet<NodeId>,
    /// Another node has let it in, since it started.
    was_let_in: bool,
}

impl Greeter {
    /// Of what the data folder keeps, and the nodes that there are as of the map that the node starts with.
    ///
    /// # Panics
    /// When the folder is of no incarnation, or is a copy.
    pub fn new(own: Identity, known: Lives, nodes: Nodes) -> Greeter {
        assert!(own.lineage.life.incarnation != 0, "a folder has an incarnation");
        assert!(own.copy.is_none(), "a folder that is a copy is not started");
        assert!(own.gone.is_none(), "a folder whose node is no member any more is not started");
        let none = BTreeSet::new;
        let mut greeter = Greeter { own, known, nodes, strangers: none(), behind: none(), was_let_in: false };
        greeter.forget_gone();
        greeter
    }

    /// Who this node is, as it is written.
    pub fn identity(&self) -> &Identity {
        &self.own
    }

    /// The nodes that there are.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The lives that the other members were met in last.
    pub fn lives(&self) -> &Lives {
        &self.known
    }

    /// What a newcomer is told of the others: the lives that they, and this node, were met in last. It has met nobody, and
    /// would take a copy of a folder for the node.
    pub fn acquaintances(&self) -> Lives {
        let mut lives = self.known.clone();
        lives.insert(self.own.me, self.own.lineage.life);
        lives
    }

    /// There are these nodes now, unless what is known of them is later.
    pub fn set_nodes(&mut self, nodes: Nodes) {
        if nodes.revision > self.nodes.revision {
            self.nodes = nodes;
            self.forget_gone();
        }
    }

    /// What to say first to a node that is called.
    pub fn hello(&self, to: NodeId, purpose: Purpose) -> Hello {
        Hello {
            purpose,
            from: self.own.me,
            to,
            name: self.own.name.clone(),
            terms: self.own.terms.clone(),
            founders: self.nodes.founders(),
            cluster: self.own.cluster,
            lineage: self.own.lineage.clone(),
            founding: self.is_founding(),
            nodes: self.behind.contains(&to).then(|| self.nodes.clone()),
        }
    }

    /// What to answer to a hello.
    pub fn answer(&mut self, hello: &Hello) -> Step<Welcome> {
        if let Err(refused) = self.check_cluster(hello) {
            return Step::Say(refused);
        }
        if let Some(nodes) = hello.nodes.as_ref().filter(|_| self.own.cluster == hello.cluster) {
            self.set_nodes(nodes.clone());
        }
        if let Err(refused) = self.check_node(hello) {
            return Step::Say(refused);
        }
        if let Some(write) = self.adopt(hello.cluster) {
            return Step::Write(write);
        }
        let Some(cluster) = self.own.cluster else {
            return Step::Say(Welcome::Later(self.own.waits()));
        };
        if let Some(write) = self.remember(hello.from, hello.lineage.life) {
            return Step::Write(write);
        }
        Step::Say(Welcome::Yes { cluster, lineage: self.own.lineage.clone() })
    }

    /// What to make of the answer of a node that was called.
    ///
    /// # Panics
    /// When that is this node itself.
    pub fn meet(&mut self, by: NodeId, welcome: &Welcome) -> Step<Met> {
        assert!(by != self.own.me, "other nodes are called");
        match welcome {
            Welcome::Yes { cluster, lineage } => self.welcomed(by, *cluster, lineage),
            Welcome::Later(why) => Step::Say(Met::NotNow(why.clone())),
            Welcome::Unknown { revision, why } => {
                if *revision < self.nodes.revision {
                    self.behind.insert(by);
                }
                Step::Say(Met::NotNow(why.clone()))
            }
            Welcome::Stranger(why) => Step::Say(self.called_a_stranger(by, why)),
            Welcome::Gone(why) => self.called_gone(why),
            Welcome::No(Refusal { by: lineage, why }) if self.is_copy(by, lineage) => {
                Step::Say(Met::NotNow(format!("it comes with an old copy of its folder, and says: {why}")))
            }
            Welcome::No(Refusal { why, .. }) => Step::Say(Met::Hopeless(why.clone())),
            Welcome::Copy(Refusal { why, .. }) => self.called_a_copy(why),
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
                let is_mine = (own.me, &own.lineage) == (self.own.me, &self.own.lineage);
                assert!(is_mine, "a folder stays its node's");
                let is_kept = self.own.cluster.is_none_or(|cluster| own.cluster == Some(cluster));
                assert!(is_kept, "the id of a cluster never changes");
                self.own = *own;
            }
            Kept::Lives(known) => {
                assert!(self.known.keys().all(|node| known.contains_key(node)), "who was met is remembered");
                self.known = known;
            }
        }
    }

    /// Whether this node has drawn the id of the cluster, and nobody else is known to have it. (Who joined was given it.)
    fn is_founding(&self) -> bool {
        self.known.is_empty() && self.own.cluster.is_some() && !self.own.founders.is_empty()
    }

    fn check_cluster(&self, hello: &Hello) -> Result<(), Welcome> {
        let Identity { terms, name, .. } = &self.own;
        if hello.terms != *terms {
            return Err(Welcome::Stranger(format!(
                "node {} belongs to another cluster or was given other options ({}) than node {name} ({terms}): all nodes \
                 of a cluster are started with the same --shards, --history and --deleted-history",
                hello.name, hello.terms,
            )));
        }
        let founders = self.nodes.founders();
        if !founders.is_empty() && !hello.founders.is_empty() && hello.founders != founders {
            return Err(Welcome::Stranger(format!(
                "node {} belongs to another cluster or is founded with other nodes ({}) than node {name} ({founders}): all \
                 nodes of a new cluster are started with the same --peers",
                hello.name, hello.founders,
            )));
        }
        match self.own.cluster.filter(|own| hello.cluster.is_some_and(|theirs| theirs != *own)) {
            Some(cluster) => Err(self.another_cluster(hello, cluster)),
            None => Ok(()),
        }
    }

    fn check_node(&self, hello: &Hello) -> Result<(), Welcome> {
        let Identity { me, name, .. } = &self.own;
        match self.nodes.place(hello.from) {
            Place::Member(member) if member.name == hello.name && hello.from != *me => {}
            Place::Gone => {
                return Err(Welcome::Gone(format!(
                    "node {} with the id {} is no member of the cluster any more: it has left, or another node was put in its \
                     place. To have it take part again, give it an empty data folder and let it join as a new node",
                    hello.name, hello.from,
                )));
            }
            Place::Unknown if self.own.cluster.is_some() && self.own.cluster == hello.cluster => {
                let (revision, theirs) = (self.nodes.revision, &hello.name);
                let why = format!("node {name} has not heard yet that there is a node {theirs}");
                return Err(Welcome::Unknown { revision, why });
            }
            Place::Member(_) | Place::Unknown => {
                return Err(Welcome::Stranger(format!(
                    "node {} is no other node of this cluster",
                    hello.name
                )));
            }
        }
        if hello.to != *me {
            return Err(Welcome::Stranger(format!(
                "node {} calls node {} and finds node {name} at its address: check the addresses in --peers of both",
                hello.name,
                self.shown(hello.to),
            )));
        }
        self.check_life(hello.from, &hello.lineage)
    }

    fn another_cluster(&self, hello: &Hello, own: ClusterId) -> Welcome {
        let theirs = hello.cluster.map_or_else(|| "none".into(), |id| id.to_string());
        let name = &self.own.name;
        if hello.founding {
            return self.no(format!(
                "node {} founds cluster {theirs}, and {name} knows its cluster as {own} already: node {} comes with another \
                 data folder than the one that founded it (it was wiped), or its --peers name nodes of another cluster. {}",
                hello.name,
                hello.name,
                give_back(&hello.name),
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

    fn welcomed(&mut self, by: NodeId, theirs: ClusterId, lineage: &Lineage) -> Step<Met> {
        if !matches!(self.nodes.place(by), Place::Member(_)) {
            return Step::Say(Met::NotNow(format!("node {by} is no member of the cluster any more")));
        }
        if let Err(Welcome::No(Refusal { why, .. }) | Welcome::Copy(Refusal { why, .. })) =
            self.check_life(by, lineage)
        {
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
        if let Some(write) = self.remember(by, lineage.life) {
            return Step::Write(write);
        }
        for set in [&mut self.strangers, &mut self.behind] {
            set.remove(&by);
        }
        self.was_let_in = true;
        Step::Say(Met::Ours)
    }

    /// Another node does not want this one, and one of the two is in the wrong place.
    fn called_a_stranger(&mut self, by: NodeId, why: &str) -> Met {
        self.strangers.insert(by);
        let nodes = self.nodes.members.len();
        // One that is no member any more speaks for nobody.
        let is_member = |node: &&NodeId| matches!(self.nodes.place(**node), Place::Member(_));
        let has_majority = nodes.saturating_sub(self.strangers.iter().filter(is_member).count()) > nodes / 2;
        match self.own.cluster.is_some() && has_majority {
            true => Met::NotNow(why.to_owned()),
            false => Met::Hopeless(why.to_owned()),
        }
    }

    /// The node is noted as one that was a member: it must not be tried again until those who know better are away.
    fn called_gone(&self, why: &str) -> Step<Met> {
        match &self.own.gone {
            Some(why) if self.was_let_in => Step::Say(Met::Left(why.clone())),
            Some(why) => Step::Say(Met::Hopeless(why.clone())),
            None => Step::Write(self.change(|own| own.gone = Some(why.to_owned()))),
        }
    }

    /// The folder is noted as a copy: it must not be tried again until those who know better are away.
    fn called_a_copy(&self, why: &str) -> Step<Met> {
        match self.own.copy {
            Some(_) => Step::Say(Met::Hopeless(why.to_owned())),
            None => Step::Write(self.change(|own| own.copy = Some(why.to_owned()))),
        }
    }

    /// Compares a node's life with the one that it was met in last.
    fn check_life(&self, node: NodeId, lineage: &Lineage) -> Result<(), Welcome> {
        let name = self.shown(node);
        let beside = match self.known.get(&node) {
            Some(last) => (lineage.beside(last), last.starts),
            None if self.is_listed_otherwise(node, lineage.life) => (Beside::OtherFolder, 0),
            None => return Ok(()),
        };
        let copies_pass = mutant::is(Mutant::OldFolderLetIn);
        match beside {
            (Beside::Same | Beside::Later, _) => Ok(()),
            (Beside::OtherFolder, _) if mutant::is(Mutant::IncarnationNotChecked) => Ok(()),
            (Beside::OtherFolder, _) => Err(self.no(format!(
                "node {name} comes with another data folder than the one it was known under: the folder was wiped, or is \
                 another node's. {}",
                give_back(name)
            ))),
            (Beside::Earlier | Beside::Twice, _) if copies_pass => Ok(()),
            (Beside::Earlier, last) => Err(self.copy(format!(
                "node {name} comes with its data folder as of start {}, and was met as of start {last} already: the folder \
                 was restored from an old copy, or a copy of it was started elsewhere later. {}",
                lineage.life.starts,
                keep_one(name)
            ))),
            (Beside::Twice, last) => Err(self.copy(format!(
                "node {name} was met as of start {last} of its data folder in another process: a copy of the folder runs \
                 elsewhere, or ran before this one. {}",
                keep_one(name)
            ))),
        }
    }

    /// Whether a node comes with a copy of its folder: then it remembers others as they were.
    fn is_copy(&self, node: NodeId, lineage: &Lineage) -> bool {
        let beside = self.known.get(&node).map(|last| lineage.beside(last));
        matches!(beside, Some(Beside::Earlier | Beside::Twice))
    }

    fn no(&self, why: String) -> Welcome {
        Welcome::No(Refusal { by: self.own.lineage.clone(), why })
    }

    fn copy(&self, why: String) -> Welcome {
        Welcome::Copy(Refusal { by: self.own.lineage.clone(), why })
    }

    /// Whether the map has the node with another folder than this.
    fn is_listed_otherwise(&self, node: NodeId, life: Life) -> bool {
        let Place::Member(member) = self.nodes.place(node) else { return false };
        member.incarnation != 0 && member.incarnation != life.incarnation
    }

    fn remember(&self, node: NodeId, life: Life) -> Option<Write> {
        let is_new = self.known.get(&node) != Some(&life);
        is_new.then(|| {
            let mut known = self.known.clone();
            known.insert(node, life);
            Write { kept: Kept::Lives(known), what: "who another node is" }
        })
    }

    /// Nothing is remembered of those who will never be met again.
    fn forget_gone(&mut self) {
        let Greeter { nodes, known, strangers, behind, .. } = self;
        known.retain(|node, _| nodes.place(*node) != Place::Gone);
        for set in [strangers, behind] {
            set.retain(|node| nodes.members.contains_key(node));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Identity)) -> Write {
        let mut own = self.own.clone();
        change(&mut own);
        Write { kept: Kept::Identity(Box::new(own)), what: "what has become of this node" }
    }

    fn shown(&self, node: NodeId) -> &str {
        self.nodes.name(node).unwrap_or("of another cluster")
    }
}

/// What who started a copy of a node's folder is to do.
fn keep_one(name: &str) -> String {
    format!(
        "What it had acknowledged may be missing in a copy. Stop this one for good, and start the folder that ran last; if that \
         is lost, {}",
        come_back(name)
    )
}

/// What who lost a node's folder is to do.
fn give_back(name: &str) -> String {
    format!(
        "What it had acknowledged is missing there. Give it its own folder back; if that is lost, {}",
        come_back(name)
    )
}

/// How a node comes back whose folder is gone for good, in words for people: as a new one of the same name.
pub fn come_back(name: &str) -> String {
    format!(
        "run 'capstan cluster replace {name}' on another node, then start {name} on an empty folder with 'capstan serve --join': \
         the cluster goes on with it as a new node of the same name"
    )
}
