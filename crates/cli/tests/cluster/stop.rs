//! Nodes that are asked to stop: they hand over what they lead, and nobody notices.

use std::fs::File;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::load::Writer;
use crate::nodes::{Lab, PATIENCE, Random, run, send, size, text, until};
use kv::Request;
use rustix::process::Signal;

/// Writers at once, each with a key of its own.
const WRITERS: usize = 8;

fn key(index: usize) -> String {
    format!("log:{index}")
}

async fn check(lab: &Lab, writers: Vec<Writer>) {
    let mut total = 0;
    for (index, writer) in writers.into_iter().enumerate() {
        let appended = writer.stop().await;
        let failures = (&appended.doubtful, &appended.refused);
        assert!(appended.doubtful.is_empty() && appended.refused.is_empty(), "{failures:?}");
        total += appended.acknowledged.len();
        for node in lab.all() {
            let (found, _) = lab.pinned(node).get(&key(index), Request::TIMEOUT).await.unwrap();
            appended.check(&found.unwrap_or_default());
        }
    }
    println!("{total} appends, none failed");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_stopped_under_load_fails_no_request() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.all().for_each(|node| lab.serve_with(node, &["--cores", "2"]));
        lab.ready().await;
        let writers: Vec<Writer> =
            (0..WRITERS).map(|index| Writer::start(lab.client(), &key(index))).collect();
        for round in 0..size(4, 20) {
            for writer in &writers {
                writer.goes_on(20).await;
                writer.forget_gap();
            }
            let node = 1 + (round % 3) as u16;
            let began = Instant::now();
            let status = lab.stop(node).await;
            assert_eq!(status.code(), Some(0));
            let took = began.elapsed();
            let rest: Vec<u16> = lab.all().filter(|other| *other != node).collect();
            lab.ready_nodes(&rest).await;
            for writer in &writers {
                writer.goes_on(20).await;
            }
            let gap = writers.iter().map(Writer::longest_gap).max().unwrap_or_default();
            println!("n{node} stopped within {took:?}, longest gap {gap:?}");
            assert!(lab.journal(node).contains("stopping: leaderships are handed over"));
            // It comes back with another number of cores, in turn.
            lab.serve_with(node, &["--cores", if round < 3 { "1" } else { "3" }]);
            lab.ready().await;
        }
        check(&lab, writers).await;
    });
}

fn up_is_stopped(signal: Signal) {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        let writers: Vec<Writer> =
            (0..WRITERS).map(|index| Writer::start(lab.client(), &key(index))).collect();
        for _ in 0..size(2, 10) {
            for writer in &writers {
                writer.goes_on(20).await;
            }
            let began = Instant::now();
            send(lab.up_pid(), signal);
            assert_eq!(lab.up_end(PATIENCE).await.code(), Some(0));
            println!("stopped within {:?}", began.elapsed());
            let none = || std::future::ready(lab.processes().is_empty());
            until("no process stays behind", Duration::from_secs(1), none).await;
            assert!(!lab.up_stderr().contains("killing the nodes"), "all nodes stop by themselves");
            lab.up().await;
        }
        let mut acknowledged = 0;
        for (index, writer) in writers.into_iter().enumerate() {
            writer.goes_on(20).await;
            let appended = writer.stop().await;
            acknowledged += appended.acknowledged.len();
            for node in lab.all() {
                let (found, _) = lab.pinned(node).get(&key(index), Request::TIMEOUT).await.unwrap();
                appended.check(&found.unwrap_or_default());
            }
        }
        println!("{acknowledged} appends, all there");
    });
}

/// Starts `up` while the test has what a node has that is not quite dead; lets go when `up` says that it waits.
async fn up_waits_for<T>(lab: &mut Lab, held: T, what: &str) {
    let before = lab.up_stderr().len();
    lab.spawn_up(&[]);
    until("up says what it waits for", PATIENCE, || {
        let told = lab.up_stderr().split_off(before);
        std::future::ready(told.contains("waiting up to") && told.contains(what))
    })
    .await;
    drop(held);
    lab.ready().await;
    assert_eq!(text(&lab.capstan(&[3], &["get", "a"]).stdout), "1\n");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn up_started_at_once_after_it_was_killed_waits_for_what_it_left_behind() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        for _ in 0..size(2, 30) {
            lab.kill_up();
            lab.up().await;
        }
        assert!(lab.stop_up().await.success());
        let (port, address) = (TcpListener::bind(lab.peer_address(2)).unwrap(), lab.peer_address(2));
        up_waits_for(&mut lab, port, &format!("n2 cannot listen on {address}")).await;
        assert!(lab.stop_up().await.success());
        for (file, what) in [("n3/lock", "n3 of an earlier start runs"), ("lock", "runs it already")] {
            let lock = File::open(lab.data().join(file)).unwrap();
            lock.lock().unwrap();
            up_waits_for(&mut lab, lock, what).await;
            assert!(lab.stop_up().await.success());
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn up_terminated_leaves_no_process_and_keeps_everything() {
    up_is_stopped(Signal::TERM);
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn up_interrupted_leaves_no_process_and_keeps_everything() {
    up_is_stopped(Signal::INT);
}
