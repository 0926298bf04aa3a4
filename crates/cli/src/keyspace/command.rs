//! The definition of the commands on keyspaces: words, options and help.

use std::time::Duration;

use clap::{Args, Subcommand};
use kv::Protocol;
use kv::keyspace::{Bus, History, Secondaries, Weights, Wish};

use super::ruling::Decision;
use crate::parse;

/// What the commands are for, for help.
pub const EXAMPLES: &str = "\
Examples:
  capstan keyspace create orders --shards 8 --quota-bytes 2G
  capstan keyspace describe orders   what it promises, holds and loses when
  capstan put k v --keyspace orders  or CAPSTAN_KEYSPACE=orders";

/// A question about keyspaces, or a change of one.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a keyspace
    #[command(after_help = "\
Examples:
  capstan keyspace create orders
  capstan keyspace create orders --replicas 5 --shards 16 --history 100
  capstan keyspace create cache --protocol single --ttl 10m --quota-keys 100000
  capstan keyspace create terms --protocol two-phase --replicas 3
  capstan keyspace create carts --protocol primary --sync 1 --interval 50ms
  capstan keyspace create views --protocol quorum --weights 1,2,1 --read 2 --write 3
  capstan keyspace create marks --protocol broadcast --bus mqtt://broker:1883
Done as well when it is there and as wished. It is served when this returns.")]
    Create {
        /// Its name: letters, digits, -, _ and ., up to 63
        name: String,
        #[command(flatten)]
        settings: Settings,
        /// How its replicas agree: raft (a majority), primary (all in sync), two-phase (all copies or none), quorum (no leader) or single
        /// (one copy)
        /// [default: raft]
        #[arg(long, value_name = "PROTOCOL")]
        protocol: Option<Protocol>,
    },
    /// Change a keyspace that is there
    #[command(after_help = "\
Examples:
  capstan keyspace alter orders --replicas 5 --dry-run    what would move
  capstan keyspace alter orders --history all --quota-bytes none
  capstan keyspace alter orders --protocol primary --dry-run    what gets weaker
  capstan keyspace alter orders --protocol primary --sync 1
  capstan keyspace alter orders --force-primary n2    asks for the name again
  capstan keyspace alter terms --declare-dead n3    under two-phase
What is not named stays. Another protocol is reached shard by shard, while
clients write; this returns when all are there, and goes on without it too.")]
    Alter {
        /// Its name
        name: String,
        #[command(flatten)]
        settings: Settings,
        /// How its replicas are to agree: raft, primary, two-phase or single
        #[arg(long, value_name = "PROTOCOL")]
        protocol: Option<Protocol>,
        /// Return at once, while shards are on their way to another protocol
        #[arg(long)]
        no_wait: bool,
        /// Change nothing; print what would get weaker, and what would move
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        decision: Decision,
    },
    /// Print what a keyspace promises, what it holds, and what it loses when
    #[command(after_help = "\
Examples:
  capstan keyspace describe orders
  capstan keyspace describe orders --json    {keyspace, protocol, replicas, ..}")]
    Describe {
        /// Its name
        name: String,
    },
    /// Print which acknowledged writes were lost, with --sync 0 or by --force-primary
    #[command(after_help = "\
Examples:
  capstan keyspace ledger orders
  capstan keyspace ledger orders --json    {shard, key, version, replaced, ..}
  capstan keyspace ledger orders --clear   prints the lines, asks for the name
                                           again, and takes them off
Each line names the version that was lost and the one that it replaced, and the
node that had it. A node that was away tells what only it had when it is back;
so long it is named. What is listed later stays when lines are taken off.")]
    Ledger {
        /// Its name
        name: String,
        /// Take the lines off that are printed
        #[arg(long)]
        clear: bool,
        /// Do not ask
        #[arg(long, requires = "clear")]
        yes: bool,
    },
    /// Print the keyspaces
    #[command(after_help = "\
Examples:
  capstan keyspace list
  capstan keyspace list --json    an object per keyspace")]
    List,
    /// Remove a keyspace with all that it holds
    #[command(after_help = "\
