//! Checkpoints under load: with one for every MiB of log, nodes pass many within seconds, and are killed among them. Each core of
//! a node has its part in them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::rc::Rc;

use dialects::native::Client;
use kv::Outcome;
use tokio::task::JoinHandle;

use crate::clients::{get, put, value};
use crate::nodes::{Lab, PATIENCE, Random, run, size, until};
use crate::workload::Recorded;

/// Two values of the filler make a checkpoint due.
const FILLER_BYTES: usize = 512 << 10;
/// Keys that the filler writes over and over.
const FILLER_KEYS: u64 = 16;
/// So many segments of its log each node gives away before a kill. One has 16 MiB: no single checkpoint gives it away.
const SEGMENTS: u64 = 2;
/// So many recorded requests are answered before each kill and at the end.
const ROUND: u64 = 200;

/// What the filler's put of a number stores.
fn content(number: u64) -> Vec<u8> {
    let mut bytes = Random::of(&number.to_le_bytes()).bytes(FILLER_BYTES);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn key(number: u64) -> String {
    format!("filler:{}", number % FILLER_KEYS)
}

/// Writes large values, one after the other, so that the log grows.
struct Filler {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// The newest number that was acknowledged of each key.
    acknowledged: RefCell<BTreeMap<String, u64>>,
    /// Numbers that may be there.
    doubtful: RefCell<BTreeSet<u64>>,
    stop: Cell<bool>,
}

impl Filler {
    fn start(client: Client) -> Filler {
        let shared = Rc::new(Shared::default());
        let task = tokio::task::spawn_local(fill(client, shared.clone()));
        Filler { shared, task }
    }

    /// Stops, and checks what it left.
    async fn holds(self, client: &Client) {
        self.shared.stop.set(true);
        self.task.await.expect("the filler does not panic");
        let acknowledged = self.shared.acknowledged.take();
        assert_eq!(acknowledged.len() as u64, FILLER_KEYS, "every key was written");
        for (key, newest) in acknowledged {
            let found = value(client.call(get(&key)).await.unwrap()).expect("what was acknowledged is there");
            let number = u64::from_le_bytes(found[..8].try_into().expect("eight bytes"));
            let is_one = number == newest || self.shared.doubtful.borrow().contains(&number);
            assert!(is_one, "{key} holds put {number}, and put {newest} was acknowledged");
            assert!(found == content(number), "put {number} reads as it was written");
        }
    }
}

async fn fill(client: Client, shared: Rc<Shared>) {
    for number in 1.. {
        match client.call(put(&key(number), content(number))).await {
            Ok(_) => {
                shared.acknowledged.borrow_mut().insert(key(number), number);
            }
            Err(error) if error.outcome() == Outcome::InDoubt => {
                shared.doubtful.borrow_mut().insert(number);
            }
            Err(_) => {}
        }
        if shared.stop.get() {
            return;
        }
    }
}

/// The oldest segment of a node's log.
fn oldest_segment(lab: &Lab, node: u16) -> u64 {
    let names = fs::read_dir(lab.folder(node).join("log")).unwrap().map(|entry| entry.unwrap().file_name());
    let number = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".log")?.parse().ok();
    names.filter_map(number).min().expect("the log has segments")
}

/// Waits until every node has given away some segments: it has passed several checkpoints.
async fn pass_checkpoints(lab: &Lab) {
    let goals: Vec<u64> = lab.all().map(|node| oldest_segment(lab, node) + SEGMENTS).collect();
    for (node, goal) in lab.all().zip(goals) {
        let what = format!("n{node} gives its log away up to segment {goal}");
        until(&what, PATIENCE, || std::future::ready(oldest_segment(lab, node) >= goal)).await;
    }
}

/// Each start of a node is with a number of cores up to `cores_max`.
fn nodes_are_killed_among_checkpoints(engine: &str, cores_max: u64) {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--engine", engine, "--checkpoint-log", "1M"], &mut random);
        let mut draw = random.fork();
        let mut serve = |lab: &mut Lab, node: u16| {
            let cores = 1 + draw.below(cores_max);
            println!("n{node} starts with {cores} cores");
            lab.serve_with(node, &["--cores", &cores.to_string()]);
        };
        lab.all().for_each(|node| serve(&mut lab, node));
        lab.ready().await;
        let recorded = Recorded::start(&lab, &mut random);
        let filler = Filler::start(lab.client());
        for round in 0..size(2, 20) {
            pass_checkpoints(&lab).await;
            recorded.goes_on(ROUND).await;
            // All, and nobody has a copy that is further; or one, and the others go on.
            let one = 1 + random.below(3) as u16;
            let victims: Vec<u16> = if round % 2 == 0 { lab.all().collect() } else { vec![one] };
            println!("killed: {victims:?}");
            lab.kill_all(&victims).await;
            victims.iter().for_each(|victim| serve(&mut lab, *victim));
            lab.ready().await;
        }
        pass_checkpoints(&lab).await;
        recorded.goes_on(ROUND).await;
        filler.holds(&lab.client()).await;
        recorded.holds(&lab).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_nodes_are_killed_among_checkpoints_on_disk() {
    nodes_are_killed_among_checkpoints("disk", 1);
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_nodes_are_killed_among_checkpoints_in_memory() {
    nodes_are_killed_among_checkpoints("memory", 1);
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_nodes_are_killed_and_come_back_with_other_numbers_of_cores_on_disk() {
    nodes_are_killed_among_checkpoints("disk", 3);
}
