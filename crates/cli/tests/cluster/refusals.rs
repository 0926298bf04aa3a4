//! Changes of a cluster that cannot be: refused with what to do instead, at the command line and in the shell alike.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use kv::cluster::Liveness;

use crate::nodes::{CAPSTAN, Lab, PATIENCE, Random, run, text, until};

/// A command on the cluster, the exit code it must end with, and a part of what it says on standard error.
struct Case<'a>(&'a str, i32, &'a str);

/// Asks at the command line and in the shell. Nothing may crash, and both must say the same.
fn check(lab: &Lab, node: u16, Case(words, code, says): &Case<'_>) {
    let line = format!("cluster {words}");
    let words: Vec<&str> = line.split(' ').collect();
    let outputs = [lab.capstan(&[node], &words), shell(lab, node, &line)];
    for output in outputs {
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(*code), "'{line}' at n{node}: {out}{err}");
        assert!(err.contains(says), "'{line}' at n{node} does not say '{says}': {err}");
        assert!(!err.contains("panicked"), "'{line}' at n{node}: {err}");
    }
}

fn shell(lab: &Lab, node: u16, line: &str) -> Output {
    let mut command = Command::new(CAPSTAN);
    command.args(["--connect", &lab.address(node), "shell"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Kills a node, and waits until the others take it for dead.
async fn bury(lab: &mut Lab, node: u16) {
    lab.kill(node).await;
    let others: Vec<u16> = lab.all().filter(|other| *other != node).collect();
    for other in others {
        until(&format!("n{other} takes n{node} for dead"), PATIENCE, || async {
            let name = format!("n{node}");
            let is_dead =
                |known: &kv::cluster::NodeStatus| known.name == name && known.state == Liveness::Dead;
            lab.status(other).await.is_ok_and(|status| status.nodes.iter().any(is_dead))
        })
        .await;
    }
}

/// What cannot be in a cluster of three nodes with three replicas of each shard.
const CASES: &[Case] = &[
    Case("leave n1", 2, "has nodes for 2 replicas, not for 3: add a node first"),
    Case("drain n1", 2, "has nodes for 2 replicas, not for 3: add a node first"),
    Case("drain n1 --dry-run", 2, "add a node first"),
    Case("replace n2", 2, "stop it first, or let it leave"),
    Case("replace n2 --lose-data", 2, "stop it first, or let it leave"),
    Case("drain nobody", 2, "`capstan cluster nodes` lists them"),
    Case("leave nobody", 2, "`capstan cluster nodes` lists them"),
    Case("join nobody", 2, "--join HOST:PORT"),
    Case("replace nobody", 2, "`capstan cluster nodes` lists them"),
    Case("leave a=b", 2, "is no name for a node"),
    Case("moves --abort 1", 2, "`capstan cluster moves` lists them"),
    Case("moves --abort 1000", 2, "`capstan cluster moves` lists them"),
    Case("moves --abort x", 2, "a shard is a number"),
    Case("leave", 2, "<NODE>"),
    Case("drain n1 --wait --dry-run", 2, "cannot be used with"),
];

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn change_that_cannot_be_is_refused_with_what_to_do_instead() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        for node in lab.all() {
            CASES.iter().for_each(|case| check(&lab, node, case));
        }
        // What was asked before is so already; what was taken back may be asked anew.
        for words in
            ["drain n3 --fewer-replicas", "drain n3", "join n3", "join n3", "drain n3 --fewer-replicas"]
        {
            check(&lab, 1, &Case(words, 0, ""));
        }
        check(&lab, 1, &Case("leave n2 --fewer-replicas", 0, ""));
        check(&lab, 1, &Case("leave n1 --fewer-replicas", 2, "is the last one that takes replicas"));
        check(&lab, 1, &Case("drain n1 --fewer-replicas", 2, "is the last one that takes replicas"));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn only_copy_is_given_up_only_by_who_says_so() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "3", "--replicas", "1"], &mut random);
        lab.serve_all().await;
        bury(&mut lab, 3).await;
        // It may be about to come back for some seconds yet: then it is asked again in the time there is.
        check(
            &lab,
            1,
            &Case(
                "replace n3 --timeout 30s",
                2,
                "start it again, or give the data up for good (--lose-data)",
            ),
        );
        until("the directory takes n3 for dead", PATIENCE, || {
            std::future::ready(shell(&lab, 1, "cluster drain n3").status.code() == Some(3))
        })
        .await;
        check(&lab, 1, &Case("drain n3", 3, "start one of them first (n3)"));
        check(&lab, 2, &Case("leave n3 --fewer-replicas", 3, "start one of them first (n3)"));
        check(&lab, 2, &Case("replace n3 --lose-data", 0, ""));
        check(&lab, 2, &Case("drain n3", 2, "join anew, with an empty data folder"));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn directory_without_a_majority_decides_nothing_and_says_so() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        lab.kill_all(&[2, 3]).await;
        for words in ["drain n1", "moves --abort 1", "moves", "dump"] {
            let line = format!("cluster {words} --timeout 1s");
            // What was begun before it found out that it leads nobody any more is in doubt for a moment.
            until(&format!("'{line}' is refused"), PATIENCE, || {
                let output = shell(&lab, 1, &line);
                let says = text(&output.stderr).contains("a majority of the directory's nodes is up");
                std::future::ready(output.status.code() == Some(3) && says)
            })
            .await;
        }
        check(&lab, 1, &Case("status", 0, ""));
        check(&lab, 1, &Case("nodes", 0, ""));
        lab.serve(2);
        lab.ready_nodes(&[1, 2]).await;
        check(&lab, 1, &Case("join n1", 0, ""));
    });
}
