//! Watches of real clusters: whatever happens to nodes and replicas, each change comes once, in order, and none is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dialects::native::Client;
use kv::watch::{Batch, Filter, Start, Watch, Watcher, Watching, What};
use kv::{Error, Key, Op, Request, ShardId, Value, Version};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::nodes::{Lab, PATIENCE, Random, run, size, until};
use crate::trial::cluster;

/// Programs that write, each to keys of its own.
const WRITERS: u64 = 8;
/// Keys of each.
const KEYS: u64 = 10;
const WATCHERS: usize = 100;
/// Watches that share a client.
const WATCHERS_OF_A_CLIENT: usize = 10;
/// Writes that must be acknowledged before what comes next.
const GO_ON: usize = 200;

type Written = (Key, Version, Value);

/// What the programs have written.
#[derive(Default)]
struct Writes {
    acknowledged: Mutex<Vec<Written>>,
    /// Values of writes of which nobody knows.
    doubtful: Mutex<BTreeSet<Value>>,
    ends: AtomicBool,
}

impl Writes {
    async fn write(self: Arc<Writes>, client: Client, writer: u64) {
        for number in 0.. {
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
            let key = Key::from(format!("w{writer}:{}", number % KEYS));
            let value = Value::from(format!("{writer}.{number}"));
            let op = Op::Put { key: key.clone(), value: value.clone(), deadline: None, previous: false };
            match client.call(Request::new(op)).await {
                Ok(reply) => self.acknowledged.lock().unwrap().push((key, reply.receipt.version, value)),
                Err(error) => {
                    println!("writer {writer}: {error}");
                    self.doubtful.lock().unwrap().insert(value);
                }
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn goes_on(&self) {
        let before = self.count();
        until("writes go on", PATIENCE, || std::future::ready(self.count() >= before + GO_ON)).await;
    }
}

/// What a watch was given.
#[derive(Default)]
struct Given {
    all: Vec<(ShardId, Written)>,
    has_begun: bool,
}

struct Watched {
    filter: Filter,
    given: Arc<Mutex<Given>>,
    task: JoinHandle<()>,
}

impl Watched {
    fn start(client: &Client, filter: Filter) -> Watched {
        let watching = Watching { filter: filter.clone(), ..Watching::prefix(Key::new()) };
        let mut watcher = client.watch(watching);
        let given = Arc::new(Mutex::new(Given::default()));
        let into = given.clone();
        let task = tokio::spawn(async move {
            loop {
                let batch = next(&mut *watcher).await.expect("a watch goes on");
                let mut into = into.lock().unwrap();
                into.has_begun |= batch.progress.is_some();
                for change in &*batch.changes {
                    let What::Put { value, .. } = &change.what else { panic!("{change:?}: all is put") };
                    into.all.push((batch.shard, (change.key.clone(), change.version, value.clone())));
                }
            }
        });
        Watched { filter, given, task }
    }

    fn has_begun(&self) -> bool {
        self.given.lock().unwrap().has_begun
    }

    /// How many of these writes it lacks.
    fn lacks(&self, writes: &[Written]) -> usize {
        let given = self.given.lock().unwrap();
        let all: BTreeSet<&Written> = given.all.iter().map(|(_, written)| written).collect();
        writes.iter().filter(|written| self.filter.has(&written.0) && !all.contains(written)).count()
    }

    /// Each change once, in order, and nothing that nobody wrote.
    fn check(&self, writes: &BTreeSet<Written>, doubtful: &BTreeSet<Value>) {
        let given = self.given.lock().unwrap();
        let (mut shards, mut once) = (BTreeMap::new(), BTreeSet::new());
        for (shard, written) in &given.all {
            let (key, version, value) = written;
            assert!(once.insert((key, version)), "{:?} was given {written:?} twice", self.filter);
            let before = shards.insert(*shard, *version);
            assert!(
                before.is_none_or(|before| before <= *version),
                "shard {shard}: {written:?} after {before:?}"
            );
            assert!(
                writes.contains(written) || doubtful.contains(value),
                "{:?} was given {written:?}, which nobody wrote",
                self.filter
            );
        }
    }
}

async fn next(watcher: &mut dyn Watcher) -> Result<Batch, Error> {
    let (send, receive) = oneshot::channel();
    watcher.next(Box::new(move |next| drop(send.send(next))));
    receive.await.expect("a client's watch ends with an error")
}

fn watchers(lab: &Lab) -> Vec<Watched> {
    let mut client = lab.client();
    let watcher = |number: usize| {
        if number.is_multiple_of(WATCHERS_OF_A_CLIENT) {
            client = lab.client();
        }
        let (writer, key) = (number as u64 % WRITERS, number as u64 % KEYS);
        let filter = match number % 3 {
            0 => Filter::Key(format!("w{writer}:{key}").into()),
            1 => Filter::Prefix(format!("w{writer}:").into()),
            _ => Filter::Prefix(Key::new()),
        };
        Watched::start(&client, filter)
    };
    (0..WATCHERS).map(watcher).collect()
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn watchers_miss_nothing_while_leaders_are_killed_and_replicas_move() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(5, &["--shards", "16"], &mut random);
        lab.serve_all().await;
        let watchers = watchers(&lab);
        let have_begun = || std::future::ready(watchers.iter().all(Watched::has_begun));
        until("all watches have begun", PATIENCE, have_begun).await;
        let writes = Arc::new(Writes::default());
        let writers: Vec<JoinHandle<()>> =
            (0..WRITERS).map(|writer| tokio::spawn(writes.clone().write(lab.client(), writer))).collect();
        for round in 0..size(2, 12) {
            writes.goes_on().await;
            let key = format!("w{}:{}", random.below(WRITERS), random.below(KEYS));
            let victim = lab.leader(&key).await;
            lab.kill(victim).await;
            writes.goes_on().await;
            lab.serve(victim);
            lab.ready().await;
            let moved = format!("n{}", 1 + random.below(5));
            println!("round {round}: n{victim} was killed, {moved} is drained; {} writes", writes.count());
            for command in ["drain", "join"] {
                let output = cluster(&lab.addresses(), &[command, &moved, "--wait"]).await;
                assert!(output.status.success(), "{command} {moved}: {output:?}");
                writes.goes_on().await;
            }
        }
        writes.ends.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        let acknowledged = writes.acknowledged.lock().unwrap().clone();
        let lacking = || watchers.iter().map(|watcher| watcher.lacks(&acknowledged)).sum::<usize>();
        until("all watches are given everything", PATIENCE, || std::future::ready(lacking() == 0)).await;
        let (all, doubtful) =
            (acknowledged.iter().cloned().collect(), writes.doubtful.lock().unwrap().clone());
        watchers.iter().for_each(|watcher| watcher.check(&all, &doubtful));
        let given: usize = watchers.iter().map(|watcher| watcher.given.lock().unwrap().all.len()).sum();
        println!("{} writes, {} in doubt; {given} changes given", all.len(), doubtful.len());
        watchers.iter().for_each(|watcher| watcher.task.abort());
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn watch_from_before_a_restart_of_all_nodes_goes_on_where_it_was() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "2"], &mut random);
        lab.serve_all().await;
        let put = |client: Client, key: &'static str| async move {
            let op = Op::Put { key: key.into(), value: "v".into(), deadline: None, previous: false };
            client.call(Request { timeout: PATIENCE, ..Request::new(op) }).await.unwrap().receipt.version
        };
        let all = Watching::prefix(Key::new());
        let mut watcher = lab.client().watch(all.clone());
        while next(&mut *watcher).await.unwrap().progress.is_none() {}
        let first = put(lab.client(), "before").await;
        for stopped in 1..=3 {
            assert!(lab.stop(stopped).await.success());
        }
        (1..=3).for_each(|node| lab.serve(node));
        lab.ready().await;
        put(lab.client(), "after").await;
        let mut later = lab.client().watch(Watching { from: Start::Version(first), ..all });
        for watcher in [&mut watcher, &mut later] {
            let mut given = Vec::new();
            while given.len() < 2 {
                let batch = next(&mut **watcher).await.expect("a watch goes on");
                given.extend(batch.changes.iter().map(|change| change.key.clone()));
            }
            given.sort();
            assert_eq!(given, ["after", "before"]);
        }
    });
}
