//! What clients rely on while the shards that they ask for move, and move again: pages that go on, batches of all shards,
//! transactions, requests that are repeated.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use dialects::native::Client;
use kv::admin::{Answer as Told, Ask};
use kv::cluster::NodeDuty;
use kv::{
    Answer, Condition, Error, Expect, Key, NodeId, Op, Range, Reply, Request, RequestId, Value, Version,
};
use tokio::task::JoinHandle;

use crate::clients::{append, get, put, value};
use crate::nodes::{Lab, PATIENCE, Random, run, size, text, until};

/// Rows of a range.
const ROWS: usize = 120;
/// Rows of a page: a scan takes so many pages that shards move in the middle of it.
const PAGE_ROWS: u32 = 10;
/// Programs that change the same counter.
const COUNTERS: usize = 4;

/// Nodes that are drained and filled again, one after the other.
struct Carousel {
    drained: Rc<Cell<usize>>,
    stop: Rc<Cell<bool>>,
    task: JoinHandle<()>,
}

impl Carousel {
    fn start(lab: &Lab) -> Carousel {
        let (drained, stop) = (Rc::<Cell<usize>>::default(), Rc::<Cell<bool>>::default());
        let (client, nodes) = (lab.client(), Vec::from_iter(lab.all()));
        let (counted, stopped) = (drained.clone(), stop.clone());
        let turn = async move {
            for node in nodes.into_iter().cycle() {
                if stopped.get() {
                    return;
                }
                drain(&client, node).await;
                ask(&client, node, NodeDuty::Serve).await;
                counted.set(counted.get() + 1);
            }
        };
        Carousel { drained, stop, task: tokio::task::spawn_local(turn) }
    }

    /// Whether enough nodes were drained since it was started.
    fn is_over(&self) -> bool {
        self.drained.get() >= size(3, 15)
    }

    /// Stops it when enough nodes were drained.
    async fn end(self) {
        until("nodes are drained one after the other", PATIENCE * 5, || std::future::ready(self.is_over()))
            .await;
        self.stop.set(true);
        self.task.await.expect("the carousel does not panic");
    }
}

async fn ask(client: &Client, node: u16, duty: NodeDuty) {
    let ask = Ask::Node { name: format!("n{node}"), duty, fewer: false, dry_run: false };
    assert_eq!(client.administer(&ask, PATIENCE).await, Ok(Told::Done));
}

/// Moves all replicas of a node elsewhere.
async fn drain(client: &Client, node: u16) {
    ask(client, node, NodeDuty::Drain).await;
    until(&format!("n{node} has no replica any more"), PATIENCE, || async {
        let status = client.status().await;
        status.is_ok_and(|status| {
            status.nodes.iter().any(|known| known.id == NodeId(node.into()) && known.replicas == 0)
        })
    })
    .await;
}

async fn lab(random: &mut Random) -> Lab {
    let mut lab = Lab::new(5, &["--shards", "4"], random);
    lab.serve_all().await;
    lab
}

fn key(index: usize) -> Key {
    Key::from(format!("row:{index:04}"))
}

async fn call(client: &Client, op: Op) -> Reply {
    client.call(Request::new(op)).await.unwrap_or_else(|error| panic!("a request failed: {error}"))
}

/// Stores all rows with the value of a round; the last of their versions.
async fn write_all(client: &Client, round: usize) -> Version {
    let rows = (0..ROWS).map(|index| (key(index), Value::from(format!("{round}")))).collect();
    let Answer::Many(keys) = call(client, Op::PutAll { rows }).await.answer else {
        panic!("it is of many keys")
    };
    let versions = keys.into_iter().map(|answer| answer.result.unwrap().expect("it was stored").version);
    versions.max().expect("there are rows")
}

