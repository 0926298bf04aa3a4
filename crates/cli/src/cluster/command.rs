//! The definition of the commands on the cluster: words, options and help.

use clap::{Args, Subcommand};
use kv::ShardId;

use crate::parse::KeyWord;

/// What the commands are for, for help.
pub const EXAMPLES: &str = "\
Examples:
  capstan cluster status             what is wrong, nodes and shards
  capstan cluster drain n3 --wait    move everything off a node
  capstan cluster moves --wait       watch it";

/// A question about the cluster, or a change of it.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print what is wrong, the nodes and the shards
    #[command(after_help = "\
Examples:
  capstan cluster status
  capstan cluster status --all    every shard, however many there are
  capstan cluster status --json   {cluster, nodes, shards, ..} for scripts
The id of a cluster was drawn when it was founded, and no other has it.
A replica stands as its node and the last entry it applied; * leads, + is brought
up to date, - is to go, ! is on a node that is dead.")]
    Status {
        /// List every shard, not only those that need a look
        #[arg(long)]
        all: bool,
    },
    /// Print the nodes
    #[command(after_help = "\
Examples:
  capstan cluster nodes
  capstan cluster nodes --json    an object per node")]
    Nodes,
    /// Print where a key is: its slot, its shard, who leads that and who has a replica
    #[command(after_help = "\
Examples:
  capstan cluster query user:7
  capstan cluster query '{7}name'   the same slot as every key with {7}
  capstan cluster query k --json    {key, slot, shard, leader, members}")]
    Query {
        /// The key
        key: KeyWord,
    },
    /// Let a node take replicas again: takes a drain or a leave back
    #[command(after_help = "\
Examples:
  capstan cluster join n3
  capstan cluster join n3 --dry-run
A new node joins when it is started, and needs no command here:
  capstan serve --name n4 --data FOLDER --listen HOST:PORT \\
      --listen-peer HOST:PORT --join HOST:PORT")]
    Join(Change),
    /// Move the replicas of a node elsewhere; it stays in the cluster
    #[command(after_help = "\
Examples:
  capstan cluster drain n3 --dry-run    what would move
  capstan cluster drain n3 --wait       until nothing is left on it
Its keys are served meanwhile. cluster join takes it back.")]
    Drain(SendAway),
    /// Move the replicas of a node elsewhere, then take it out of the cluster
    #[command(after_help = "\
Examples:
  capstan cluster leave n3 --dry-run    what would move
  capstan cluster leave n3 --wait       until it may be switched off
Its keys are served meanwhile. Refused when too few nodes would be left for the
replicas, unless with --fewer-replicas.")]
    Leave(SendAway),
    /// Give a dead node up: make its replicas again elsewhere
    #[command(after_help = "\
Examples:
  capstan cluster replace n3 --dry-run  what would be made again
  capstan cluster replace n3 --wait
Refused while the node is alive: that one can drain or leave. It never comes back;
a new node may have its name, on an empty folder.")]
    Replace {
        #[command(flatten)]
        change: Change,
        /// Even where what only this node has is lost for good; a keyspace's name waits for it no more
        #[arg(long)]
        lose_data: bool,
    },
    /// Print what moves between nodes, and how far it is
    #[command(after_help = "\
Examples:
  capstan cluster moves
  capstan cluster moves --wait          bars, until nothing moves
  capstan cluster moves --all           those too that have not begun
  capstan cluster moves --abort 7       give up the move of shard 7
  capstan cluster moves --json          {shard, from, to, phase, bytes_done, ..}
Exit code 3 when nothing has come closer for a minute.")]
    Moves {
        /// Wait until nothing moves any more
        #[arg(long)]
        wait: bool,
        /// List all, also when those that have not begun are many
        #[arg(long, conflicts_with = "wait")]
        all: bool,
        /// Give up the move of this shard; refused once its members change over
        #[arg(long, value_name = "SHARD", value_parser = shard, conflicts_with_all = ["wait", "all"])]
        abort: Option<ShardId>,
    },
    /// Print what the directory keeps: nodes, keyspaces, shards and their changes
    #[command(after_help = "\
Examples:
  capstan cluster dump                  KEY<TAB>VALUE
  capstan cluster dump --json           {key, value}")]
    Dump,
}

/// A change of what a node does.
#[derive(Args, Clone, Debug)]
pub struct Change {
    /// The name of the node
    #[arg(value_name = "NODE")]
    pub name: String,
    /// Change nothing; print what would move
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the replicas have moved
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
}

/// A change that takes the replicas off a node.
#[derive(Args, Clone, Debug)]
pub struct SendAway {
    #[command(flatten)]
    pub change: Change,
    /// Even where shards have fewer replicas then, for want of nodes
    #[arg(long)]
    pub fewer_replicas: bool,
}

fn shard(text: &str) -> Result<ShardId, String> {
    text.parse().map(ShardId).map_err(|_| "a shard is a number: cluster moves prints it".into())
}
