//! Many keyspaces on one cluster, while programs write to each and read it: they are created, altered and dropped, and nobody whose
//! keyspace stays notices.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use dialects::native::{Client, Options};
use kv::admin::{Answer as Told, Ask};
use kv::keyspace::{History, Wish};
use kv::watch::{Filter, Start, Watch, Watching};
use kv::{Answer, Error, Key, Op, Protocol, Reply, Request, Value};
use tokio::sync::oneshot;

use crate::nodes::{Lab, PATIENCE, Random, run, size, text, until};

/// Keyspaces at work.
const KEYSPACES: usize = 20;
/// Writes of each that are acknowledged before what comes next.
const GO_ON: u64 = 20;
/// The bytes of a row of the keyspace that is dropped for its room.
const ROW_BYTES: usize = 4_000;

fn name(number: usize) -> String {
    format!("tenant-{number}")
}

/// Settings that differ from one to the next.
fn wish(number: usize) -> Wish {
    Wish {
        protocol: Some(if number % 5 == 4 { Protocol::Single } else { Protocol::Raft }),
        replicas: (number % 5 == 3).then_some(1),
        shards: Some(1 + number as u32 % 4),
        history: [None, Some(History::Count(1)), Some(History::All), Some(History::Micros(60_000_000))]
            [number % 4],
        ttl_micros: (number % 3 == 1).then_some(3_600_000_000),
        quota_keys: (number % 3 == 2).then_some(1_000_000),
        ..Wish::default()
    }
}

async fn done(client: &Client, ask: Ask) {
    assert_eq!(client.administer(&ask, PATIENCE).await, Ok(Told::Done), "{ask:?}");
}

fn request(keyspace: &str, op: Op) -> Request {
    Request { keyspace: keyspace.into(), timeout: PATIENCE, ..Request::new(op) }
}

/// Programs, one a keyspace: each writes a number after the other under its own key, and reads what it wrote.
#[derive(Default)]
struct Programs {
    written: RefCell<Vec<u64>>,
    wrong: RefCell<Vec<String>>,
    ended: Cell<bool>,
}

impl Programs {
    async fn work(self: Rc<Programs>, client: Client, number: usize) {
        let (keyspace, key) = (name(number), Key::from("counter"));
        while !self.ended.get() {
            let next: Value = (self.written.borrow()[number] + 1).to_string().into();
            let put = Op::Put { key: key.clone(), value: next.clone(), deadline: None, previous: false };
            let written = client.call(request(&keyspace, put)).await;
            let read = client.call(request(&keyspace, Op::Get { key: key.clone(), at: None })).await;
            match (&written, &read) {
                (Ok(_), Ok(Reply { answer: Answer::Row(Some(row)), .. })) if row.value == next => {
                    self.written.borrow_mut()[number] += 1;
                }
                _ => self.wrong.borrow_mut().push(format!("{keyspace} {next:?}: {written:?}, {read:?}")),
            }
        }
    }

    /// Waits until each has written more, and checks that nothing went wrong.
    async fn go_on(&self, what: &str) {
        let goal: Vec<u64> = self.written.borrow().iter().map(|written| written + GO_ON).collect();
        until(&format!("the programs go on: {what}"), PATIENCE, || async {
            let written = self.written.borrow();
            !self.wrong.borrow().is_empty()
                || written.iter().zip(&goal).all(|(written, goal)| written >= goal)
        })
        .await;
        assert!(self.wrong.borrow().is_empty(), "{what}: {:#?}", self.wrong.borrow());
    }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn keyspaces_come_change_and_go_and_those_that_stay_do_not_notice() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--checkpoint-log", "8M"], &mut random);
        lab.serve_all().await;
        let client = lab.client();
        for number in 0..KEYSPACES {
            done(&client, Ask::CreateKeyspace { name: name(number), wish: wish(number) }).await;
            is_there_at_once(&lab, &name(number)).await;
        }
        let programs = Rc::new(Programs::default());
        *programs.written.borrow_mut() = vec![0; KEYSPACES];
        let work = |number| tokio::task::spawn_local(programs.clone().work(lab.client(), number));
        let tasks: Vec<_> = (0..KEYSPACES).map(work).collect();
        programs.go_on("as usual").await;
        for number in 0..KEYSPACES {
            let history = [History::Count(3), History::All, History::Count(1)][number % 3];
            let wish = Wish { history: Some(history), quota_bytes: Some(1 << 40), ..Wish::default() };
            done(&client, Ask::AlterKeyspace { name: name(number), wish, dry_run: false }).await;
        }
        programs.go_on("histories are altered").await;
        let wish = Wish { replicas: Some(3), ..Wish::default() };
        done(&client, Ask::AlterKeyspace { name: name(3), wish, dry_run: false }).await;
        programs.go_on("a keyspace gets more replicas").await;
        room_comes_back(&lab, &client, &programs, &mut random).await;
        programs.ended.set(true);
        for task in tasks {
            task.await.unwrap();
        }
        programs.go_on_is_over();
        refusals(&lab);
    });
}

