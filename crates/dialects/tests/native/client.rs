//! What the client does when a node does not answer, or not the right one: retries, routes, sessions, in doubt or failed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dialects::native::{Client, Options};
use kv::cluster::Status;
use kv::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fake::{Act, Node, client, get, led_by, nodes, put, soon};

fn unavailable() -> Error {
    Error::Unavailable("no leader".into())
}

#[tokio::test]
async fn write_failing_for_a_while_is_repeated_under_its_id() {
    let node = Node::start(1).await;
    node.fake.act([
        Act::Fail(unavailable()),
        Act::Fail(Error::InDoubt("lost".into())),
        Act::Fail(Error::WrongNode { try_next: None }),
        Act::Drop,
    ]);
    client(&[&node]).call(put("k", "v")).await.unwrap();
    let ids: Vec<_> = node.fake.seen().iter().map(|request| request.id.unwrap()).collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn write_that_nobody_ran_fails_as_unavailable() {
    let node = Node::start(1).await;
    node.fake.always_fail(unavailable());
    let error = client(&[&node]).call(soon(put("k", "v"))).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains("no leader") && text.contains(&node.address))
    );
    assert!(node.fake.seen().len() > 1);
}

#[tokio::test]
async fn write_says_that_it_was_sent_before_once_an_attempt_may_have_run_it() {
    let node = Node::start(1).await;
    node.fake.act([
        Act::Fail(unavailable()),
        Act::Fail(Error::InDoubt("lost".into())),
        Act::Fail(Error::WrongNode { try_next: None }),
    ]);
    client(&[&node]).call(put("k", "v")).await.unwrap();
    let said: Vec<bool> = node.fake.seen().iter().map(|request| request.again).collect();
    assert_eq!(said, [false, false, true, true]);
}

#[tokio::test]
async fn write_that_one_attempt_may_have_run_is_in_doubt() {
    let node = Node::start(1).await;
    node.fake.act([Act::Fail(Error::InDoubt("lost".into()))]);
    node.fake.always_fail(unavailable());
    let error = client(&[&node]).call(soon(put("k", "v"))).await.unwrap_err();
    assert!(matches!(&error, Error::InDoubt(text) if text.contains(&node.address)), "{error:?}");
}

#[tokio::test]
async fn put_all_that_one_attempt_may_have_run_is_in_doubt_where_the_next_one_failed() {
    let node = Node::start(1).await;
    let key = |key: &'static str, result| KeyAnswer { key: key.into(), result };
    let rows = vec![("a".into(), "1".into()), ("b".into(), "2".into()), ("c".into(), "3".into())];
    let answer = || {
        let invalid = Err(Error::Invalid("not so".into()));
        Answer::Many(vec![key("a", Ok(None)), key("b", Err(unavailable())), key("c", invalid)])
    };
    let outcomes = |reply: Reply| match reply.answer {
        Answer::Many(keys) => {
            keys.into_iter().map(|key| key.result.err().map(|error| error.outcome())).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let client = client(&[&node]);
    let put_all = || Request::new(Op::PutAll { rows: rows.clone() });
    node.fake.act([Act::Tell(answer())]);
    let first = outcomes(client.call(put_all()).await.unwrap());
    assert_eq!(first, [None, Some(Outcome::Failed), Some(Outcome::Failed)], "it was sent once");
    node.fake.act([Act::Fail(Error::InDoubt("lost".into())), Act::Tell(answer())]);
    let again = outcomes(client.call(put_all()).await.unwrap());
    assert_eq!(again, [None, Some(Outcome::InDoubt), Some(Outcome::Failed)]);
}

#[tokio::test]
async fn read_is_never_in_doubt() {
    let node = Node::start(1).await;
    node.fake.act([Act::Fail(Error::InDoubt("lost".into()))]);
    node.fake.always_fail(unavailable());
    let error = client(&[&node]).call(soon(get("k"))).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn write_definitely_refused_after_a_lost_attempt_is_refused() {
    let node = Node::start(1).await;
    let refusal = Error::Conflict("'abc' is no number".into());
    node.fake.act([Act::Fail(Error::InDoubt("lost".into())), Act::Fail(refusal.clone())]);
    assert_eq!(client(&[&node]).call(put("k", "v")).await, Err(refusal));
}

#[tokio::test]
async fn write_without_an_answer_is_in_doubt_after_its_timeout() {
    let node = Node::start(1).await;
    node.fake.act((0..100).map(|_| Act::Hold));
    let error = client(&[&node]).call(soon(put("k", "v"))).await.unwrap_err();
    assert!(matches!(error, Error::InDoubt(_)), "{error:?}");
}

/// An address from which all goes to a node, until it is told to close each connection that anything comes on.
async fn breaking(to: &Node) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (to, breaks) = (to.address.clone(), Arc::new(AtomicBool::new(false)));
    let told = breaks.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (to, breaks) = (to.clone(), breaks.clone());
            tokio::spawn(async move {
                let node = TcpStream::connect(to).await.unwrap();
                let ((mut from_client, mut to_client), (mut from_node, mut to_node)) =
                    (client.into_split(), node.into_split());
                let answers = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_node, &mut to_client).await;
                });
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    if breaks.load(Ordering::Relaxed) || to_node.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
                answers.abort();
            });
        }
    });
    (address, told)
}

