//! A keyspace that is broadcast, on three nodes: each of them takes reads and writes by itself, whoever else is killed; they end alike, and what was
//! deleted stays so.

use std::time::Duration;

use kv::{Answer, Error, Key, Level, Op, Reply, Request, Value};

use crate::nodes::{Lab, PATIENCE, run, size, text, until};

pub const NAME: &str = "notes";
/// How many revisions of a key are kept, as the cluster was founded.
const HISTORY: &str = "3";
/// How long a request waits.
const LIMIT: Duration = Duration::from_secs(5);
/// Keys that are written before and while nodes are down; every third one is deleted then.
const KEYS: usize = 21;

fn key(number: usize) -> Key {
    format!("k{number}").into()
}

pub async fn ask(lab: &Lab, node: u16, op: Op, level: Option<Level>) -> Result<Reply, Error> {
    let request = Request { keyspace: NAME.into(), timeout: LIMIT, level, ..Request::new(op) };
    lab.pinned(node).call(request).await
}

pub async fn put(lab: &Lab, node: u16, number: usize, value: &str) -> Result<Reply, Error> {
    let value = Value::from(value.to_owned());
    ask(lab, node, Op::Put { key: key(number), value, deadline: None, previous: false }, None).await
}

/// What a node answers for a key; empty = nothing.
pub async fn read(lab: &Lab, node: u16, number: usize) -> Result<String, Error> {
    let reply = ask(lab, node, Op::Get { key: key(number), at: None }, None).await?;
    assert_eq!(reply.receipt.reached, Level::Local);
    let Answer::Row(row) = reply.answer else { panic!("a get answers with a row: {reply:?}") };
    Ok(row.map_or_else(String::new, |row| text(&row.value)))
}

/// What a key holds after a round.
fn expected(number: usize, round: usize) -> String {
    if number.is_multiple_of(3) { String::new() } else { format!("round {round}") }
}

/// Waits until a node holds what all should.
async fn is_whole(lab: &Lab, node: u16, round: usize) {
    until("a node has what all others have", PATIENCE, async || {
        for number in 0..KEYS {
            if read(lab, node, number).await.ok() != Some(expected(number, round)) {
                return false;
            }
        }
        true
    })
    .await;
}

/// Waits until all nodes have heard of the keyspace; it refuses what needs an order.
async fn is_known_and_refuses(lab: &Lab) {
    until("all nodes know the keyspace", PATIENCE, async || {
        for node in lab.all() {
            if read(lab, node, 0).await.is_err() {
                return false;
            }
        }
        true
    })
    .await;
    for (words, why) in [
        (&["increment", "n"][..], "writes have no order"),
        (&["--level", "linearizable", "get", "k"], "--level local"),
        (&["watch", "n"], "have no order"),
    ] {
        let refused = lab.capstan(&[1], &[&["--keyspace", NAME], words].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
}

/// As many as in any other keyspace of the cluster, and they are trimmed.
async fn keeps_earlier_revisions(lab: &Lab) {
    for value in ["a", "b", "c", "d"] {
        ask(lab, 2, Op::Put { key: "h".into(), value: value.into(), deadline: None, previous: false }, None)
            .await
            .expect("all nodes are up");
    }
    let history = |words: &[&str]| {
        let told = lab.capstan(&[2], &[&["--keyspace", NAME], words, &["h"]].concat());
        assert!(told.status.success(), "{}", text(&told.stderr));
        text(&told.stdout).lines().filter_map(|line| Some(line.split_once('\t')?.1.to_owned())).collect()
    };
    let kept: Vec<String> = history(&["history"]);
    assert_eq!(kept, ["d", "c", "b"]);
    let _: Vec<String> = history(&["trim"]);
    assert_eq!(history(&["history"]), ["d"]);
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn broadcast_serves_at_every_node_whoever_is_killed_and_ends_alike() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--history", HISTORY], &mut random);
        lab.serve_all().await;
        let created = lab.capstan(&[1], &["keyspace", "create", NAME, "--protocol", "broadcast"]);
        assert!(created.status.success(), "{}", text(&created.stderr));
        is_known_and_refuses(&lab).await;
        keeps_earlier_revisions(&lab).await;
        for round in 0..size(2, 6) {
            let survivor = 1 + (round % 3) as u16;
            let others = Vec::from_iter(lab.all().filter(|node| *node != survivor));
            for number in 0..KEYS {
                let node = 1 + (number % 3) as u16;
                let reply = put(&lab, node, number, "old").await.expect("all nodes are up");
                let here = read(&lab, node, number).await.expect("all nodes are up");
                assert_eq!(
                    (reply.receipt.copies, here.as_str()),
                    (1, "old"),
                    "what was put shows where it was"
                );
            }
            for node in lab.all() {
                until("what was put anywhere is everywhere", PATIENCE, async || {
                    for number in 0..KEYS {
                        if read(&lab, node, number).await.ok().as_deref() != Some("old") {
                            return false;
                        }
                    }
                    true
                })
                .await;
            }
            // One alone goes on.
            for node in &others {
                lab.kill(*node).await;
            }
            for number in 0..KEYS {
                let done = match expected(number, round) {
                    value if value.is_empty() => {
                        ask(&lab, survivor, Op::Delete { key: key(number), previous: false }, None).await
                    }
                    value => put(&lab, survivor, number, &value).await,
                };
                done.expect("one is enough");
            }
            for node in &others {
                lab.serve(*node);
            }
            lab.ready().await;
            for node in lab.all() {
                is_whole(&lab, node, round).await;
            }
            // The one that had it all is started again: nothing that was deleted comes back from the others.
            lab.kill(survivor).await;
            lab.serve(survivor);
            lab.ready().await;
            for node in lab.all() {
                is_whole(&lab, node, round).await;
            }
        }
    });
}
