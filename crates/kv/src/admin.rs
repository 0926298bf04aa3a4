//! What operators and joining nodes ask of a cluster, and the answers: the waist of its directory.
//!
//! A node passes an [`Ask`] on to the node that leads the directory, which turns it into a change of the map, or refuses it
//! with what to do instead. The map says what is to be; the nodes then go there on their own. So an ask is answered when the
//! change is written, before any row has moved: [`Ask::Moves`] says how far that is.
//!
//! Every ask may be sent again: what is so already is done. The one that is in doubt is asked once more.

use std::time::Duration;

use bytes::Bytes;

use crate::cluster::NodeDuty;
use crate::fault::{Fault, Faults};
use crate::keyspace::{self, Described, Settings, Wish};
use crate::view::Change;
use crate::{ClusterId, Error, NodeId, ShardId};

/// The longest name of a node or a zone, and the longest address, in bytes: they stand in the map, which every node keeps in
/// memory and in its log.
pub const TEXT_BYTES_MAX: usize = 255;

/// Whoever looks after a cluster: a node, a dialect's client.
pub trait Admin: Send + Sync {
    /// Asks one thing. Returns at once; `answer` is called exactly once, within the timeout and a little, on any thread.
    fn administer(&self, ask: Ask, timeout: Duration, answer: Answered);

    /// Puts a fault on the node at hand, or takes it off, and says which are in force then; `None` = says that only.
    /// [`Error::Invalid`] = it takes none, as all that are no lab: the text says what to do.
    fn fault(&self, fault: Option<Fault>) -> Result<Faults, Error> {
        match fault {
            Some(_) => {
                Err(Error::Invalid("no faults are taken here: ask a node that is started with --lab".into()))
            }
            None => Ok(Faults::default()),
        }
    }
}

/// Takes the answer to an ask.
///
/// [`Error::Invalid`] = it cannot be as the cluster is (no such node, too few nodes for the replicas, a node that is alive): the
/// text says what to do instead. [`Error::Unavailable`] = nobody decides at present, and nothing was changed.
/// [`Error::InDoubt`] = it may have been written: ask again.
pub type Answered = Box<dyn FnOnce(Result<Answer, Error>) + Send>;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A node wants to belong to the cluster: [`Answer::Joined`]. The same name and incarnation are given the same id again.
    Join(Joining),
    /// A node is to do something else from now on: [`Answer::Done`].
    Node {
        /// Its name.
        name: String,
        /// What it is to do; not [`NodeDuty::Gone`], which is what [`Ask::Replace`] is for.
        duty: NodeDuty,
        /// Even where shards have fewer replicas then: too few nodes are left to take them.
        fewer: bool,
        /// Change nothing; answer the moves that it would take ([`Answer::Moves`]).
        dry_run: bool,
    },
    /// A dead node is gone for good: its replicas are made again elsewhere, and a new node may take its name:
    /// [`Answer::Done`]. Refused while the node is alive.
    Replace {
        /// Its name.
        name: String,
        /// Even where what only it has is lost.
        lose: bool,
        /// Change nothing; answer the moves that it would take ([`Answer::Moves`]).
        dry_run: bool,
    },
    /// Give up the change of a shard that is under way, as long as its members have not begun to change over:
    /// [`Answer::Done`].
    Abort {
        /// The shard.
        shard: ShardId,
    },
    /// What moves at present: [`Answer::Moves`].
    Moves,
    /// The rows that the directory keeps: [`Answer::Rows`].
    Dump,
    /// A keyspace is to be: [`Answer::Done`]. One that is there and is as wished is so already; one that is otherwise is refused.
    CreateKeyspace {
        /// Its name.
        name: String,
        /// What it is to be.
        wish: Wish,
    },
    /// A keyspace is to be otherwise: [`Answer::Done`].
    AlterKeyspace {
        /// Its name.
        name: String,
        /// What is to be otherwise.
        wish: Wish,
        /// Change nothing; answer the moves that it would take ([`Answer::Moves`]).
        dry_run: bool,
    },
    /// A keyspace is to be no more, with all that it holds: [`Answer::Done`], too where there is none.
    DropKeyspace {
        /// Its name.
        name: String,
    },
    /// What only people can decide about the members of a keyspace's shards: [`Answer::Ruled`], for each of its shards. Refused where
    /// it is needed for none of them.
    Rule {
        /// The keyspace's name.
        keyspace: String,
        /// What they decide.
        ruling: Ruling,
        /// Change nothing; answer what would become of each shard.
        dry_run: bool,
    },
    /// A zone says how many secondaries a write waits for that is led in it, of shards that are laid out by zones: [`Answer::Done`]. For
    /// who looks after such a cluster.
    Zone {
        /// Its name.
        name: String,
        /// So many, or all that there are while there are fewer; `None` = as the keyspace says.
        secondaries: Option<u16>,
    },
    /// What keyspaces there are: [`Answer::Keyspaces`].
    Keyspaces,
    /// The members of a shard are to have other duties, as one of them asks, where the directory says who orders: [`Answer::Done`].
    /// Holds only in the epoch and the revision that it names. For replicas: a node asks it for one of its own.
    Revise {
        /// The shard.
        shard: ShardId,
        /// What is asked.
        change: Change,
    },
}

