//! One cluster and another: no client writes into one that is not its own, whatever the addresses say.

use dialects::native::proto::cluster_client::ClusterClient;
use dialects::native::proto::key_value_client::KeyValueClient;
use dialects::native::{CLUSTER_METADATA, DOMAIN, proto};
use kv::*;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::fake::{Node, client, cluster, get, led_by, nodes, put, soon};

fn unavailable() -> Error {
    Error::Unavailable("no leader".into())
}

#[tokio::test]
async fn address_that_was_learned_and_is_of_another_cluster_is_never_asked() {
    let [first, other] = nodes().await;
    other.fake.set_cluster(Ok(cluster(2)));
    // The map says that the other leads: its address stands for another machine there.
    first.fake.set_status(led_by(&[&first, &other], 2));
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    client.call(get("k")).await.unwrap();
    assert_eq!((first.fake.seen().len(), other.fake.seen().len()), (2, 0));

    // In the end it is told why nobody else could be asked.
    first.fake.always_fail(unavailable());
    let error = client.call(soon(put("k", "v"))).await.unwrap_err();
    let named = format!("{} (a node of another cluster, {})", other.address, cluster(2));
    assert!(matches!(&error, Error::Unavailable(text) if text.contains(&named)), "{error:?}");
    assert_eq!(other.fake.seen().len(), 0);
}

#[tokio::test]
async fn address_that_is_named_and_is_of_another_cluster_is_never_asked() {
    let [first, other] = nodes().await;
    other.fake.set_cluster(Ok(cluster(2)));
    first.fake.set_status(led_by(&[&first], 1));
    first.fake.always_fail(Error::WrongNode { try_next: Some(other.address.clone()) });
    let error = client(&[&first]).call(soon(put("k", "v"))).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert_eq!(other.fake.seen().len(), 0);
}

#[tokio::test]
async fn addresses_of_two_clusters_are_refused() {
    let [first, second] = nodes().await;
    second.fake.set_cluster(Ok(cluster(2)));
    for (one, other) in [(&first, &second), (&second, &first)] {
        let client = client(&[one, other]);
        for request in [put("k", "v"), get("k")] {
            match client.call(request).await {
                Err(Error::Invalid(text)) => {
                    assert!(text.contains("are of different clusters"), "{text}");
                    for (node, number) in [(&first, 1), (&second, 2)] {
                        assert!(text.contains(&format!("{} of {}", node.address, cluster(number))), "{text}");
                    }
                }
                other => panic!("nobody knows which was meant: {other:?}"),
            }
        }
        assert!(matches!(client.status().await, Err(Error::Invalid(_))));
    }
    assert_eq!((first.fake.seen().len(), second.fake.seen().len()), (0, 0));
}

#[tokio::test]
async fn cluster_made_anew_at_the_same_address_is_not_asked_by_who_knew_the_old_one() {
    let node = Node::start(1).await;
    let (old, address) = (client(&[&node]), node.address.clone());
    old.call(put("k", "v")).await.unwrap();
    node.stop();
    let node = Node::start_at(1, &address).await;
    node.fake.set_cluster(Ok(cluster(2)));
    // The read finds the old connection broken: a write on it may have been run by the old cluster.
    for request in [get("k"), put("k", "v")] {
        match old.call(soon(request)).await {
            Err(Error::Unavailable(text)) => {
                assert!(text.contains(&format!("is a node of cluster {}", cluster(2))), "{text}");
                assert!(text.contains(&format!("asks cluster {}", cluster(1))), "{text}");
            }
            other => panic!("it is another cluster: {other:?}"),
        }
    }
    assert_eq!(node.fake.seen().len(), 0);
    let new = client(&[&node]);
    new.call(put("k", "v")).await.unwrap();
    assert_eq!((new.cluster().await, old.cluster().await), (Ok(cluster(2)), Ok(cluster(1))));
}

#[tokio::test]
async fn cluster_changed_beneath_an_open_connection_is_not_asked() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    client.call(put("k", "v")).await.unwrap();
    // The connection stays: as when it is made anew where the client does not see it.
    node.fake.set_cluster(Ok(cluster(2)));
    let error = client.call(soon(put("k", "v"))).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "nothing was run: {error:?}");
    assert_eq!(node.fake.seen().len(), 1);
    // It is the same again, and so goes on.
    node.fake.set_cluster(Ok(cluster(1)));
    client.call(put("k", "v")).await.unwrap();
}

#[tokio::test]
async fn node_of_no_cluster_yet_says_what_it_waits_for() {
    let node = Node::start(1).await;
    let waits = Error::Unavailable("n2 waits for n1, which founds the cluster".into());
    node.fake.set_cluster(Err(waits.clone()));
    let client = client(&[&node]);
    assert_eq!(client.status().await, Err(waits));
    let error = client.call(soon(put("k", "v"))).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("n2 waits for n1")), "{error:?}");
    node.fake.set_cluster(Ok(cluster(1)));
    client.call(put("k", "v")).await.unwrap();
    assert_eq!(client.cluster().await, Ok(cluster(1)));
}

fn with<T>(message: T, metadata: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(metadata) = metadata {
        request.metadata_mut().insert(CLUSTER_METADATA, metadata.parse().unwrap());
    }
    request
}

/// What each kind of rpc is answered when a request of any program says this.
async fn ask(node: &Node, metadata: Option<&str>) -> Vec<Result<(), Status>> {
    let channel = Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap();
    let (mut keys, mut cluster) = (KeyValueClient::new(channel.clone()), ClusterClient::new(channel));
    let key = || "k".into();
    vec![
        keys.put(with(proto::PutRequest { key: key(), ..Default::default() }, metadata)).await.map(drop),
        keys.get(with(proto::GetRequest { key: key(), ..Default::default() }, metadata)).await.map(drop),
        keys.batch(with(proto::BatchRequest::default(), metadata)).await.map(drop),
        cluster.status(with(proto::StatusRequest {}, metadata)).await.map(drop),
        cluster
            .locate(with(proto::LocateRequest { key: key(), keyspace: String::new() }, metadata))
            .await
            .map(drop),
        cluster.abort(with(proto::AbortRequest { shard: 1 }, metadata)).await.map(drop),
    ]
}

#[tokio::test]
async fn request_says_which_cluster_it_is_for_and_is_refused_by_another() {
    let node = Node::start(1).await;
    for metadata in [None, Some("0000000000000001")] {
        assert!(ask(&node, metadata).await.iter().all(Result::is_ok), "{metadata:?}");
    }
    let seen = node.fake.seen().len();
    for answer in ask(&node, Some("0000000000000002")).await {
        let status = answer.unwrap_err();
        let info = status.get_details_error_info().unwrap();
        assert_eq!((status.code(), info.domain.as_str()), (Code::FailedPrecondition, DOMAIN));
        assert_eq!((info.reason.as_str(), info.metadata["outcome"].as_str()), ("ANOTHER_CLUSTER", "failed"));
        assert_eq!(info.metadata["cluster"], "0000000000000001");
    }
    for answer in ask(&node, Some("home")).await {
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(node.fake.seen().len(), seen, "nothing was run");
}

#[tokio::test]
async fn terms_of_a_cluster_are_told_to_who_wants_to_join_it() {
    let node = Node::start(1).await;
    let expect = kv::cluster::Terms { shards: 1, replicas: 1, history: None, deleted_micros: u64::MAX };
    assert_eq!(client(&[&node]).terms().await, Ok(expect));
}
