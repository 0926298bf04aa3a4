//! A data folder that is copied, or restored from a copy: its node is refused and says what to do, and the cluster goes on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clients::put;
use crate::data_folder::is_refused;
use crate::nodes::{Lab, PATIENCE, Place, Random, run, text, until};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Stops a node and copies its folder.
async fn stopped_copy(lab: &mut Lab, node: u16) -> PathBuf {
    assert!(lab.stop(node).await.success());
    let to = lab.home().join("copy");
    copy(&lab.folder(node), &to);
    to
}

/// Has the others meet a node as of the start that runs.
async fn is_met(lab: &Lab, node: u16) {
    let read = |node: u16, file: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(lab.folder(node).join(file)).unwrap()).unwrap()
    };
    let has_met = |other: u16| {
        let process = &read(node, "identity.json")["process"];
        let peers = read(other, "peers.json");
        peers["nodes"].as_array().unwrap().iter().any(|peer| peer["process"] == *process)
    };
    let others: Vec<u16> = lab.all().filter(|other| *other != node).collect();
    until("the others have met it", PATIENCE, || {
        std::future::ready(others.iter().all(|other| has_met(*other)))
    })
    .await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn copy_of_a_folder_that_is_started_beside_it_is_refused_for_good_and_the_cluster_goes_on() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        let victim = 1 + random.below(3) as u16;
        let folder = stopped_copy(&mut lab, victim).await;
        lab.serve(victim);
        lab.ready().await;
        is_met(&lab, victim).await;
        let pids: Vec<_> = lab.all().map(|node| lab.pid(node)).collect();

        // On another address of this machine, as if it were another one.
        let mut beside = Lab::new(3, &[], &mut random);
        beside.set_base_port(lab.base_port());
        let host = Some("127.0.0.2".into());
        beside.set_place(victim, Place { folder: Some(folder), host, ..Place::default() });
        let why = ["a copy of the folder runs elsewhere", "Stop this one for good", "cluster replace"];
        is_refused(&mut beside, victim, &why).await;
        let again = ["must not be started again: node", why[0], why[1]];
        for _ in 0..2 {
            is_refused(&mut beside, victim, &again).await;
        }

        assert_eq!(lab.all().map(|node| lab.pid(node)).collect::<Vec<_>>(), pids, "nobody else ended");
        for node in lab.all() {
            assert!(lab.capstan(&[node], &["put", "a", &node.to_string()]).status.success());
        }
        assert!(lab.stop(victim).await.success());
        lab.serve(victim);
        lab.ready().await;
        assert_eq!(text(&lab.capstan(&[victim], &["get", "a"]).stdout), "3\n");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn folder_that_is_restored_from_an_old_copy_is_refused_and_the_newest_comes_back() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let client = lab.client();
        client.call(put("a", "before")).await.unwrap();
        let victim = 1 + random.below(3) as u16;
        let old = stopped_copy(&mut lab, victim).await;
        for start in 0..2 {
            lab.serve(victim);
            lab.ready().await;
            client.call(put("a", format!("after {start}"))).await.unwrap();
            is_met(&lab, victim).await;
            lab.kill(victim).await;
        }
        let newest = lab.home().join("newest");
        fs::rename(lab.folder(victim), &newest).unwrap();
        fs::rename(&old, lab.folder(victim)).unwrap();
        let why = [
            "with its data folder as of start 2, and was met as of start 3 already",
            "start the folder that ran last",
        ];
        is_refused(&mut lab, victim, &why).await;
        is_refused(&mut lab, victim, &["must not be started again", why[1]]).await;
        assert!(client.call(put("a", "without it")).await.is_ok());

        fs::remove_dir_all(lab.folder(victim)).unwrap();
        fs::rename(&newest, lab.folder(victim)).unwrap();
        lab.serve(victim);
        lab.ready().await;
        assert_eq!(text(&lab.capstan(&[victim], &["get", "a"]).stdout), "without it\n");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_that_joins_refuses_an_old_copy_that_it_meets_first_and_lets_the_newest_in() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let victim = 1 + random.below(3) as u16;
        let old = stopped_copy(&mut lab, victim).await;
        lab.serve(victim);
        lab.ready().await;
        is_met(&lab, victim).await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        lab.kill(victim).await;

        // It joins, and never meets the victim.
        let others: Vec<u16> = lab.all().filter(|other| *other != victim).collect();
        lab.join(4, &others);
        until("the new node serves", PATIENCE, || {
            std::future::ready(lab.capstan(&[4], &["get", "a"]).status.success())
        })
        .await;
        lab.kill_all(&others).await;
        let newest = lab.home().join("newest");
        fs::rename(lab.folder(victim), &newest).unwrap();
        fs::rename(&old, lab.folder(victim)).unwrap();
        is_refused(&mut lab, victim, &["was met as of start 2 of its data folder in another process"]).await;

        fs::remove_dir_all(lab.folder(victim)).unwrap();
        fs::rename(&newest, lab.folder(victim)).unwrap();
        lab.all().for_each(|node| lab.serve(node));
        lab.ready().await;
        let get = lab.capstan(&[victim, 4], &["get", "a"]);
        assert_eq!(text(&get.stdout), "1\n", "{}", text(&get.stderr));
        assert!(lab.pid(4).is_some(), "it goes on");
    });
}
