//! Two clusters whose addresses mislead: nobody writes into the one that was not meant.

use std::fs;

use kv::{Error, Request};
use serde_json::Value;

use crate::clients::{get, put};
use crate::network::Network;
use crate::nodes::{Lab, PATIENCE, Random, run, text, until};

/// Enough keys that each node leads some.
const KEYS: u16 = 24;

fn key(index: u16) -> String {
    format!("key:{index}")
}

/// Puts all keys by commands that are given the first node only, and asserts that they are there.
fn put_all(lab: &Lab) {
    for index in 0..KEYS {
        let output = lab.capstan(&[1], &["put", &key(index), "ours"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    for index in 0..KEYS {
        assert_eq!(text(&lab.capstan(&[1], &["get", &key(index)]).stdout), "ours\n");
    }
}

fn assert_empty(lab: &Lab) {
    let output = lab.capstan(&[1], &["range", "", "--count"]);
    assert_eq!(text(&output.stdout), "0\n", "{}", text(&output.stderr));
}

/// The id that a node tells.
fn cluster(lab: &Lab, node: u16) -> String {
    let output = lab.capstan(&[node], &["cluster", "status", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = status["cluster"].as_str().unwrap().to_owned();
    let table = text(&lab.capstan(&[node], &["cluster", "status"]).stdout);
    assert!(table.starts_with(&format!("Cluster {id}\n")), "{table}");
    id
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn address_announced_that_belongs_to_another_cluster_is_not_written_to() {
    run(async |mut random: Random| {
        let (mut ours, mut theirs) = (Lab::new(3, &[], &mut random), Lab::new(1, &[], &mut random));
        theirs.serve_all().await;
        ours.serve(1);
        for node in [2, 3] {
            ours.serve_with(node, &["--advertise", &theirs.address(1)]);
        }
        ours.ready().await;
        put_all(&ours);
        assert_empty(&theirs);

        // When there is nobody else to ask, it is told why that node was not.
        ours.kill_all(&[2, 3]).await;
        let output = ours.capstan(&[1], &["put", "more", "x", "--timeout", "3s"]);
        let error = text(&output.stderr);
        let expect = format!("{} (a node of another cluster, {})", theirs.address(1), cluster(&theirs, 1));
        assert!(matches!(output.status.code(), Some(3 | 4)) && error.contains(&expect), "{error}");
        assert_empty(&theirs);
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn nodes_that_listen_everywhere_must_say_where_they_are_and_no_other_cluster_is_taken_for_them() {
    run(async |mut random: Random| {
        let network = match Network::new(3, &mut random) {
            Ok(network) => network,
            Err(why) => return println!("SKIPPED: {why}"),
        };
        let (mut ours, mut theirs) = (Lab::new(3, &[], &mut random), Lab::new(3, &[], &mut random));
        network.take_open(&mut ours);
        // On this machine, at the addresses that "every address" means here.
        theirs.set_base_port(ours.base_port());
        theirs.serve_all().await;
        for node in ours.all() {
            ours.serve(node);
            assert_eq!(ours.end(node, PATIENCE).await.code(), Some(2));
            let told = ours.stderr(node);
            assert!(
                told.contains("--listen 0.0.0.0:") && told.contains("add --advertise HOST:PORT"),
                "{told}"
            );
        }

        // Told wrongly: each node says where it would be found on its own machine.
        for node in ours.all() {
            let wrong = format!("127.0.0.1:{}", ours.base_port() + node);
            ours.serve_with(node, &["--advertise", &wrong]);
        }
        ours.ready().await;
        put_all(&ours);
        assert_empty(&theirs);

        ours.kill_all(&[1, 2, 3]).await;
        for node in ours.all() {
            ours.serve_with(node, &["--advertise", &ours.address(node)]);
        }
        ours.ready().await;
        put_all(&ours);
        assert_empty(&theirs);
        assert_ne!(cluster(&ours, 1), cluster(&theirs, 1));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn addresses_of_two_clusters_are_refused() {
    run(async |mut random: Random| {
        let (mut ours, mut theirs) = (Lab::new(1, &[], &mut random), Lab::new(1, &[], &mut random));
        ours.serve_all().await;
        theirs.serve_all().await;
        let both = format!("{},{}", ours.address(1), theirs.address(1));
        for command in [&["put", "a", "1"][..], &["get", "a"], &["cluster", "status"]] {
            let output = ours.capstan(&[1], &[command, &["--connect", &both]].concat());
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
            for lab in [&ours, &theirs] {
                assert!(error.contains(&format!("{} of {}", lab.address(1), cluster(lab, 1))), "{error}");
            }
        }
        assert_empty(&ours);
        assert_empty(&theirs);
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn cluster_id_is_one_and_stays_and_a_cluster_made_anew_is_another() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let id = cluster(&lab, 1);
        assert!(lab.all().all(|node| cluster(&lab, node) == id));
        let client = lab.client();
        client.call(put("a", "1")).await.unwrap();
        lab.kill_all(&[1, 2, 3]).await;
        lab.serve_all().await;
        assert_eq!(cluster(&lab, 2), id);
        client.call(put("a", "2")).await.unwrap();

        lab.kill_all(&[1, 2, 3]).await;
        lab.all().for_each(|node| fs::remove_dir_all(lab.folder(node)).unwrap());
        lab.serve_all().await;
        let new = cluster(&lab, 3);
        assert_ne!(new, id);
        // One that began with the old one reads first, which finds its connections broken: then nothing is in doubt.
        for request in [get("a"), put("a", "3")] {
            match client.call(Request { timeout: std::time::Duration::from_secs(3), ..request }).await {
                Err(Error::Unavailable(why)) => {
                    assert!(why.contains(&format!("is a node of cluster {new}")), "{why}");
                    assert!(why.contains(&id), "{why}");
                }
                other => panic!("it is another cluster: {other:?}"),
            }
        }
        assert_empty(&lab);
        lab.client().call(put("a", "4")).await.unwrap();
    });
}

/// How often a node has said in its journal that it is ready.
fn times_ready(lab: &Lab, node: u16) -> usize {
    lab.journal(node).matches(": ready node=").count()
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn nodes_without_their_founder_wait_for_it_and_then_do_without() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve(2);
        lab.serve(3);
        for node in [2, 3] {
            let waits = format!("n{node} waits for n1, which founds the cluster");
            for command in [&["put", "a", "1", "--timeout", "1s"][..], &["cluster", "status"]] {
                until("the node says that it waits", PATIENCE, || {
                    let output = lab.capstan(&[node], command);
                    assert_eq!(output.status.code(), Some(3));
                    std::future::ready(text(&output.stderr).contains(&waits))
                })
                .await;
            }
            assert!(lab.journal(node).contains(&waits));
            assert_eq!(times_ready(&lab, node), 0);
        }
        lab.serve(1);
        lab.ready().await;
        assert!(lab.capstan(&[2], &["put", "a", "1"]).status.success());
        lab.kill_all(&[1, 2, 3]).await;
        // They have it on disk.
        lab.serve(2);
        lab.serve(3);
        lab.ready_nodes(&[2, 3]).await;
        assert_eq!(text(&lab.capstan(&[3], &["get", "a"]).stdout), "1\n");
        lab.kill_all(&[2, 3]).await;

        // A founder whose folder is gone founds nothing new.
        fs::remove_dir_all(lab.folder(1)).unwrap();
        lab.serve(2);
        until("n2 serves", PATIENCE, || std::future::ready(times_ready(&lab, 2) == 3)).await;
        lab.serve(1);
        assert_eq!(lab.end(1, PATIENCE).await.code(), Some(2));
        let told = lab.stderr(1);
        assert!(
            told.contains("another data folder") && told.contains("capstan cluster replace n1"),
            "{told}"
        );
        lab.serve(3);
        lab.ready_nodes(&[2, 3]).await;
        assert_eq!(text(&lab.capstan(&[2], &["get", "a"]).stdout), "1\n");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn stray_node_at_the_address_of_one_that_is_down_harms_nobody() {
    run(async |mut random: Random| {
        let (mut ours, mut theirs) = (Lab::new(3, &[], &mut random), Lab::new(3, &[], &mut random));
        ours.serve_all().await;
        theirs.serve_all().await;
        ours.kill(3).await;
        theirs.kill_all(&[1, 2, 3]).await;
        // Their n3 is started where ours was, and is told of our n1 and n2 as its peers.
        theirs.set_base_port(ours.base_port());
        theirs.serve(3);
        assert_eq!(theirs.end(3, PATIENCE).await.code(), Some(2), "it finds strangers only");
        assert!(theirs.stderr(3).contains("is of another cluster"), "{}", theirs.stderr(3));
        ours.ready_nodes(&[1, 2]).await;
        assert!(ours.capstan(&[1], &["put", "a", "1"]).status.success());
        ours.serve(3);
        ours.ready().await;
    });
}
