//! What clients do to a node must not end it, nor shut out the others: connections that do nothing, answers that nobody
//! takes, requests that never end, deadlines that pass.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dialects::native::{Client, encode_request};
use http_body::{Body as HttpBody, Frame};
use kv::{Condition, Error, Expect, Function, Key, Op, Request};
use rustix::process::Signal;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Endpoint;

use crate::clients::{get, put, value};
use crate::nodes::{Lab, PATIENCE, Place, Random, run, send, size, until};
use crate::raw::{Raw, greeting};

/// The largest value there is: with as little of it as possible a lot is asked.
const LARGE: usize = kv::VALUE_BYTES_MAX;
/// What a node may take here at most: far below what it is asked to take, and far above what it should.
const MEMORY_MAX: u64 = 640 << 20;

/// A node whose process may have so many files open.
fn with_files(lab: &mut Lab, node: u16, files: u32) {
    let enter = ["sh", "-c", &format!("ulimit -n {files} && exec \"$@\""), "sh"].map(String::from).to_vec();
    lab.set_place(node, Place { enter, ..Place::default() });
}

/// Writes and reads by someone who has nothing to do with what goes on: nothing of it fails.
async fn is_well(client: &Client, name: &str, rounds: usize) {
    for round in 0..rounds {
        let key = format!("{name}:{round}");
        client.call(put(&key, "here")).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        let found = client.call(get(&key)).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(value(found).as_deref(), Some(&b"here"[..]));
    }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn idle_connections_of_all_descriptors_leave_a_node_at_work() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        with_files(&mut lab, 1, 1024);
        lab.serve_all().await;
        let client = lab.client();
        is_well(&client, "before", 1).await;

        let mut idle: Vec<Raw> = (0..1074).map(|_| Raw::greeted(&lab.address(1))).collect();
        // New segments of the log, new files of the table, and reads of those.
        for index in 0..size(160, 640) {
            let row = random.bytes(1 << 20);
            let stored = client.call(put(&format!("row:{index}"), row)).await;
            stored.unwrap_or_else(|error| panic!("{index}: {error}"));
        }
        is_well(&client, "meanwhile", 20).await;
        assert!(!lab.has_ended(1));
        until("connections beyond the limit are closed", PATIENCE, || {
            let closed = idle.iter_mut().filter_map(|raw| raw.is_closed().then_some(())).count();
            std::future::ready(closed >= 1074 - 700)
        })
        .await;
        let told = lab.journal(1).matches("closed new connections").count();
        assert!((1..60).contains(&told), "the operator is told, and not a thousand times: {told}");

        idle.drain(..).for_each(Raw::close);
        let others = lab.client();
        until("there is room again", PATIENCE, || async { others.call(get("row:0")).await.is_ok() }).await;
        assert!(lab.stop(1).await.success());
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn limit_of_open_files_too_low_is_refused_with_what_to_do() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        with_files(&mut lab, 1, 100);
        lab.serve(1);
        assert_eq!(lab.end(1, PATIENCE).await.code(), Some(2));
        let told = lab.stderr(1);
        assert!(told.contains("may have 100 files open") && told.contains("ulimit -n"), "{told}");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn connection_that_does_not_say_what_it_is_there_for_is_closed() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(2, &[], &mut random);
        lab.serve_all().await;
        let mut greeted = Raw::greeted(&lab.address(1));
        let mut silent = [Raw::connect(&lab.address(1)), Raw::connect(&lab.peer_address(1))];
        // One byte now and then, and always one more to come.
        let mut slow = Raw::connect(&lab.address(1));
        let mut drops = greeting().into_iter();
        until("those that say nothing, or too slowly, are closed", PATIENCE, || {
            if drops.len() > 1 {
                let _ = slow.send(&[drops.next().expect("it is not the last")]);
            }
            let closed = slow.is_closed() && silent.iter_mut().all(Raw::is_closed);
            async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                closed
            }
        })
        .await;
        assert!(!greeted.is_closed());
        is_well(&lab.client(), "well", 5).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn deadlines_that_pass_do_not_hurt_other_requests_of_their_connection() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        let pinned = lab.pinned(1);
        pinned.clone().call(put("key", "value")).await.unwrap();
        let pid = lab.pid(1).expect("it runs");
        send(pid, Signal::STOP);
        let ask = |request: Request| {
            let mut pinned = pinned.clone();
            tokio::task::spawn_local(async move { pinned.call(request).await })
        };
        let hasty = |_| ask(Request { timeout: Duration::from_millis(100), ..get("key") });
        let hasty: Vec<_> = (0..300).map(hasty).collect();
        let add = |_| {
            ask(Request::new(Op::Update { key: "count".into(), function: Function::Increment { by: 1 } }))
        };
        let patient: Vec<_> = (0..50).map(add).collect();
        for given_up in hasty {
            assert!(given_up.await.unwrap().is_err(), "the node stands still");
        }
        send(pid, Signal::CONT);
        for done in patient {
            done.await.unwrap().expect("nobody else's deadline is its own");
        }
        let count = pinned.clone().call(get("count")).await.unwrap();
        assert_eq!(value(count).as_deref(), Some(&b"50"[..]));
    });
}

