//! Nodes that stand still or whose wall clock jumps: no stale read, no lost write, nothing expires early.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use dialects::native::Client;
use kv::{Answer, Function, Key, NodeId, Op, Outcome, Request};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::clients::{Pinned, get, value};
use crate::nodes::{Lab, PATIENCE, Random, run, size, until};
use crate::workload::Recorded;

/// What the counting writer and the readers share.
#[derive(Default)]
struct Count {
    /// The highest number that was acknowledged.
    acknowledged: Cell<i64>,
    doubtful: Cell<u32>,
    failed: RefCell<Vec<String>>,
    /// The last version that was given out.
    version: Cell<i64>,
    /// Reads that were answered, by node.
    reads: [Cell<u32>; 3],
    stop: Cell<bool>,
}

/// A number that only rises, and readers of it through every node.
struct Counting {
    count: Rc<Count>,
    tasks: Vec<JoinHandle<()>>,
}

const KEY: &str = "count";
/// A read waits longer than the longest pause: the node that stood still is to answer what was asked before and during it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Readers at each node.
const READERS: usize = 4;

impl Counting {
    fn start(lab: &Lab) -> Counting {
        let count = Rc::new(Count::default());
        let mut tasks = vec![tokio::task::spawn_local(write(lab.client(), count.clone()))];
        for node in lab.all() {
            for _ in 0..READERS {
                tasks.push(tokio::task::spawn_local(read(lab.pinned(node), count.clone())));
            }
        }
        Counting { count, tasks }
    }

    async fn goes_on(&self) {
        let goal = self.count.acknowledged.get() + 100;
        until("the count goes on", PATIENCE, || std::future::ready(self.count.acknowledged.get() >= goal))
            .await;
    }

    /// Waits until every node has answered reads that are asked from now on.
    async fn is_read(&self) {
        let before: Vec<u32> = self.count.reads.iter().map(Cell::get).collect();
        let enough = |(now, before): (&Cell<u32>, &u32)| now.get() >= before + 50;
        let all = || self.count.reads.iter().zip(&before).all(enough);
        until("every node answers reads", PATIENCE, || std::future::ready(all())).await;
    }

    /// Stops, and checks that no acknowledged increment is lost and none happened twice.
    async fn stop(self, lab: &Lab) {
        self.count.stop.set(true);
        for task in self.tasks {
            task.await.expect("neither the writer nor a reader panics");
        }
        let found = value(lab.client().call(get(KEY)).await.unwrap()).unwrap();
        let found: i64 = std::str::from_utf8(&found).unwrap().parse().unwrap();
        let (acknowledged, doubtful) = (self.count.acknowledged.get(), self.count.doubtful.get());
        let reads: Vec<u32> = self.count.reads.iter().map(Cell::get).collect();
        println!("counted to {acknowledged}, {doubtful} in doubt, reads {reads:?}, found {found}");
        assert!(self.count.failed.borrow().is_empty(), "{:?}", self.count.failed.borrow());
        assert!((acknowledged..=acknowledged + i64::from(doubtful)).contains(&found));
    }
}

