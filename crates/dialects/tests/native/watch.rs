//! Watches over the wire: whole, in order, at one node and then at the next.

use kv::watch::{Batch, Change, Filter, Reach, Start, Watch, Watcher, Watching, What};
use kv::{Error, Key, Request, ShardId, Slot, SlotRange, Version};
use tokio::sync::oneshot;

use crate::fake::{Node, client, nodes};

fn version(number: i64) -> Version {
    Version::from_i64(number).unwrap()
}

fn slots(first: u16, last: u16) -> SlotRange {
    SlotRange { first: Slot(first), last: Slot(last) }
}

fn batch(slots: SlotRange, through: i64, value_bytes: usize) -> Batch {
    let what = What::Put { value: vec![7; value_bytes].into(), deadline: Some(5) };
    let change = |key: &'static str, what| Change { key: key.into(), version: version(through), what };
    let changes = [change("a", what.clone()), change("b", what), change("c", What::Expired)];
    let reach = Reach { slots, through: version(through) };
    Batch { shard: ShardId(4), reach, progress: Some(version(through)), changes: changes.into() }
}

async fn next(watcher: &mut dyn Watcher) -> Result<Batch, Error> {
    let (send, receive) = oneshot::channel();
    watcher.next(Box::new(move |next| drop(send.send(next))));
    receive.await.expect("a client's watch ends with an error")
}

fn prefix() -> Watching {
    Watching::prefix(Key::from_static(b"x"))
}

#[tokio::test]
async fn batches_come_whole_and_in_order_whatever_their_size() {
    let node = Node::start(1).await;
    let all = slots(0, 16383);
    // Larger than a message may be, and than the windows of the connection.
    let batches = [batch(all, 3, 10), batch(all, 9, 6 << 20), batch(all, 12, 0)];
    node.fake.give(batches.iter().cloned().map(Ok).collect());
    let mut watcher = client(&[&node]).watch(prefix());
    for batch in batches {
        assert!(next(&mut *watcher).await == Ok(batch));
    }
    assert_eq!(node.fake.watched(), [prefix()]);
}

#[tokio::test]
async fn watch_whose_node_fails_goes_on_at_the_next_one_from_where_it_was() {
    let [one, other] = nodes().await;
    let (low, high) = (slots(0, 99), slots(100, 16383));
    let stops = || Err(Error::Unavailable("this node is stopping".into()));
    one.fake.give(vec![Ok(batch(low, 5, 1)), Ok(batch(high, 3, 1)), Ok(batch(low, 7, 1)), stops()]);
    other.fake.give(vec![Ok(batch(high, 8, 1))]);
    let mut watcher = client(&[&one, &other]).watch(prefix());
    for expected in [batch(low, 5, 1), batch(high, 3, 1), batch(low, 7, 1), batch(high, 8, 1)] {
        assert_eq!(next(&mut *watcher).await, Ok(expected));
    }
    let reach = |slots, through| Reach { slots, through: version(through) };
    let goes_on = Start::Reached(vec![reach(low, 7), reach(high, 3)]);
    assert_eq!(other.fake.watched(), [Watching { from: goes_on, ..prefix() }]);
}

#[tokio::test]
async fn watch_from_a_version_begins_there_at_every_node() {
    let [one, other] = nodes().await;
    one.fake.give(vec![Err(Error::Unavailable("not now".into()))]);
    other.fake.give(vec![Ok(batch(slots(0, 16383), 9, 1))]);
    let from = Watching { from: Start::Version(version(6)), ..prefix() };
    assert!(next(&mut *client(&[&one, &other]).watch(from.clone())).await.is_ok());
    // As it was asked for: the node is to say when nothing has that version yet.
    assert_eq!(other.fake.watched(), [from]);
}

#[tokio::test]
async fn watch_that_cannot_be_ends_with_the_reason() {
    let node = Node::start(1).await;
    let trimmed = Error::Trimmed { asked: version(3), oldest: version(9) };
    node.fake.give(vec![Ok(batch(slots(0, 16383), 2, 1)), Err(trimmed.clone())]);
    let client = client(&[&node]);
    let mut watcher = client.watch(prefix());
    assert!(next(&mut *watcher).await.is_ok());
    assert_eq!(next(&mut *watcher).await, Err(trimmed));
    let no_key = Watching { filter: Filter::Key(Key::new()), ..prefix() };
    assert!(matches!(next(&mut *client.watch(no_key)).await, Err(Error::Invalid(_))));
    let nowhere = Watching { keyspace: "nope".into(), ..prefix() };
    node.fake.give(vec![Err(Error::NoKeyspace("nope".into()))]);
    assert_eq!(next(&mut *client.watch(nowhere)).await, Err(Error::NoKeyspace("nope".into())));
    assert_eq!(Request::KEYSPACE, prefix().keyspace);
}
