//! Shards that are split while programs write and read: none of them notices.

use std::time::Duration;

use kv::Request;
use kv::admin::{Answer, Ask, Phase};
use kv::keyspace::Wish;

use crate::nodes::{Lab, PATIENCE, Random, run, size, until};
use crate::trial::Trial;

/// Programs at work.
const PROGRAMS: usize = 16;
/// Requests that are answered before the shards are split, for comparison.
const USUAL: u64 = 2_000;
/// Shards before and after.
const SHARDS: [usize; 2] = [4, 64];
/// While shards are split no request takes longer than the slowest hundredth of the usual ones by more than this.
const SLOWER_MAX: Duration = Duration::from_secs(1);

/// Asks for so many shards.
async fn split(trial: &Trial, shards: usize) {
    let ask = Ask::AlterKeyspace {
        name: "default".into(),
        wish: Wish { shards: Some(shards as u32), ..Wish::default() },
        dry_run: false,
    };
    assert_eq!(trial.client.administer(&ask, Request::TIMEOUT).await, Ok(Answer::Done));
}

async fn shards(trial: &Trial) -> usize {
    trial.client.status().await.map_or(0, |status| status.shards.len())
}

/// Waits until a shard is being cut.
async fn one_is_under_way(trial: &Trial) {
    until("a split is under way", PATIENCE, || async {
        let moves = trial.client.administer(&Ask::Moves, Request::TIMEOUT).await;
        let begun = |moves: &[kv::admin::Move]| moves.iter().any(|moved| moved.phase != Phase::Planned);
        matches!(moves, Ok(Answer::Moves(moves)) if begun(&moves))
    })
    .await;
}

/// Waits until all are split, and leaders are even.
async fn is_done(trial: &Trial, count: usize) {
    until("there are as many shards as were asked for", PATIENCE, || async { shards(trial).await == count })
        .await;
    trial.is_even().await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn shards_that_are_split_fail_no_request_though_a_node_is_killed() {
    run(async |mut random: Random| {
        let [before, after] = SHARDS;
        let mut lab = Lab::new(3, &["--shards", &before.to_string()], &mut random);
        lab.serve_all().await;
        let mut trial = Trial::start(lab, PROGRAMS, size(4_000, 100_000), &mut random).await;
        trial.as_usual(USUAL).await;
        trial
            .step("4 shards become 16", async |trial| {
                split(trial, 4 * before).await;
                is_done(trial, 4 * before).await;
            })
            .await;
        trial
            .step("16 become 64, n2 is killed", async |trial| {
                split(trial, after).await;
                one_is_under_way(trial).await;
                trial.lab.kill(2).await;
                trial.is_dead("n2").await;
                trial.lab.serve(2);
                is_done(trial, after).await;
            })
            .await;
        // What is so already is done.
        split(&trial, after).await;
        trial.holds(SLOWER_MAX).await;
    });
}