async fn write(client: Client, count: Rc<Count>) {
    while !count.stop.get() {
        let op =
            Op::Update { key: Key::from_static(KEY.as_bytes()), function: Function::Increment { by: 1 } };
        match client.call(Request::new(op)).await {
            Ok(reply) => {
                let Answer::Number(number) = reply.answer else { panic!("an increment answers a number") };
                assert!(number > count.acknowledged.get(), "{number} was given out before");
                let version = reply.receipt.version.as_i64();
                assert!(version > count.version.get(), "version {version} is not above the one before");
                count.acknowledged.set(number);
                count.version.set(version);
            }
            Err(error) if error.outcome() == Outcome::InDoubt => {
                println!("in doubt: {error}");
                count.doubtful.set(count.doubtful.get() + 1);
            }
            Err(error) => count.failed.borrow_mut().push(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn read(mut node: Pinned, count: Rc<Count>) {
    let index = node.node.0 as usize - 1;
    while !count.stop.get() {
        let newest = count.acknowledged.get();
        // A node that cannot be sure answers nothing; that is no lie.
        if let Ok((found, _)) = node.get(KEY, READ_TIMEOUT).await {
            let found = found.map_or(0, |found| std::str::from_utf8(&found).unwrap().parse().unwrap());
            assert!(found >= newest, "n{} told {found} when {newest} was acknowledged", index + 1);
            count.reads[index].set(count.reads[index].get() + 1);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn leader_stands_still(engine: &str) {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--engine", engine], &mut random);
        lab.serve_all().await;
        let counting = Counting::start(&lab);
        for _ in 0..size(2, 5) {
            counting.goes_on().await;
            let leader = lab.leader(KEY).await;
            lab.signal(leader, Signal::STOP);
            tokio::time::sleep(Duration::from_secs(size(3, 10))).await;
            counting.goes_on().await;
            lab.signal(leader, Signal::CONT);
            counting.is_read().await;
            lab.ready().await;
        }
        // Short ones, as long as a lease: they end in the middle of everything.
        for _ in 0..size(10, 50) {
            let leader = lab.leader(KEY).await;
            lab.signal(leader, Signal::STOP);
            tokio::time::sleep(Duration::from_millis(300 + random.below(600))).await;
            lab.signal(leader, Signal::CONT);
            counting.goes_on().await;
        }
        counting.is_read().await;
        counting.stop(&lab).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn leader_that_stands_still_tells_nothing_stale_on_disk() {
    leader_stands_still("disk");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn leader_that_stands_still_tells_nothing_stale_in_memory() {
    leader_stands_still("memory");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_nodes_stand_still() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let recorded = Recorded::start(&lab, &mut random);
        for _ in 0..size(6, 60) {
            recorded.goes_on(150).await;
            let first = 1 + random.below(3) as u16;
            let second = (random.below(3) == 0).then_some(1 + first % 3);
            let victims: Vec<u16> = [first].into_iter().chain(second).collect();
            // From a part of a lease to several elections.
            let pause = Duration::from_millis(50 << random.below(6));
            println!("{victims:?} stand still for {pause:?}");
            victims.iter().for_each(|victim| lab.signal(*victim, Signal::STOP));
            tokio::time::sleep(pause).await;
            victims.iter().for_each(|victim| lab.signal(*victim, Signal::CONT));
        }
        lab.ready().await;
        recorded.goes_on(150).await;
        recorded.holds(&lab).await;
    });
}

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const TTL: Duration = Duration::from_secs(60);
const HOUR_MICROS: i64 = 3_600_000_000;

/// Nodes whose wall clocks the test sets.
struct Clocks<'a> {
    lab: &'a mut Lab,
}

impl Clocks<'_> {
    fn of(lab: &mut Lab) -> Clocks<'_> {
        for node in lab.all() {
            let file = lab.home().join(format!("clock-{node}"));
            std::fs::write(&file, "+0").unwrap();
            let file = file.to_str().unwrap();
            let variables = [
                ("LD_PRELOAD", FAKETIME),
                ("FAKETIME_TIMESTAMP_FILE", file),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ];
            lab.set_environment(node, &variables);
        }
        Clocks { lab }
    }

    /// Sets a node's wall clock so many seconds ahead of the true time.
    fn set(&self, node: u16, seconds: i64) {
        let file = self.lab.home().join(format!("clock-{node}"));
        let new = self.lab.home().join("clock-new");
        std::fs::write(&new, format!("{seconds:+}")).unwrap();
        std::fs::rename(new, file).unwrap();
    }
}

/// Keys that are to expire, put through every node.
struct Expiring {
    keys: Vec<(String, Instant)>,
}

impl Expiring {
    async fn put(lab: &Lab, round: usize) -> Expiring {
        let mut keys = Vec::new();
        for node in lab.all() {
            for index in 0..8 {
                let key = format!("ttl:{round}:{node}:{index}");
                let asked = Instant::now();
                let version = lab.pinned(node).put_with_ttl(&key, "here", TTL).await.unwrap();
                let ahead = (version >> 10) - wall_micros();
                assert!(
                    ahead.abs() < HOUR_MICROS / 2,
                    "versions follow the majority's time, not {ahead} us off"
                );
                keys.push((key, asked));
            }
        }
        Expiring { keys }
    }

    /// Asserts that none expired early; through every node.
    async fn check(&self, lab: &Lab) {
        for node in lab.all() {
            for (key, asked) in &self.keys {
                let Ok((found, _)) = lab.pinned(node).get(key, Request::TIMEOUT).await else { continue };
                let age = asked.elapsed();
                assert!(found.is_some() || age >= TTL, "{key} expired after {age:?}, asked through n{node}");
            }
        }
    }

    /// Waits until all are gone.
    async fn expire(&self, lab: &Lab) {
        for (key, asked) in &self.keys {
            let client = lab.client();
            let gone = || async { client.call(get(key)).await.is_ok_and(|reply| value(reply).is_none()) };
            until(&format!("{key} expires"), 2 * TTL, gone).await;
            let age = asked.elapsed();
            assert!(age >= TTL, "{key} expired after {age:?}");
        }
    }
}

fn wall_micros() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64
}

fn has_faketime() -> bool {
    let is_there = Path::new(FAKETIME).exists();
    if !is_there {
        println!("SKIPPED: {FAKETIME} is not there; install the package faketime");
    }
    is_there
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn wall_clock_of_one_node_jumps_and_nothing_expires_early() {
    if !has_faketime() {
        return;
    }
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        let clocks = Clocks::of(&mut lab);
        clocks.lab.serve_all().await;
        let counting = Counting::start(clocks.lab);
        let mut all = Vec::new();
        for (round, seconds) in [3600, 0, -3600, 0].into_iter().enumerate() {
            all.push(Expiring::put(clocks.lab, round).await);
            let node = clocks.lab.leader(KEY).await;
            clocks.set(node, seconds);
            counting.goes_on().await;
            for _ in 0..size(3, 10) {
                for expiring in &all {
                    expiring.check(clocks.lab).await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            counting.is_read().await;
        }
        counting.stop(clocks.lab).await;
        if crate::nodes::is_full() {
            for expiring in &all {
                expiring.expire(clocks.lab).await;
            }
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_started_with_another_wall_clock_lets_nothing_expire_early() {
    if !has_faketime() {
        return;
    }
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        let clocks = Clocks::of(&mut lab);
        clocks.lab.serve_all().await;
        let counting = Counting::start(clocks.lab);
        for (round, seconds) in [3600, -3600].into_iter().enumerate() {
            let node = 1 + random.below(3) as u16;
            let began = Instant::now();
            println!("n{node} starts {seconds} s off");
            let before = Expiring::put(clocks.lab, 2 * round).await;
            clocks.lab.kill(node).await;
            clocks.set(node, seconds);
            clocks.lab.serve(node);
            clocks.lab.ready().await;
            println!("ready {:?}", began.elapsed());
            // It leads again what it led before: its clock counts.
            let leads = || async {
                let status = clocks.lab.status(node).await;
                status.is_ok_and(|status| {
                    status.nodes.iter().any(|each| each.id == NodeId(node.into()) && each.leads > 0)
                })
            };
            until("the node leads again", PATIENCE, leads).await;
            println!("leads {:?}", began.elapsed());
            let after = Expiring::put(clocks.lab, 2 * round + 1).await;
            counting.goes_on().await;
            for _ in 0..size(3, 10) {
                before.check(clocks.lab).await;
                after.check(clocks.lab).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            println!("checked {:?}", began.elapsed());
            clocks.set(node, 0);
            clocks.lab.kill(node).await;
            clocks.lab.serve(node);
            clocks.lab.ready().await;
            after.check(clocks.lab).await;
            if crate::nodes::is_full() {
                after.expire(clocks.lab).await;
            }
        }
        counting.stop(clocks.lab).await;
    });
}
