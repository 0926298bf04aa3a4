//! Replicas that move while programs write and read: none of them notices.

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use dialects::native::Client;
use kv::{Answer, Key, Op, Request};
use serde_json::Value;

use crate::load::Writer;
use crate::nodes::{Lab, PATIENCE, Random, run, size, text, until};
use crate::trial::{Trial, cluster, fill};

/// Programs at work.
const PROGRAMS: usize = 16;
/// Requests that are answered before the first change, for comparison.
const USUAL: u64 = 2_000;
/// At each change no request takes longer than the slowest hundredth of the usual ones by more than this.
const SLOWER_MAX: Duration = Duration::from_secs(1);

/// A cluster of five nodes with three replicas of each shard, some rows, and programs at work.
async fn trial(random: &mut Random) -> Trial {
    let shards = size(16, 64).to_string();
    let mut lab = Lab::new(5, &["--shards", &shards], random);
    lab.serve_all().await;
    Trial::start(lab, PROGRAMS, size(4_000, 100_000), random).await
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn nodes_that_join_drain_leave_and_die_fail_no_request() {
    run(async |mut random: Random| {
        let mut trial = trial(&mut random).await;
        trial.as_usual(USUAL).await;
        trial
            .step("n6 and n7 join", async |trial| {
                for node in [6, 7] {
                    trial.lab.join(node, &[1, 2, 3]);
                    trial.nodes.push(node);
                }
                trial.is_even().await;
            })
            .await;
        trial.step("n4 is drained", async |trial| trial.done(&["drain", "n4", "--wait"]).await).await;
        trial
            .step("n4 takes replicas again", async |trial| trial.done(&["join", "n4", "--wait"]).await)
            .await;
        trial.step("n5 leaves", async |trial| trial.done(&["leave", "n5", "--wait"]).await).await;
        // It may have ended by itself: it is no node of the cluster any more.
        trial.lab.kill_all(&[5]).await;
        trial.nodes.retain(|node| *node != 5);
        trial
            .step("n1 is killed", async |trial| {
                trial.nodes.retain(|node| *node != 1);
                trial.lab.kill(1).await;
                trial.is_dead("n1").await;
            })
            .await;
        trial
            .step("n1 is replaced", async |trial| {
                trial.done(&["replace", "n1", "--timeout", "60s"]).await;
                fs::remove_dir_all(trial.lab.folder(1)).unwrap();
                trial.lab.join(1, &[2, 3]);
                trial.nodes.push(1);
                trial.is_even().await;
            })
            .await;
        trial.directory_is_on(5).await;
        trial.holds(SLOWER_MAX).await;
    });
}

/// Lines that must be acknowledged before what comes next.
const GO_ON: usize = 50;

/// The moves that nodes tell of, as objects.
async fn moves(lab: &Lab, nodes: &[u16]) -> Option<Vec<Value>> {
    let addresses: Vec<String> = nodes.iter().map(|node| lab.address(*node)).collect();
    let output = cluster(&addresses, &["moves", "--json"]).await;
    let lines = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    output.status.success().then_some(lines)
}

/// Waits until a move is under way, and no longer only planned.
async fn one_is_under_way(lab: &Lab, nodes: &[u16]) {
    until("a move is under way", PATIENCE, || async {
        moves(lab, nodes).await.is_some_and(|moves| moves.iter().any(|moved| moved["phase"] != "planned"))
    })
    .await;
}

/// The node that leads the directory.
async fn directory_leader(lab: &Lab) -> u16 {
    let leader = Cell::new(None);
    until("the directory has a leader", PATIENCE, || async {
        let status = lab.client().status().await.ok();
        leader.set(status.and_then(|status| status.directory?.leader));
        leader.get().is_some()
    })
    .await;
    leader.get().expect("it was waited for").0 as u16
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn move_goes_on_when_the_directory_leader_and_then_all_nodes_are_killed() {
    run(async |mut random: Random| {
        let shards = size(12, 64).to_string();
        let mut lab = Lab::new(5, &["--shards", &shards], &mut random);
        lab.serve_all().await;
        fill(&lab.client(), size(6_000, 200_000), &mut random).await;
        let writers: Vec<Writer> =
            (0..4).map(|index| Writer::start(lab.client(), &format!("log:{index}"))).collect();
        let drained = 4;
        for words in [["drain", "n4"], ["moves", "--json"]] {
            assert!(cluster(&lab.addresses(), &words).await.status.success());
        }
        one_is_under_way(&lab, &[1, 2, 3, 4, 5]).await;

        let leader = directory_leader(&lab).await;
        println!("n{leader} leads the directory and is killed");
        lab.kill(leader).await;
        let others: Vec<u16> = lab.all().filter(|node| *node != leader).collect();
        one_is_under_way(&lab, &others).await;
        writers[0].goes_on(GO_ON).await;

        lab.kill_all(&others).await;
        println!("all are killed");
        lab.serve_all().await;
        until("nothing moves any more, and n4 has no replica", PATIENCE, || async {
            let Ok(status) = lab.client().status().await else { return false };
            let has_none =
                |node: &kv::cluster::NodeStatus| node.name != format!("n{drained}") || node.replicas == 0;
            status.nodes.iter().all(has_none) && moves(&lab, &[1]).await.is_some_and(|moves| moves.is_empty())
        })
        .await;
        for (index, writer) in writers.into_iter().enumerate() {
            writer.goes_on(GO_ON).await;
            let appended = writer.stop().await;
            for node in lab.all() {
                let (found, _) =
                    lab.pinned(node).get(&format!("log:{index}"), Request::TIMEOUT).await.unwrap();
                appended.check(&found.unwrap_or_default());
            }
        }
        assert_eq!(count(&lab.client()).await, size(6_000, 200_000));
    });
}

/// How many of the rows that were there from the beginning are there.
async fn count(client: &Client) -> u64 {
    let (from, to) = (Key::from("row:"), Some(Key::from("row;")));
    let request = Request::new(Op::Range(kv::Range { from, to, count_only: true, ..kv::Range::default() }));
    match client.call(request).await.unwrap().answer {
        Answer::Page(page) => page.count,
        other => panic!("a range was answered with {other:?}"),
    }
}
