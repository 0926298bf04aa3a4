//! A keyspace under `primary` all of whose replicas in sync are lost: the operator has another one order, and what only the lost ones
//! had is listed once they are back.

use std::cell::Cell;
use std::time::Duration;

use kv::cluster::{Role, ShardStatus};
use kv::view::Duty;
use kv::{Answer, Op, Request};
use serde_json::Value;

use crate::nodes::{Lab, PATIENCE, Random, run, text, until};

const NAME: &str = "carts";
/// How long a request waits.
const LIMIT: Duration = Duration::from_secs(5);
/// Writes that only the primary has.
const LOST: usize = 20;

/// Three nodes, and the keyspace, whose writes wait for nobody and go on once an hour.
async fn begin(random: &mut Random) -> Lab {
    let mut lab = Lab::new(3, &[], random);
    lab.serve_all().await;
    let settings = ["--protocol", "primary", "--replicas", "3", "--sync", "0", "--interval", "1h"];
    done(&lab, 1, &[&["keyspace", "create", NAME][..], &settings].concat());
    lab
}

/// Runs a command at a node that is to be done; what it prints.
fn done(lab: &Lab, node: u16, arguments: &[&str]) -> String {
    let output = lab.capstan(&[node], arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn shard(lab: &Lab, by: u16) -> Option<ShardStatus> {
    let status = lab.status(by).await.ok()?;
    status.shards.into_iter().find(|shard| shard.keyspace == NAME)
}

fn put(key: &str, value: &str) -> Request {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let op = Op::Put { key, value, deadline: None, previous: false };
    Request { keyspace: NAME.into(), timeout: LIMIT, ..Request::new(op) }
}

/// Reads a key at a node, which may ask others.
async fn read(lab: &Lab, node: u16, key: &str) -> Option<String> {
    let op = Op::Get { key: key.to_owned().into(), at: None };
    let request = Request { keyspace: NAME.into(), timeout: LIMIT, ..Request::new(op) };
    match lab.pinned(node).call(request).await.expect("a read is answered").answer {
        Answer::Row(row) => row.map(|row| text(&row.value)),
        other => panic!("a get answers with a row: {other:?}"),
    }
}

/// The primary alone is in sync, and the others have what it has: what it orders from now on they get in an hour.
async fn is_alone(lab: &Lab, by: u16) -> Option<u16> {
    let shard = shard(lab, by).await?;
    let in_sync = shard.members.iter().filter(|member| member.duty != Duty::Learner);
    let applied = |replica: &kv::cluster::ReplicaStatus| replica.applied;
    let most = shard.replicas.iter().map(applied).max()?;
    let all_have_it =
        shard.replicas.len() == 3 && shard.replicas.iter().all(|replica| replica.applied == most);
    let leader = shard.replicas.iter().find(|replica| replica.role == Role::Leader)?;
    (in_sync.count() == 1 && all_have_it).then_some(leader.node.0 as u16)
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn forced_election_goes_on_with_what_is_left_and_lists_what_was_lost() {
    run(async |mut random| {
        let mut lab = begin(&mut random).await;
        until("the first write is taken", PATIENCE, async || {
            lab.pinned(1).call(put("key-0", "before")).await.is_ok()
        })
        .await;
        let alone = Cell::new(None);
        until("one is in sync, and the others have what it has", PATIENCE, async || {
            alone.set(is_alone(&lab, 1).await);
            alone.get().is_some()
        })
        .await;
        let first = alone.get().expect("it is so");
        let (heir, third) = (1 + first % 3, 1 + (first + 1) % 3);
        let node = format!("n{heir}");
        let force = ["keyspace", "alter", NAME, "--force-primary", &node, "--yes"];
        let refused = lab.capstan(&[heir], &force);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("needs no force"), "{}", text(&refused.stderr));
        // The first of them opens a batch that the others get at once; they get the rest in an hour.
        for number in 0..LOST {
            let written = lab.pinned(first).call(put(&format!("key-{number}"), "after")).await;
            written.expect("a write waits for nobody");
        }
        lab.kill(first).await;
        until("the operator may have another one order", PATIENCE, async || {
            lab.capstan(&[heir], &force).status.success()
        })
        .await;
        until("writes are taken again", PATIENCE, async || {
            lab.pinned(third).call(put("new", "1")).await.is_ok()
        })
        .await;
        let silent = done(&lab, heir, &["keyspace", "ledger", NAME, "--json"]);
        assert!(silent.contains(&format!("\"silent\":\"n{first}\"")), "{silent}");
        let kept = read(&lab, heir, "key-7").await;
        lab.serve(first);
        lab.ready().await;
        until("all are members again", PATIENCE, async || {
            let members = shard(&lab, heir).await.map_or_else(Vec::new, |shard| shard.members);
            members.len() == 3 && members.iter().all(|member| member.duty != Duty::Astray)
        })
        .await;
        let lines = done(&lab, third, &["keyspace", "ledger", NAME, "--json"]);
        let lost: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for number in 0..LOST {
            let key = format!("key-{number}");
            let listed = lost.iter().any(|line| line["key"] == key.as_str() && line["value"] == "after");
            let stays = read(&lab, first, &key).await.as_deref() == Some("after");
            assert!(listed || stays, "{key} was acknowledged, and is nowhere: {lines}");
        }
        assert!(!lost.is_empty(), "the last ones were lost");
        assert!(lost.iter().all(|line| line["node"] == format!("n{first}").as_str()), "{lines}");
        // What it replaced may be lost as well.
        let is_later = |line: &&Value| line["key"] == "key-0" && line["value"] == "after";
        if let Some(replaced) = lost.iter().find(is_later) {
            assert!(replaced["replaced"].is_string(), "it was there before: {replaced}");
        }
        assert_eq!(read(&lab, first, "key-7").await, kept, "nothing that was lost is shown");
        assert_eq!(read(&lab, first, "new").await.as_deref(), Some("1"));
        let table = done(&lab, first, &["keyspace", "ledger", NAME]);
        assert!(table.contains("key-7") || kept.as_deref() == Some("after"), "{table}");
    });
}
