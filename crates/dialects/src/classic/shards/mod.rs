//! Texts under numbers, of which each server has a range, and a master that says who has which: `KVStore` and `ShardMaster`.
//!
//! The problem: more keys, or more clients, than one server takes. So the keys 0 to 100 are cut into ranges of equal size, one a
//! server, and clients ask the master who has a key. Servers come and go while clients read and write.
//!
//! ```text
//!   client ── Query(70) ────────▶ master                 "h2:50002", exactly as it was given at Join
//!   client ── Append(70, "x") ──▶ h2:50002               it has 51 to 100, and all above
//!   who operates ── Join("h3:50003") ──▶ master ── Begin, Held, Enter ──▶ h3:50003     34 keys later: done
//! ```
//!
//! # What it does in the store
//!
//! The master is a node that founds a cluster, whose keyspace has one shard for each key from 0 to 99 and one for all above ([`row`]).
//! The servers are nodes of it, each in a zone of its own or in that of its group, and the shards are laid out by zones, so that each
//! zone has a range, in the order in which zones came. What moves, and that nothing is lost or done twice, is the cluster's; this
//! dialect says who comes and goes ([`master`], [`group`]), and asks ([`service`]).
//!
//! In a group one server is the master, which orders the writes; it is followed by a replica when it dies. How many replicas have a
//! write before it is answered says the group's first server; the others get what is written every second.
//!
//! A server that nobody has joined is a node by itself. To be taken in it hands over what it has, which goes where the store has nothing
//! yet, and starts again as a node of the master's; when it has left it starts again as one by itself, with nothing. How it does that is
//! the program's ([`Office`]).
//!
//! # What holds
//!
//! - A server never passes anything on: it answers from its own copy. A key that it does not have is absent to a Get, and other calls
//!   with one are refused.
//! - Join and Leave, AddReplica and RemoveReplica answer when all has moved, and the servers that are up know it. A server may end the
//!   moment it is out.
//! - A replica that writes wait for answers a Get with the newest, any other with what it has, at most 2 seconds old.
//! - What is answered is at so many replicas as the group says, or as there are.
//! - A call that fails did nothing, unless its reason is IN_DOUBT.
//!
//! # Caveats
//!
//! While a key moves, the master names the server that had it until it is certain who has it: ask again who has it where a call is
//! refused. Redistribute is no transaction: the keys are at both servers for a moment, and what is written here meanwhile is overwritten
//! with them.
//!
//! A group that waits for no replica has nobody to follow its master: it waits until that is back.

mod client;
mod coming;
#[doc(hidden)]
pub mod fuzz;
mod group;
pub(super) mod master;
mod name;
mod pause;
mod row;
mod served;
mod service;
mod settled;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kv::Error;
use tonic::service::Routes;

use self::between::server_server::{self, ServerServer};
use self::proto::kv_store_server::{self, KvStoreServer};
use self::proto::shard_master_server::{self, ShardMasterServer};
use crate::grpc::Grpc;
use crate::native::MESSAGE_BYTES_MAX;
use crate::{Dialect, Serving, Stop, Store, Stream};

pub use client::{ServerClient, ShardMasterClient};
pub use row::SHARDS;

/// The messages and the services of the clients, as generated.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("_");

    /// The description, as reflection serves it.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shards.bin"));
}

/// What a master says to its servers.
#[allow(missing_docs, clippy::all)]
mod between {
    tonic::include_proto!("capstan.shards.v1");
}

/// How long a call of a client may take at most.
pub const LIMIT: Duration = Duration::from_millis(4_500);

/// What a server is, and how it becomes something else: the program that it runs in.
pub trait Office: fmt::Debug + Send + Sync {
    /// Of which master it is a server; `None` = it is alone.
    fn seat(&self) -> Option<Seat>;
    /// How many secondaries are to have a write before it is answered, if it was started so.
    fn consistency(&self) -> Option<u32>;
    /// Notes that it is to be a server of a master from its next start on. [`Error::Unavailable`] = it cannot be written down.
    fn enter(&self, seat: Seat) -> Result<(), Error>;
}

/// A server's place with a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// HOST:PORT of the nodes that let it in.
    pub join: Vec<String>,
    /// Its name as a node.
    pub name: String,
    /// Its zone: the group that has the same keys.
    pub zone: String,
}

/// The dialect of a server.
pub struct ShardServer(Grpc);

impl ShardServer {
    /// Of a program.
    pub fn new(office: Arc<dyn Office>) -> ShardServer {
        let pause = Arc::new(pause::Pause::default());
        let calls = KvStoreServer::new(service::Service::new(office.clone(), pause.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let taken =
            ServerServer::new(served::Served::new(office, pause)).max_encoding_message_size(usize::MAX);
        let names = &[kv_store_server::SERVICE_NAME, server_server::SERVICE_NAME];
        ShardServer(Grpc::new(Routes::new(calls).add_service(taken), names, proto::DESCRIPTOR))
    }
}

/// The dialect of a shard master.
pub struct ShardMaster(Grpc);

impl ShardMaster {
    /// Whose node is of this name; `groups` = so many of those that come by JoinReplica have a range of their own.
    pub fn new(name: &str, groups: Option<u32>) -> ShardMaster {
        let service = ShardMasterServer::new(master::Master::new(name, groups));
        let names = &[shard_master_server::SERVICE_NAME];
        ShardMaster(Grpc::new(Routes::new(service), names, proto::DESCRIPTOR))
    }
}

impl fmt::Debug for ShardServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for ShardMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Dialect for ShardServer {
    fn name(&self) -> &'static str {
        "classic/shard-server"
    }

    fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving {
        self.0.serve(stream, store, stop)
    }
}

impl Dialect for ShardMaster {
    fn name(&self) -> &'static str {
        "classic/shard-master"
    }

    fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving {
        self.0.serve(stream, store, stop)
    }
}
