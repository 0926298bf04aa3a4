//! Why something does not happen to the map, and what to do instead.

use kv::{NodeId, Protocol, ShardId};

/// What is asked is refused, and nothing has changed. The text says what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no cluster yet.
    #[error("the cluster is not founded yet: ask again when its first node serves")]
    NotFounded,
    /// It is another cluster.
    #[error("this is another cluster: check the addresses")]
    OtherCluster,
    /// What was given is not as it must be.
    #[error("{0}")]
    Invalid(String),
    /// The cluster has as many nodes as it can.
    #[error(
        "the cluster has {0} nodes already, and can have no more: remove one first (`capstan cluster leave`)"
    )]
    TooManyNodes(usize),
    /// A node listens to no others.
    #[error(
        "node '{0}' does not listen to other nodes: start it with --listen-peer HOST:PORT, then let this one join"
    )]
    Alone(String),
    /// No node has this name.
    #[error("no node is named '{0}': `capstan cluster nodes` lists them")]
    UnknownNode(String),
    /// No node has this id.
    #[error("no node has the id {0}: it was removed, or it is of another cluster")]
    UnknownId(NodeId),
    /// Another node that may well be alive has the name.
    #[error(
        "the cluster has a node '{0}' with another data folder, which was heard of just now: give this one another name; or, if it \
         is that node and its folder was lost, retire the lost one once it counts as dead (`capstan cluster replace {0}`), then \
         join again"
    )]
    NameTaken(String),
    /// Another node that is not heard of any more has the name.
    #[error(
        "the cluster has a node '{0}' with another data folder, which is dead: if it never comes back, retire it \
         (`capstan cluster replace {0}`), then join again"
    )]
    NameOfDead(String),
    /// The data folder is of a node that was retired.
    #[error(
        "node '{0}' was replaced, and this is its data folder: move the folder away, and join as a new node"
    )]
    Replaced(String),
    /// A node is asked for that was retired.
    #[error(
        "node '{0}' was replaced for good: a node of that name can only join anew, with an empty data folder"
    )]
    Gone(String),
    /// An id was given to one data folder, and another one comes with it.
    #[error(
        "node '{0}' has another data folder: this one is a copy or was made anew; move it away, and join as a new node"
    )]
    OtherFolder(String),
    /// A node that is to be replaced was heard of.
    #[error("node '{0}' was heard of just now: stop it first, or let it leave (`capstan cluster leave {0}`)")]
    NotDead(String),
    /// Nobody would be left who takes replicas.
    #[error(
        "node '{0}' is the last one that takes replicas: start another one first (`capstan serve --join`), or let one take \
         replicas again (`capstan cluster join NAME`)"
    )]
    LastNode(String),
    /// A keyspace would have fewer replicas than it has now.
    #[error(
        "without '{node}' keyspace '{keyspace}' has nodes for {left} replicas, not for {replicas}: add a node first, or accept \
         fewer replicas (--fewer-replicas)"
    )]
    TooFewNodes {
        /// The node that was to go.
        node: String,
        /// Whose replicas would be too few.
        keyspace: String,
        /// Replicas that it has now.
        replicas: usize,
        /// Nodes that would be left to take them.
        left: usize,
    },
    /// A keyspace would have fewer replicas than it takes writes with.
    #[error(
        "without '{node}' keyspace '{keyspace}' has nodes for {left} replicas, and takes no writes with fewer than {copies}: add a node \
         first, or let it go on with fewer (capstan keyspace alter {keyspace}, --min-copies {left} or a lower --sync)"
    )]
    TooFewCopies {
        /// The node that was to go.
        node: String,
        /// Whose copies would be too few.
        keyspace: String,
        /// With how many it takes writes at least.
        copies: u16,
        /// Nodes that would be left to take them.
        left: usize,
    },
    /// A shard has used up the numbers of replicas.
    #[error(
        "shard {0} cannot go elsewhere: it was moved 1,022 times already, and versions have no more numbers for its replicas"
    )]
    NoNumbers(ShardId),
    /// A node has a copy that does not go elsewhere.
    #[error(
        "the copies of keyspace '{0}' stay on their nodes, as they do under two-phase and quorum: copy its keys to another keyspace and drop \
         it (`capstan keyspace drop {0}`), then try again"
    )]
    CopiesStay(String),
    /// A keyspace has as many copies as it was created with.
    #[error(
        "keyspace '{0}' keeps the copies that it was created with, as they do under two-phase and quorum: create another one with as many as \
         you want, and copy the keys"
    )]
    ReplicasStay(String),
    /// A keyspace that has all its copies from the beginning wants more than there are nodes for.
    #[error(
        "a keyspace under two-phase or quorum has all its {replicas} copies from the beginning, and {nodes} nodes can take one now: give it fewer \
         (--replicas), or start more nodes"
    )]
    TooFewForAll {
        /// Copies that it is to have.
        replicas: u16,
        /// Nodes that take replicas and live.
        nodes: usize,
    },
    /// A shard cannot go elsewhere: too few of its replicas are alive.
    #[error(
        "shard {shard} cannot go elsewhere, as most of its replicas are on nodes that are dead: start one of them first ({nodes})"
    )]
    Stuck {
        /// Which.
        shard: ShardId,
        /// The names of its nodes that are dead.
        nodes: String,
    },
    /// What only the node has would be lost.
    #[error(
        "what shard {shard} holds would be lost with '{node}': start it again, or give the data up for good (--lose-data)"
    )]
    LastCopy {
        /// The node.
        node: String,
        /// The first such shard.
        shard: ShardId,
    },
    /// A keyspace has more shards than it is to have.
    #[error(
        "keyspace '{keyspace}' has {shards} shards, and shards are not joined again: ask for {shards} or more"
    )]
    FewerShards {
        /// Which.
        keyspace: String,
        /// How many it has.
        shards: usize,
    },
    /// The shards of a keyspace are being split.
    #[error(
        "the shards of keyspace '{keyspace}' are being split into {shards} already: wait until that is done (`capstan cluster moves`)"
    )]
    Splitting {
        /// Which.
        keyspace: String,
        /// How many there will be.
        shards: usize,
    },
    /// The node inherits a shard, and may have begun to serve it.
    #[error(
        "'{node}' was taking shard {shard} over from '{owner}' when it was last heard of, and may have served it since: start it \
         again, or go back to what '{owner}' has (--lose-data)"
    )]
    Heir {
        /// The node.
        node: String,
        /// The first such shard.
        shard: ShardId,
        /// Who had it before.
        owner: String,
    },
    /// The shard has no change under way.
    #[error("shard {0} has no change under way: `capstan cluster moves` lists them")]
    NoChange(ShardId),
    /// Its members are changing over already.
    #[error(
        "the members of shard {0} are changing over already: wait until that is done; then it can be moved back"
    )]
    Switching(ShardId),
    /// No keyspace has this name.
    #[error("there is no keyspace '{0}': 'capstan keyspace list' names those that there are")]
    UnknownKeyspace(String),
    /// A keyspace of this name is there, and is not as wished.
    #[error(
        "there is a keyspace '{name}' already, and it is another one: {differs}; alter it (capstan keyspace alter {name}), or take \
         another name"
    )]
    OtherKeyspace {
        /// Its name.
        name: String,
        /// What is otherwise.
        differs: String,
    },
    /// A keyspace is to have other shards and another protocol at once.
    #[error(
        "the shards of keyspace '{0}' are split, or go on under another protocol, one after the other: wait until what is under way is \
         done (`capstan cluster moves`), and ask for one of them at a time"
    )]
    OneByOne(String),
    /// A keyspace goes on under another protocol already.
    #[error(
        "keyspace '{keyspace}' is on its way to {protocol}: wait until all of its shards are there (`capstan keyspace describe \
         {keyspace}`), or go back to the protocol before"
    )]
    Recast {
        /// Which.
        keyspace: String,
        /// Which protocol it will have.
        protocol: Protocol,
    },
    /// A keyspace is to go on under a protocol that takes writes with more copies than there can be.
    #[error(
        "under {protocol} a write needs {copies} copies, and {nodes} nodes can take one now: start more nodes, or ask for fewer \
         copies (--replicas, --min-copies, --sync)"
    )]
    TooFewToGoOn {
        /// The protocol.
        protocol: Protocol,
        /// Copies that a write needs.
        copies: u16,
        /// Nodes that take replicas and live.
        nodes: usize,
    },
    /// A change of protocol is given up for the whole keyspace.
    #[error(
        "shard {shard} is on its way to another protocol, with its keyspace: to take that back, go back to the one before \
         (`capstan keyspace alter {keyspace} --protocol {protocol}`)"
    )]
    AbortRecast {
        /// The shard.
        shard: ShardId,
        /// Its keyspace.
        keyspace: String,
        /// Its protocol as it is.
        protocol: Protocol,
    },
    /// A ruling of the operator changes nothing.
    #[error("keyspace '{keyspace}': nothing is changed: {why}")]
    NotNeeded {
        /// Which.
        keyspace: String,
        /// What is so of its first shard.
        why: String,
    },
    /// The protocol of a keyspace lets nobody say who orders.
    #[error(
        "keyspace '{keyspace}' is under {protocol}, and nobody is made to order there: bring back the nodes that its shards need (`capstan          cluster status` names them)"
    )]
    ElectsItself {
        /// Which.
        keyspace: String,
        /// Its protocol.
        protocol: Protocol,
    },
    /// The protocol of a keyspace goes on without who is away.
    #[error(
        "keyspace '{keyspace}' is under {protocol}, where nobody is declared dead: its replicas on a node that is gone for good are made \
         again elsewhere when the node is replaced (`capstan cluster replace`)"
    )]
    GoesOnItself {
        /// Which.
        keyspace: String,
        /// Its protocol.
        protocol: Protocol,
    },
    /// A node that is to be declared dead may be alive.
    #[error(
        "node '{0}' is not dead, as far as is known: stop it, wait until `capstan cluster nodes` says that it is dead, and ask again"
    )]
    MayLive(String),
    /// A node that is to order is not heard of.
    #[error(
        "node '{0}' is not heard of at present: start it first, or name one that is alive (`capstan cluster nodes`)"
    )]
    NotAlive(String),
    /// One of this name was dropped, and a leader of one of its shards may still hold a lease.
    #[error(
        "the former keyspace '{0}' was dropped a moment ago, and may still be served: ask again in a second"
    )]
    JustDropped(String),
    /// One of this name was dropped, and may yet be served.
    #[error(
        "nodes that may serve what the former keyspace '{keyspace}' held have not heard yet that it was dropped ({nodes}): ask again \
         when they are back, or take another name; one that never comes back is given up by 'capstan cluster replace NAME --lose-data'"
    )]
    StillServed {
        /// Its name.
        keyspace: String,
        /// The names of the nodes.
        nodes: String,
    },
    /// There are as many keyspaces as there can be.
    #[error(
        "the cluster has {0} keyspaces already, with those that were just dropped, and can have no more: drop one first"
    )]
    TooManyKeyspaces(usize),
    /// There would be more shards than there can be.
    #[error(
        "the cluster has {are} shards, and {more} more would be over the {most} that it can have: give the keyspace fewer shards, \
         or drop another keyspace"
    )]
    TooManyShards {
        /// How many there are.
        are: usize,
        /// How many were to come.
        more: usize,
        /// How many there can be.
        most: usize,
    },
    /// Too few nodes take replicas at present.
    #[error(
        "too few of the nodes that take replicas are alive for a majority of them: check 'capstan cluster nodes', and ask again"
    )]
    NoNodes,
    /// The keyspace of who names none stays.
    #[error(
        "keyspace '{0}' is what clients ask that name none, and stays: delete its keys instead (capstan delrange --keyspace {0})"
    )]
    Stays(String),
    /// What is reported was overtaken.
    #[error("shard {0} has newer members than those that are reported: read the map again")]
    Overtaken(ShardId),
}