/// The kinds of requests whose answers are large and cost little to ask.
fn large_answers() -> BTreeMap<&'static str, Op> {
    let key = || Key::from_static(b"large");
    let get = || Op::Get { key: key(), at: None };
    let range = kv::Range { from: key(), ..kv::Range::default() };
    let absent = Function::Insert { value: Bytes::new(), deadline: None };
    let never = Condition { key: key(), expect: Expect::Absent };
    BTreeMap::from([
        ("get", get()),
        ("get-all", Op::GetAll { keys: vec![key()], at: None }),
        ("history", Op::History { key: key(), limit: 1, before: None }),
        ("insert", Op::Update { key: key(), function: absent }),
        ("range", Op::Range(range)),
        ("transaction", Op::Transaction { conditions: vec![never], then: vec![], otherwise: vec![get()] }),
    ])
}

/// Someone asks for much and takes nothing. `asked` is the node that is asked; the memory of all is watched.
async fn takes_nothing(lab: &Lab, asked: u16, name: &str, op: &Op) {
    let mut greedy = Raw::greeted(&lab.address(asked));
    for _ in 0..size(300, 600) {
        greedy.ask(Request { timeout: Duration::from_secs(20), ..Request::new(op.clone()) }).unwrap();
    }
    is_well(&lab.client(), name, 50).await;
    for node in lab.all() {
        let peak = lab.peak_memory(node);
        println!("{name} at n{asked}: n{node} took {} MiB at most", peak >> 20);
        assert!(peak < MEMORY_MAX, "{name} at n{asked}: n{node} took {peak} bytes");
    }
    greedy.close();
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn answers_that_nobody_takes_are_bounded() {
    run(async |mut random: Random| {
        for (name, op) in large_answers() {
            let mut lab = Lab::new(1, &[], &mut random);
            lab.serve_all().await;
            lab.client().call(put("large", random.bytes(LARGE))).await.unwrap();
            takes_nothing(&lab, 1, name, &op).await;
            assert!(lab.stop(1).await.success());
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn answers_that_nobody_takes_are_bounded_where_they_are_forwarded() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "1"], &mut random);
        lab.serve_all().await;
        lab.client().call(put("large", random.bytes(LARGE))).await.unwrap();
        let leader = lab.leader("large").await;
        let other = lab.all().find(|node| *node != leader).expect("there are three");
        takes_nothing(&lab, other, "get", &large_answers()["get"]).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn answers_of_batches_that_nobody_takes_are_bounded() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        // More than the engine keeps in memory.
        let keys: Vec<String> = (0..24).map(|index| format!("large:{index}")).collect();
        for key in &keys {
            lab.client().call(put(key, random.bytes(LARGE))).await.unwrap();
        }
        let mut greedy = Raw::greeted(&lab.address(1));
        let batch = batch_of_gets(keys.iter().cycle().take(200));
        for _ in 0..20 {
            greedy.call("Batch", &batch).unwrap();
        }
        is_well(&lab.client(), "batch", 50).await;
        let peak = lab.peak_memory(1);
        println!("{} MiB at most", peak >> 20);
        assert!(peak < MEMORY_MAX, "{peak}");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn connections_that_take_nothing_are_closed_when_little_room_is_left() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        lab.client().call(put("large", random.bytes(LARGE))).await.unwrap();
        let mut greedy: Vec<Raw> = (0..12).map(|_| Raw::greeted(&lab.address(1))).collect();
        for raw in &mut greedy {
            for _ in 0..20 {
                raw.ask(Request { timeout: PATIENCE, ..get("large") }).unwrap();
            }
        }
        is_well(&lab.client(), "scarce", 50).await;
        until("those that take nothing are closed", PATIENCE, || {
            std::future::ready(lab.journal(1).matches("takes nothing of its answers").count() >= 6)
        })
        .await;
        let peak = lab.peak_memory(1);
        println!("{} MiB at most", peak >> 20);
        assert!(peak < MEMORY_MAX, "{peak}");
        let found = lab.client().call(get("large")).await.unwrap();
        assert_eq!(value(found).map(|value| value.len()), Some(LARGE));
    });
}

