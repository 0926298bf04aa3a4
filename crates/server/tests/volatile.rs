//! A node without a data folder, whole: it serves as any other does, forgets all when it ends, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use dialects::native::{Client, Native, Options};
use kv::{Answer, ClusterId, Error, Op, Reply, Request};
use server::{Config, Failure, History, Kind, Listen, Moves};

/// A log that grows by so much is worth a checkpoint.
const CHECKPOINT_BYTES: u64 = Config::CHECKPOINT_BYTES_MIN;

#[test]
fn node_without_a_data_folder_forgets_all_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    let files = open_files();

    let node = Node::start();
    let written = node.call(put("k", "v".into())).unwrap();
    assert_eq!(written.receipt.copies, 0, "no disk has it: {:?}", written.receipt);
    let read = node.call(get("k")).unwrap();
    assert!(matches!(&read.answer, Answer::Row(Some(row)) if row.value == "v"), "{read:?}");
    assert_eq!(read.receipt.copies, 0);
    let first = node.cluster();
    node.overwrite_for_long();
    assert_eq!(open_files(), files, "it has opened a file");
    node.stop();

    let node = Node::start();
    let read = node.call(get("k")).unwrap();
    assert!(matches!(read.answer, Answer::Row(None)), "{read:?}");
    assert_ne!(node.cluster(), first, "it is another cluster");
    node.stop();

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn node_without_a_data_folder_is_alone_and_in_memory() {
    let peers = ["n1", "n2"].map(|name| (name.into(), "127.0.0.1:7421".into())).to_vec();
    let refused = |config| server::run(config).unwrap_err();
    for (config, why) in [
        (Config { peers, ..config("127.0.0.1:7401".into()) }, "--peers lists 2 nodes"),
        (Config { engine: Kind::Disk, ..config("127.0.0.1:7401".into()) }, "--engine disk"),
    ] {
        let failure = refused(config);
        assert!(matches!(&failure, Failure::Refused(text) if text.contains(why)), "{why}: {failure}");
    }
}

/// A running node, and who asks it.
struct Node {
    thread: JoinHandle<Result<(), Failure>>,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Node {
    fn start() -> Node {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = {
            let _entered = runtime.enter();
            Client::connect(vec![listen.clone()], Options::default()).unwrap()
        };
        let thread = thread::spawn(|| server::run(config(listen)));
        runtime.block_on(async {
            while client.status().await.is_err() {
                assert!(!thread.is_finished(), "it ended");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Node { thread, runtime, client }
    }

    fn call(&self, request: Request) -> Result<Reply, Error> {
        self.runtime.block_on(self.client.call(request))
    }

    fn cluster(&self) -> ClusterId {
        self.runtime.block_on(self.client.cluster()).unwrap()
    }

    /// Writes many times what a checkpoint is made of: neither the log nor the entries may keep it.
    fn overwrite_for_long(&self) {
        let value = Bytes::from(vec![7; CHECKPOINT_BYTES as usize]);
        for _ in 0..300 {
            self.call(put("large", value.clone())).unwrap();
        }
        let grown = memory_bytes() / CHECKPOINT_BYTES;
        assert!(grown < 150, "after 300 puts of 1 MiB to one key the process takes {grown} MiB");
    }

    fn stop(self) {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.thread.join().unwrap().map_err(|failure| failure.to_string()), Ok(()));
    }
}

fn config(listen: String) -> Config {
    Config {
        name: "n1".into(),
        data: None,
        listen: vec![Listen::new(Arc::new(Native::new()), listen)],
        peers: Vec::new(),
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
        checkpoint_bytes: CHECKPOINT_BYTES,
        protocol: None,
        weighed: None,
        lab: false,
        by_zones: false,
        ends_when_left: false,
        bus: Default::default(),
        stderr: server::Stderr::Nothing,
    }
}

fn put(key: &'static str, value: Bytes) -> Request {
    Request::new(Op::Put { key: key.into(), value, deadline: None, previous: false })
}

fn get(key: &'static str) -> Request {
    Request::new(Op::Get { key: key.into(), at: None })
}

/// The files of a file system that this process has open.
fn open_files() -> BTreeSet<PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.is_absolute() && !target.starts_with("/proc")).collect()
}

/// What this process takes of the memory, but for the program itself.
fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
