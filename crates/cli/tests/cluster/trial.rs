//! A cluster that changes while programs write and read: what they notice, and what is told of the moves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use check::history::History;
use dialects::native::Client;
use kv::admin::{Answer as Told, Ask};
use kv::cluster::{Liveness, NodeStatus};
use kv::view::Member;
use kv::{Key, Op, Request};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::judge;
use crate::nodes::{CAPSTAN, Lab, PATIENCE, Random, is_full, text, until};
use crate::workload::Recorded;

/// Keys of each workload: so many that most shards have some.
const KEYS: u64 = 48;
/// The bytes of each row that is there from the beginning.
const ROW_BYTES: usize = 500;
/// Rows that are stored at once.
const ROWS_AT_ONCE: usize = 200;
/// The moves are looked at so often.
const LOOK: Duration = Duration::from_millis(300);

/// A cluster, programs at work, and somebody who watches the moves.
pub struct Trial {
    /// The cluster.
    pub lab: Lab,
    /// The nodes that belong to it.
    pub nodes: Vec<u16>,
    /// A client for what the test itself asks.
    pub client: Client,
    recorded: Recorded,
    watch: Watch,
    steps: Vec<Step>,
}

/// What was done, and from when to when.
struct Step {
    what: String,
    from_micros: u64,
    to_micros: u64,
}

impl Trial {
    /// Of a cluster that serves. So many programs, and so many rows that they leave alone.
    pub async fn start(lab: Lab, programs: usize, rows: u64, random: &mut Random) -> Trial {
        let client = lab.client();
        fill(&client, rows, random).await;
        let clients = (0..programs).map(|_| lab.client()).collect();
        let recorded = Recorded::start_programs(clients, KEYS, random);
        let watch = Watch::start(lab.addresses());
        Trial { nodes: lab.all().collect(), lab, client, recorded, watch, steps: Vec::new() }
    }

    /// Lets the programs work, for comparison.
    pub async fn as_usual(&mut self, requests: u64) {
        self.step("as usual", async |trial| trial.recorded.goes_on(requests).await).await;
    }

    /// Does something, and notes how long it took.
    pub async fn step(&mut self, what: &str, work: impl AsyncFnOnce(&mut Trial)) {
        let from_micros = self.recorded.micros();
        work(self).await;
        let to_micros = self.recorded.micros();
        let (failures, took) = (self.recorded.failures(), Duration::from_micros(to_micros - from_micros));
        println!("{what}: {took:.1?}, {} requests failed so far", failures.len());
        assert!(failures.is_empty(), "{what}: requests failed: {failures:#?}");
        self.steps.push(Step { what: what.into(), from_micros, to_micros });
    }

    /// A command on the cluster, asked of the nodes that belong to it; it succeeds.
    pub async fn done(&self, words: &[&str]) {
        let output = self.cluster(words).await;
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    }

    /// A command on the cluster, asked of the nodes that belong to it. The programs go on meanwhile.
    pub async fn cluster(&self, words: &[&str]) -> Output {
        let addresses: Vec<String> = self.nodes.iter().map(|node| self.lab.address(*node)).collect();
        cluster(&addresses, words).await
    }

    /// Waits until each node has as many replicas, and leads as many shards, as any other, within one, and nothing moves.
    pub async fn is_even(&self) {
        until("replicas and leaders are even", PATIENCE, || async {
            let Ok(status) = self.client.status().await else { return false };
            let is_even = |counts: BTreeMap<u64, u32>| {
                let (least, most) = (counts.values().min(), counts.values().max());
                counts.len() == self.nodes.len()
                    && least.zip(most).is_some_and(|(least, most)| most - least <= 1)
            };
            let mut replicas = BTreeMap::new();
            let mut leads = BTreeMap::new();
            for shard in &status.shards {
                shard.members.iter().for_each(|member| *replicas.entry(member.node.0).or_default() += 1);
                shard.leader.iter().for_each(|leader| *leads.entry(leader.0).or_default() += 1);
            }
            is_even(replicas) && is_even(leads) && self.is_still().await
        })
        .await;
    }

    async fn is_still(&self) -> bool {
        let moves = self.client.administer(&Ask::Moves, Request::TIMEOUT).await;
        matches!(moves, Ok(Told::Moves(moves)) if moves.is_empty())
    }

    /// Waits until a node is dead for the others.
    pub async fn is_dead(&self, name: &str) {
        until(&format!("the others take {name} for dead"), PATIENCE, || async {
            let is_dead = |node: &NodeStatus| node.name == name && node.state == Liveness::Dead;
            self.client.status().await.is_ok_and(|status| status.nodes.iter().any(is_dead))
        })
        .await;
    }

    /// Waits until the directory has so many members, all of which are alive.
    pub async fn directory_is_on(&self, members: usize) {
        until(&format!("the directory is on {members} nodes"), PATIENCE, || async {
            let Ok(status) = self.client.status().await else { return false };
            let is_alive = |member: &Member| {
                status.nodes.iter().any(|node| node.id == member.node && node.state == Liveness::Alive)
            };
            status.directory.as_ref().is_some_and(|directory| {
                directory.members.len() == members && directory.members.iter().all(is_alive)
            })
        })
        .await;
    }

