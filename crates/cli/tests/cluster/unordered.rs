//! A keyspace goes from raft to quorum and back while programs write, and nodes are killed on the way: what was acknowledged is there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use dialects::native::Client;
use kv::admin::{Answer as Told, Ask};
use kv::{Answer, Error, Key, Op, Outcome, Request};
use tokio::task::JoinHandle;

use crate::nodes::{Lab, PATIENCE, Random, run, size, text, until};

/// Programs, each of which writes a key of its own.
const PROGRAMS: usize = 12;
/// A node is killed within so many milliseconds of the beginning of a change.
const KILLED_MILLIS_MAX: u64 = 400;
/// Between two writes of a program.
const PACE: Duration = Duration::from_millis(2);

/// What a program has put under its key.
#[derive(Default)]
struct Put {
    last: u64,
    acknowledged: u64,
    /// Those that may be there, since the last that was acknowledged.
    doubtful: BTreeSet<u64>,
    failures: Vec<String>,
}

/// Programs at work.
struct Programs {
    puts: Vec<Rc<RefCell<Put>>>,
    tasks: Vec<JoinHandle<()>>,
    stop: Rc<Cell<bool>>,
}

fn key(program: usize) -> Key {
    format!("program{program}").into()
}

async fn get(client: &Client, key: Key) -> Result<u64, Error> {
    let reply = client.call(Request::new(Op::Get { key, at: None })).await?;
    let Answer::Row(row) = reply.answer else { panic!("a get answers with a row: {reply:?}") };
    Ok(row.map_or(0, |row| text(&row.value).parse().expect("only numbers are put")))
}

impl Put {
    /// What is read must be the last that was acknowledged, or one that may be there.
    fn check(&self, found: u64) {
        let is_sound = found == self.acknowledged || self.doubtful.contains(&found);
        assert!(is_sound, "{found}, not {} or one of {:?}", self.acknowledged, self.doubtful);
    }

    fn note(&mut self, number: u64, result: Result<(), Error>) {
        match result {
            Ok(()) => (self.acknowledged, self.doubtful) = (number, BTreeSet::new()),
            Err(error) if error.outcome() == Outcome::InDoubt => drop(self.doubtful.insert(number)),
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    /// Puts the next number, and reads it.
    async fn go_on(put: &RefCell<Put>, client: &Client, key: Key) {
        put.borrow_mut().last += 1;
        let number = put.borrow().last;
        let value = number.to_string().into();
        let op = Op::Put { key: key.clone(), value, deadline: None, previous: false };
        let result = client.call(Request::new(op)).await;
        put.borrow_mut().note(number, result.map(|_| ()));
        if let Ok(found) = get(client, key).await {
            put.borrow().check(found);
        }
    }
}

impl Programs {
    fn start(lab: &Lab) -> Programs {
        let stop = Rc::new(Cell::new(false));
        let puts: Vec<Rc<RefCell<Put>>> = (0..PROGRAMS).map(|_| Rc::default()).collect();
        let work = |(program, put): (usize, &Rc<RefCell<Put>>)| {
            let (client, put, stop) = (lab.client(), put.clone(), stop.clone());
            tokio::task::spawn_local(async move {
                while !stop.get() {
                    Put::go_on(&put, &client, key(program)).await;
                    tokio::time::sleep(PACE).await;
                }
            })
        };
        let tasks = puts.iter().enumerate().map(work).collect();
        Programs { puts, tasks, stop }
    }

    /// Waits until each has so many more writes acknowledged.
    async fn go_on(&self, more: u64) {
        let goals: Vec<u64> = self.puts.iter().map(|put| put.borrow().acknowledged + more).collect();
        until("the programs go on", PATIENCE, || {
            let done = self.puts.iter().zip(&goals).all(|(put, goal)| put.borrow().acknowledged >= *goal);
            std::future::ready(done)
        })
        .await;
    }

    /// Ends them: what they wrote is there, and what failed did so in a way that says what to do.
    async fn holds(self, client: &Client) {
        self.stop.set(true);
        for task in self.tasks {
            task.await.expect("a program does not panic");
        }
        for (program, put) in self.puts.iter().enumerate() {
            let found = get(client, key(program)).await.expect("all nodes are up");
            put.borrow().check(found);
            println!("{} puts, failed: {:?}", put.borrow().last, put.borrow().failures);
        }
    }
}

/// Waits until the shards are under the keyspace's protocol, and nothing moves.
async fn is_done(client: &Client) {
    until("all shards have gone over", PATIENCE, || async {
        let keyspaces = client.administer(&Ask::Keyspaces, Request::TIMEOUT).await;
        let Ok(Told::Keyspaces(keyspaces)) = keyspaces else { return false };
        keyspaces.iter().all(|keyspace| (keyspace.under_another, keyspace.changing) == (0, 0))
    })
    .await;
}

/// `keyspace alter default --protocol ..`, and a node is killed on the way, which is started again: after a while if it can be done without.
async fn alter(lab: &mut Lab, programs: &Programs, words: &[&str], random: &mut Random) {
    let client = lab.client();
    let victim = 1 + random.below(3) as u16;
    let after = Duration::from_millis(random.below(KILLED_MILLIS_MAX));
    let others: Vec<u16> = lab.all().filter(|node| *node != victim).collect();
    let words = [&["keyspace", "alter", "default", "--protocol"], words, &["--no-wait"]].concat();
    let output = lab.capstan(&others, &words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    tokio::time::sleep(after).await;
    println!("{words:?}, n{victim} is killed after {after:?}");
    lab.kill(victim).await;
    tokio::time::sleep(Duration::from_millis(random.below(2_000))).await;
    lab.serve(victim);
    lab.ready().await;
    is_done(&client).await;
    programs.go_on(20).await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn keyspace_that_loses_its_order_and_gets_it_back_keeps_what_was_acknowledged() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "2"], &mut random);
        lab.serve_all().await;
        lab.ready().await;
        let programs = Programs::start(&lab);
        programs.go_on(50).await;
        for _ in 0..size(2, 6) {
            alter(&mut lab, &programs, &["quorum", "--weights", "1,2,1"], &mut random).await;
            alter(&mut lab, &programs, &["raft"], &mut random).await;
        }
        let dry = lab.capstan(&[1], &["keyspace", "alter", "default", "--protocol", "quorum", "--dry-run"]);
        assert!(text(&dry.stdout).contains("transactions"), "{}", text(&dry.stdout));
        let client = lab.client();
        programs.holds(&client).await;
    });
}
