//! The walk of one put: from the bytes of a request, through three nodes, to the bytes of its reply.
//!
//! The nodes are whole, sockets and files included. Each station of the way says that it was passed, as an event of the level
//! TRACE; who hears them here knows from which file each comes. The stations come in this order, and ARCHITECTURE.md names
//! their files, all of them and no others.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use dialects::native::{Client, Native, Options, decode_reply, encode_request};
use kv::{Answer, Op, Request};
use server::{Config, Failure, History, Kind, Listen, Moves};
use tempfile::TempDir;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Status, transport::Endpoint};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Every station, in order: its file below crates/, and what happens there.
const STATIONS: &[(&str, &str)] = &[
    ("dialects/src/native/key_value.rs", "a message has become a request"),
    ("server/src/handle.rs", "a request is to be split"),
    ("node/src/gather.rs", "a request has become parts"),
    ("server/src/core.rs", "a part goes into the turn"),
    ("node/src/driver/requests.rs", "a write is given to its replica"),
    ("node/src/driver/core.rs", "a turn's writes are proposed"),
    ("replication/src/raft/replica.rs", "ops have become an entry"),
    ("node/src/driver/appends.rs", "records go to the log"),
    ("node/src/log.rs", "records are queued"),
    ("wal/src/log.rs", "queued records have become a batch"),
    ("wal/src/log.rs", "a batch is durable"),
    ("node/src/log.rs", "what is durable is reported"),
    ("replication/src/raft/replica.rs", "an entry is agreed on"),
    ("node/src/driver/output.rs", "an entry goes to the table"),
    ("node/src/job.rs", "a job applies an entry"),
    ("storage/src/table/mod.rs", "an entry is evaluated"),
    ("node/src/driver/writes.rs", "a write has its answer"),
    ("server/src/core.rs", "an answer leaves the turn"),
    ("dialects/src/native/key_value.rs", "a reply has become a message"),
];

/// A put is tried so often: what else a node does at the same time is no part of its way.
const TRIES_MAX: usize = 20;

static PASSED: Mutex<Vec<(String, String, String)>> = Mutex::new(Vec::new());

#[test]
fn put_passes_its_stations_in_the_order_that_is_told() {
    tracing::subscriber::set_global_default(Walk).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nodes = Nodes::start(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (rpc, message) = encode_request(put("k", "v")).unwrap();
    let path = format!("/capstan.v1.KeyValue/{}", rpc.name());
    let stations: Vec<(String, String)> =
        STATIONS.iter().map(|(file, what)| (format!("crates/{file}"), what.to_string())).collect();
    let mut tries = 0;
    let (answered, passed) = loop {
        let leader = runtime.block_on(nodes.leader());
        // What was asked to find the leader is over and done: it was answered.
        PASSED.lock().unwrap().clear();
        let answered = runtime.block_on(call(&nodes.addresses[leader], &path, message.clone())).unwrap();
        let passed = passed(&Nodes::name(leader));
        tries += 1;
        // On a busy machine another may have taken over meanwhile; then the way was longer. Or what the leader wrote for itself
        // before, when it was elected, was synced only now, and passed some stations beside the put.
        if passed == stations || tries == TRIES_MAX {
            break (answered, passed);
        }
    };
    nodes.stop();

    let reply = decode_reply(rpc, answered).unwrap();
    assert_eq!(reply.answer, Answer::Put { previous: None });
    assert!(reply.receipt.copies >= 2, "a majority has it on disk: {:?}", reply.receipt);
    assert_eq!(passed, stations);
}

#[test]
fn architecture_names_the_files_of_the_walk() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let walk = text.split("\n## ").nth(1).expect("the walk is its first section");
    let links = walk.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let named: BTreeSet<String> = links.map(|(link, _)| link.to_owned()).collect();
    let mut passed: BTreeSet<String> = STATIONS.iter().map(|(file, _)| format!("crates/{file}")).collect();
    // What is carried from the first station to the last but one.
    passed.insert(file_of::<Op>());
    assert_eq!(named, passed);
}

fn put(key: &'static str, value: &'static str) -> Request {
    Request::new(Op::Put { key: key.into(), value: value.into(), deadline: None, previous: false })
}

