//! Cluster, health and reflection.

use kv::cluster::Location;
use kv::*;
use tokio_stream::once;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::fake::{Node, client, led_by, nodes};

async fn channel(node: &Node) -> Channel {
    Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn status_comes_back_as_the_node_told_it() {
    let [first, second] = nodes().await;
    let mut status = led_by(&[&first, &second], 2);
    status.nodes[0].state = kv::cluster::Liveness::Suspect;
    status.nodes[1].state = kv::cluster::Liveness::Dead;
    status.shards[0].leader = None;
    status.shards[0].protocol = Protocol::Single;
    first.fake.set_status(status.clone());
    assert_eq!(client(&[&first]).status().await, Ok(status));
}

#[tokio::test]
async fn locate_tells_slot_shard_and_leader() {
    let node = Node::start(3).await;
    let client = client(&[&node]);
    let expected = Location {
        slot: Slot(12182),
        shard: ShardId(1),
        leader: Some(NodeId(3)),
        address: Some("somewhere:1".into()),
    };
    assert_eq!(client.locate(kv::Request::KEYSPACE, "foo".into()).await, Ok(expected));
    assert!(matches!(client.locate(kv::Request::KEYSPACE, "".into()).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn health_says_serving_until_the_node_stops() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let mut raw = HealthClient::new(channel(&node).await);
    for serving in [true, false, true] {
        node.serving.send_replace(serving);
        assert_eq!(client.health_check().await.is_ok(), serving);
        for service in ["", "capstan.v1.KeyValue", "capstan.v1.Cluster"] {
            let answer = raw.check(HealthCheckRequest { service: service.into() }).await.unwrap();
            assert_eq!(answer.into_inner().status() == ServingStatus::Serving, serving, "{service}");
        }
    }
}

#[tokio::test]
async fn health_of_a_fresh_node_is_serving() {
    let node = Node::start(1).await;
    let mut raw = HealthClient::new(channel(&node).await);
    let asked = HealthCheckRequest { service: "capstan.v1.KeyValue".into() };
    assert_eq!(raw.check(asked).await.unwrap().into_inner().status(), ServingStatus::Serving);
}

macro_rules! list_services {
    ($version:ident, $node:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let asked = ServerReflectionRequest { host: String::new(), message_request };
        let mut client = ServerReflectionClient::new(channel($node).await);
        let mut answers = client.server_reflection_info(once(asked)).await.unwrap().into_inner();
        match answers.message().await.unwrap().unwrap().message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
            }
            other => panic!("the services were asked for, and {other:?} answered"),
        }
    }};
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let node = Node::start(1).await;
    for services in [list_services!(v1, &node), list_services!(v1alpha, &node)] {
        for service in ["capstan.v1.KeyValue", "capstan.v1.Cluster", "grpc.health.v1.Health"] {
            assert!(services.iter().any(|name| name == service), "{service} is not in {services:?}");
        }
    }
}
