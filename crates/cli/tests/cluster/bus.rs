//! A keyspace whose writes an MQTT broker carries: what is put at any node is at all; while the broker is away each node goes on by itself and
//! says so; when it is back, having forgotten everything, copies are equal within seconds.

use std::time::Duration;

use crate::broadcast::{NAME, ask, put, read};
use crate::broker::Broker;
use crate::nodes::{Lab, PATIENCE, run, text, until};
use kv::Op;

/// Once all are up, copies are equal within this.
const MEETS: Duration = Duration::from_secs(5);
/// Keys that are written in a round.
const KEYS: usize = 30;

/// What a key holds after a round; of some it was deleted.
fn value(number: usize, round: &str) -> String {
    if number.is_multiple_of(5) { String::new() } else { format!("{round} {number}") }
}

/// Each key at one of these nodes, put or deleted.
async fn write(lab: &Lab, nodes: &[u16], round: &str) {
    for number in 0..KEYS {
        let node = nodes[number % nodes.len()];
        let done = match value(number, round) {
            value if value.is_empty() => {
                ask(lab, node, Op::Delete { key: format!("k{number}").into(), previous: false }, None).await
            }
            value => put(lab, node, number, &value).await,
        };
        done.expect("any node takes a write by itself");
    }
}

/// Waits until all nodes hold what a round left.
async fn all_have(lab: &Lab, round: &str, patience: Duration) {
    for node in lab.all() {
        until("copies are equal", patience, async || {
            for number in 0..KEYS {
                if read(lab, node, number).await.ok() != Some(value(number, round)) {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// Waits until each node says of its broker that it is there, or why not.
async fn all_say(lab: &Lab, says: &str) {
    for node in lab.all() {
        until("cluster status tells how the bus is", PATIENCE, async || {
            let status = lab.capstan(&[node], &["cluster", "status"]);
            text(&status.stdout).contains(says)
        })
        .await;
    }
}

#[test]
#[ignore = "starts real nodes and a broker: scripts/test runs it against the release binary"]
fn copies_meet_over_a_broker_that_was_away_and_forgot() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        let mut broker = Broker::start(lab.home());
        lab.serve_all().await;
        let address = broker.address();
        let create = ["keyspace", "create", NAME, "--protocol", "broadcast", "--bus", &address];
        let created = lab.capstan(&[1], &create);
        assert!(created.status.success(), "{}", text(&created.stderr));
        for node in lab.all() {
            until("a node knows the keyspace", PATIENCE, async || read(&lab, node, 0).await.is_ok()).await;
        }
        all_say(&lab, "All is well").await;
        let told = lab.capstan(&[2], &["keyspace", "describe", NAME]);
        assert!(text(&told.stdout).contains(&address), "{}", text(&told.stdout));
        write(&lab, &[1, 2, 3], "first").await;
        all_have(&lab, "first", MEETS).await;

        broker.down();
        all_say(&lab, "nobody listens").await;
        write(&lab, &[3, 1, 2], "without a broker").await;
        broker.up();
        all_say(&lab, "All is well").await;
        all_have(&lab, "without a broker", MEETS).await;

        // One that is not there hears what it missed, and its last words are heard.
        lab.kill(3).await;
        write(&lab, &[1, 2], "without a node").await;
        lab.serve(3);
        lab.ready().await;
        all_say(&lab, "All is well").await;
        all_have(&lab, "without a node", MEETS).await;
    });
}
