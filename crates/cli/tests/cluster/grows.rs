//! Local clusters that are founded with replicas on some of their nodes, grow by `up --nodes`, shrink by `cluster leave`, and have
//! a lost node replaced: what `up` starts, stops, keeps and says.

use std::fs;

use serde_json::Value;

use crate::load::Writer;
use crate::nodes::{Lab, PATIENCE, Random, run, text, until};

/// Lines that must be acknowledged before what comes next.
const GO_ON: usize = 30;

fn status(lab: &Lab, asked: u16) -> Value {
    let output = lab.capstan(&[asked], &["cluster", "status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// Whether so many nodes have replicas and leaders in numbers that are equal within one, three replicas a shard, and nothing moves.
fn is_even(lab: &Lab, asked: u16, nodes: usize) -> bool {
    let status = status(lab, asked);
    let spread = |field: &str| {
        let counts = list(&status, "nodes").iter().map(|node| node[field].as_u64().unwrap());
        counts.clone().max().unwrap_or_default() - counts.min().unwrap_or_default()
    };
    let has_three = |shard: &Value| {
        let members = list(shard, "members");
        members.len() == 3 && members.iter().all(|member| member["duty"] == "voter") && shard["epoch"] == 1
    };
    let moves = lab.capstan(&[asked], &["cluster", "moves", "--json"]);
    list(&status, "nodes").len() == nodes
        && list(&status, "shards").iter().all(has_three)
        && spread("replicas") <= 1
        && spread("leads") <= 1
        && moves.status.success()
        && moves.stdout.is_empty()
}

async fn becomes_even(lab: &Lab, asked: u16, nodes: usize) {
    until("replicas and leaders are even", PATIENCE, || std::future::ready(is_even(lab, asked, nodes))).await;
}

async fn up_says(lab: &Lab, words: &str) {
    until(words, PATIENCE, || std::future::ready(lab.up_stderr().contains(words))).await;
}

fn log(lab: &Lab, node: u16) -> Vec<u8> {
    let output = lab.capstan(&[node], &["get", "log"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout.strip_suffix(b"\n").expect("a value is a line").to_vec()
}

/// `up` must refuse these options for the folder of the cluster, and say this.
fn is_refused(lab: &Lab, options: &[&str], says: &str) {
    let (data, base) = (lab.data().to_str().unwrap(), lab.base_port().to_string());
    let up = [&["up", "--data", data, "--base-port", &base], options].concat();
    let output = lab.capstan(&[1], &up);
    let err = text(&output.stderr);
    assert!(output.status.code() == Some(2) && err.contains(says), "{options:?}: {err}");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn up_founds_with_three_replicas_on_five_nodes() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(5, &["--shards", "64", "--replicas", "3"], &mut random);
        is_refused(&lab, &["--nodes", "5", "--replicas", "6"], "take more --nodes, or fewer --replicas");
        is_refused(&lab, &["--replicas", "0"], "a shard has 1 to 15 replicas");
        lab.up().await;
        for node in lab.all() {
            becomes_even(&lab, node, 5).await;
        }
        let counts: u64 =
            list(&status(&lab, 1), "nodes").iter().map(|node| node["replicas"].as_u64().unwrap()).sum();
        assert_eq!(counts, 3 * 64);
        // At a glance: no line for each shard, and none that is too wide.
        for command in ["status", "nodes", "moves", "query"] {
            let words = ["cluster", command, "k"];
            let words = if command == "query" { &words[..] } else { &words[..2] };
            let printed = text(&lab.capstan(&[1], words).stdout);
            assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
            assert!(printed.lines().count() < 20, "{printed}");
        }
        assert!(lab.stop_up().await.success());
        is_refused(&lab, &["--replicas", "5"], "was made with --replicas 3, which cannot become 5");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn up_adds_nodes_and_stops_those_that_leave() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(5, &["--shards", "10"], &mut random);
        lab.set_nodes(3);
        lab.up().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        assert!(lab.stop_up().await.success());

        // Killed at any time while it adds two, the next one goes on.
        lab.set_nodes(5);
        for _ in 0..2 {
            lab.spawn_up(&[]);
            tokio::time::sleep(std::time::Duration::from_millis(random.below(2000))).await;
            lab.kill_up();
        }
        lab.up().await;
        let writer = Writer::start(lab.client(), "log");
        becomes_even(&lab, 4, 5).await;
        writer.goes_on(GO_ON).await;
        assert_eq!(text(&lab.capstan(&[5], &["get", "a"]).stdout), "1\n");

        for node in ["n5", "n4"] {
            let left = lab.capstan(&[1], &["cluster", "leave", node, "--wait"]);
            assert!(left.status.success(), "{}", text(&left.stderr));
            up_says(&lab, &format!("node {node} has left the cluster: its folder")).await;
        }
        lab.set_nodes(3);
        until("the processes that left are gone", PATIENCE, || {
            std::future::ready(lab.pid(4).is_none() && lab.pid(5).is_none())
        })
        .await;
        becomes_even(&lab, 2, 3).await;
        writer.goes_on(GO_ON).await;
        let appended = writer.stop().await;
        lab.all().for_each(|node| appended.check(&log(&lab, node)));
        assert!(lab.stop_up().await.success());

        is_refused(&lab, &["--nodes", "2"], "then 'capstan cluster leave n3 --wait'");
        is_refused(
            &lab,
            &["--nodes", "19"],
            "2 of them belong to nodes that have left: remove their folders",
        );
        lab.up().await;
        assert!(lab.pid(4).is_none() && lab.pid(5).is_none(), "who has left is not started");
        assert!(lab.stop_up().await.success());
        // A name is free when the folder of who had it is gone.
        fs::remove_dir_all(lab.folder(4)).unwrap();
        lab.set_nodes(4);
        lab.start_up().await;
        becomes_even(&lab, 4, 4).await;
        lab.all().for_each(|node| appended.check(&log(&lab, node)));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn up_replaces_a_node_whose_folder_is_gone_once_it_is_given_up() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        assert!(lab.stop_up().await.success());
        fs::remove_dir_all(lab.folder(2)).unwrap();
        lab.spawn_up(&[]);
        up_says(&lab, "node n2 is not started: its folder").await;
        up_says(&lab, "give it up by 'capstan cluster replace n2'").await;
        lab.ready_nodes(&[1, 3]).await;
        assert_eq!(text(&lab.capstan(&[3], &["get", "a"]).stdout), "1\n");
        until("the lost one may be given up", PATIENCE, || {
            std::future::ready(lab.capstan(&[1], &["cluster", "replace", "n2"]).status.success())
        })
        .await;
        up_says(&lab, "node n2 was given up, and joins again as a new one").await;
        becomes_even(&lab, 2, 3).await;
        assert_eq!(text(&lab.capstan(&[2], &["get", "a"]).stdout), "1\n");
        assert!(lab.stop_up().await.success());
        lab.start_up().await;
        becomes_even(&lab, 2, 3).await;
    });
}
