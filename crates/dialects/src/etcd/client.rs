//! The client: the connections to the member that leads, used in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kv::{Error, Key, Value};
use prost::Message;
use tokio::time::timeout;
use tonic::Code;

use super::proto::{PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse};
use crate::grpc::{Address, Channel, Failure};

/// How long a member may take to be connected to, or to say who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of an etcd cluster.
///
/// Errors of all calls: [`Error::Unavailable`] = it was not done, [`Error::InDoubt`] = it may have been, [`Error::Invalid`] = it
/// was refused as it is.
#[derive(Debug)]
pub struct Client {
    address: String,
    connections: Vec<Channel>,
    turn: AtomicUsize,
}

impl Client {
    /// Finds the leader among the members at these addresses (HOST:PORT each) and opens so many connections to it, at least
    /// one. [`Error::Unavailable`] when none of them says that it leads.
    pub async fn connect(addresses: &[String], connections: usize) -> Result<Client, Error> {
        let mut last = String::from("no address is given");
        for address in addresses {
            match leads(address).await {
                Ok(true) => return Client::open(address, connections.max(1)).await,
                Ok(false) => last = format!("{address} does not lead"),
                Err(error @ Error::Invalid(_)) => return Err(error),
                Err(error) => last = error.to_string(),
            }
        }
        let all = addresses.join(", ");
        Err(Error::Unavailable(format!(
            "found no leader of etcd at {all}: give the addresses of all members ({last})"
        )))
    }

    async fn open(address: &str, count: usize) -> Result<Client, Error> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let channel = Channel::new(Address::new(address)?, STATUS_TIMEOUT);
            channel.connection().await.map_err(|why| unreachable(address, &why))?;
            connections.push(channel);
        }
        Ok(Client { address: address.into(), connections, turn: AtomicUsize::new(0) })
    }

    /// Stores a value.
    pub async fn put(&self, key: Key, value: Value, patience: Duration) -> Result<(), Error> {
        let put = PutRequest { key, value };
        self.ask("/etcdserverpb.KV/Put", &put, patience, Error::InDoubt).await.map(|PutResponse {}| ())
    }

    /// Reads a value, linearizably; `None` = no such key.
    pub async fn get(&self, key: Key, patience: Duration) -> Result<Option<Value>, Error> {
        let range = RangeRequest { key };
        let found: RangeResponse =
            self.ask("/etcdserverpb.KV/Range", &range, patience, Error::Unavailable).await?;
        Ok(found.kvs.into_iter().next_back().map(|found| found.value))
    }

    /// Asks over the next connection; `unknown` is said of what may have been done.
    async fn ask<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
        patience: Duration,
        unknown: fn(String) -> Error,
    ) -> Result<A, Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let channel = &self.connections[turn % self.connections.len()];
        ask(channel, &self.address, path, message, patience, unknown).await
    }
}

async fn ask<A: Message + Default>(
    channel: &Channel,
    address: &str,
    path: &'static str,
    message: &impl Message,
    patience: Duration,
    unknown: fn(String) -> Error,
) -> Result<A, Error> {
    let connection = channel.connection().await.map_err(|why| unreachable(address, &why))?;
    match timeout(patience, connection.unary(path, message, None)).await {
        Ok(answer) => answer.map_err(|failure| error(address, failure, unknown)),
        Err(_) => Err(unknown(format!("no answer from {address} within {patience:?}"))),
    }
}

/// Whether the member there leads.
async fn leads(address: &str) -> Result<bool, Error> {
    let channel = Channel::new(Address::new(address)?, STATUS_TIMEOUT);
    let path = "/etcdserverpb.Maintenance/Status";
    let asked = ask(&channel, address, path, &StatusRequest {}, STATUS_TIMEOUT, Error::Unavailable);
    let answer: StatusResponse = asked.await?;
    Ok(answer.leader != 0 && answer.header.is_some_and(|header| header.member_id == answer.leader))
}

fn unreachable(address: &str, why: &str) -> Error {
    Error::Unavailable(format!("cannot connect to {address}: {why}; is etcd there?"))
}

