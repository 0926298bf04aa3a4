//! `capstan lab faults`: what each protocol does under the same faults, as the command says it, and that nothing stays behind.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::nodes::{CAPSTAN, Lab, PATIENCE, end_of, processes, run, send, text, until};

/// A phase is longer than an election, here too.
const SECONDS: &str = "3";

fn lab_faults(temporary: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(CAPSTAN);
    command.args(["lab", "faults"]).args(words).env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

/// The processes of the nodes in a folder.
fn nodes_in(folder: &Path) -> usize {
    let is_in = |words: &[String]| words.iter().any(|word| Path::new(word).starts_with(folder));
    processes().iter().filter(|(_, words)| is_in(words) && words.iter().any(|word| word == "serve")).count()
}

/// What requests of a kind came to on a side, in a phase.
fn counts<'a>(report: &'a Value, phase: &str, side: &str, kind: &str) -> &'a Value {
    let named = |list: &'a Value, field: &str, name: &str| {
        let found = list.as_array().and_then(|list| list.iter().find(|one| one[field] == name));
        found.unwrap_or_else(|| panic!("{name} is there: {report}"))
    };
    &named(&named(&report["phases"], "phase", phase)["sides"], "side", side)[kind]
}

/// Whether requests are served when a phase ends: somebody was answered in the second half of it.
fn is_served(report: &Value, phase: &str, side: &str, kind: &str) -> bool {
    let counts = counts(report, phase, side, kind);
    let still = counts["waits_still_micros"].as_u64().expect("clients ask there");
    let half = SECONDS.parse::<u64>().unwrap() * 500_000;
    counts["done"].as_u64().expect("it is a number") > 0 && still < half
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn lab_faults_shows_who_goes_on_and_that_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let words = ["--json", "--seconds", SECONDS, "--keep", kept.to_str().unwrap()];
    let output = lab_faults(folder.path(), &words).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    println!("{out}");
    let reports: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&Value> = reports.iter().map(|report| &report["protocol"]).collect();
    assert_eq!(names, lab::all().iter().map(|choice| choice.name).collect::<Vec<_>>());
    for report in &reports {
        let name = &report["protocol"];
        // Whose writes wait for nobody loses some, and lists them; or each copy is on its own until it has heard of the others' writes.
        let verdict = match name.as_str() {
            Some("primary-0") => "listed",
            Some("broadcast") => "converged",
            _ => "linearizable",
        };
        assert_eq!(report["verdict"], verdict, "{name}");
        assert_eq!(report["untrue"], 0, "{name}");
        assert!(name == "primary-0" || report["lost"] == 0, "{name}: {report}");
        assert!(report["acknowledged"].as_u64() > Some(100), "{name}: {report}");
        for kind in ["writes", "reads"] {
            for phase in ["calm", "calm-again"] {
                let is_there = kind == "writes" || name != "broadcast";
                assert_eq!(is_served(report, phase, "all", kind), is_there, "{name}: {phase} {kind}");
            }
        }
        let history = format!("{}/{}.jsonl", kept.display(), name.as_str().unwrap());
        if verdict != "linearizable" {
            continue;
        }
        let checked = Command::new(CAPSTAN).args(["lab", "check", &history]).output().unwrap();
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    }
    let named =
        |name: &str| reports.iter().find(|report| report["protocol"] == name).expect("it is compared");
    let (single, raft, primary, two_phase) =
        (named("single"), named("raft"), named("primary-all"), named("two-phase"));
    let quorum = named("quorum");
    for kind in ["writes", "reads"] {
        assert!(is_served(single, "cut", "alone", kind), "the one copy is there");
        assert!(!is_served(single, "cut", "others", kind), "it is on the other side");
        assert!(!is_served(single, "killed", "others", kind), "it is gone");
        assert!(!is_served(raft, "cut", "alone", kind), "it has no majority");
        assert!(is_served(raft, "cut", "others", kind), "they are a majority");
        assert!(is_served(raft, "killed", "others", kind), "they are a majority");
        assert!(!is_served(primary, "cut", "alone", kind), "it cannot take the others out");
        assert!(is_served(primary, "killed", "others", kind), "one of them is the primary now");
        assert!(!is_served(quorum, "cut", "alone", kind), "it weighs too little");
        for phase in ["cut", "killed"] {
            assert!(
                is_served(quorum, phase, "others", kind),
                "{phase}: they weigh enough, and nobody has to follow"
            );
        }
    }
    let broadcast = named("broadcast");
    for (phase, side) in [("cut", "alone"), ("cut", "others"), ("killed", "others")] {
        assert!(is_served(broadcast, phase, side, "writes"), "{phase}, {side}: each copy goes on");
        assert!(!is_served(two_phase, phase, side, "writes"), "{phase}, {side}: a copy is away");
        assert!(is_served(two_phase, phase, side, "reads"), "{phase}, {side}: each copy reads");
    }
    assert_eq!(nodes_in(folder.path()), 0, "no process stays behind");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn lab_faults_that_is_stopped_leaves_nothing_behind() {
    run(async |_| {
        let folder = tempfile::tempdir().unwrap();
        for signal in [Signal::INT, Signal::TERM] {
            let mut command = lab_faults(folder.path(), &[]);
            let mut lab: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let run = || std::future::ready(nodes_in(folder.path()) == 3);
            until("three nodes run", PATIENCE, run).await;
            send(lab.id() as i32, signal);
            assert_eq!(end_of(&mut lab, "lab", PATIENCE).await.code(), Some(3), "{signal:?}");
            assert_eq!(nodes_in(folder.path()), 0, "{signal:?}");
            assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{signal:?}: its folder is removed");
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn lab_faults_that_is_stopped_leaves_a_cluster_that_was_there_whole() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--lab"], &mut random);
        lab.up().await;
        let folder = tempfile::tempdir().unwrap();
        let mut command = lab_faults(folder.path(), &["--seconds", SECONDS, "--connect", &lab.address(1)]);
        let mut running: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let is_cut = || {
            let status = text(&lab.capstan(&[1], &["cluster", "status"]).stdout);
            std::future::ready(status.contains("cut off"))
        };
        until("a node is cut off", PATIENCE, is_cut).await;
        send(running.id() as i32, Signal::INT);
        assert_eq!(end_of(&mut running, "lab", PATIENCE).await.code(), Some(3));
        lab.ready().await;
        assert!(!is_cut().await, "all nodes hear each other");
        let listed = text(&lab.capstan(&[1], &["keyspace", "list"]).stdout);
        assert!(["single", "raft", "two-phase"].iter().all(|name| listed.contains(name)), "{listed}");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn lab_faults_that_cannot_be_run_says_what_to_do() {
    run(async |mut random| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes"), "mine").unwrap();
        let full = folder.path().to_str().unwrap().to_owned();
        let refused = |words: &[&str], code: i32, says: &str| {
            let output: Output = lab_faults(folder.path(), words).output().unwrap();
            let why = text(&output.stderr);
            assert_eq!((output.status.code(), why.contains(says)), (Some(code), true), "{words:?}: {why}");
            assert!(output.stdout.is_empty(), "{words:?}");
        };
        refused(&["--protocols", "paxos"], 2, "use some of single, raft, ");
        refused(&["--protocols", "raft,raft"], 2, "names raft twice");
        refused(&["--protocols", ""], 2, "use some of");
        refused(&["--nodes", "2"], 2, "3..=");
        refused(&["--seconds", "0"], 2, "1..=");
        refused(&["--keep", &full], 2, "is not empty: name another folder");
        refused(&["--connect", "127.0.0.1:1"], 3, "is the cluster up?");
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        refused(&["--connect", &lab.address(1)], 2, "start the cluster with 'capstan up --lab'");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "what was there is there, and nothing else");
    });
}
