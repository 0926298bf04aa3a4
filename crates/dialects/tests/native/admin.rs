//! What operators and joining nodes ask of the directory, there and back, and what the client does when a node does not answer.

use std::time::Duration;

use bytes::Bytes;
use dialects::native::proto;
use dialects::native::proto::cluster_client::ClusterClient;
use dialects::native::{DOMAIN, from_status};
use kv::admin::{Admin, Answer, Ask, Joining};
use kv::cluster::NodeDuty;
use kv::{Error, NodeId};
use tokio::sync::oneshot;
use tonic_types::StatusExt;

use crate::fake::{Act, Node, client, cluster, nodes};

const TIMEOUT: Duration = Duration::from_secs(5);

fn joining() -> Ask {
    Ask::Join(Joining {
        name: "n4".into(),
        incarnation: u64::MAX,
        peer: "127.0.0.1:7424".into(),
        address: "127.0.0.1:7404".into(),
        zone: "west".into(),
    })
}

fn drain() -> Ask {
    Ask::Node { name: "n1".into(), duty: NodeDuty::Drain, fewer: false, dry_run: false }
}

/// An answer of the kind that an ask has.
fn answer(ask: &Ask) -> Answer {
    let kinds = kv::fuzz::admin_answers();
    let wanted = |answer: &Answer| match ask {
        Ask::Join(_) => matches!(answer, Answer::Joined { .. }),
        Ask::Node { dry_run: true, .. }
        | Ask::Replace { dry_run: true, .. }
        | Ask::AlterKeyspace { dry_run: true, .. }
        | Ask::Moves => matches!(answer, Answer::Moves(_)),
        Ask::Node { .. }
        | Ask::Replace { .. }
        | Ask::Abort { .. }
        | Ask::CreateKeyspace { .. }
        | Ask::AlterKeyspace { .. }
        | Ask::DropKeyspace { .. } => matches!(answer, Answer::Done),
        Ask::Rule { .. } => matches!(answer, Answer::Ruled(_)),
        Ask::Revise { .. } | Ask::Zone { .. } => unreachable!("no client asks it"),
        Ask::Keyspaces => matches!(answer, Answer::Keyspaces(_)),
        Ask::Dump => matches!(answer, Answer::Rows(_)),
    };
    kinds.into_iter().find(wanted).unwrap()
}

#[tokio::test]
async fn every_ask_and_its_answer_arrive_as_they_were() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    // Only replicas ask for a revision, and the programs of the classic shards for a zone.
    let is_of_clients =
        |ask: &Ask| !matches!(ask, Ask::Revise { .. } | Ask::Zone { .. }) && ask.validate().is_ok();
    let asks: Vec<Ask> = kv::fuzz::asks().into_iter().filter(is_of_clients).collect();
    assert!(asks.len() > 6, "there is one of each kind");
    for ask in &asks {
        node.fake.set_admin(Ok(answer(ask)));
        assert_eq!(client.administer(ask, TIMEOUT).await, Ok(answer(ask)), "{ask:?}");
    }
    let asked: Vec<Ask> = node.fake.asked().into_iter().map(|(ask, _)| ask).collect();
    assert_eq!(asked, asks);
    assert!(node.fake.asked().iter().all(|(_, time)| *time < TIMEOUT), "another node can be asked in time");
}

#[tokio::test]
async fn ask_through_the_waist_is_answered() {
    let node = Node::start(1).await;
    let (send, receive) = oneshot::channel();
    let admin: &dyn Admin = &client(&[&node]);
    admin.administer(drain(), TIMEOUT, Box::new(|result| send.send(result).unwrap()));
    assert_eq!(receive.await.unwrap(), Ok(Answer::Done));
}

#[tokio::test]
async fn refusal_is_final_and_says_what_to_do() {
    let [first, second] = nodes().await;
    let refusal = Error::Invalid("n1 is alive: drain it, or let it leave".into());
    first.fake.set_admin(Err(refusal.clone()));
    let replace = Ask::Replace { name: "n1".into(), lose: false, dry_run: false };
    assert_eq!(client(&[&first, &second]).administer(&replace, TIMEOUT).await, Err(refusal));
    assert_eq!((first.fake.asked().len(), second.fake.asked().len()), (1, 0));
}

