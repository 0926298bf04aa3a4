//! One attempt at one node, and what it came to.

use std::time::Duration;

use kv::cluster::Location;
use kv::{Error, Key, Outcome, Reply};
use prost::Message;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Link;
use crate::grpc;
use crate::native::cluster::seen::{self, Told};
use crate::native::request::{self, Rpc};
use crate::native::{AnyRequest, AnyResponse, batch, cluster_id, proto, reply, status};

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
    pub(super) async fn ask(&self, message: &AnyRequest) -> Result<Reply, Failure> {
        let rpc = Rpc::of(message);
        let message = request::frame(message).map_err(|failure| self.failure(failure))?;
        let answer = self.connection.exchange(rpc.path(), message, None).await;
        let answer = answer.map_err(|failure| self.failure(failure))?;
        let answer = request::read_response(rpc, answer)
            .map_err(|_| self.nonsense(reply::Malformed("it is no message of this rpc")))?;
        reply::decode(answer).map_err(|error| self.nonsense(error))
    }

    /// Asks many things.
    pub(super) async fn ask_batch(
        &self,
        operations: Vec<proto::Operation>,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        let count = operations.len();
        let batch = proto::BatchRequest { header: None, operations };
        let answer: proto::BatchResponse = self.unary(batch::PATH, &batch).await?;
        let results = answer.results;
        if results.len() != count {
            return Err(self.nonsense(reply::Malformed("it has another number of results than were asked")));
        }
        Ok(results.into_iter().map(|result| self.result(result)).collect())
    }

    /// Which cluster is there, its nodes, its shards, and the time.
    pub(super) async fn status(&self) -> Result<Told, Failure> {
        let answer = self.unary("/capstan.v1.Cluster/Status", &proto::StatusRequest {}).await?;
        seen::decode_status(answer).map_err(|error| self.nonsense(error))
    }

    /// Where a key is.
    pub(super) async fn locate(&self, key: Key) -> Result<Location, Failure> {
        let answer = self.unary("/capstan.v1.Cluster/Locate", &proto::LocateRequest { key }).await?;
        seen::decode_location(answer).map_err(|error| self.nonsense(error))
    }

    /// Whether the node wants requests.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let asked = HealthCheckRequest { service: String::new() };
        let answer: HealthCheckResponse = self.unary("/grpc.health.v1.Health/Check", &asked).await?;
        match answer.status() {
            ServingStatus::Serving => Ok(()),
            _ => {
                let why = format!("{} is stopping: ask another node", self.node.address);
                Err(Failure::told(Error::Unavailable(why)))
            }
        }
    }

    /// Asks one thing that the node is told to answer within this time.
    pub(super) async fn timed<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
        time: Duration,
    ) -> Result<A, Failure> {
        self.connection.unary(path, message, Some(time)).await.map_err(|failure| self.failure(failure))
    }

    /// Asks one thing that is answered by many messages.
    pub(super) async fn messages(
        &self,
        path: &'static str,
        message: &impl Message,
    ) -> Result<grpc::Messages, Failure> {
        self.connection.messages(path, message).await.map_err(|failure| self.failure(failure))
    }

    async fn unary<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
    ) -> Result<A, Failure> {
        self.connection.unary(path, message, None).await.map_err(|failure| self.failure(failure))
    }

    fn result(&self, result: proto::OperationResult) -> Result<Reply, Failure> {
        match result.result {
            Some(AnyResponse::Error(error)) => Err(Failure::told(status::from_message(error))),
            Some(response) => reply::decode(response).map_err(|error| self.nonsense(error)),
            None => Err(self.nonsense(reply::Malformed("a result of the batch is empty"))),
        }
    }

    pub(super) fn failure(&self, failure: grpc::Failure) -> Failure {
        let why = |why| format!("the connection to {} failed: {why}", self.node.address);
        match failure {
            grpc::Failure::Unsent(cause) => {
                self.broken();
                Failure::unsent(why(cause))
            }
            grpc::Failure::Lost(cause) => {
                self.broken();
                Failure::lost(why(cause))
            }
            grpc::Failure::Status(status) => self.said(&status),
        }
    }

    fn said(&self, status: &tonic::Status) -> Failure {
        if let Some(cluster) = cluster_id::refused_by(status) {
            self.broken();
            return self.node.stranger(cluster);
        }
        if let Some(error) = status::from_status(status) {
            return Failure::told(error);
        }
        let address = &self.node.address;
        match status.code() {
            Code::Unimplemented => Failure::told(Error::Invalid(format!(
                "{address} does not speak this part of capstan.v1: is it a node of Capstan, of this version? ({})",
                status.message()
            ))),
            code => {
                let why = format!("{address} answered with status {code:?}: {}", status.message());
                Failure { is_transient: code != Code::OutOfRange, ..Failure::lost(why) }
            }
        }
    }

    pub(super) fn nonsense(&self, error: reply::Malformed) -> Failure {
        let why = format!("{}: {error}", self.node.address);
        Failure { is_transient: false, ..Failure::lost(why) }
    }
}