impl Programs {
    fn go_on_is_over(&self) {
        assert!(self.wrong.borrow().is_empty(), "{:#?}", self.wrong.borrow());
    }
}

/// Whoever created a keyspace may use it at every node, in every way, from that moment on.
async fn is_there_at_once(lab: &Lab, keyspace: &str) {
    let at = |node: u16| Client::connect(vec![lab.address(node)], Options::default()).unwrap();
    let filter = Filter::Prefix(Key::new());
    let watching = Watching { keyspace: keyspace.into(), filter, from: Start::Now };
    let (watches, gets, locates) = (at(1), at(2), at(3));
    let mut watcher = watches.watch(watching);
    let (send, began) = oneshot::channel();
    watcher.next(Box::new(move |began| drop(send.send(began))));
    let get = gets.call(request(keyspace, Op::Get { key: "counter".into(), at: None }));
    let (began, got, located) = tokio::join!(began, get, locates.locate(keyspace, "counter".into()));
    assert!(began.unwrap().is_ok() && got.is_ok(), "{keyspace}: {got:?}");
    assert!(matches!(located, Ok(_) | Err(Error::Unavailable(_))), "{keyspace}: {located:?}");
}

/// A large keyspace is dropped and made again: its rows are gone, and so is what they took of the disks.
async fn room_comes_back(lab: &Lab, client: &Client, programs: &Programs, random: &mut Random) {
    let keyspace = "large";
    let create = || Ask::CreateKeyspace { name: keyspace.into(), wish: Wish::default() };
    done(client, create()).await;
    let rows = size(10_000, 100_000);
    for begin in (0..rows).step_by(100) {
        let row = |number: usize| (Key::from(format!("row{number}")), Value::from(random.bytes(ROW_BYTES)));
        let rows = (begin..begin + 100).map(row).collect();
        client.call(request(keyspace, Op::PutAll { rows })).await.unwrap();
    }
    programs.go_on("a keyspace is filled").await;
    let full = rows as u64 * ROW_BYTES as u64;
    let is_on_disk = |bytes: u64| (1..=3).all(|node| room(&lab.folder(node)) >= bytes);
    assert!(is_on_disk(full), "three copies of it are on the disks");
    done(client, Ask::DropKeyspace { name: keyspace.into() }).await;
    let gone = client.call(request(keyspace, Op::Get { key: "row1".into(), at: None })).await;
    assert!(matches!(gone, Err(Error::NoKeyspace(_) | Error::Unavailable(_))), "{gone:?}");
    programs.go_on("a keyspace is dropped").await;
    done(client, create()).await;
    let row = client.call(request(keyspace, Op::Get { key: "row1".into(), at: None })).await.unwrap();
    assert_eq!(row.answer, Answer::Row(None), "a new keyspace is empty");
    until("the room of a dropped keyspace comes back", PATIENCE, || async {
        (1..=3).all(|node| room(&lab.folder(node)) < full)
    })
    .await;
    programs.go_on("its room has come back").await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn keyspace_that_is_created_right_after_nodes_were_killed_is_served() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(5, &[], &mut random);
        lab.serve_all().await;
        let client = lab.client();
        // One of them, or two.
        let mut killed: Vec<u16> = (0..2).map(|_| 1 + random.below(5) as u16).collect();
        killed.dedup();
        lab.kill_all(&killed).await;
        let notice = |node: u16| {
            let journal = lab.journal(node);
            killed.iter().all(|lost| journal.contains(&format!("the connection broke node={lost} ")))
        };
        let others = || (1..=5).filter(|node| !killed.contains(node));
        until("the others notice", PATIENCE, || std::future::ready(others().all(notice))).await;
        let wish = Wish { shards: Some(8), ..Wish::default() };
        done(&client, Ask::CreateKeyspace { name: "new".into(), wish }).await;
        for number in 0..40 {
            let key = Key::from(format!("k{number}"));
            let put = Op::Put { key, value: "v".into(), deadline: None, previous: false };
            let written = client.call(request("new", put)).await;
            assert!(written.is_ok(), "{killed:?} were killed: {written:?}");
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn space_of_a_keyspace_that_is_dropped_comes_back_though_nothing_is_written_any_more() {
    const LARGE_BYTES: usize = 100_000;
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--checkpoint-log", "8M"], &mut random);
        lab.serve_all().await;
        let client = lab.client();
        // A third of the bytes, and one row of a hundred.
        for (keyspace, rows, bytes) in [("stays", 24_000, 1_000), ("goes", 120, LARGE_BYTES)] {
            let wish = Wish { history: Some(History::Count(1)), ..Wish::default() };
            done(&client, Ask::CreateKeyspace { name: keyspace.into(), wish }).await;
            for begin in (0..rows).step_by(40) {
                let row =
                    |number: usize| (Key::from(format!("row{number}")), Value::from(random.bytes(bytes)));
                let rows = (begin..begin + 40).map(row).collect();
                client.call(request(keyspace, Op::PutAll { rows })).await.unwrap();
            }
        }
        let engines = || (1..=3).map(|node| room(&lab.folder(node).join("engine")));
        let (stays, goes) = (24_000_000, 120 * LARGE_BYTES as u64);
        let all_have = || std::future::ready(engines().all(|bytes| bytes >= stays + goes));
        until("all of it is in the engines", 2 * PATIENCE, all_have).await;
        done(&client, Ask::DropKeyspace { name: "goes".into() }).await;
        let have_less = || std::future::ready(engines().all(|bytes| bytes < stays + goes / 3));
        until("the space comes back", 2 * PATIENCE, have_less).await;
    });
}