#[tokio::test]
async fn ask_that_makes_no_sense_is_not_sent() {
    let node = Node::start(1).await;
    let nobody = Ask::Replace { name: "a=b".into(), lose: false, dry_run: false };
    assert!(matches!(client(&[&node]).administer(&nobody, TIMEOUT).await, Err(Error::Invalid(_))));
    assert!(node.fake.asked().is_empty());
}

#[tokio::test]
async fn directory_without_a_leader_is_asked_again_at_other_nodes() {
    let [first, second] = nodes().await;
    first.fake.always_fail(Error::Unavailable("nobody leads the directory".into()));
    second.fake.act([Act::Fail(Error::WrongNode { try_next: None }), Act::Drop]);
    assert_eq!(client(&[&first, &second]).administer(&drain(), TIMEOUT).await, Ok(Answer::Done));
    assert_eq!(second.fake.asked().len(), 3);
}

#[tokio::test]
async fn ask_is_in_doubt_only_if_an_attempt_may_have_changed_something() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let soon = Duration::from_secs(1);
    node.fake.always_fail(Error::Unavailable("nobody leads the directory".into()));
    let asked = async |ask| client.administer(&ask, soon).await.unwrap_err();
    let error = asked(drain()).await;
    assert!(matches!(&error, Error::Unavailable(why) if why.contains("nothing was changed")), "{error:?}");
    node.fake.act([Act::Drop]);
    let error = asked(drain()).await;
    assert!(matches!(&error, Error::InDoubt(why) if why.contains("may be asked again")), "{error:?}");
    node.fake.act([Act::Drop]);
    let error = asked(Ask::Moves).await;
    assert!(matches!(&error, Error::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn ask_of_a_cluster_that_is_down_says_so() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    node.stop();
    let error = client.administer(&drain(), Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(why) if why.contains("cannot reach any")), "{error:?}");
}

#[tokio::test]
async fn request_of_any_program_is_checked_and_refused_with_details() {
    let node = Node::start(1).await;
    let mut raw = ClusterClient::connect(format!("http://{}", node.address)).await.unwrap();
    let unnamed = raw.drain(proto::NodeRequest::default()).await.unwrap_err();
    assert!(matches!(from_status(&unnamed), Some(Error::Invalid(_))));
    assert_eq!(unnamed.get_details_error_info().unwrap().domain, DOMAIN);
    assert!(raw.join(proto::JoinRequest::default()).await.is_err());
    assert!(node.fake.asked().is_empty());
    // The time of the call is what the directory is given: the usual one where nothing is said.
    raw.abort(proto::AbortRequest { shard: 3 }).await.unwrap();
    assert_eq!(node.fake.asked()[0].1, kv::Request::TIMEOUT);
    let mut request = tonic::Request::new(proto::AbortRequest { shard: 3 });
    request.set_timeout(Duration::from_secs(2));
    raw.abort(request).await.unwrap();
    assert!(node.fake.asked()[1].1 < Duration::from_secs(2));
}

#[tokio::test]
async fn answer_to_another_question_is_refused() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    for (ask, answer) in [(joining(), Answer::Done), (drain(), Answer::Rows(vec![]))] {
        node.fake.set_admin(Ok(answer));
        let error = client.administer(&ask, Duration::from_secs(1)).await.unwrap_err();
        assert!(error.to_string().contains("of one version"), "{error}");
    }
    let (map, lives) = (Bytes::from_static(b"map"), Bytes::from_static(b"lives"));
    let joined = Answer::Joined { node: NodeId(4), cluster: cluster(1), map, lives };
    node.fake.set_admin(Ok(joined.clone()));
    assert_eq!(client.administer(&joining(), TIMEOUT).await, Ok(joined));
}