/// What people decide about the members of shards where the protocol cannot: something that was acknowledged may be lost by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Under `primary`, where no member in sync is left: the replica on a node orders from now on, with what it has.
    ForcePrimary {
        /// The node's name.
        node: String,
    },
    /// Under `two-phase`: a node is dead for good, and its replicas are none any more. Of its shards the others go on without it.
    DeclareDead {
        /// The node's name.
        node: String,
    },
}

impl Ruling {
    /// The name of the node that it is about.
    pub fn node(&self) -> &str {
        match self {
            Ruling::ForcePrimary { node } | Ruling::DeclareDead { node } => node,
        }
    }
}

/// What became of a shard by a [`Ruling`], or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// The shard.
    pub shard: ShardId,
    /// Whether it has come about; if not it was not needed, or does not concern the shard.
    pub done: bool,
    /// What, or why not: for people.
    pub why: String,
}

/// A node that wants to belong to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// For people. No two nodes have the same.
    pub name: String,
    /// The life of its data folder: a random number, not 0.
    pub incarnation: u64,
    /// Where other nodes connect: HOST:PORT, as they reach it.
    pub peer: String,
    /// Where its clients connect: HOST:PORT, as they reach it.
    pub address: String,
    /// What fails together with it; empty = a zone of its own.
    pub zone: String,
}

/// The answer; which one belongs to which ask stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The node belongs to the cluster.
    Joined {
        /// Its id.
        node: NodeId,
        /// The cluster's id.
        cluster: ClusterId,
        /// The map of a revision at which the node is one of the cluster, as the directory encodes it.
        map: Bytes,
        /// The lives of the nodes as the node knows them that is asked, as identities encode them. The directory says none, and
        /// none are passed on between nodes.
        lives: Bytes,
    },
    /// It is so from now on.
    Done,
    /// Replicas on their way, or that would be, in the order of their shards.
    Moves(Vec<Move>),
    /// Rows in the order of their keys.
    Rows(Vec<Row>),
    /// The keyspaces that clients may ask, in the order of their names.
    Keyspaces(Vec<Described>),
    /// What became of each shard of a keyspace, in the order of their slots.
    Ruled(Vec<Ruled>),
}

/// A replica that goes from a node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its shard.
    pub shard: ShardId,
    /// The shard's keyspace.
    pub keyspace: String,
    /// The node that gives its replica up; `None` = the shard gets one more.
    pub from: Option<NodeId>,
    /// The node that gets a replica; `None` = the shard has one too many.
    pub to: Option<NodeId>,
    /// How far it is.
    pub phase: Phase,
    /// Why it is made.
    pub why: Why,
    /// How many bytes have been copied.
    pub bytes_done: u64,
    /// How many there are to copy; 0 = not known yet.
    pub bytes_total: u64,
    /// How long it has been under way, in microseconds; 0 = it has not begun.
    pub elapsed_micros: u64,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It has not begun.
    Planned,
    /// The new replica is brought up to date; the shard serves as before.
    Copy,
    /// The members change over. It cannot be given up any more.
    Switch,
}

/// Why members of a shard change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Counts were not equal.
    Balance,
    /// This node is drained, or leaves.
    Leaves(NodeId),
    /// This node is dead or gone.
    Lost(NodeId),
    /// It has fewer replicas than it should.
    Repair,
    /// It is cut into several shards.
    Split,
    /// It goes on under another protocol.
    Protocol,
}

/// A row of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// Its value, as text for people.
    pub value: String,
}

impl Why {
    /// Whether the shard ends, and its nodes go on with others that are made of it.
    pub fn makes_parts(self) -> bool {
        matches!(self, Why::Split | Why::Protocol)
    }
}

impl Phase {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Copy => "copy",
            Phase::Switch => "switch",
        }
    }
}