Examples:
  capstan keyspace drop orders          asks for its name again
  capstan keyspace drop orders --yes    does not ask
Nothing brings its keys back. Done as well when there is none. Another one of
its name can be created when enough of its nodes have heard: in about a second.")]
    Drop {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What can be said of a keyspace when it is made, and later.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// Replicas of each shard, where there are nodes enough [default: 3]
    #[arg(long, value_name = "N", value_parser = parse::replicas)]
    pub replicas: Option<u16>,
    /// How many shards [default: 1]
    #[arg(long, value_name = "N")]
    pub shards: Option<u32>,
    /// Under primary: a write waits for all replicas in sync, or for the primary
    /// and K others [default: all]. With 0 a primary that is lost is followed, and
    /// what only it had is lost: keyspace ledger lists it
    #[arg(long, value_name = "all|K", value_parser = parse::sync, allow_negative_numbers = true)]
    pub sync: Option<Secondaries>,
    /// Under primary with --sync all: with fewer copies in sync no write is taken
    /// [default: 2]
    #[arg(long, value_name = "N", value_parser = parse::min_copies)]
    pub min_copies: Option<u16>,
    /// Under primary with --sync K: how often the replicas that no write waits for
    /// get what is written [default: 100ms]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub interval: Option<Duration>,
    /// Under quorum: what the replicas weigh, in the order of their nodes [default:
    /// 1 each]. It stays while it is under quorum, and so do --read and --write
    #[arg(long, value_name = "N,N,..", value_parser = parse::weights)]
    pub weights: Option<Weights>,
    /// Under quorum: how much those weigh that a read hears [default: a majority]
    #[arg(long, value_name = "N")]
    pub read: Option<u32>,
    /// Under quorum: how much those weigh that have a write before it is
    /// acknowledged [default: a majority]
    #[arg(long, value_name = "N")]
    pub write: Option<u32>,
    /// Under broadcast: what carries writes to the other replicas: the nodes' own
    /// connections (peers), or an MQTT broker, mqtt://[USER:PASSWORD@]HOST[:PORT]
    /// [/PREFIX], or mqtts:// [default: peers]
    #[arg(long, value_name = "peers|mqtt://..", value_parser = Bus::parse)]
    pub bus: Option<Bus>,
    /// Revisions kept of a key: a count, all, or a time [default: as the cluster]
    #[arg(long, value_name = "N|all|DURATION", value_parser = parse::keyspace_history)]
    pub history: Option<History>,
    /// How long those of a deleted key are kept [default: as the cluster]
    #[arg(long, value_name = "DURATION|all")]
    pub deleted_history: Option<parse::Deleted>,
    /// How long a value lasts that is stored without a time [default: never]
    #[arg(long, value_name = "DURATION|never", value_parser = parse::deadline)]
    pub ttl: Option<parse::Deadline>,
    /// Bytes of keys and newest values that it may hold [default: none]
    #[arg(long, value_name = "SIZE|none", value_parser = parse::quota_bytes)]
    pub quota_bytes: Option<u64>,
    /// Keys that it may hold [default: none]
    #[arg(long, value_name = "N|none", value_parser = parse::quota_keys)]
    pub quota_keys: Option<u64>,
}

impl Settings {
    /// What is wished.
    pub fn wish(&self, protocol: Option<Protocol>) -> Wish {
        let ttl = |deadline| match deadline {
            parse::Deadline::Never => 0,
            parse::Deadline::In(time) => time.as_micros() as u64,
        };
        Wish {
            protocol,
            replicas: self.replicas,
            shards: self.shards,
            sync: self.sync,
            min_copies: self.min_copies,
            interval_micros: self.interval.map(|interval| interval.as_micros() as u64),
            weights: self.weights,
            read: self.read,
            write: self.write,
            bus: self.bus.clone(),
            history: self.history,
            deleted_micros: self.deleted_history.map(|deleted| deleted.micros),
            ttl_micros: self.ttl.map(ttl),
            quota_bytes: self.quota_bytes,
            quota_keys: self.quota_keys,
        }
    }
}
