//! A node that was away for longer than the others remember: it gets a snapshot, and is as good as they are.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Instant;

use dialects::native::Client;
use kv::{KeyValue, Request};
use tokio::sync::oneshot;

use crate::clients::{Pinned, put};
use crate::nodes::{Lab, PATIENCE, Random, run, size};

/// Requests that are asked at once.
const STEP: u64 = 2_000;
/// Readers that ask at once.
const READERS: usize = 64;

fn key(index: u64) -> String {
    format!("key:{index:06}")
}

fn content(index: u64) -> String {
    format!("{index:0>100}")
}

/// Stores these keys.
async fn fill(client: &Client, keys: std::ops::Range<u64>) {
    let mut from = keys.start;
    while from < keys.end {
        let to = keys.end.min(from + STEP);
        let requests: Vec<Request> = (from..to).map(|index| put(&key(index), content(index))).collect();
        submit(client, requests).await;
        from = to;
    }
}

/// Asks all of these; each must succeed.
async fn submit(client: &Client, requests: Vec<Request>) {
    let (sender, done) = oneshot::channel();
    let left = requests.len();
    let state = Mutex::new((left, Some(sender)));
    let complete = move |index: usize, result: Result<kv::Reply, kv::Error>| {
        let mut state = state.lock().unwrap();
        if let Err(error) = result {
            println!("request {index}: {error}");
            return;
        }
        state.0 -= 1;
        if state.0 == 0
            && let Some(sender) = state.1.take()
        {
            let _ = sender.send(());
        }
    };
    client.submit(requests, Box::new(complete));
    done.await.expect("every put succeeds");
}

/// Reads all of these keys through a node; returns those that it served itself, which needs that it leads them.
async fn read_led(node: &Pinned, keys: BTreeSet<u64>) -> BTreeSet<u64> {
    let left = Rc::new(RefCell::new(keys.into_iter()));
    let read = |_| {
        let (mut node, left) = (node.clone(), left.clone());
        let mut served = Vec::new();
        tokio::task::spawn_local(async move {
            loop {
                let Some(index) = left.borrow_mut().next() else { return served };
                let Ok((found, receipt)) = node.get(&key(index), Request::TIMEOUT).await else { continue };
                assert_eq!(found.as_deref(), Some(content(index).as_bytes()), "{}", key(index));
                if receipt.node == node.node.0 {
                    served.push(index);
                }
            }
        })
    };
    let readers: Vec<_> = (0..READERS).map(read).collect();
    let mut all = BTreeSet::new();
    for reader in readers {
        all.extend(reader.await.expect("a reader does not panic"));
    }
    all
}

fn follower_far_behind(engine: &str, keys: u64) {
    run(async |mut random: Random| {
        let options = ["--engine", engine, "--entry-cache", "1M", "--shards", "3"];
        let mut lab = Lab::new(3, &options, &mut random);
        lab.serve_all().await;
        fill(&lab.client(), 0..keys / 10).await;
        lab.stop(3).await;
        let began = Instant::now();
        fill(&lab.client(), keys / 10..keys).await;
        println!("{keys} puts in {:?}", began.elapsed());
        lab.serve(3);
        let began = Instant::now();
        lab.ready().await;
        lab.level().await;
        println!("n3 has caught up after {:?}", began.elapsed());
        let taken = lab.journal(3).matches("a snapshot is in use").count();
        assert!(taken > 0, "it came back by a snapshot");

        // Now it must lead: every shard in turn, as the others stop and come back.
        let (node, mut left): (_, BTreeSet<u64>) = (lab.pinned(3), (0..keys).collect());
        let end = Instant::now() + 2 * PATIENCE;
        while !left.is_empty() {
            assert!(Instant::now() < end, "n3 led all but {} of {keys} keys", left.len());
            for other in [1, 2] {
                assert!(lab.stop(other).await.success());
                let rest = 3 - other;
                lab.ready_nodes(&[3, rest]).await;
                let served = read_led(&node, left.clone()).await;
                left.retain(|index| !served.contains(index));
                lab.serve(other);
                lab.ready().await;
            }
        }
        println!("n3 served all {keys} keys as their leader, after {taken} snapshots");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn follower_far_behind_catches_up_by_snapshot_and_leads_on_disk() {
    follower_far_behind("disk", size(20_000, 200_000));
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn follower_far_behind_catches_up_by_snapshot_and_leads_in_memory() {
    follower_far_behind("memory", size(20_000, 200_000));
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn follower_killed_while_a_snapshot_comes_in_gets_another() {
    run(async |mut random: Random| {
        let keys = size(20_000, 200_000);
        let mut lab = Lab::new(3, &["--entry-cache", "1M", "--shards", "3"], &mut random);
        lab.serve_all().await;
        lab.stop(3).await;
        fill(&lab.client(), 0..keys).await;
        for _ in 0..size(5, 30) {
            lab.serve(3);
            tokio::time::sleep(std::time::Duration::from_millis(100 + random.below(400))).await;
            lab.kill(3).await;
            fill(&lab.client(), 0..keys / 10).await;
        }
        lab.serve(3);
        lab.ready().await;
        let mut node = lab.pinned(3);
        for index in (0..keys).step_by(7) {
            let (found, _) = node.get(&key(index), Request::TIMEOUT).await.unwrap();
            assert_eq!(found.as_deref(), Some(content(index).as_bytes()), "{}", key(index));
        }
    });
}
