//! A keyspace that is kept by two-phase, on three nodes: a write is on all copies or on none, whoever is killed; and whoever is left
//! reads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use dialects::native::{Client, Options};
use kv::cluster::Role;
use kv::{Answer, Error, Key, Op, Outcome, Reply, Request, Value};

use crate::nodes::{Lab, PATIENCE, run, size, text, until};

const NAME: &str = "terms";
/// How long a request waits.
const LIMIT: Duration = Duration::from_secs(2);
/// Keys that are written at the same time.
const KEYS: usize = 8;
/// Rounds of writes of all keys before and after a kill.
const ROUNDS: usize = 10;

fn request(op: Op) -> Request {
    Request { keyspace: NAME.into(), timeout: LIMIT, ..Request::new(op) }
}

fn key(number: usize) -> Key {
    format!("k{number}").into()
}

async fn put(client: &Client, number: usize, value: u64) -> Result<Reply, Error> {
    let value: Value = value.to_string().into();
    client.call(request(Op::Put { key: key(number), value, deadline: None, previous: false })).await
}

/// Reads a key at a node, which asks nobody for it.
async fn read(lab: &Lab, node: u16, number: usize) -> Result<u64, Error> {
    let reply = lab.pinned(node).call(request(Op::Get { key: key(number), at: None })).await?;
    let Answer::Row(row) = reply.answer else { panic!("a get answers with a row: {reply:?}") };
    Ok(row.map_or(0, |row| text(&row.value).parse().expect("what was written is a number")))
}

fn client_of(lab: &Lab, node: u16) -> Client {
    Client::connect(vec![lab.address(node)], Options::default()).expect("an address of a node is one")
}

/// What was acknowledged of each key, and what may have come about.
#[derive(Default)]
struct Written {
    next: u64,
    acknowledged: BTreeMap<usize, u64>,
    doubtful: BTreeMap<usize, Vec<u64>>,
}

impl Written {
    /// Writes each key once, all at the same time; how many were acknowledged.
    async fn round(&mut self, client: &Rc<Client>) -> usize {
        let writes = (0..KEYS).map(|number| {
            let (client, value) = (client.clone(), self.next + 1 + number as u64);
            (number, value, tokio::task::spawn_local(async move { put(&client, number, value).await }))
        });
        let writes = Vec::from_iter(writes);
        self.next += KEYS as u64;
        let mut done = 0;
        for (number, value, write) in writes {
            match write.await.expect("a write ends") {
                Ok(_) => {
                    done += 1;
                    self.acknowledged.insert(number, value);
                    self.doubtful.remove(&number);
                }
                Err(error) if error.outcome() == Outcome::Failed => {}
                Err(_) => self.doubtful.entry(number).or_default().push(value),
            }
        }
        done
    }

    /// A key holds what was acknowledged last, or something later that nobody knows of.
    fn check(&self, number: usize, found: u64, where_: &str) {
        let last = self.acknowledged.get(&number).copied().unwrap_or(0);
        let doubtful = self.doubtful.get(&number).is_some_and(|all| all.contains(&found));
        assert!(found == last || doubtful, "{where_}: k{number} holds {found}, and {last} was acknowledged");
    }
}