/// All rows, page by page, as of a version.
async fn scan(client: &Client, at: Option<Version>) -> Vec<(Key, Value)> {
    let (mut rows, mut page) = (Vec::new(), None);
    loop {
        let range = Range {
            from: Key::from("row:"),
            to: Some(Key::from("row;")),
            limit: PAGE_ROWS,
            page,
            at,
            ..Range::default()
        };
        let Answer::Page(found) = call(client, Op::Range(range)).await.answer else { panic!("it is a page") };
        rows.extend(found.rows.into_iter().map(|row| (row.key, row.value)));
        page = found.next;
        if page.is_none() {
            return rows;
        }
    }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn pages_of_a_range_go_on_and_read_their_version_while_shards_move() {
    run(async |mut random: Random| {
        let lab = lab(&mut random).await;
        let client = lab.client();
        let all =
            |round: usize| (0..ROWS).map(|index| (key(index), format!("{round}").into())).collect::<Vec<_>>();
        let carousel = Carousel::start(&lab);
        let mut scans = 0;
        while !carousel.is_over() {
            let version = write_all(&client, scans).await;
            // From now on every shard's versions are later.
            assert_eq!(scan(&client, Some(version)).await, all(scans));
            write_all(&client, scans + 1).await;
            assert_eq!(scan(&client, Some(version)).await, all(scans), "as of before the last round");
            assert_eq!(scan(&client, None).await, all(scans + 1));
            scans += 2;
        }
        println!("{scans} rounds");
        carousel.end().await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn batches_of_all_shards_are_whole_while_shards_move() {
    run(async |mut random: Random| {
        let lab = lab(&mut random).await;
        let (writer, reader) = (lab.client(), lab.client());
        let carousel = Carousel::start(&lab);
        let mut round = 0;
        while !carousel.is_over() {
            write_all(&writer, round).await;
            let keys = (0..ROWS).map(key).collect();
            let answer = call(&reader, Op::GetAll { keys, at: None }).await.answer;
            let Answer::Many(found) = answer else { panic!("it is of many keys") };
            for (index, found) in found.into_iter().enumerate() {
                let row = found.result.unwrap_or_else(|error| panic!("{:?}: {error}", found.key)).unwrap();
                assert_eq!((row.key, text(&row.value)), (key(index), round.to_string()));
            }
            round += 1;
        }
        println!("{round} rounds");
        carousel.end().await;
    });
}

/// Adds one to a counter, and a row with its number beside it, if nobody else has done so meanwhile.
async fn count_on(client: &Client) -> bool {
    let counter = Key::from("{count}er");
    let found = value(client.call(get("{count}er")).await.unwrap());
    let count: u64 = found.as_ref().map_or(0, |value| text(value).parse().unwrap());
    let expect = found.map_or(Expect::Absent, Expect::Value);
    let store =
        |key: Key, value: String| Op::Put { key, value: value.into(), deadline: None, previous: false };
    let beside = Key::from(format!("{{count}}:{count:06}"));
    let op = Op::Transaction {
        conditions: vec![
            Condition { key: counter.clone(), expect },
            Condition { key: beside.clone(), expect: Expect::Absent },
        ],
        then: vec![store(counter, (count + 1).to_string()), store(beside, String::new())],
        otherwise: Vec::new(),
    };
    match call(client, op).await.answer {
        Answer::Transaction { succeeded, .. } => succeeded,
        other => panic!("a transaction was answered with {other:?}"),
    }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn transactions_in_a_slot_happen_once_while_their_shard_moves() {
    run(async |mut random: Random| {
        let lab = lab(&mut random).await;
        let carousel = Carousel::start(&lab);
        let (succeeded, stop) = (Rc::<Cell<u64>>::default(), Rc::<Cell<bool>>::default());
        let counter = |_| {
            let (client, succeeded, stop) = (lab.client(), succeeded.clone(), stop.clone());
            tokio::task::spawn_local(async move {
                while !stop.get() {
                    let has = u64::from(count_on(&client).await);
                    succeeded.set(succeeded.get() + has);
                }
            })
        };
        let counters: Vec<_> = (0..COUNTERS).map(counter).collect();
        carousel.end().await;
        stop.set(true);
        for counter in counters {
            counter.await.expect("every transaction is answered");
        }
        println!("{} transactions", succeeded.get());
        for node in lab.all() {
            let (found, _) = lab.pinned(node).get("{count}er", Request::TIMEOUT).await.unwrap();
            assert_eq!(text(&found.unwrap()), succeeded.get().to_string(), "at n{node}");
        }
        let (from, to) = (Key::from("{count}:"), Some(Key::from("{count};")));
        let beside =
            call(&lab.client(), Op::Range(Range { from, to, count_only: true, ..Range::default() })).await;
        assert!(matches!(beside.answer, Answer::Page(page) if page.count == succeeded.get()));
    });
}

/// The nodes that have a replica of a key's shard.
async fn members(lab: &Lab, key: &str) -> Vec<u16> {
    let found = RefCell::new(Vec::new());
    until("the members of the shard are known", PATIENCE, || async {
        let Ok(status) = lab.client().status().await else { return false };
        let slot = kv::Slot::of(key.as_bytes());
        let shard =
            status.shards.iter().find(|shard| shard.slots.contains(slot)).expect("a slot is of a shard");
        let nodes = shard.members.iter().map(|member| member.node.0 as u16);
        *found.borrow_mut() = nodes.collect();
        !found.borrow().is_empty()
    })
    .await;
    found.into_inner()
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn append_that_is_repeated_after_all_its_replicas_are_others_happens_once() {
    run(async |mut random: Random| {
        let lab = lab(&mut random).await;
        let client = lab.client();
        let session = random.next() | 1;
        let ids: Vec<RequestId> = (1..=size(10, 100))
            .map(|sequence| {
                let valid_until = Version::end_of(u64::MAX);
                RequestId { client: session, sequence, valid_until, answered_below: 1 }
            })
            .collect();
        let request = |id: &RequestId| {
            let text = format!("{}\n", id.sequence);
            Request { id: Some(*id), ..append("log", text) }
        };
        let mut answers = Vec::new();
        for id in &ids {
            answers.push(client.call(request(id)).await.unwrap().answer);
        }
        let first = members(&lab, "log").await;
        // At most two can be drained at once: three replicas need three nodes.
        for node in &first[..2] {
            drain(&client, *node).await;
        }
        for node in &first[..2] {
            ask(&client, *node, NodeDuty::Serve).await;
        }
        drain(&client, first[2]).await;
        println!("{first:?} had it, {:?} have it", members(&lab, "log").await);

        for (id, answer) in ids.iter().zip(&answers) {
            for node in lab.all() {
                let again = lab.pinned(node).call(request(id)).await.unwrap();
                assert_eq!(again.answer, *answer, "what it was answered before");
            }
        }
        let expected: String = ids.iter().map(|id| format!("{}\n", id.sequence)).collect();
        assert_eq!(text(&value(client.call(get("log")).await.unwrap()).unwrap()), expected);

        // An id is not for another request, wherever its shard is now.
        let other = Request { id: Some(ids[0]), ..put("log", "other") };
        assert!(matches!(client.call(other).await, Err(Error::Invalid(_))));
    });
}