impl Ask {
    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        match self {
            Ask::Join(_) | Ask::Abort { .. } | Ask::CreateKeyspace { .. } | Ask::DropKeyspace { .. } => true,
            Ask::Revise { .. } | Ask::Zone { .. } => true,
            Ask::Node { dry_run, .. }
            | Ask::Replace { dry_run, .. }
            | Ask::AlterKeyspace { dry_run, .. }
            | Ask::Rule { dry_run, .. } => !dry_run,
            Ask::Moves | Ask::Dump | Ask::Keyspaces => false,
        }
    }

    /// Checks it against the limits, and that its names can be names.
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            Ask::Join(joining) => joining.validate(),
            Ask::Node { duty: NodeDuty::Gone, .. } => {
                Err(Error::Invalid("a node is not asked to be gone: replace it when it is dead".into()))
            }
            Ask::Node { name, .. } | Ask::Replace { name, .. } => check_name(name),
            Ask::CreateKeyspace { name, wish } => {
                keyspace::check_name(name).map_err(Error::Invalid)?;
                let settings = Settings::of(wish);
                Wish { protocol: Some(settings.protocol), ..wish.clone() }.validate()?;
                wish.check_for(&settings).map_err(Error::Invalid)
            }
            Ask::AlterKeyspace { name, wish, .. } => {
                keyspace::check_name(name).map_err(Error::Invalid)?;
                wish.validate()
            }
            Ask::DropKeyspace { name } => keyspace::check_name(name).map_err(Error::Invalid),
            Ask::Rule { keyspace, ruling, .. } => {
                keyspace::check_name(keyspace).map_err(Error::Invalid)?;
                check_name(ruling.node())
            }
            Ask::Zone { name, .. } if name.is_empty() => Err(Error::Invalid("a zone has a name".into())),
            Ask::Zone { name, .. } => check_length("the zone", name),
            Ask::Abort { .. } | Ask::Moves | Ask::Dump | Ask::Keyspaces | Ask::Revise { .. } => Ok(()),
        }
    }
}

impl Joining {
    fn validate(&self) -> Result<(), Error> {
        check_name(&self.name)?;
        check_length("the zone", &self.zone)?;
        for (what, address) in [("the peer address", &self.peer), ("the address", &self.address)] {
            check_length(what, address)?;
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) {
                let shown = address.escape_debug();
                return Err(Error::Invalid(format!("{what} '{shown}' is not HOST:PORT")));
            }
        }
        match self.incarnation {
            0 => Err(Error::Invalid("a node that joins has an incarnation: a random number, not 0".into())),
            _ => Ok(()),
        }
    }
}

/// Whether this can be the name of a node.
fn check_name(name: &str) -> Result<(), Error> {
    check_length("the name of a node", name)?;
    if name.is_empty() || name.contains(['=', ',', '/']) {
        let shown = name.escape_debug();
        return Err(Error::Invalid(format!("'{shown}' is no name for a node: letters and digits will do")));
    }
    Ok(())
}

fn check_length(what: &str, text: &str) -> Result<(), Error> {
    match text.len() {
        0..=TEXT_BYTES_MAX => Ok(()),
        bytes => Err(Error::TooLarge { what: what.into(), size: bytes as u64, limit: TEXT_BYTES_MAX as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joining() -> Joining {
        Joining {
            name: "n4".into(),
            incarnation: 7,
            peer: "[::1]:7424".into(),
            address: "host:7404".into(),
            zone: String::new(),
        }
    }

    #[test]
    fn ask_with_names_and_addresses_is_sound() {
        assert_eq!(Ask::Join(joining()).validate(), Ok(()));
        let zoned = Joining { zone: "z".repeat(TEXT_BYTES_MAX), ..joining() };
        assert_eq!(Ask::Join(zoned).validate(), Ok(()));
        for ask in [Ask::Moves, Ask::Dump, Ask::Replace { name: "n1".into(), lose: false, dry_run: true }] {
            assert_eq!(ask.validate(), Ok(()));
        }
    }

    #[test]
    fn ask_that_cannot_be_meant_is_refused() {
        let invalid = [
            Joining { name: String::new(), ..joining() },
            Joining { name: "a=b".into(), ..joining() },
            Joining { peer: "host".into(), ..joining() },
            Joining { peer: "host:0".into(), ..joining() },
            Joining { address: "host:70000".into(), ..joining() },
            Joining { incarnation: 0, ..joining() },
        ];
        for joining in invalid {
            let refused = Ask::Join(joining.clone()).validate();
            assert!(matches!(refused, Err(Error::Invalid(_))), "{joining:?}");
        }
        let long = "n".repeat(TEXT_BYTES_MAX + 1);
        let ask = Ask::Node { name: long, duty: NodeDuty::Drain, fewer: false, dry_run: false };
        assert!(matches!(ask.validate(), Err(Error::TooLarge { size: 256, limit: 255, .. })));
        let gone = Ask::Node { name: "n1".into(), duty: NodeDuty::Gone, fewer: false, dry_run: false };
        assert!(matches!(gone.validate(), Err(Error::Invalid(_))));
        let nobody = Ask::Replace { name: "a,b".into(), lose: false, dry_run: false };
        assert!(matches!(nobody.validate(), Err(Error::Invalid(_))));
    }
}