/// A `BatchRequest`: operations (field 2), each a get (field 1).
fn batch_of_gets<'a>(keys: impl Iterator<Item = &'a String>) -> Bytes {
    let mut batch = BytesMut::new();
    let put_field = |tag: &[u8], bytes: &[u8], into: &mut BytesMut| {
        into.put_slice(tag);
        into.put_u8(u8::try_from(bytes.len()).expect("it is short"));
        into.put_slice(bytes);
    };
    for key in keys {
        let mut operation = BytesMut::new();
        put_field(&[0x0a], &encode_request(get(key)).unwrap().1, &mut operation);
        put_field(&[0x12], &operation, &mut batch);
    }
    batch.freeze()
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn answers_that_are_taken_slowly_are_all_given() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        let large = random.bytes(LARGE);
        lab.client().call(put("large", large.clone())).await.unwrap();
        let pinned = lab.pinned(1);
        let ask = |_| {
            let mut pinned = pinned.clone();
            let request = Request { timeout: PATIENCE, ..get("large") };
            tokio::task::spawn_local(async move { pinned.call(request).await })
        };
        for answer in (0..40).map(ask).collect::<Vec<_>>() {
            let found = value(answer.await.unwrap().expect("it waits for room"));
            assert!(found.as_deref() == Some(&large[..]));
        }
    });
}

/// A request that begins with so many bytes and never ends.
struct Endless {
    left: usize,
    begun: bool,
}

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if !self.begun {
            self.begun = true;
            let mut head = BytesMut::new();
            head.put_u8(0);
            head.put_u32(LARGE as u32);
            return Poll::Ready(Some(Ok(Frame::data(head.freeze()))));
        }
        if self.left == 0 {
            return Poll::Pending;
        }
        let mut bytes = Bytes::from_static(&[7; 64 << 10]);
        bytes.truncate(self.left);
        self.left -= bytes.remaining();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn requests_of_one_connection_that_never_end_do_not_shut_out_others() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        let endpoint = Endpoint::from_shared(format!("http://{}", lab.address(1))).unwrap();
        let mut channel = endpoint.connect().await.unwrap();
        let mut open = Vec::new();
        for _ in 0..200 {
            let body = Body::new(Endless { left: LARGE - 1, begun: false });
            let request = tonic::codegen::http::Request::post("/capstan.v1.KeyValue/Put")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(body)
                .unwrap();
            std::future::poll_fn(|cx| Service::<_>::poll_ready(&mut channel, cx)).await.unwrap();
            open.push(tokio::spawn(channel.call(request)));
        }
        until("most are refused: the others take all that the connection may hold", PATIENCE, || {
            std::future::ready(open.iter().filter(|task| task.is_finished()).count() >= 190)
        })
        .await;
        let client = lab.client();
        for index in 0..10 {
            client.call(put(&format!("large:{index}"), random.bytes(LARGE))).await.unwrap();
        }
        is_well(&client, "endless", 20).await;
        let peak = lab.peak_memory(1);
        println!("{} MiB at most", peak >> 20);
        assert!(peak < MEMORY_MAX, "{peak}");
        open.into_iter().for_each(|task| task.abort());
    });
}

/// A refusal for want of room, and nothing worse.
#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn writes_of_large_values_all_at_once_are_done_or_refused() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        let large = Bytes::from(random.bytes(LARGE));
        let pinned = lab.pinned(1);
        let ask = |index: usize| {
            let (mut pinned, request) = (pinned.clone(), put(&format!("at once:{index}"), large.clone()));
            tokio::task::spawn_local(
                async move { pinned.call(Request { timeout: PATIENCE, ..request }).await },
            )
        };
        let mut done = 0;
        for answer in (0..64).map(ask).collect::<Vec<_>>() {
            match answer.await.unwrap() {
                Ok(_) => done += 1,
                Err(Error::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(done > 0, "some find room");
        assert!(lab.peak_memory(1) < MEMORY_MAX * 2, "{}", lab.peak_memory(1));
    });
}