/// The file of a public type: its module is its place.
fn file_of<T>() -> String {
    let name = std::any::type_name::<T>();
    let mut parts: Vec<&str> = name.split("::").collect();
    parts.pop();
    format!("crates/{}/src/{}.rs", parts[0], parts[1..].join("/"))
}

/// What the threads of a node passed, and those that have no node's name: each station once, by its first time.
fn passed(node: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (thread, file, what) in PASSED.lock().unwrap().iter() {
        let of_another = thread.starts_with('n') && thread != node;
        if !of_another && !found.iter().any(|(_, known)| known == what) {
            found.push((file.clone(), what.clone()));
        }
    }
    found
}

/// Three nodes in this process.
struct Nodes {
    addresses: Vec<String>,
    threads: Vec<JoinHandle<Result<(), Failure>>>,
}

impl Nodes {
    fn start(folder: &TempDir) -> Nodes {
        let (addresses, peers) = (free_addresses(), free_addresses());
        let names: Vec<String> = (0..3).map(Nodes::name).collect();
        let peers: Vec<(String, String)> = names.iter().cloned().zip(peers).collect();
        let start = |(name, listen): (&String, &String)| {
            let config = Config {
                name: name.clone(),
                data: Some(folder.path().join(name)),
                listen: vec![Listen::new(Arc::new(Native::new()), listen)],
                peers: peers.clone(),
                join: Vec::new(),
                advertise_peer: None,
                listen_peer: None,
                zone: None,
                engine: Kind::Memory,
                history: Some(History::Count(1)),
                deleted_micros: None,
                shards: Some(1),
                replicas: None,
                cores: Some(1),
                entry_cache_bytes: Config::ENTRY_CACHE_BYTES,
                moves: Moves::default(),
                checkpoint_bytes: Config::CHECKPOINT_BYTES,
                protocol: None,
                weighed: None,
                lab: false,
                by_zones: false,
                ends_when_left: false,
                bus: Default::default(),
                stderr: server::Stderr::Nothing,
            };
            thread::Builder::new().name(name.clone()).spawn(|| server::run(config)).unwrap()
        };
        let threads = names.iter().zip(&addresses).map(start).collect();
        Nodes { addresses, threads }
    }

    fn name(place: usize) -> String {
        format!("n{}", place + 1)
    }

    /// The place of the node that leads the one shard, once it has answered a put.
    async fn leader(&self) -> usize {
        let client = Client::connect(self.addresses.clone(), Options::default()).unwrap();
        loop {
            let put = client.call(put("first", "v")).await;
            if let (Ok(_), Ok(location)) = (put, client.locate(kv::Request::KEYSPACE, "k".into()).await)
                && let Some(place) =
                    self.addresses.iter().position(|it| Some(it) == location.address.as_ref())
            {
                return place;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// They stop as on the command line, all at once.
    fn stop(self) {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
        for thread in self.threads {
            assert_eq!(thread.join().unwrap().map_err(|failure| failure.to_string()), Ok(()));
        }
    }
}

/// Addresses where nobody listens.
fn free_addresses() -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// Calls a method with a message's bytes, and gives the bytes of what it answers.
async fn call(address: &str, path: &str, message: Bytes) -> Result<Bytes, Status> {
    let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path: PathAndQuery = path.parse().unwrap();
    client.unary(tonic::Request::new(message), path, Plain).await.map(tonic::Response::into_inner)
}

/// Messages as they are: their bytes.
#[derive(Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Hears the house's own events of the level TRACE.
struct Walk;

impl Subscriber for Walk {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.file().is_some_and(|file| file.starts_with("crates/"));
        is_ours && *metadata.level() == Level::TRACE && metadata.is_event()
    }

    fn event(&self, event: &Event<'_>) {
        let mut what = What(String::new());
        event.record(&mut what);
        let thread = thread::current().name().unwrap_or_default().to_owned();
        let file = event.metadata().file().unwrap_or_default().to_owned();
        PASSED.lock().unwrap().push((thread, file, what.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event.
struct What(String);

impl Visit for What {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}
