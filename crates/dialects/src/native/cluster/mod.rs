//! `capstan.v1.Cluster`: what a node sees of the cluster ([`kv::cluster`]), and what its directory is asked ([`kv::admin`]).

pub(super) mod admin;
pub(super) mod faults;
pub(super) mod keyspaces;
pub(super) mod seen;

use std::sync::Arc;
use std::time::Duration;

use kv::admin::{Answer, Ask, Joining};
use kv::cluster::{NodeDuty, PEER_VERSION};
use kv::{Error, Op, ShardId, TIMEOUT_MILLIS_MAX};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::{cluster_id, proto, request, status};
use crate::Store;
use crate::grpc::{Asked, time_left};
use seen::Told;

/// The service.
pub(super) struct Service;

#[tonic::async_trait]
impl proto::cluster_server::Cluster for Service {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let Call { store, .. } = Call::of(request)?;
        let id = store.cluster.id().map_err(|error| status::to_status(&error))?;
        let told = Told {
            cluster: id,
            status: store.cluster.status(),
            now_micros: (store.clock)(),
            terms: Some(store.cluster.terms()),
            peer_version: PEER_VERSION,
        };
        Ok(Response::new(seen::encode_status(told)))
    }

    async fn locate(
        &self,
        request: Request<proto::LocateRequest>,
    ) -> Result<Response<proto::LocateResponse>, Status> {
        let Call { store, message, .. } = Call::of(request)?;
        check_key(&message.key).map_err(|error| status::to_status(&error))?;
        let keyspace = request::keyspace(message.keyspace).map_err(|error| status::to_status(&error))?;
        let (send, receive) = oneshot::channel();
        // The caller may have gone away.
        store.cluster.locate(&keyspace, &message.key, Box::new(move |located| drop(send.send(located))));
        let stopped = || Error::Unavailable("the node stopped before it answered: ask another node".into());
        let located = receive.await.unwrap_or_else(|_| Err(stopped()));
        Ok(Response::new(seen::encode_location(located.map_err(|error| status::to_status(&error))?)))
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinResponse>, Status> {
        let answer = ask(request, |message| {
            let proto::JoinRequest { name, incarnation, peer, address, zone } = message;
            Ask::Join(Joining { name, incarnation, peer, address, zone })
        });
        admin::joined(answer.await?).map(Response::new)
    }

    async fn serve(
        &self,
        request: Request<proto::NodeRequest>,
    ) -> Result<Response<proto::NodeResponse>, Status> {
        node(request, NodeDuty::Serve).await
    }

    async fn drain(
        &self,
        request: Request<proto::NodeRequest>,
    ) -> Result<Response<proto::NodeResponse>, Status> {
        node(request, NodeDuty::Drain).await
    }

    async fn leave(
        &self,
        request: Request<proto::NodeRequest>,
    ) -> Result<Response<proto::NodeResponse>, Status> {
        node(request, NodeDuty::Leave).await
    }

    async fn replace(
        &self,
        request: Request<proto::ReplaceRequest>,
    ) -> Result<Response<proto::NodeResponse>, Status> {
        let answer = ask(request, |message| {
            let proto::ReplaceRequest { name, dry_run, lose_data: lose } = message;
            Ask::Replace { name, lose, dry_run }
        });
        admin::changed(answer.await?).map(Response::new)
    }

    async fn abort(
        &self,
        request: Request<proto::AbortRequest>,
    ) -> Result<Response<proto::AbortResponse>, Status> {
        let answer = ask(request, |message| Ask::Abort { shard: ShardId(message.shard) });
        admin::aborted(answer.await?).map(Response::new)
    }

    async fn moves(
        &self,
        request: Request<proto::MovesRequest>,
    ) -> Result<Response<proto::MovesResponse>, Status> {
        admin::moves(ask(request, |_| Ask::Moves).await?).map(Response::new)
    }

    async fn dump(
        &self,
        request: Request<proto::DumpRequest>,
    ) -> Result<Response<proto::DumpResponse>, Status> {
        admin::rows(ask(request, |_| Ask::Dump).await?).map(Response::new)
    }
}

/// Whether a key can be one.
pub(super) fn check_key(key: &kv::Key) -> Result<(), Error> {
    Op::Get { key: key.clone(), at: None }.validate()
}

/// A call of the service.
struct Call<T> {
    store: Arc<Store>,
    message: T,
    /// How long its answer is waited for, where that is said.
    time: Option<Duration>,
}

impl<T> Call<T> {
    /// Of a request for the cluster that the node belongs to.
    fn of(request: Request<T>) -> Result<Call<T>, Status> {
        let (metadata, mut extensions, message) = request.into_parts();
        let store = Asked::take(&mut extensions).store;
        cluster_id::check(&*store.cluster, &metadata)?;
        Ok(Call { store, message, time: time_left(&metadata) })
    }
}

/// Says what a node is to do.
async fn node(
    request: Request<proto::NodeRequest>,
    duty: NodeDuty,
) -> Result<Response<proto::NodeResponse>, Status> {
    let answer = ask(request, |message| {
        let proto::NodeRequest { name, dry_run, fewer_replicas: fewer } = message;
        Ask::Node { name, duty, fewer, dry_run }
    });
    admin::changed(answer.await?).map(Response::new)
}

/// Asks the directory.
async fn ask<T>(request: Request<T>, ask: impl FnOnce(T) -> Ask) -> Result<Answer, Status> {
    ask_checked(request, |message| Ok(ask(message))).await
}

/// Asks the directory what a message says, if it makes sense.
async fn ask_checked<T>(
    request: Request<T>,
    ask: impl FnOnce(T) -> Result<Ask, Error>,
) -> Result<Answer, Status> {
    let Call { store, message, time } = Call::of(request)?;
    let ask = ask(message).map_err(|error| status::to_status(&error))?;
    ask.validate().map_err(|error| status::to_status(&error))?;
    let time = time.unwrap_or(kv::Request::TIMEOUT).min(Duration::from_millis(TIMEOUT_MILLIS_MAX));
    let (send, receive) = oneshot::channel();
    // The caller may have gone away.
    store.admin.administer(ask, time, Box::new(move |result| drop(send.send(result))));
    let answer = receive.await.unwrap_or_else(|_| Err(unanswered()));
    answer.map_err(|error| status::to_status(&error))
}

/// What an ask comes to that the node dropped: it is stopping.
fn unanswered() -> Error {
    Error::InDoubt(
        "the node stopped before it answered: the change may have been made; ask another node again".into(),
    )
}
