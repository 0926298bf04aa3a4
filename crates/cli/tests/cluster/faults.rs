//! Faults at the user's command: who is cut off refuses and the others go on, who is slow is waited for and nobody else, and all
//! is as before when the faults are taken off.

use std::process::Output;
use std::time::{Duration, Instant};

use kv::Request;

use crate::clients::{get, put};
use crate::nodes::{Lab, PATIENCE, run, size, text, until};
use crate::workload::Recorded;

/// How long a request waits at a node that cannot answer it.
const LIMIT: Duration = Duration::from_secs(2);
/// So slow a node is: much more than anything here takes.
const SLOW: Duration = Duration::from_secs(3);

fn code(output: &Output) -> i32 {
    output.status.code().expect("a command ends by itself")
}

/// Runs a command that is to be done.
fn done(lab: &Lab, nodes: &[u16], arguments: &[&str]) -> String {
    let output = lab.capstan(nodes, arguments);
    assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that is to be refused with this code; why it was.
fn refused(lab: &Lab, nodes: &[u16], arguments: &[&str], with: i32) -> String {
    let output = lab.capstan(nodes, arguments);
    assert_eq!(code(&output), with, "{arguments:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// The others of three nodes.
fn others(node: u16) -> [u16; 2] {
    [1 + node % 3, 1 + (node + 1) % 3]
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn leader_that_is_cut_off_refuses_and_the_majority_goes_on_until_it_is_healed() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--lab"], &mut random);
        lab.up().await;
        done(&lab, &[1], &["put", "k", "before"]);
        let leader = lab.leader("k").await;
        let others = others(leader);
        let sides = format!("n{leader}/n{},n{}", others[0], others[1]);
        done(&lab, &[1], &["fault", "partition", &sides]);

        let puts = || std::future::ready(code(&lab.capstan(&others, &["put", "k", "after"])) == 0);
        until("the majority takes a put", PATIENCE, puts).await;
        let mut alone = lab.pinned(leader);
        for request in [put("k", "alone"), get("k")] {
            let asked = Request { timeout: LIMIT, ..request };
            // It answers within its time and a little, or the client of this test says that it is silent.
            let error = alone.call(asked).await.unwrap_err();
            assert!(!error.to_string().contains("is silent"), "{error}");
        }
        for asked in [leader, others[0]] {
            let status = done(&lab, &[asked], &["cluster", "status"]);
            assert!(status.contains(&format!("n{leader} is cut off from n")), "{status}");
        }

        done(&lab, &[leader], &["fault", "heal"]);
        until("the node that was cut off has what it missed", PATIENCE, async || {
            let got = lab.pinned(leader).get("k", LIMIT).await;
            got.is_ok_and(|(value, _)| value.is_some_and(|value| value == "after"))
        })
        .await;
        assert!(!done(&lab, &[leader], &["cluster", "status"]).contains("cut off"));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_under_faults() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--lab"], &mut random);
        lab.up().await;
        let recorded = Recorded::start(&lab, &mut random);
        for round in 0..size(4, 30) {
            recorded.goes_on(100).await;
            let node = 1 + random.below(3) as u16;
            let [one, other] = others(node);
            match round % 4 {
                0 => done(&lab, &[one], &["fault", "partition", &format!("n{node}/n{one},n{other}")]),
                1 => done(&lab, &[one], &["fault", "slow", &format!("n{node}"), "0.3"]),
                2 => done(&lab, &[one], &["fault", "partition", &format!("n{node}/n{one}")]),
                _ => done(&lab, &[one], &["fault", "kill", &format!("n{node}")]),
            };
            recorded.goes_on(50).await;
            let answers = || std::future::ready(lab.capstan(&[node], &["cluster", "nodes"]).status.success());
            until("the node answers", PATIENCE, answers).await;
            // One that is to be killed may answer, and be gone right after.
            for words in [&["fault", "heal"][..], &["fault", "restore", &format!("n{node}")]] {
                let is_done = || std::future::ready(lab.capstan(&[one], words).status.success());
                until("faults are taken off at all nodes", PATIENCE, is_done).await;
            }
            lab.ready().await;
        }
        recorded.goes_on(100).await;
        recorded.holds(&lab).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn slow_node_is_late_itself_and_the_others_are_not() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--lab"], &mut random);
        lab.up().await;
        done(&lab, &[1], &["put", "k", "v"]);
        let leader = lab.leader("k").await;
        let [slow, other] = others(leader);
        done(&lab, &[leader], &["fault", "slow", &format!("n{slow}"), &SLOW.as_secs().to_string()]);
        let begun = Instant::now();
        for _ in 0..5 {
            done(&lab, &[leader], &["put", "k", "v"]);
        }
        assert!(begun.elapsed() < SLOW, "nobody waits for n{slow}: {:?}", begun.elapsed());
        let begun = Instant::now();
        done(&lab, &[slow], &["get", "k", "--level", "local", "--timeout", "30s"]);
        assert!(begun.elapsed() >= SLOW, "n{slow} answers late: {:?}", begun.elapsed());
        let nodes = done(&lab, &[other], &["cluster", "nodes"]);
        assert!(nodes.contains("alive, slow"), "{nodes}");
        // It leads nothing while somebody else can, and is alive all the same.
        done(&lab, &[slow], &["fault", "restore", &format!("n{slow}")]);
        let begun = Instant::now();
        done(&lab, &[slow], &["get", "k", "--level", "local"]);
        assert!(begun.elapsed() < SLOW, "n{slow} answers at once: {:?}", begun.elapsed());
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_that_is_killed_is_started_again_without_faults_and_the_others_still_cut_it_off() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--lab"], &mut random);
        lab.up().await;
        done(&lab, &[1], &["fault", "partition", "n3/n1,n2"]);
        done(&lab, &[1], &["fault", "slow", "n3", "0.1"]);
        let before = lab.pid(3).expect("n3 runs");
        done(&lab, &[1], &["fault", "kill", "n3"]);
        let is_another = || std::future::ready(lab.pid(3).is_some_and(|pid| pid != before));
        until("up starts it again", PATIENCE, is_another).await;
        assert!(lab.up_stderr().contains("node n3 was ended by signal 9"), "{}", lab.up_stderr());
        let answers = || std::future::ready(lab.capstan(&[3], &["cluster", "nodes"]).status.success());
        until("it answers clients", PATIENCE, answers).await;
        let status = done(&lab, &[3], &["cluster", "status"]);
        assert!(!status.contains("n3 is slow") && !status.contains("n3 is cut off"), "{status}");
        assert!(status.contains("n1 is cut off from n3"), "{status}");
        let asked = || Request { timeout: LIMIT, ..put("k", "v") };
        lab.pinned(3).call(asked()).await.unwrap_err();
        done(&lab, &[1], &["fault", "heal"]);
        until("it hears the others again", PATIENCE, async || lab.pinned(3).call(asked()).await.is_ok())
            .await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn faults_that_cannot_be_are_refused_and_say_what_to_do() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        for fault in [&["slow", "n1", "1"][..], &["partition", "n1/n2"], &["heal"], &["kill", "n1"]] {
            let why = refused(&lab, &[1], &[&["fault"], fault].concat(), 2);
            assert!(why.contains("'capstan up --lab'"), "{why}");
        }
        lab.stop_up().await;
        lab.spawn_up(&["--lab"]);
        lab.ready().await;
        for (fault, why) in [
            (&["slow", "n9", "1"][..], "no node is named 'n9': there are n1, n2, n3"),
            (&["slow", "n1", "-1"], "more than 0, up to 3600"),
            (&["slow", "n1", "1e9"], "more than 0, up to 3600"),
            (&["slow", "n1"], "SECONDS"),
            (&["partition", "n1,n2/n2"], "n2 is named twice"),
            (&["partition", "n1"], "a slash between them"),
            (&["partition", "n1/n9"], "no node is named 'n9'"),
        ] {
            let told = refused(&lab, &[1], &[&["fault"], fault].concat(), 2);
            assert!(told.contains(why), "{fault:?}: {told}");
        }
        let nobody = refused(&lab, &[15], &["fault", "heal", "--timeout", "1s"], 3);
        assert!(nobody.contains("cannot reach"), "{nobody}");
    });
}
