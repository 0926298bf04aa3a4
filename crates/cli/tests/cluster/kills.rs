//! Processes that end without warning: what was acknowledged is there, once, and writes go on.

use std::time::{Duration, Instant};

use kv::{Request, RequestId, Version};

use crate::clients::{append, get, header, value};
use crate::load::{Appended, Writer};
use crate::nodes::{Lab, PATIENCE, Random, is_full, run, send, size, until};
use crate::workload::Recorded;
use dialects::native::proto;
use rustix::process::Signal;

/// Writes go on so soon after the leading node was killed: an election, and a client that finds the new leader.
const GAP_MAX: Duration = Duration::from_secs(2);
/// Lines that must be acknowledged after a kill before the next.
const GO_ON: usize = 50;

/// Checks what a writer left, asked through every node.
async fn check(lab: &Lab, key: &str, appended: &Appended) {
    for node in lab.all() {
        let (found, _) = lab.pinned(node).get(key, Request::TIMEOUT).await.unwrap();
        appended.check(&found.unwrap_or_default());
    }
}

/// Kills the node that leads the writers' keys, again and again; `come_back` brings it back.
async fn rounds_of_kills(lab: &mut Lab, mut random: Random, mut come_back: impl AsyncFnMut(&mut Lab, u16)) {
    let writers = || {
        let pinned = lab.all().map(|node| lab.pinned(node)).collect();
        (Writer::start(lab.client(), "client"), Writer::start_pinned(pinned, "pinned", random.clone()))
    };
    let (client, pinned) = writers();
    let mut longest = Duration::ZERO;
    for round in 0..size(4, 20) {
        client.goes_on(GO_ON).await;
        pinned.goes_on(GO_ON).await;
        client.forget_gap();
        let key = ["client", "pinned"][random.below(2) as usize];
        let victim = lab.leader(key).await;
        let began = Instant::now();
        lab.kill(victim).await;
        let gone = began.elapsed();
        client.goes_on(GO_ON).await;
        pinned.goes_on(GO_ON).await;
        come_back(lab, victim).await;
        let back = began.elapsed();
        lab.ready().await;
        let (ready, gap) = (began.elapsed(), client.longest_gap());
        println!(
            "round {round}: n{victim} led '{key}' and was killed; gone after {gone:?}, started again after {back:?}, all \
             ready after {ready:?}; longest gap {gap:?}"
        );
        longest = longest.max(gap);
    }
    let (client, pinned) = (client.stop().await, pinned.stop().await);
    for (name, appended) in [("client", &client), ("pinned", &pinned)] {
        let Appended { acknowledged, doubtful, refused, .. } = appended;
        println!(
            "{name}: {} acknowledged, {} in doubt, {} refused {:?}",
            acknowledged.len(),
            doubtful.len(),
            refused.len(),
            refused.first()
        );
        check(lab, name, appended).await;
    }
    println!("longest gap between acknowledged appends: {longest:?}");
    assert!(client.doubtful.is_empty() && client.refused.is_empty(), "the client finds its way every time");
    assert!(!is_full() || longest < GAP_MAX, "writes go on within {GAP_MAX:?}, not {longest:?}");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn leader_killed_under_up_loses_nothing() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        rounds_of_kills(&mut lab, random, async |lab, victim| {
            let is_back = || std::future::ready(lab.pid(victim).is_some());
            until("up starts the killed node again", PATIENCE, is_back).await;
        })
        .await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn leader_killed_and_restarted_by_hand_loses_nothing() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--engine", "memory"], &mut random);
        lab.serve_all().await;
        rounds_of_kills(&mut lab, random, async |lab, victim| lab.serve(victim)).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn all_nodes_killed_at_once_come_back_with_everything() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        let writer = Writer::start(lab.client(), "log");
        for _ in 0..size(2, 10) {
            writer.goes_on(GO_ON).await;
            let pids: Vec<Option<i32>> = lab.all().map(|node| lab.pid(node)).collect();
            pids.iter().flatten().for_each(|pid| send(*pid, Signal::KILL));
            let is_new =
                |node: u16| lab.pid(node).is_some_and(|pid| pids[usize::from(node) - 1] != Some(pid));
            let are_new = || std::future::ready(lab.all().all(is_new));
            until("up starts all nodes again", PATIENCE, are_new).await;
            lab.ready().await;
        }
        writer.goes_on(GO_ON).await;
        let appended = writer.stop().await;
        println!("{} acknowledged", appended.acknowledged.len());
        check(&lab, "log", &appended).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn up_killed_leaves_no_process_and_starts_again() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        let writer = Writer::start(lab.client(), "log");
        for _ in 0..size(2, 10) {
            writer.goes_on(GO_ON).await;
            assert_eq!(lab.processes().len(), 4, "up and three nodes");
            lab.kill_up();
            until("no process stays behind", PATIENCE, || std::future::ready(lab.processes().is_empty()))
                .await;
            let began = Instant::now();
            lab.up().await;
            println!("ready again after {:?}", began.elapsed());
        }
        writer.goes_on(GO_ON).await;
        let appended = writer.stop().await;
        check(&lab, "log", &appended).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn request_in_flight_when_its_node_is_killed_happens_once() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        for _ in 0..size(2, 10) {
            let client = lab.client();
            let ask = |index: u64| {
                let client = client.clone();
                let request = append(&format!("{{in-flight}}{index}"), "x".into());
                tokio::task::spawn_local(async move { client.call(request).await })
            };
            let mut asked: Vec<_> = (0..200).map(ask).collect();
            // Some are answered, some are on their way.
            asked.remove(0).await.unwrap().unwrap();
            let leader = lab.leader("{in-flight}0").await;
            lab.kill(leader).await;
            for answer in asked {
                answer.await.unwrap().unwrap();
            }
            lab.ready().await;
            for index in 0..200 {
                let found = value(client.call(get(&format!("{{in-flight}}{index}"))).await.unwrap());
                assert_eq!(found.as_deref(), Some(&b"x"[..]), "append {index} happened once");
                client.call(delete(&format!("{{in-flight}}{index}"))).await.unwrap();
            }
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn request_repeated_under_its_id_happens_once_through_every_node() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        let valid_until = Version::end_of(u64::MAX);
        let client = random.next() | 1;
        for sequence in 1..=size(10, 100) {
            let id = RequestId { client, sequence, valid_until, answered_below: sequence };
            let header = proto::RequestHeader { id: Some(message(id)), ..header(PATIENCE) };
            let first = 1 + random.below(3) as u16;
            let mut pinned = lab.pinned(first);
            let (request, text) = (header.clone(), format!("{sequence}\n"));
            let asked = tokio::task::spawn_local(async move { pinned.append_as("log", text, request).await });
            tokio::time::sleep(Duration::from_micros(random.below(2000))).await;
            if sequence % 5 == 1 {
                lab.kill(first).await;
            } else {
                asked.abort();
            }
            for node in lab.all().filter(|node| *node != first || sequence % 5 != 1) {
                let text = format!("{sequence}\n");
                lab.pinned(node).append_as("log", text, header.clone()).await.unwrap();
            }
            lab.ready().await;
        }
        let found = value(lab.client().call(get("log")).await.unwrap()).unwrap();
        let expected: String = (1..=size(10, 100)).map(|sequence| format!("{sequence}\n")).collect();
        assert_eq!(crate::nodes::text(&found), expected);
    });
}

