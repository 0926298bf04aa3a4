//! Syncs that fail: the node ends before it acknowledges what may not be on its disk, and comes back with what is.

use std::time::Duration;

use kv::Request;

use crate::clients::{get, put, value};
use crate::nodes::{Lab, PATIENCE, Random, run, size, until};
use crate::strace::Strace;
use crate::workload::Recorded;

/// What a node syncs with.
const SYNCS: &str = "fdatasync,fsync";
/// How long a write waits for a node that is about to end.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A node whose sync failed ends by itself and says why.
async fn ends(lab: &mut Lab, node: u16) {
    assert_eq!(lab.end(node, PATIENCE).await.code(), Some(3), "n{node} may be started again");
    let told = lab.stderr(node);
    let last = told.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(last.contains("Input/output error"), "{told}");
}

fn only_node(engine: &str) {
    if let Err(why) = Strace::probe() {
        return println!("SKIPPED: {why}");
    }
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &["--engine", engine], &mut random);
        let mut kept = Vec::new();
        for round in 0..size(2, 20) {
            lab.serve_all().await;
            let client = lab.client();
            for index in 0..20 {
                let key = format!("kept:{round}:{index}");
                client.call(put(&key, key.clone())).await.unwrap();
                kept.push(key);
            }
            let _strace = Strace::attach(lab.pid(1).unwrap(), SYNCS, "error=EIO").unwrap();
            for index in 0..3 {
                let request = Request { timeout: TIMEOUT, ..put(&format!("lost:{round}:{index}"), "x") };
                let result = lab.pinned(1).call(request).await;
                assert!(result.is_err(), "a write that could not be synced: {result:?}");
            }
            ends(&mut lab, 1).await;
        }
        lab.serve_all().await;
        let client = lab.client();
        for key in &kept {
            assert_eq!(value(client.call(get(key)).await.unwrap()).as_deref(), Some(key.as_bytes()));
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn sync_that_fails_ends_the_only_node_before_it_acknowledges_on_disk() {
    only_node("disk");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn sync_that_fails_ends_the_only_node_before_it_acknowledges_in_memory() {
    only_node("memory");
}

/// A sync fails, once: a node that asked again would hear that all is well, and it is not.
#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_syncs_fail() {
    if let Err(why) = Strace::probe() {
        return println!("SKIPPED: {why}");
    }
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let recorded = Recorded::start(&lab, &mut random);
        for round in 0..size(3, 40) {
            recorded.goes_on(100).await;
            let victims: Vec<u16> = match round % 3 {
                2 => lab.all().collect(),
                _ => vec![1 + random.below(3) as u16],
            };
            let which = format!("error=EIO:when={}", 1 + random.below(30));
            println!("a sync fails on {victims:?}: {which}");
            let attach = |node: &u16| Strace::attach(lab.pid(*node).unwrap(), SYNCS, &which).unwrap();
            let straces: Vec<Strace> = victims.iter().map(attach).collect();
            // The last of all has nothing to sync any more.
            let enough = victims.len().min(2);
            let ended = |lab: &Lab| -> Vec<u16> {
                victims.iter().copied().filter(|victim| lab.has_ended(*victim)).collect()
            };
            let have_ended = || std::future::ready(ended(&lab).len() >= enough);
            until("nodes end whose sync failed", PATIENCE, have_ended).await;
            drop(straces);
            let (ended, mut rest) = (ended(&lab), victims.clone());
            rest.retain(|victim| !ended.contains(victim));
            lab.kill_all(&rest).await;
            for victim in ended {
                ends(&mut lab, victim).await;
            }
            victims.iter().for_each(|victim| lab.serve(*victim));
            lab.ready().await;
        }
        recorded.goes_on(100).await;
        recorded.holds(&lab).await;
    });
}
