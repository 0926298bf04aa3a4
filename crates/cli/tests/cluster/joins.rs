//! New nodes of a running cluster: they join while programs write, whatever is killed meanwhile, and take over from nodes whose
//! folders were lost. What cannot be is refused with what to do.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::load::Writer;
use crate::nodes::{Lab, PATIENCE, Random, run, text, until};

/// Lines that must be acknowledged before what comes next.
const GO_ON: usize = 30;

/// The nodes of a cluster, as one of them says.
fn nodes(lab: &Lab, asked: u16) -> Vec<Value> {
    let output = lab.capstan(&[asked], &["cluster", "status", "--json"]);
    let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    status.map_or_else(Vec::new, |status| status["nodes"].as_array().unwrap().clone())
}

/// Waits until a node says that all these belong to the cluster, are alive, and have replicas; and that nothing moves.
async fn all_have_replicas(lab: &Lab, asked: u16, names: &[&str]) {
    until("all nodes have replicas", PATIENCE, || {
        let nodes = nodes(lab, asked);
        let serves = |name: &&str| {
            let mut same = nodes.iter().filter(|node| node["name"] == **name);
            same.any(|node| node["state"] == "alive" && node["replicas"].as_u64() > Some(0))
        };
        let moves = lab.capstan(&[asked], &["cluster", "moves", "--json"]);
        let is_still = moves.status.success() && moves.stdout.is_empty();
        std::future::ready(is_still && nodes.len() == names.len() && names.iter().all(serves))
    })
    .await;
}

