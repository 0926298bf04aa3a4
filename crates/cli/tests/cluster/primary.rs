//! A keyspace that is kept by a primary, on three nodes: another of those in sync takes over, a lost one is taken out, and who is cut off
//! reads nothing that is old.

use std::time::Duration;

use kv::cluster::{Role, ShardStatus};
use kv::{Answer, Error, Op, Request};

use crate::nodes::{Lab, PATIENCE, Random, run, size, text, until};
use crate::workload::Recorded;

const NAME: &str = "carts";
/// How long a request waits.
const LIMIT: Duration = Duration::from_secs(2);
/// Requests that are answered between two faults, and while one is in force.
const GO_ON: u64 = 60;

/// Three nodes with the keyspace.
async fn begin(random: &mut Random) -> Lab {
    let mut lab = Lab::new(3, &["--lab"], random);
    lab.serve_all().await;
    done(
        &lab,
        1,
        &["keyspace", "create", NAME, "--protocol", "primary", "--replicas", "3", "--min-copies", "2"],
    );
    lab
}

/// Runs a command at a node that is to be done.
fn done(lab: &Lab, node: u16, arguments: &[&str]) -> String {
    let output = lab.capstan(&[node], arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The others of three nodes.
fn others(node: u16) -> [u16; 2] {
    [1 + node % 3, 1 + (node + 1) % 3]
}

/// The keyspace's shard, as a node says it is.
async fn shard(lab: &Lab, by: u16) -> Option<ShardStatus> {
    let status = lab.status(by).await.ok()?;
    status.shards.into_iter().find(|shard| shard.keyspace == NAME)
}

/// The node of the primary, by what a node says.
async fn primary(lab: &Lab, by: u16) -> Option<u16> {
    let leader = shard(lab, by).await?.leader?;
    Some(u16::try_from(leader.0).expect("three nodes have small ids"))
}

/// All three are in sync, and one orders.
async fn is_whole(lab: &Lab) -> bool {
    use kv::view::Duty;
    let Some(shard) = shard(lab, 1).await else { return false };
    let in_sync = shard.members.iter().filter(|member| matches!(member.duty, Duty::Primary | Duty::Voter));
    let leads = shard.replicas.iter().filter(|replica| replica.role == Role::Leader);
    in_sync.count() == 3 && leads.count() == 1
}

fn put(value: &str) -> Request {
    let op = Op::Put { key: "k".into(), value: value.to_owned().into(), deadline: None, previous: false };
    Request { keyspace: NAME.into(), timeout: LIMIT, ..Request::new(op) }
}

/// Reads the key at a node, which may ask others for it, by the level that the keyspace promises.
async fn read(lab: &Lab, node: u16) -> Result<String, Error> {
    let op = Op::Get { key: "k".into(), at: None };
    let request = Request { keyspace: NAME.into(), timeout: LIMIT, ..Request::new(op) };
    let reply = lab.pinned(node).call(request).await?;
    let Answer::Row(row) = reply.answer else { panic!("a get answers with a row: {reply:?}") };
    Ok(row.map_or_else(String::new, |row| text(&row.value)))
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn primary_or_secondary_killed_or_cut_off_under_load_loses_nothing_and_another_takes_over() {
    run(async |mut random| {
        let mut lab = begin(&mut random).await;
        let recorded = Recorded::start_in(NAME, &lab, &mut random);
        for round in 0..size(4, 20) {
            recorded.goes_on(GO_ON).await;
            let first = primary(&lab, 1).await.expect("the shard has a primary");
            let victim = if round % 2 == 0 { first } else { others(first)[random.below(2) as usize] };
            let [one, other] = others(victim);
            let is_killed = round % 4 < 2;
            match is_killed {
                true => lab.kill(victim).await,
                false => {
                    done(&lab, one, &["fault", "partition", &format!("n{victim}/n{one},n{other}")]);
                }
            }
            until("one that is in sync orders", PATIENCE, async || {
                primary(&lab, one).await.is_some_and(|primary| primary != victim)
            })
            .await;
            recorded.goes_on(GO_ON).await;
            match is_killed {
                true => lab.serve(victim),
                false => drop(done(&lab, victim, &["fault", "heal"])),
            }
            lab.ready().await;
            until("all are in sync again", PATIENCE, async || is_whole(&lab).await).await;
        }
        recorded.goes_on(GO_ON).await;
        recorded.holds(&lab).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn primary_takes_out_a_secondary_that_is_cut_off_and_that_reads_nothing_old() {
    run(async |mut random| {
        let lab = begin(&mut random).await;
        until("a put is taken", PATIENCE, async || lab.pinned(1).call(put("before")).await.is_ok()).await;
        until("all are in sync", PATIENCE, async || is_whole(&lab).await).await;
        let first = primary(&lab, 1).await.expect("the shard has a primary");
        let [away, other] = others(first);
        // It reads by itself, and others count no read.
        until("the secondary reads under a lease", PATIENCE, async || {
            let value = read(&lab, away).await;
            let replicas = shard(&lab, away).await.map_or_else(Vec::new, |shard| shard.replicas);
            let own = replicas.iter().find(|replica| replica.node.0 == u64::from(away));
            let served = own.map_or(0, |replica| replica.lease_reads);
            value.is_ok_and(|value| value == "before") && served >= 10
        })
        .await;
        done(&lab, first, &["fault", "partition", &format!("n{away}/n{first},n{other}")]);
        until("writes go on without it", PATIENCE, async || {
            lab.pinned(first).call(put("after")).await.is_ok()
        })
        .await;
        if let Ok(value) = read(&lab, away).await {
            assert_eq!(value, "after", "n{away} is cut off, and answers by what it had");
        }
        assert_eq!(read(&lab, other).await.expect("the other one is in sync"), "after");
        done(&lab, away, &["fault", "heal"]);
        until("it is in sync again", PATIENCE, async || is_whole(&lab).await).await;
        until("it reads again", PATIENCE, async || {
            read(&lab, away).await.is_ok_and(|value| value == "after")
        })
        .await;
    });
}
