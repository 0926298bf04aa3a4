//! The programs of systems that Capstan stands in for, each with the words, ports and files that its users know.
//!
//! # Pairs and their central server
//!
//! A pair server stores texts under whole numbers and keeps the first text of each. A central server knows which pair server
//! registered a number last. Both are ordinary nodes with the dialect of their clients ([`server`]); the clients are programs
//! that read commands line by line ([`run`], [`line`]).
//!
//! ```text
//!   pair-client ──I,5,five──▶ pair-server ──A: register 5──▶ central-server
//!                                  ▲                               │ who has 5?
//!                                  └───────── C,5 ── central-client┘
//! ```
//!
//! # A store that shows what slow nodes do
//!
//! A master and its slaves, or nodes of which none is the master, as a file lists them, each a process ([`store`]).
//!
//! # A store of ranges
//!
//! A shard master, and servers that each have a range of the keys ([`shards`]).
//!
//! # A store of versions
//!
//! Servers that each have all keys with their earlier values, and a client that asks one thing ([`versioned`]).
//!
//! # Caveats
//!
//! A central server knows who registered a number last and nothing of the texts: without `--check`, registering a number again
//! changes what its clients read.

mod central_client;
#[cfg(test)]
mod fake;
mod host;
mod keep;
pub mod line;
mod pair_client;
mod run;
mod server;
mod servers;
mod shards;
pub mod store;
mod versioned;

use crate::exit::{Code, Error};
use crate::parse;
use crate::print::Output;

/// Which program.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve pairs of a number and a text to pair clients
    #[command(after_help = "\
Examples:
  capstan classic pair-server 50051                a store that ends with it
  capstan classic pair-server 50051 --activate     its keys can be registered
  capstan classic pair-server 50051 --data pairs   a store that survives it
T from a client ends it, and so do Ctrl-C and SIGTERM. It listens on every
address of this machine. Exit code 2: starting it again as it is would not
help, as where the port is in use.")]
    PairServer {
        #[command(flatten)]
        server: server::Args,
        /// Register all keys at a central server when a client asks for it (A)
        #[arg(long)]
        activate: bool,
    },
    /// Serve the directory of which pair server has which key
    #[command(after_help = "\
Examples:
  capstan classic central-server 50050             a directory that ends with it
  capstan classic central-server 50050 --check     a key keeps its text
  capstan classic central-server 50050 --data dir  a directory that survives it
A key that is registered again belongs to the server that did so last, whatever
its text. With --check the directory asks both servers first, and where their
texts differ, or one does not answer, the key stays where it is.")]
    CentralServer {
        #[command(flatten)]
        server: server::Args,
        /// Keep a key where it is unless the new server has the same text
        #[arg(long)]
        check: bool,
    },
    /// Run every node of a store on this machine, each as a process of its own
    #[command(after_help = "\
Examples:
  capstan classic store store.yaml                 data in ./capstan-store
  capstan classic store store.yaml --data /tmp/s
The file names the nodes:
  master: {ip: 127.0.0.1, port: 32770}
  slaves:
    - {id: slave_1, ip: 127.0.0.1, port: 32771}
    - {id: slave_2, ip: 127.0.0.1, port: 32772}
or, where any of them is to take puts:
  nodes:
    - {id: 0, ip: 127.0.0.1, port: 32770}
    - {id: 1, ip: 127.0.0.1, port: 32771, weight: 2}
    - {id: 2, ip: 127.0.0.1, port: 32772}
  quorum_sizes: {read: 2, write: 3}
Three nodes weigh 1, 2, 1 where nothing is said, others 1 each; a put needs
nodes that weigh 'write', a get 'read', or else a majority.
Clients speak gRPC (distributedstore.KeyValueStore: put, get, slowDown, restore)
to any of them. Ctrl-C or SIGTERM ends them all. Exit code 2: what is wrong with
the file or the ports is said, and nothing runs.")]
    Store(store::Args),
    /// Run one node of a store; 'capstan classic store' starts them
    #[command(
        hide = true,
        override_usage = "capstan classic store CONFIG.yaml",
        after_help = "Examples:\n  capstan classic store store.yaml"
    )]
    StoreNode(store::NodeArgs),
    /// Say which shard server has which key, and have servers come and go
    #[command(after_help = "\
Examples:
  capstan classic shard-master localhost:50000             ends with its data
  capstan classic shard-master localhost:50000 --data m    survives kill -9
