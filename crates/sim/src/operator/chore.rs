//! What there is to do, and what is asked for it.

use std::collections::{BTreeMap, BTreeSet};

use kv::admin::{Answer, Ask, Joining, Ruling};
use kv::cluster::NodeDuty;
use kv::keyspace::Wish;
use kv::{Error, NodeId, Request, ShardId};
use node::identity::Joiner;
use placement::map::DEFAULT;

use super::tenant::{Asked, Tenant};
use crate::machine::place::address;

/// A cluster is not made smaller than this.
pub(crate) const SERVING_MIN: usize = 2;

/// What the operator is about to do.
#[derive(Default)]
pub(crate) struct Operator {
    pub(super) chores: Vec<Chore>,
    /// What was answered and not looked at.
    pub(super) answers: BTreeMap<u64, Result<Answer, Error>>,
    /// Of the last ask.
    pub(super) asked: u64,
    /// The ids that machines were given, by the incarnations of their folders.
    pub(super) joined: BTreeMap<u64, NodeId>,
    /// Who uses keyspaces.
    pub(super) tenants: [Tenant; 2],
    /// Who asked something for its keyspace of a node that never answered: one that stands still may do it when it goes on, however
    /// late that is.
    pub(super) unanswered: BTreeSet<&'static str>,
    /// Machines that joined under names of their own.
    pub(super) named: u64,
}

impl Operator {
    /// Whether something that a tenant asked may come about yet.
    pub fn has_busy_tenants(&self) -> bool {
        self.tenants.iter().any(Tenant::is_busy)
    }

    /// Whether a keyspace may come into being on nodes that live now.
    pub fn is_creating(&self) -> bool {
        self.tenants.iter().any(Tenant::is_creating)
    }

    /// How much is to be done.
    pub fn chores(&self) -> &[Chore] {
        &self.chores
    }
}

/// Something to do.
#[derive(Debug)]
pub(crate) struct Chore {
    pub(super) what: What,
    pub(super) asked: Option<Asked>,
    pub(super) not_before: u64,
    /// Nor before the directory knows that this node is away, if that is sooner.
    pub(super) away: Option<NodeId>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum What {
    /// A node is to do something else.
    Become { node: NodeId, name: String, duty: NodeDuty, fewer: bool },
    /// A node is leaving: its machine is stopped when it has left.
    Leaves(NodeId),
    /// A lost node is replaced; even where that gives up what it may have alone.
    Replace { name: String, lose: bool },
    /// A lost node is declared dead for a keyspace that needs all copies.
    Declare { keyspace: String, name: String },
    /// A machine joins.
    Join(Joiner),
    /// The keyspace of clients is to keep something else.
    Alter(Wish),
    /// It is to go on under another protocol.
    Recast(Wish),
    /// A change is given up.
    Abort(ShardId),
    /// The shards of clients' keys are to be so many.
    Split(u32),
    /// The replica on the node of this name is to order, whoever was in sync.
    Force(String),
    /// Something is looked at.
    Look(Ask),
}

impl Chore {
    /// A lost node is to be replaced.
    pub(super) fn replace(name: String) -> Chore {
        Chore::new(What::Replace { name, lose: false })
    }

    pub(super) fn new(what: What) -> Chore {
        Chore { what, asked: None, not_before: 0, away: None }
    }

    pub(super) fn ask(&self) -> Option<Ask> {
        Some(match &self.what {
            What::Become { name, duty, fewer, .. } => {
                Ask::Node { name: name.clone(), duty: *duty, fewer: *fewer, dry_run: false }
            }
            What::Leaves(_) => return None,
            What::Replace { name, lose } => Ask::Replace { name: name.clone(), lose: *lose, dry_run: false },
            What::Declare { keyspace, name } => Ask::Rule {
                keyspace: keyspace.clone(),
                ruling: Ruling::DeclareDead { node: name.clone() },
                dry_run: false,
            },
            What::Join(joiner) => Ask::Join(joining(joiner)),
            What::Alter(wish) | What::Recast(wish) => {
                Ask::AlterKeyspace { name: Request::KEYSPACE.into(), wish: wish.clone(), dry_run: false }
            }
            What::Abort(shard) => Ask::Abort { shard: *shard },
            What::Split(shards) => Ask::AlterKeyspace {
                name: DEFAULT.into(),
                wish: Wish { shards: Some(*shards), ..Wish::default() },
                dry_run: false,
            },
            What::Force(node) => {
                let ruling = Ruling::ForcePrimary { node: node.clone() };
                Ask::Rule { keyspace: Request::KEYSPACE.into(), ruling, dry_run: false }
            }
            What::Look(ask) => ask.clone(),
        })
    }
}

/// What a machine asks that has no id yet.
pub(super) fn joining(joiner: &Joiner) -> Joining {
    let Joiner { name, lineage, zone } = joiner.clone();
    let (peer, address) = (address(&name), address(&name));
    Joining { name, incarnation: lineage.life.incarnation, peer, address, zone }
}
