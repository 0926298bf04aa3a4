//! A keyspace that is kept by quorum, on three nodes: each of them takes reads and writes, whoever else is killed; and what was deleted
//! stays so.

use std::time::Duration;

use kv::{Answer, Error, Key, Level, Op, Protocol, Reply, Request, Value};

use crate::nodes::{Lab, PATIENCE, run, size, text, until};

const NAME: &str = "carts";
/// How long a request waits.
const LIMIT: Duration = Duration::from_secs(5);
/// Keys that are written before and while a node is down; every other one is deleted while it is.
const KEYS: usize = 20;

fn request(op: Op, level: Option<Level>) -> Request {
    Request { keyspace: NAME.into(), timeout: LIMIT, level, ..Request::new(op) }
}

fn key(number: usize) -> Key {
    format!("k{number}").into()
}

async fn put(lab: &Lab, node: u16, number: usize, value: &str) -> Result<Reply, Error> {
    let value = Value::from(value.to_owned());
    let op = Op::Put { key: key(number), value, deadline: None, previous: false };
    lab.pinned(node).call(request(op, None)).await
}

async fn delete(lab: &Lab, node: u16, number: usize) -> Result<Reply, Error> {
    lab.pinned(node).call(request(Op::Delete { key: key(number), previous: false }, None)).await
}

/// What a node answers for a key; empty = nothing.
async fn read(lab: &Lab, node: u16, number: usize, level: Level) -> Result<String, Error> {
    let reply = lab.pinned(node).call(request(Op::Get { key: key(number), at: None }, Some(level))).await?;
    let Answer::Row(row) = reply.answer else { panic!("a get answers with a row: {reply:?}") };
    Ok(row.map_or_else(String::new, |row| text(&row.value)))
}

/// Waits until all nodes have heard of the keyspace.
async fn is_known(lab: &Lab) {
    until("all nodes know the keyspace", PATIENCE, async || {
        for node in lab.all() {
            if read(lab, node, 0, Level::Linearizable).await.is_err() {
                return false;
            }
        }
        true
    })
    .await;
}

/// What a key holds after a round.
fn expected(number: usize, round: usize) -> String {
    if number.is_multiple_of(2) { format!("round {round}") } else { String::new() }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn quorum_serves_at_every_node_whoever_is_killed() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let created = lab.capstan(&[1], &["keyspace", "create", NAME, "--protocol", "quorum"]);
        assert!(created.status.success(), "{}", text(&created.stderr));
        is_known(&lab).await;
        let refused = lab.capstan(&[1], &["--keyspace", NAME, "increment", "n"]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("writes have no order"), "{}", text(&refused.stderr));
        let refused = lab.capstan(&[1], &["--keyspace", NAME, "watch", "n"]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("have no order"), "{}", text(&refused.stderr));
        let status = lab.capstan(&[1], &["cluster", "status", "--all"]);
        let led = text(&status.stdout)
            .lines()
            .filter(|line| line.contains(NAME))
            .all(|line| line.contains(" any "));
        assert!(led, "{}", text(&status.stdout));
        for round in 0..size(3, 9) {
            let victim = 1 + (round % 3) as u16;
            let others = Vec::from_iter(lab.all().filter(|node| *node != victim));
            for number in 0..KEYS {
                put(&lab, others[number % 2], number, "old").await.expect("all nodes are up");
            }
            lab.kill(victim).await;
            for number in 0..KEYS {
                let node = others[number % 2];
                let done = if number.is_multiple_of(2) {
                    put(&lab, node, number, &expected(number, round)).await
                } else {
                    delete(&lab, node, number).await
                };
                done.expect("two of three are up");
            }
            for node in &others {
                for number in 0..KEYS {
                    let found = read(&lab, *node, number, Level::Linearizable).await.expect("two are up");
                    assert_eq!(found, expected(number, round), "k{number} at n{node} without n{victim}");
                }
            }
            lab.serve(victim);
            lab.ready().await;
            // It is brought what it missed: its own rows say so in the end.
            until("the node that was away has what it missed", PATIENCE, async || {
                for number in 0..KEYS {
                    let found = read(&lab, victim, number, Level::Local).await;
                    if found.ok() != Some(expected(number, round)) {
                        return false;
                    }
                }
                true
            })
            .await;
        }
    });
}

/// Waits until the one shard of the keyspace is under a protocol on these nodes, and nothing changes.
async fn is_under(lab: &Lab, asked: u16, protocol: Protocol, nodes: &[u16]) {
    until("the keyspace is where it should be", PATIENCE, async || {
        let Ok(status) = lab.status(asked).await else { return false };
        let mut shards = status.shards.iter().filter(|shard| shard.keyspace == NAME);
        let (Some(shard), None) = (shards.next(), shards.next()) else { return false };
        let members = shard.members.iter().map(|member| member.node.0 as u16);
        shard.protocol == protocol && members.eq(nodes.iter().copied()) && shard.leader.is_some()
    })
    .await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn quorum_that_lost_a_node_for_good_has_all_its_copies_again() {
    run(async |mut random| {
        let mut lab = Lab::new(4, &[], &mut random);
        lab.serve_all().await;
        let created = lab.capstan(&[1], &["keyspace", "create", NAME, "--protocol", "quorum"]);
        assert!(created.status.success(), "{}", text(&created.stderr));
        is_known(&lab).await;
        let status = lab.status(1).await.expect("all nodes are up");
        let shard = status.shards.iter().find(|shard| shard.keyspace == NAME).expect("it was created");
        let victim = shard.members[random.below(3) as usize].node.0 as u16;
        let others = Vec::from_iter(lab.all().filter(|node| *node != victim));
        for number in 0..KEYS {
            put(&lab, others[number % 3], number, &expected(0, 1)).await.expect("all nodes are up");
        }
        lab.kill(victim).await;
        for number in (1..KEYS).step_by(2) {
            delete(&lab, others[number % 3], number).await.expect("two of three are up");
        }
        until("the lost one may be given up", PATIENCE, || {
            let output = lab.capstan(&[others[0]], &["cluster", "replace", &format!("n{victim}")]);
            std::future::ready(output.status.success())
        })
        .await;
        is_under(&lab, others[0], Protocol::Quorum, &others).await;
        for node in others {
            for number in 0..KEYS {
                for level in [Level::Linearizable, Level::Local] {
                    let found = read(&lab, node, number, level).await.expect("three are up");
                    assert_eq!(found, expected(number, 1), "k{number} at n{node}, {level}");
                }
            }
            put(&lab, node, 0, &expected(0, 1)).await.expect("three are up");
        }
    });
}