/// So many requests are answered before each fault and after it.
const ROUND: u64 = 200;

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_nodes_are_killed() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let recorded = Recorded::start(&lab, &mut random);
        for _ in 0..size(4, 40) {
            recorded.goes_on(ROUND).await;
            let first = 1 + random.below(3) as u16;
            // One, and the others go on; or two, and nobody can.
            let second = (random.below(3) == 0).then_some(1 + first % 3);
            let victims: Vec<u16> = [first].into_iter().chain(second).collect();
            println!("killed: {victims:?}");
            lab.kill_all(&victims).await;
            match second {
                None => recorded.goes_on(ROUND).await,
                Some(_) => tokio::time::sleep(Duration::from_millis(random.below(1500))).await,
            }
            victims.iter().for_each(|victim| lab.serve(*victim));
            // Now and then the next one is killed while this one comes back.
            if random.below(3) > 0 {
                lab.ready().await;
            }
        }
        lab.ready().await;
        recorded.goes_on(ROUND).await;
        recorded.holds(&lab).await;
    });
}

fn all_are_killed(engine: &str) {
    run(async |mut random| {
        let mut lab = Lab::new(3, &["--engine", engine], &mut random);
        lab.serve_all().await;
        let recorded = Recorded::start(&lab, &mut random);
        let all: Vec<u16> = lab.all().collect();
        for _ in 0..size(3, 40) {
            recorded.goes_on(ROUND).await;
            lab.kill_all(&all).await;
            all.iter().for_each(|node| lab.serve(*node));
        }
        lab.ready().await;
        recorded.goes_on(ROUND).await;
        recorded.holds(&lab).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_all_are_killed_at_once_on_disk() {
    all_are_killed("disk");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_all_are_killed_at_once_in_memory() {
    all_are_killed("memory");
}

fn message(id: RequestId) -> proto::RequestId {
    let RequestId { client, sequence, valid_until, answered_below } = id;
    proto::RequestId { client, sequence, valid_until: valid_until.as_i64(), answered_below }
}

fn delete(key: &str) -> Request {
    Request::new(kv::Op::Delete { key: kv::Key::copy_from_slice(key.as_bytes()), previous: false })
}