/// What the files of an engine take, in bytes.
fn room(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => room(&entry.path()),
        Ok(metadata) => metadata.len(),
        // It went while it was looked at.
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// What cannot be is refused with what to do.
fn refusals(lab: &Lab) {
    let cases: [(&[&str], i32, &str); 14] = [
        (&["get", "k", "--keyspace", "tea"], 2, "capstan keyspace list"),
        (&["get", "k", "--keyspace", "_directory"], 2, "there is no keyspace"),
        (&["keyspace", "create", "_tea"], 2, "'_' is for the store's own"),
        (&["keyspace", "create", "a/b"], 2, "use 1 to 63 letters"),
        (&["keyspace", "create", "tenant-0", "--shards", "9"], 2, "it has 1 shards, not 9"),
        (
            &["keyspace", "alter", "tenant-0", "--protocol", "paxos"],
            2,
            "use single, raft, primary, two-phase, quorum or broadcast",
        ),
        (&["keyspace", "alter", "tenant-0", "--protocol", "two-phase", "--sync", "1"], 2, "under primary"),
        (&["keyspace", "create", "carts", "--protocol", "primary", "--sync", "3"], 2, "0 to 2 of the others"),
        (&["keyspace", "create", "carts", "--protocol", "primary", "--interval", "1s"], 2, "--sync 1"),
        (&["keyspace", "create", "carts", "--protocol", "primary", "--min-copies", "4"], 2, "1 to 3"),
        (&["keyspace", "create", "carts", "--protocol", "two-phase", "--replicas", "4"], 3, "more nodes"),
        (&["keyspace", "describe", "tea"], 2, "there is no keyspace 'tea'"),
        (&["keyspace", "drop", "tenant-0"], 2, "--yes"),
        (&["keyspace", "drop", "default", "--yes"], 2, "stays"),
    ];
    for (words, code, says) in cases {
        let output = lab.capstan(&[1], words);
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), told.contains(says)), (Some(code), true), "{words:?}: {told}");
    }
    let output = lab.capstan(&[1], &["keyspace", "describe", "tenant-0", "--json"]);
    assert!(text(&output.stdout).contains("\"keyspace\":\"tenant-0\""), "{}", text(&output.stderr));
}