    /// Ends the programs: what they saw is linearizable, and nothing failed. Prints how long requests took at each step; at full
    /// size none may take longer than usual by more than `slower_max`.
    pub async fn holds(self, slower_max: Duration) {
        let failures = self.recorded.failures();
        let history = self.recorded.end_at(&self.lab, &self.nodes).await;
        self.watch.end().await.check();
        let slow = slow(&history, &self.steps);
        assert!(failures.is_empty(), "requests failed: {failures:#?}");
        judge::holds(&history);
        let usual = slow[0].p99;
        for (step, slow) in self.steps.iter().zip(&slow) {
            println!("{:30} {slow}", step.what);
            let is_fine = slow.p99 <= usual + slower_max;
            assert!(is_fine || !is_full(), "{}: {slow}, and usually {usual:.1?}", step.what);
        }
    }
}

/// A command on the cluster that has these addresses.
pub async fn cluster(addresses: &[String], words: &[&str]) -> Output {
    let mut command = Command::new(CAPSTAN);
    command.args(["--connect", &addresses.join(","), "cluster"]).args(words).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.expect("a command does not panic")
}

/// Stores rows.
pub async fn fill(client: &Client, rows: u64, random: &mut Random) {
    for chunk in Vec::from_iter(0..rows).chunks(ROWS_AT_ONCE) {
        let row = |index: &u64| (Key::from(format!("row:{index:07}")), random.bytes(ROW_BYTES).into());
        let rows = chunk.iter().map(row).collect();
        client.call(Request::new(Op::PutAll { rows })).await.unwrap();
    }
}

/// How long requests took.
struct Slow {
    requests: usize,
    p50: Duration,
    p99: Duration,
    most: Duration,
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Slow { requests, p50, p99, most } = self;
        write!(f, "{requests:6} requests, p50 {p50:.1?}, p99 {p99:.1?}, at most {most:.1?}")
    }
}

/// How long the requests took that were asked during each step.
fn slow(history: &History, steps: &[Step]) -> Vec<Slow> {
    let times = |operation: &check::history::Operation| {
        Some((operation.called.micros?, operation.returned.and_then(|returned| returned.micros)?))
    };
    let times: Vec<(u64, u64)> = history.operations().iter().filter_map(times).collect();
    let of_step = |step: &Step| {
        let asked = times.iter().filter(|(called, _)| (step.from_micros..step.to_micros).contains(called));
        let mut took: Vec<Duration> =
            asked.map(|(called, returned)| Duration::from_micros(returned - called)).collect();
        took.sort();
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
        Slow {
            requests: took.len(),
            p50: at(0.5),
            p99: at(0.99),
            most: took.last().copied().unwrap_or_default(),
        }
    };
    steps.iter().map(of_step).collect()
}

/// What tells a move from others.
type Which = (u64, Option<String>, Option<String>);

/// What was seen of the moves.
#[derive(Default)]
struct Watched {
    looks: usize,
    failures: Vec<String>,
    moves: BTreeMap<Which, Seen>,
    stop: bool,
}

/// What was seen of a move.
#[derive(Default)]
struct Seen {
    phases: Vec<String>,
    bytes_done: u64,
    bytes_total: u64,
    had_time_left: bool,
}

/// Somebody who looks at the moves all along.
struct Watch {
    watched: Rc<RefCell<Watched>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(addresses: Vec<String>) -> Watch {
        let watched = Rc::<RefCell<Watched>>::default();
        let shared = watched.clone();
        let look = async move {
            while !shared.borrow().stop {
                let output = cluster(&addresses, &["moves", "--json"]).await;
                shared.borrow_mut().note(&output);
                tokio::time::sleep(LOOK).await;
            }
        };
        Watch { watched, task: tokio::task::spawn_local(look) }
    }

    async fn end(self) -> Watched {
        self.watched.borrow_mut().stop = true;
        self.task.await.expect("a watch does not panic");
        self.watched.take()
    }
}

impl Watched {
    fn note(&mut self, output: &Output) {
        self.looks += 1;
        if !output.status.success() {
            self.failures.push(text(&output.stderr));
        }
        for line in text(&output.stdout).lines() {
            let moved: Value = serde_json::from_str(line).expect("a line is an object");
            let name = |field: &str| moved[field].as_str().map(str::to_owned);
            let number = |field: &str| moved[field].as_u64();
            let which = (number("shard").expect("a move names its shard"), name("from"), name("to"));
            let seen = self.moves.entry(which).or_default();
            let phase = name("phase").expect("a move has a phase");
            if seen.phases.last() != Some(&phase) {
                seen.phases.push(phase);
            }
            let bytes = |field: &str| number(field).expect("a move says its bytes");
            seen.bytes_done = seen.bytes_done.max(bytes("bytes_done"));
            seen.bytes_total = seen.bytes_total.max(bytes("bytes_total"));
            seen.had_time_left |= number("left_ms").is_some();
        }
    }

    /// It was told all along what moves, and of some how far it was.
    fn check(self) {
        let Watched { looks, failures, moves, .. } = self;
        let count = |is: fn(&&Seen) -> bool| moves.values().filter(is).count();
        println!(
            "{looks} looks at the moves saw {}: {} copied, {} with bytes, {} with the time left; {} looks failed",
            moves.len(),
            count(|seen| seen.phases.iter().any(|phase| phase == "copy")),
            count(|seen| seen.bytes_total > 0),
            count(|seen| seen.had_time_left),
            failures.len()
        );
        for (which, seen) in &moves {
            println!("{which:?} {:?} {} of {}", seen.phases, seen.bytes_done, seen.bytes_total);
        }
        assert!(failures.is_empty(), "{failures:#?}");
        let goes = moves.keys().any(|(_, _, to)| to.is_some());
        assert!(
            !goes || count(|seen| seen.bytes_total > 0) > 0,
            "of some it was told how much there is to copy"
        );
    }
}