Clients speak gRPC (ShardMaster: Join, Leave, Query). Keys 0 to 100 are cut into
ranges of equal size, one a server, in the order in which they joined; the last
one has all above. Join and Leave answer when the data has moved. The data of
the last server that leaves stays here until the next one joins. With --shards N
servers come by JoinReplica: the first N have a range each, later ones are
replicas in the group with the fewest.")]
    ShardMaster(shards::MasterArgs),
    /// Serve texts under numbers, all of them or those of a range
    #[command(after_help = "\
Examples:
  capstan classic shard-server localhost:50001             ends with its data
  capstan classic shard-server localhost:50001 --data s    survives kill -9
Clients speak gRPC (KVStore: Get, Put, Append, LPop, RPop, Redistribute,
Transfer). By itself it has all keys; a shard master that is asked to Join it
gives it a range, and what it had goes along where the store had nothing.")]
    ShardServer(shards::ServerArgs),
    /// Serve texts under texts, and keep the earlier values of each
    #[command(after_help = "\
Examples:
  capstan classic versioned-server                         at 40000, alone
  capstan classic versioned-server --port 40001 --data d   survives kill -9
Of three that share a store, each with all of it, the first is
  capstan classic versioned-server --port 40000 --data d0 \\
    --peers h:40000,h:40001,h:40002
Clients speak gRPC (KeyValueStore, or project.KeyValueStore: Get, GetRange,
GetAll, Put, PutAll, Del, DelRange, DelAll, Trim). A version is microseconds
since 1970. Servers of a list hear each other 1000 ports above their clients,
and 'capstan --connect' finds them 2000 above. --porta is --port.")]
    VersionedServer(versioned::ServerArgs),
    /// Ask a versioned server one thing
    #[command(after_help = "\
Examples:
  capstan classic versioned-client put --key k --value v
  capstan classic versioned-client get --key k --version 1700000000000000
  capstan classic versioned-client putall --key a b --value 1 2
  capstan classic versioned-client getrange --key a c
Prints KEY, VALUE and VERSION of each, with tabs between them, an empty value
and 0 where there is none; of a put KEY, OLD VALUE, OLD VERSION and VERSION.
Exit codes: 0 done, 2 wrong usage, 3 the server was away, 4 in doubt.
--porta, --chave, --valor and --versao are taken too.")]
    VersionedClient(versioned::ClientArgs),
    /// Send the commands of standard input to a pair server
    #[command(after_help = "\
Examples:
  capstan classic pair-client localhost:50051 < commands.txt
  printf 'I,5,five\\nC,5\\n' | capstan classic pair-client localhost:50051
Commands, one a line; anything else is ignored:
  I,KEY,TEXT   store a text: 0, or -1 where the key has one, which it keeps
  C,KEY        print the text; an empty line where there is none
  A,HOST:PORT  register all keys at that central server: how many
  T            end the server and this program: 0
A KEY is a whole number of 32 bits, a TEXT all behind the second comma.
Exit codes: 0 done, 2 a line was wrong, 3 a server was away, 4 in doubt. What
was wrong is said with its line on standard error, and the next line is run;
where the server of this client is away, the program ends at once.")]
    PairClient {
        /// Where the pair server is
        #[arg(value_name = "HOST:PORT", value_parser = parse::address)]
        server: String,
    },
    /// Look up keys at a central server, and print what their servers have
    #[command(after_help = "\
Examples:
  capstan classic central-client localhost:50050 < commands.txt
  printf 'C,5\\n' | capstan classic central-client localhost:50050
Commands, one a line; anything else is ignored:
  C,KEY        print HOST:PORT:TEXT, of the server that registered the key last;
               nothing where none did
  T            end the server and this program: the number of keys it knew
Exit codes: 0 done, 2 a line was wrong, 3 a server was away, 4 in doubt. A
server that is away is said on standard error, and the next line is run; where
the central server itself is away, the program ends at once.")]
    CentralClient {
        /// Where the central server is
        #[arg(value_name = "HOST:PORT", value_parser = parse::address)]
        server: String,
    },
}

/// Runs a program to its end.
pub fn run(command: Command, out: &mut Output<'_>) -> Result<Code, Error> {
    match command {
        Command::PairServer { server, activate } => server::pairs(server, activate),
        Command::CentralServer { server, check } => server::central(server, check),
        Command::Store(args) => store::run(&args),
        Command::ShardMaster(args) => shards::run_master(&args),
        Command::ShardServer(args) => shards::run_server(&args),
        Command::StoreNode(args) => store::run_node(args),
        Command::VersionedServer(args) => versioned::run_server(args),
        Command::VersionedClient(args) => versioned::run_client(args, out),
        Command::PairClient { server } => pair_client::run(&server, out),
        Command::CentralClient { server } => central_client::run(&server, out),
    }
}
