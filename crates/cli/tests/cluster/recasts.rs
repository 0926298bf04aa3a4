//! A keyspace goes on under one protocol after the other while programs write and read: none of them notices.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::time::Duration;

use kv::Request;
use kv::admin::{Answer, Ask, Phase};

use crate::nodes::{CAPSTAN, Lab, PATIENCE, Random, run, size, text, until};
use crate::trial::Trial;

/// Programs at work.
const PROGRAMS: usize = 16;
/// Requests that are answered before anything changes, for comparison.
const USUAL: u64 = 2_000;
/// While shards go over no request takes longer than the slowest hundredth of the usual ones by more than this.
const SLOWER_MAX: Duration = Duration::from_secs(1);
/// A node is killed within so many milliseconds of the beginning of a change.
const KILLED_MILLIS_MAX: u64 = 600;

/// The protocols in their turn, each reached from the one before: with them all ordered pairs of neighbours that there are.
const TURNS: [&[&str]; 8] = [
    &["primary"],
    &["two-phase"],
    &["primary", "--sync", "1"],
    &["single"],
    &["raft", "--replicas", "3"],
    &["two-phase"],
    &["single"],
    &["raft", "--replicas", "3"],
];

/// `keyspace alter default --protocol ..`; it is done when it returns.
async fn alter(trial: &Trial, words: &[&str]) {
    let addresses: Vec<String> = trial.nodes.iter().map(|node| trial.lab.address(*node)).collect();
    let mut command = Command::new(CAPSTAN);
    command.args(["--connect", &addresses.join(","), "keyspace", "alter", "default", "--protocol"]);
    command.args(words).stdin(Stdio::null());
    let output =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.expect("it does not panic");
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
}

/// Waits until a shard is on its way to another protocol.
async fn one_is_under_way(trial: &Trial) {
    until("a change of protocol is under way", PATIENCE, || async {
        let moves = trial.client.administer(&Ask::Moves, Request::TIMEOUT).await;
        let begun = |moves: &[kv::admin::Move]| moves.iter().any(|moved| moved.phase != Phase::Planned);
        matches!(moves, Ok(Answer::Moves(moves)) if begun(&moves))
    })
    .await;
}

/// Waits until all shards are under the keyspace's protocol, and nothing moves.
async fn is_done(trial: &Trial) {
    until("all shards have gone over", PATIENCE, || async {
        let keyspaces = trial.client.administer(&Ask::Keyspaces, Request::TIMEOUT).await;
        let Ok(Answer::Keyspaces(keyspaces)) = keyspaces else { return false };
        keyspaces.iter().all(|keyspace| (keyspace.under_another, keyspace.changing) == (0, 0))
    })
    .await;
}

/// The node that leads the directory.
async fn directory_leader(trial: &Trial) -> u16 {
    let found = Cell::new(None);
    until("somebody leads the directory", PATIENCE, || async {
        found.set(trial.client.status().await.ok().and_then(|status| status.directory?.leader));
        found.get().is_some()
    })
    .await;
    found.get().expect("it was just found").0 as u16
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn keyspace_that_goes_from_protocol_to_protocol_fails_no_request() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "2"], &mut random);
        lab.serve_all().await;
        let mut trial = Trial::start(lab, PROGRAMS, size(4_000, 100_000), &mut random).await;
        trial.as_usual(USUAL).await;
        for words in TURNS {
            trial
                .step(&format!("to {}", words.join(" ")), async |trial| {
                    alter(trial, words).await;
                    is_done(trial).await;
                })
                .await;
        }
        trial.holds(SLOWER_MAX).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn change_of_protocol_ends_by_itself_though_the_directory_s_leader_is_killed() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "2"], &mut random);
        lab.serve_all().await;
        let mut trial = Trial::start(lab, PROGRAMS, size(4_000, 100_000), &mut random).await;
        trial.as_usual(USUAL).await;
        // Without single: a node that is killed has all there is.
        for words in [TURNS[0], TURNS[1], TURNS[2], TURNS[5], TURNS[4]] {
            let words = [words, &["--no-wait"]].concat();
            let after = Duration::from_millis(random.below(KILLED_MILLIS_MAX));
            trial
                .step(&format!("to {}, the directory's leader is killed", words[0]), async |trial| {
                    let leader = directory_leader(trial).await;
                    alter(trial, &words).await;
                    one_is_under_way(trial).await;
                    tokio::time::sleep(after).await;
                    trial.lab.kill(leader).await;
                    trial.lab.serve(leader);
                    is_done(trial).await;
                })
                .await;
        }
        trial.holds(Duration::from_secs(30)).await;
    });
}
