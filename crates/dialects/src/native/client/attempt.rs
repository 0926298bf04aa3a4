//! One attempt at one node, and what it came to.

use kv::cluster::Location;
use kv::{Error, Key, Outcome, Reply};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Link;
use crate::grpc::{is_connect_error, root};
use crate::native::cluster::Told;
use crate::native::proto::cluster_client::ClusterClient;
use crate::native::proto::key_value_client::KeyValueClient;
use crate::native::{
    AnyRequest, AnyResponse, CLUSTER_METADATA, MESSAGE_BYTES_MAX, cluster, cluster_id, proto, reply, status,
};

/// Why an attempt gave no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What happened.
    pub(super) error: Error,
    /// The request may have been run.
    pub(super) may_have_run: bool,
    /// Another attempt may succeed.
    pub(super) is_transient: bool,
    /// A node said so.
    pub(super) reached: bool,
}

impl Failure {
    /// What a node said.
    pub(super) fn told(error: Error) -> Failure {
        let may_have_run = error.outcome() == Outcome::InDoubt;
        Failure { is_transient: error.is_transient(), may_have_run, error, reached: true }
    }

    /// The request has not left.
    pub(super) fn unsent(why: String) -> Failure {
        Failure { error: Error::Unavailable(why), may_have_run: false, is_transient: true, reached: false }
    }

    /// The request has left, and nothing came back.
    pub(super) fn lost(why: String) -> Failure {
        Failure { error: Error::Unavailable(why), may_have_run: true, is_transient: true, reached: false }
    }
}

impl Link {
    /// Asks one thing.
    pub(super) async fn ask(&self, message: AnyRequest) -> Result<Reply, Failure> {
        let response = self.send(message).await.map_err(|status| self.failure(&status))?;
        reply::decode(response).map_err(|error| self.nonsense(error))
    }

    /// Asks many things.
    pub(super) async fn ask_batch(
        &self,
        operations: Vec<proto::Operation>,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        let count = operations.len();
        let batch = proto::BatchRequest { header: None, operations };
        let answer = self.keys().batch(self.request(batch)).await.map_err(|status| self.failure(&status))?;
        let results = answer.into_inner().results;
        if results.len() != count {
            return Err(self.nonsense(reply::Malformed("it has another number of results than were asked")));
        }
        Ok(results.into_iter().map(|result| self.result(result)).collect())
    }

    /// Which cluster is there, its nodes, its shards, and the time.
    pub(super) async fn status(&self) -> Result<Told, Failure> {
        let mut client =
            ClusterClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let asked = self.request(proto::StatusRequest {});
        let answer = client.status(asked).await.map_err(|status| self.failure(&status))?;
        cluster::decode_status(answer.into_inner()).map_err(|error| self.nonsense(error))
    }

    /// Where a key is.
    pub(super) async fn locate(&self, key: Key) -> Result<Location, Failure> {
        let mut client = ClusterClient::new(self.channel.clone());
        let asked = self.request(proto::LocateRequest { key });
        let answer = client.locate(asked).await.map_err(|status| self.failure(&status))?;
        cluster::decode_location(answer.into_inner()).map_err(|error| self.nonsense(error))
    }

    /// Whether the node wants requests.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let mut client = HealthClient::new(self.channel.clone());
        let asked = HealthCheckRequest { service: String::new() };
        let answer = client.check(asked).await.map_err(|status| self.failure(&status))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            _ => {
                let why = format!("{} is stopping: ask another node", self.node.address);
                Err(Failure::told(Error::Unavailable(why)))
            }
        }
    }

    fn result(&self, result: proto::OperationResult) -> Result<Reply, Failure> {
        match result.result {
            Some(AnyResponse::Error(error)) => Err(Failure::told(status::from_message(error))),
            Some(response) => reply::decode(response).map_err(|error| self.nonsense(error)),
            None => Err(self.nonsense(reply::Malformed("a result of the batch is empty"))),
        }
    }

    /// A message as a request for this client's cluster.
    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(cluster) = &self.cluster {
            request.metadata_mut().insert(CLUSTER_METADATA, cluster.clone());
        }
        request
    }

    fn keys(&self) -> KeyValueClient<tonic::transport::Channel> {
        KeyValueClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn failure(&self, status: &tonic::Status) -> Failure {
        if let Some(cluster) = cluster_id::refused_by(status) {
            self.broken();
            return self.node.stranger(cluster);
        }
        if let Some(error) = status::from_status(status) {
            return Failure::told(error);
        }
        let address = &self.node.address;
        if let Some(source) = std::error::Error::source(status) {
            self.broken();
            let why = format!("the connection to {address} failed: {}", root(source));
            return if is_connect_error(source) { Failure::unsent(why) } else { Failure::lost(why) };
        }
        match status.code() {
            Code::Unimplemented => Failure::told(Error::Invalid(format!(
                "{address} does not speak this part of capstan.v1: is it a node of Capstan, of this version? ({})",
                status.message()
            ))),
            code => {
                if code == Code::Unknown {
                    self.broken(); // The channel itself may have ended.
                }
                let why = format!("{address} answered with status {code:?}: {}", status.message());
                Failure { is_transient: code != Code::OutOfRange, ..Failure::lost(why) }
            }
        }
    }

    fn nonsense(&self, error: reply::Malformed) -> Failure {
        let why = format!("{}: {error}", self.node.address);
        Failure { is_transient: false, ..Failure::lost(why) }
    }
}

macro_rules! send {
    ($($method:ident $rpc:ident),+ $(,)?) => {
        impl Link {
            async fn send(&self, message: AnyRequest) -> Result<AnyResponse, tonic::Status> {
                let mut client = self.keys();
                Ok(match message {
                    $(AnyRequest::$rpc(message) => AnyResponse::$rpc(client.$method(self.request(message)).await?.into_inner()),)+
                })
            }
        }
    };
}

send! {
    get Get,
    put Put,
    insert Insert,
    compare_and_put CompareAndPut,
    append Append,
    pop Pop,
    increment Increment,
    delete Delete,
    range Range,
    delete_range DeleteRange,
    get_all GetAll,
    put_all PutAll,
    transaction Transaction,
    history History,
    trim Trim,
    expire Expire,
    trim_range TrimRange,
}