/// What a failure comes to; `unknown` is said of what may have been done.
fn error(address: &str, failure: Failure, unknown: fn(String) -> Error) -> Error {
    let why = |why| format!("the connection to {address} failed: {why}");
    let status = match failure {
        Failure::Unsent(cause) => return Error::Unavailable(why(cause)),
        Failure::Lost(cause) => return unknown(why(cause)),
        Failure::Status(status) => status,
    };
    let said = format!("{address} answered with status {:?}: {}", status.code(), status.message());
    match status.code() {
        Code::InvalidArgument => Error::Invalid(said),
        Code::Unimplemented => Error::Invalid(format!("{said}; is it etcd, of version 3?")),
        // Too many requests, or no space: it was not begun.
        Code::ResourceExhausted => Error::Unavailable(said),
        _ => unknown(said),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use prost::Message;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;
    use tonic::{Request, Response, Status};

    use super::super::proto::kv_server::{Kv, KvServer};
    use super::super::proto::maintenance_server::{Maintenance, MaintenanceServer};
    use super::super::proto::{KeyValue, PutResponse, RangeResponse, ResponseHeader, StatusResponse};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A member that keeps keys, and from which clients they came.
    #[derive(Clone)]
    struct Member {
        id: u64,
        leader: u64,
        keys: Arc<Mutex<BTreeMap<Key, Value>>>,
        ports: Arc<Mutex<Vec<u16>>>,
    }

    #[tonic::async_trait]
    impl Kv for Member {
        async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
            let key = request.into_inner().key;
            let value = self.keys.lock().unwrap().get(&key).cloned();
            let kvs = value.map(|value| KeyValue { key, value }).into_iter().collect();
            Ok(Response::new(RangeResponse { kvs }))
        }

        async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
            self.ports.lock().unwrap().push(request.remote_addr().unwrap().port());
            let PutRequest { key, value } = request.into_inner();
            match &key[..] {
                b"full" => {
                    return Err(Status::resource_exhausted("etcdserver: mvcc: database space exceeded"));
                }
                b"lost" => return Err(Status::unavailable("etcdserver: leader changed")),
                b"slow" => std::future::pending().await,
                _ => drop(self.keys.lock().unwrap().insert(key, value)),
            }
            Ok(Response::new(PutResponse {}))
        }
    }

    #[tonic::async_trait]
    impl Maintenance for Member {
        async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
            let header = Some(ResponseHeader { member_id: self.id });
            Ok(Response::new(StatusResponse { header, leader: self.leader }))
        }
    }

    async fn serve(id: u64, leader: u64) -> (String, Member) {
        let member = Member { id, leader, keys: Arc::default(), ports: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder()
            .add_service(KvServer::new(member.clone()))
            .add_service(MaintenanceServer::new(member.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (address, member)
    }

    #[tokio::test]
    async fn leader_is_asked_over_all_connections() {
        let ((one, follower), (two, leader)) = (serve(1, 2).await, serve(2, 2).await);
        let client = Client::connect(&[one, two], 3).await.unwrap();
        for number in 0..6 {
            client.put(format!("k{number}").into(), "v".into(), PATIENCE).await.unwrap();
        }
        assert_eq!(client.get("k5".into(), PATIENCE).await, Ok(Some("v".into())));
        assert_eq!(client.get("k6".into(), PATIENCE).await, Ok(None));
        assert!(follower.ports.lock().unwrap().is_empty());
        let mut ports = leader.ports.lock().unwrap().clone();
        assert_eq!(ports.len(), 6);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 3, "puts go over the connections in turn");
    }

    #[tokio::test]
    async fn cluster_without_leader_is_unavailable() {
        let (address, _) = serve(1, 0).await;
        let error = Client::connect(std::slice::from_ref(&address), 1).await.unwrap_err();
        assert!(matches!(&error, Error::Unavailable(why) if why.contains(&address)), "{error}");
        assert!(matches!(Client::connect(&["nowhere".into()], 1).await, Err(Error::Invalid(_))));
    }

    #[tokio::test]
    async fn put_without_answer_is_in_doubt() {
        let (address, _) = serve(1, 1).await;
        let client = Client::connect(&[address], 1).await.unwrap();
        let put = |key: &'static str, patience| client.put(key.into(), "v".into(), patience);
        assert!(matches!(put("full", PATIENCE).await, Err(Error::Unavailable(_))));
        assert!(matches!(put("lost", PATIENCE).await, Err(Error::InDoubt(_))));
        assert!(matches!(put("slow", Duration::from_millis(20)).await, Err(Error::InDoubt(_))));
    }

    #[test]
    fn bytes_are_those_of_etcd() {
        let put = PutRequest { key: "k".into(), value: "v".into() };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v");
        assert_eq!(RangeRequest { key: "k".into() }.encode_to_vec(), b"\x0a\x01k");
        // As etcd 3.5 answers: a header of cluster, member, revision and term; then key, revisions, version, value; the count.
        let header = b"\x0a\x08\x08\x01\x10\x02\x18\x04\x20\x03";
        let row = b"\x12\x0e\x0a\x01k\x10\x02\x18\x04\x20\x03\x2a\x03val";
        let found = RangeResponse::decode(&[&header[..], row, b"\x20\x01"].concat()[..]).unwrap();
        assert_eq!(found.kvs, [KeyValue { key: "k".into(), value: "val".into() }]);
    }
}