/// What a node says that was written.
fn log(lab: &Lab, node: u16) -> Vec<u8> {
    let output = lab.capstan(&[node], &["get", "log"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The command ends what it prints.
    output.stdout.strip_suffix(b"\n").expect("a value is a line").to_vec()
}

/// Starts a node that must end by itself with this exit code, and say this.
async fn is_refused(lab: &mut Lab, node: u16, options: &[&str], code: i32, says: &[&str]) {
    lab.start(node, options);
    let ended = lab.end(node, PATIENCE).await.code();
    let told = lab.stderr(node);
    let last = told.lines().next_back().unwrap_or_default();
    assert_eq!(ended, Some(code), "{told}");
    assert!(last.starts_with("error: ") && says.iter().all(|word| last.contains(word)), "{says:?}: {last}");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn nodes_join_while_a_program_writes_and_serve_what_it_wrote() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "6"], &mut random);
        // It may be started first: it waits for the cluster.
        lab.join(4, &[1, 2]);
        lab.serve_all().await;
        let writer = Writer::start(lab.client(), "log");
        writer.goes_on(GO_ON).await;
        lab.join(5, &[3]);
        all_have_replicas(&lab, 1, &["n1", "n2", "n3", "n4", "n5"]).await;
        writer.goes_on(GO_ON).await;
        // The same line as ever, when who is named in it is away.
        lab.kill_all(&[3, 5]).await;
        lab.join(5, &[3]);
        writer.goes_on(GO_ON).await;
        lab.serve(3);
        all_have_replicas(&lab, 5, &["n1", "n2", "n3", "n4", "n5"]).await;
        let appended = writer.stop().await;
        (1..=5).for_each(|node| appended.check(&log(&lab, node)));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_that_is_killed_while_it_joins_is_one_node_in_the_end() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let writer = Writer::start(lab.client(), "log");
        for _ in 0..8 {
            lab.join(4, &[1 + random.below(3) as u16]);
            // At any time: before it asks, between its id and the map, while it gets its replicas.
            tokio::time::sleep(Duration::from_millis(random.below(500))).await;
            lab.kill(4).await;
        }
        lab.join(4, &[1]);
        all_have_replicas(&lab, 4, &["n1", "n2", "n3", "n4"]).await;
        let id = nodes(&lab, 1).iter().find(|node| node["name"] == "n4").unwrap()["id"].clone();
        assert_eq!(id, 4, "it was given one id, however often it asked");
        writer.goes_on(GO_ON).await;
        writer.stop().await.check(&log(&lab, 4));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_whose_folder_was_lost_is_replaced_by_a_new_one_of_its_name() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let writer = Writer::start(lab.client(), "log");
        writer.goes_on(GO_ON).await;
        let victim = 1 + random.below(3) as u16;
        let other = 1 + victim % 3;
        let (name, lost) = (format!("n{victim}"), lab.home().join("lost"));
        lab.kill(victim).await;
        fs::rename(lab.folder(victim), &lost).unwrap();
        let replace = format!("capstan cluster replace {name}");
        // The line of the founding: whoever comes with it has forgotten what it had promised.
        lab.serve(victim);
        assert_eq!(lab.end(victim, PATIENCE).await.code(), Some(2));
        let told = lab.stderr(victim);
        assert!(told.lines().next_back().unwrap_or_default().contains("another data folder"), "{told}");
        fs::remove_dir_all(lab.folder(victim)).unwrap();
        let (by, peer) = (lab.address(other), lab.peer_address(victim));
        let join = ["--join", &by, "--listen-peer", &peer];
        is_refused(&mut lab, victim, &join, 2, &[&replace, "another data folder"]).await;
        until("the lost one may be given up", PATIENCE, || {
            let output = lab.capstan(&[other], &["cluster", "replace", &name]);
            std::future::ready(output.status.success())
        })
        .await;
        // With the folder of the refused start: it is given its id now.
        lab.start(victim, &join);
        all_have_replicas(&lab, victim, &["n1", "n2", "n3"]).await;
        writer.goes_on(GO_ON).await;
        let appended = writer.stop().await;
        lab.all().for_each(|node| appended.check(&log(&lab, node)));

        // The lost folder is found again.
        lab.kill(victim).await;
        fs::remove_dir_all(lab.folder(victim)).unwrap();
        fs::rename(&lost, lab.folder(victim)).unwrap();
        lab.serve(victim);
        assert_eq!(lab.end(victim, PATIENCE).await.code(), Some(2));
        let told = lab.stderr(victim);
        assert!(
            told.lines().next_back().unwrap_or_default().contains("is no member of the cluster"),
            "{told}"
        );
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn join_that_cannot_be_is_refused_with_what_to_do() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        let mut elsewhere = Lab::new(1, &[], &mut random);
        // It listens for clients only.
        elsewhere.start(1, &[]);
        elsewhere.ready().await;
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let stranger = nobody.local_addr().unwrap().to_string();
        std::thread::spawn(move || nobody.incoming().for_each(drop));

        let (by, peer_port, peer) = (lab.address(1), lab.peer_address(1), lab.peer_address(2));
        let (theirs, own) = (elsewhere.address(1), format!("n2={peer}"));
        let both = format!("{by},{theirs}");
        let nowhere = lab.peer_address(3);
        let reached = ["--listen-peer", &peer];
        for (options, code, says) in [
            (vec!["--join", &by], 2, vec!["--listen-peer HOST:PORT"]),
            (vec!["--join", &by, "--peers", &own], 2, vec!["--join and --peers", "leave one of them out"]),
            (vec!["--join", &by, "--shards", "9"], 2, vec!["founded with --shards 4", "leave --shards out"]),
            (vec!["--join", &by, "--history", "all"], 2, vec!["founded with --history 16", "--history out"]),
            (vec!["--join", &both], 2, vec!["of different clusters", "give addresses of one cluster"]),
            (
                vec!["--join", &theirs],
                2,
                vec!["node 'n1' does not listen to other nodes: start it with --listen-peer"],
            ),
            (vec!["--join", &peer_port], 3, vec!["does not speak gRPC", "--listen"]),
            (vec!["--join", &stranger], 3, vec!["no node of Capstan", "--listen"]),
            (
                vec!["--join", &by, "--advertise-peer", &peer_port],
                2,
                vec!["another program answers there", "--advertise-peer HOST:PORT"],
            ),
            (vec!["--join", &by, "--advertise-peer", &nowhere], 2, vec!["nobody listens there"]),
        ] {
            let needs_peer = !says[0].contains("--listen-peer HOST:PORT");
            let options = [&options[..], if needs_peer { &reached } else { &[] }].concat();
            is_refused(&mut lab, 2, &options, code, &says).await;
        }
        assert_eq!(nodes(&lab, 1).len(), 1, "none of them was let in");
        // A folder that is to join is none to found with.
        is_refused(&mut lab, 2, &[], 2, &["was to join a cluster", "start it with --join HOST:PORT"]).await;

        lab.join(2, &[1]);
        all_have_replicas(&lab, 1, &["n1", "n2"]).await;
        let foreign = format!("is of cluster {}", nodes_cluster(&lab));
        lab.kill(2).await;
        is_refused(&mut lab, 2, &["--join", &theirs], 2, &[&foreign, "give --data another folder"]).await;
        let added = lab.capstan(&[1], &["cluster", "join", "n7"]);
        assert_eq!(added.status.code(), Some(2));
        assert!(text(&added.stderr).contains("capstan serve --name n7"), "{}", text(&added.stderr));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn clients_of_a_node_that_asks_to_be_let_in_are_told_so_and_served_when_it_was() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        // Nobody is there yet to let it in.
        lab.join(2, &[1]);
        until("its clients are told", PATIENCE, || {
            let output = lab.capstan(&[2], &["get", "k"]);
            let is_told = text(&output.stderr).contains("n2 is not one of a cluster yet");
            std::future::ready(output.status.code() == Some(3) && is_told)
        })
        .await;
        lab.serve_all().await;
        all_have_replicas(&lab, 1, &["n1", "n2"]).await;
        assert!(lab.capstan(&[2], &["put", "k", "v"]).status.success());
    });
}

/// The id of the cluster.
fn nodes_cluster(lab: &Lab) -> String {
    let output = lab.capstan(&[1], &["cluster", "status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["cluster"].as_str().unwrap().to_owned()
}