/// The node of the master, by what a node says.
async fn master(lab: &Lab, by: u16) -> u16 {
    let status = lab.status(by).await.expect("a node says how the cluster is");
    let shard = status.shards.iter().find(|shard| shard.keyspace == NAME).expect("the keyspace has a shard");
    assert!(shard.replicas.iter().filter(|replica| replica.role == Role::Leader).count() <= 1);
    let leader = shard.leader.expect("a two-phase shard has a master");
    u16::try_from(leader.0).expect("three nodes have small ids")
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn two_phase_loses_nothing_and_refuses_at_once_whoever_is_killed() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let created =
            lab.capstan(&[1], &["keyspace", "create", NAME, "--protocol", "two-phase", "--replicas", "3"]);
        assert!(created.status.success(), "{}", text(&created.stderr));
        let master = master(&lab, 1).await;
        let mut written = Written::default();
        for round in 0..size(2, 10) {
            let victim = if round % 2 == 0 { 1 + master % 3 } else { master };
            let others = Vec::from_iter(lab.all().filter(|node| *node != victim));
            let client = Rc::new(client_of(&lab, others[0]));
            until("writes are taken", PATIENCE, async || put(&client, KEYS, 0).await.is_ok()).await;
            for _ in 0..ROUNDS {
                written.round(&client).await;
            }
            // It is killed while writes are under way.
            let round = written.round(&client);
            let (_, ()) = tokio::join!(round, lab.kill(victim));
            until("writes are refused", PATIENCE, async || put(&client, KEYS, 0).await.is_err()).await;
            let refused = lab.capstan(&others, &["--keyspace", NAME, "put", "k", "v", "--timeout", "2s"]);
            assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
            for node in &others {
                for number in 0..KEYS {
                    match read(&lab, *node, number).await {
                        Ok(found) => written.check(number, found, &format!("n{node} without n{victim}")),
                        // Its key was being written when the master went.
                        Err(error) => assert!(victim == master, "n{node} without n{victim}: {error}"),
                    }
                }
            }
            lab.serve(victim);
            lab.ready().await;
            until("writes are taken again", PATIENCE, async || put(&client, KEYS, 0).await.is_ok()).await;
            assert_eq!(written.round(&client).await, KEYS, "all is well again");
            for node in lab.all() {
                for number in 0..KEYS {
                    let found = read(&lab, node, number).await.expect("all is well again");
                    written.check(number, found, &format!("n{node}"));
                }
            }
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn two_phase_goes_on_without_a_node_that_is_declared_dead() {
    run(async |mut random| {
        for is_master in [true, false] {
            let mut lab = Lab::new(3, &[], &mut random);
            lab.serve_all().await;
            let created = lab
                .capstan(&[1], &["keyspace", "create", NAME, "--protocol", "two-phase", "--replicas", "3"]);
            assert!(created.status.success(), "{}", text(&created.stderr));
            let master = master(&lab, 1).await;
            let victim = if is_master { master } else { 1 + master % 3 };
            let others = Vec::from_iter(lab.all().filter(|node| *node != victim));
            let client = Rc::new(client_of(&lab, others[0]));
            until("writes are taken", PATIENCE, async || put(&client, KEYS, 0).await.is_ok()).await;
            let mut written = Written::default();
            for _ in 0..ROUNDS {
                written.round(&client).await;
            }
            let name = format!("n{victim}");
            let declare = ["keyspace", "alter", NAME, "--declare-dead", &name, "--yes"];
            let refused = lab.capstan(&others, &declare);
            assert_eq!(refused.status.code(), Some(2), "{name} lives: {}", text(&refused.stderr));
            // What it refuses at last it may have done, or another one does.
            let (round, ()) = tokio::join!(written.round(&client), lab.kill(victim));
            if is_master && round < KEYS {
                (0..KEYS).for_each(|number| {
                    let value = written.next - KEYS as u64 + 1 + number as u64;
                    written.doubtful.entry(number).or_default().push(value);
                });
            }
            until("it counts as dead", PATIENCE, async || {
                let declared = lab.capstan(&others, &declare);
                assert!(matches!(declared.status.code(), Some(0 | 2 | 3)), "{}", text(&declared.stderr));
                declared.status.success()
            })
            .await;
            until("writes are taken again", PATIENCE, async || put(&client, KEYS, 0).await.is_ok()).await;
            for node in &others {
                for number in 0..KEYS {
                    let found = read(&lab, *node, number).await.expect("who is left answers");
                    written.check(number, found, &format!("n{node} without {name}"));
                }
            }
            assert_eq!(written.round(&client).await, KEYS, "all who are left are there");
            // It comes back after all, and has no copy any more.
            lab.serve(victim);
            lab.ready().await;
            for node in lab.all() {
                for number in 0..KEYS {
                    let found = read(&lab, node, number).await.expect("all is well again");
                    written.check(number, found, &format!("n{node} with {name}"));
                }
            }
        }
    });
}
