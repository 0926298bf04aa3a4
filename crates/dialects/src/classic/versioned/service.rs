//! The calls of a server's clients.
//!
//! A call of many messages is worked off in a task of its own, one message after the other: the next one is taken when the answer of the one
//! before has been taken. So a client that takes nothing holds one answer here.

use std::sync::Arc;

use kv::{Error, Share};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::proto::key_value_store_server::KeyValueStore;
use super::proto::{KeyRange, KeyRequest, KeyValueRequest, KeyValueVersionReply, PutReply};
use super::{LIMIT, keys};
use crate::classic::caller::Caller;
use crate::grpc::respond;
use crate::native::to_status;

/// Answers that wait to leave.
const WAITING_MAX: usize = 1;

/// The service.
#[derive(Clone)]
pub(super) struct Service;

type Replies<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl KeyValueStore for Service {
    type GetRangeStream = Replies<KeyValueVersionReply>;
    type GetAllStream = Replies<KeyValueVersionReply>;
    type PutAllStream = Replies<PutReply>;
    type DelRangeStream = Replies<KeyValueVersionReply>;
    type DelAllStream = Replies<KeyValueVersionReply>;

    async fn get(&self, request: Request<KeyRequest>) -> Result<Response<KeyValueVersionReply>, Status> {
        one(request, |caller, asked| async move { keys::get(&caller, asked).await }).await
    }

    async fn put(&self, request: Request<KeyValueRequest>) -> Result<Response<PutReply>, Status> {
        one(request, |caller, asked| async move { keys::put(&caller, asked).await }).await
    }

    async fn del(&self, request: Request<KeyRequest>) -> Result<Response<KeyValueVersionReply>, Status> {
        one(request, |caller, asked| async move { keys::del(&caller, asked).await }).await
    }

    async fn trim(&self, request: Request<KeyRequest>) -> Result<Response<KeyValueVersionReply>, Status> {
        one(request, |caller, asked| async move { keys::trim(&caller, asked).await }).await
    }

    async fn get_range(&self, request: Request<KeyRange>) -> Result<Response<Self::GetRangeStream>, Status> {
        range(request, |caller, asked, send| async move { keys::get_range(&caller, asked, &send).await })
            .await
    }

    async fn del_range(&self, request: Request<KeyRange>) -> Result<Response<Self::DelRangeStream>, Status> {
        range(request, |caller, asked, send| async move { keys::del_range(&caller, asked, &send).await })
            .await
    }

    async fn get_all(
        &self,
        request: Request<Streaming<KeyRequest>>,
    ) -> Result<Response<Self::GetAllStream>, Status> {
        each(request, |caller, asked| async move { keys::get(&caller, asked).await }).await
    }

    async fn put_all(
        &self,
        request: Request<Streaming<KeyValueRequest>>,
    ) -> Result<Response<Self::PutAllStream>, Status> {
        each(request, |caller, asked| async move { keys::put(&caller, asked).await }).await
    }

    async fn del_all(
        &self,
        request: Request<Streaming<KeyRequest>>,
    ) -> Result<Response<Self::DelAllStream>, Status> {
        each(request, |caller, asked| async move { keys::del(&caller, asked).await }).await
    }
}

/// Answers a call of one message.
async fn one<M, R, F>(request: Request<M>, what: impl FnOnce(Caller, M) -> F) -> Result<Response<R>, Status>
where
    F: Future<Output = Result<(R, Share), Error>>,
{
    let (caller, message) = Caller::once_ready(request, LIMIT).await.map_err(|error| to_status(&error))?;
    let (reply, share) = what(caller, message).await.map_err(|error| to_status(&error))?;
    Ok(respond(reply, share))
}

/// Answers each message of a call of many, one after the other.
async fn each<M, R, F>(
    request: Request<Streaming<M>>,
    what: impl Fn(Arc<Caller>, M) -> F + Send + 'static,
) -> Result<Response<Replies<R>>, Status>
where
    M: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<(R, Share), Error>> + Send,
{
    let (caller, mut messages) = begun(request).await?;
    let (send, replies) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let (reply, _share) = match messages.message().await {
                Ok(Some(message)) => match what(caller.clone(), message).await {
                    Ok((reply, share)) => (Ok(reply), Some(share)),
                    Err(error) => (Err(to_status(&error)), None),
                },
                Ok(None) => return,
                Err(status) => (Err(status), None),
            };
            let is_last = reply.is_err();
            // Where nobody takes it nobody waits for more.
            if send.send(reply).await.is_err() || is_last {
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(replies)))
}

/// Answers a call about the keys between two.
async fn range<F>(
    request: Request<KeyRange>,
    what: impl FnOnce(Arc<Caller>, KeyRange, keys::Replies) -> F,
) -> Result<Response<Replies<KeyValueVersionReply>>, Status>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (caller, asked) = begun(request).await?;
    let (send, replies) = mpsc::channel(WAITING_MAX);
    let work = what(caller, asked, send.clone());
    tokio::spawn(async move {
        if let Err(error) = work.await {
            // The caller may have gone away.
            let _ = send.send(Err(to_status(&error))).await;
        }
    });
    Ok(Response::new(ReceiverStream::new(replies)))
}

/// Who calls, for as long as it takes.
async fn begun<T>(request: Request<T>) -> Result<(Arc<Caller>, T), Status> {
    let (caller, message) = Caller::once_ready(request, LIMIT).await.map_err(|error| to_status(&error))?;
    Ok((Arc::new(caller.unlimited()), message))
}