#[tokio::test]
async fn connection_lost_after_the_request_left_is_in_doubt_for_a_write() {
    let node = Node::start(1).await;
    node.fake.set_status(Status::default());
    let (address, breaks) = breaking(&node).await;
    let client = || Client::connect(vec![address.clone()], Options::default()).unwrap();
    let (writer, reader) = (client(), client());
    for client in [&writer, &reader] {
        client.call(get("k")).await.unwrap();
    }
    breaks.store(true, Ordering::Relaxed);
    let error = writer.call(soon(put("k", "v"))).await.unwrap_err();
    assert!(matches!(error, Error::InDoubt(_)), "{error:?}");
    let error = reader.call(soon(get("k"))).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn cluster_that_is_down_is_unavailable_and_the_text_says_what_to_do() {
    let node = Node::start(1).await;
    let (client, address) = (client(&[&node]), node.address.clone());
    node.stop();
    for request in [put("k", "v"), get("k")] {
        match client.call(soon(request)).await {
            Err(Error::Unavailable(text)) => {
                assert!(text.contains(&format!("cannot reach any of {address}")), "{text}");
                assert!(text.contains("capstan up"), "{text}");
            }
            other => panic!("nobody listens there: {other:?}"),
        }
    }
    assert!(matches!(client.status().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn address_that_is_none_is_refused() {
    for address in ["", "localhost", "host:port:more", "127.0.0.1:7401/path", "host:99999"] {
        let result = Client::connect(vec![address.into()], Options::default());
        assert!(matches!(result, Err(Error::Invalid(_))), "{address}");
    }
    assert!(matches!(Client::connect(vec![], Options::default()), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn address_that_is_down_is_passed_over() {
    let [down, up] = nodes().await;
    let client = client(&[&down, &up]);
    down.stop();
    client.call(put("k", "v")).await.unwrap();
    client.call(get("k")).await.unwrap();
    client.status().await.unwrap();
    assert_eq!(up.fake.seen().len(), 2);
}

#[tokio::test]
async fn leader_that_dies_is_passed_over_and_used_again_when_it_is_back() {
    let [leader, other] = nodes().await;
    let client = client(&[&other]);
    client.call(put("k", "v")).await.unwrap();
    assert_eq!((leader.fake.seen().len(), other.fake.seen().len()), (1, 0));
    let address = leader.address.clone();
    leader.stop();
    for _ in 0..3 {
        client.call(put("k", "v")).await.unwrap();
    }
    assert_eq!(other.fake.seen().len(), 3);
    let leader = Node::start_at(1, &address).await;
    while leader.fake.seen().is_empty() {
        client.call(put("k", "v")).await.unwrap();
    }
}

#[tokio::test]
async fn write_under_way_when_its_node_dies_is_finished_elsewhere_under_its_id() {
    let [leader, other] = nodes().await;
    leader.fake.act([Act::Hold]);
    let client = client(&[&leader]);
    let call = tokio::spawn(async move { client.call(put("k", "v")).await });
    leader.fake.saw(1).await;
    let fake = leader.fake.clone();
    leader.stop();
    call.await.unwrap().unwrap();
    assert_eq!(fake.seen()[0].id, other.fake.seen()[0].id);
}

#[tokio::test]
async fn wrong_node_is_followed_under_the_same_id() {
    let [first, second] = nodes().await;
    first.fake.always_fail(Error::WrongNode { try_next: Some(second.address.clone()) });
    // Only the first is known at the start, and it says itself that it leads.
    first.fake.set_status(led_by(&[&first], 1));
    client(&[&first]).call(put("k", "v")).await.unwrap();
    let (asked, followed) = (first.fake.seen(), second.fake.seen());
    assert_eq!((asked.len(), followed.len()), (1, 1));
    assert_eq!(asked[0].id, followed[0].id);
}

#[tokio::test]
async fn wrong_nodes_that_name_each_other_end_with_the_timeout() {
    let [first, second] = nodes().await;
    first.fake.always_fail(Error::WrongNode { try_next: Some(second.address.clone()) });
    second.fake.always_fail(Error::WrongNode { try_next: Some(first.address.clone()) });
    let error = client(&[&first]).call(soon(put("k", "v"))).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert!(first.fake.seen().len() < 100, "there are pauses");
}

#[tokio::test]
async fn write_goes_to_the_leader_that_the_status_names() {
    let [first, second] = nodes().await;
    for node in [&first, &second] {
        node.fake.set_status(led_by(&[&first, &second], 2));
    }
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    client.call(get("k")).await.unwrap();
    assert_eq!((first.fake.seen().len(), second.fake.seen().len()), (0, 2));
}

#[tokio::test]
async fn read_that_may_be_stale_goes_to_the_node_at_hand() {
    let [first, second] = nodes().await;
    let client = client(&[&second, &first]);
    client.call(put("k", "v")).await.unwrap();
    for level in [Level::Local, Level::Bounded(100)] {
        client.call(Request { level: Some(level), ..get("k") }).await.unwrap();
    }
    client.call(Request::new(Op::Range(Range::default()))).await.unwrap();
    assert_eq!((first.fake.seen().len(), second.fake.seen().len()), (1, 3));
}

#[tokio::test]
async fn answer_of_another_node_than_expected_teaches_the_map() {
    let [first, second] = nodes().await;
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    // Leadership moves; the old leader forwards.
    for node in [&first, &second] {
        node.fake.set_status(led_by(&[&first, &second], 2));
    }
    first.fake.forward_to(NodeId(2));
    while second.fake.seen().is_empty() {
        client.call(put("k", "v")).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn session_answered_below_follows_the_answers() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    for sequence in 1..=5 {
        client.call(put("k", "v")).await.unwrap();
        let id = node.fake.seen().pop().unwrap().id.unwrap();
        assert_eq!((id.sequence, id.answered_below), (sequence, sequence));
    }
}

#[tokio::test]
async fn session_id_is_valid_a_little_beyond_its_timeout_by_the_clock_of_the_cluster() {
    let node = Node::start(1).await;
    client(&[&node]).call(put("k", "v")).await.unwrap();
    let until = node.fake.seen()[0].id.unwrap().valid_until.micros();
    let seconds = (until - crate::fake::NOW) / 1_000_000;
    // So long does a shard remember a client that came once.
    assert!((30..=120).contains(&seconds), "{seconds} seconds");
}

#[tokio::test]
async fn session_window_full_opens_another_session() {
    const WRITES: usize = SESSION_WINDOW as usize + 100;
    let node = Node::start(1).await;
    node.fake.act((0..WRITES).map(|_| Act::Hold));
    let client = Arc::new(client(&[&node]));
    let ask = || {
        let client = client.clone();
        tokio::spawn(async move {
            client.call(Request { timeout: Duration::from_secs(60), ..put("k", "v") }).await
        })
    };
    let tasks: Vec<_> = (0..WRITES).map(|_| ask()).collect();
    node.fake.saw(WRITES).await;
    let mut sessions: HashMap<u64, HashSet<u64>> = HashMap::new();
    for request in node.fake.seen() {
        let id = request.id.unwrap();
        assert!(sessions.entry(id.client).or_default().insert(id.sequence), "an id was given twice: {id:?}");
    }
    let mut sizes: Vec<_> = sessions.values().map(HashSet::len).collect();
    sizes.sort();
    assert_eq!(sizes, [100, SESSION_WINDOW as usize]);
    node.fake.release();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn call_that_is_dropped_gives_its_id_up() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    node.fake.act([Act::Hold]);
    tokio::select! {
        _ = client.call(put("k", "v")) => panic!("it is held"),
        () = node.fake.saw(1) => {}
    }
    client.call(put("k", "v")).await.unwrap();
    let id = node.fake.seen()[1].id.unwrap();
    assert_eq!((id.sequence, id.answered_below), (2, 2));
}
