//! The calls of a node of the store.

use kv::fault::Fault;
use kv::{Answer, Error, Op, Outcome};
use tonic::{Request, Response, Status};

use super::proto::key_value_store_server::KeyValueStore;
use super::proto::{
    GetRequest, GetResponse, PutRequest, PutResponse, RestoreRequest, RestoreResponse, SlowDownRequest,
    SlowDownResponse,
};
use super::{LIMIT, row};
use crate::classic::caller::Caller;
use crate::grpc::{Asked, respond};
use crate::native::to_status;

/// The service.
pub(super) struct Service;

#[tonic::async_trait]
impl KeyValueStore for Service {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        match put(request).await {
            Ok(()) => Ok(Response::new(PutResponse { success: true })),
            Err(error) if error.outcome() == Outcome::Failed => {
                tracing::debug!(%error, "a put is refused");
                Ok(Response::new(PutResponse { success: false }))
            }
            Err(error) => Err(to_status(&error)),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        get(request).await.map_err(|error| to_status(&error))
    }

    async fn slow_down(
        &self,
        request: Request<SlowDownRequest>,
    ) -> Result<Response<SlowDownResponse>, Status> {
        let Some(fault) = slowness(request.get_ref().seconds) else {
            return Ok(Response::new(SlowDownResponse { success: false }));
        };
        put_fault(request, fault)?;
        Ok(Response::new(SlowDownResponse { success: true }))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        put_fault(request, Fault::Restore)?;
        Ok(Response::new(RestoreResponse { success: true }))
    }
}

async fn put(request: Request<PutRequest>) -> Result<(), Error> {
    let (caller, PutRequest { key, value }) = Caller::once_ready(request, LIMIT).await?;
    let put = Op::Put { key: row::key(&key), value: value.into(), deadline: None, previous: false };
    caller.ask_patiently(put).await.map(|_| ())
}

async fn get(request: Request<GetRequest>) -> Result<Response<GetResponse>, Error> {
    let (caller, GetRequest { key }) = Caller::once_ready(request, LIMIT).await?;
    let (answer, share) = caller.read_patiently(Op::Get { key: row::key(&key), at: None }).await?;
    let Answer::Row(found) = answer else { unreachable!("a get is answered with a row") };
    let value = found.as_ref().map(row::text).transpose()?;
    let found = value.is_some();
    Ok(respond(GetResponse { value: value.unwrap_or_default(), found }, share))
}

/// The fault that so many seconds mean; `None` = they cannot be.
pub(super) fn slowness(seconds: i32) -> Option<Fault> {
    match u64::try_from(seconds).ok()?.checked_mul(1_000_000)? {
        0 => Some(Fault::Restore),
        micros => Some(Fault::Slow { micros }).filter(|fault| fault.validate().is_ok()),
    }
}

/// Puts a fault on this node, or takes it off.
fn put_fault<T>(mut request: Request<T>, fault: Fault) -> Result<(), Status> {
    let store = Asked::take(request.extensions_mut()).store;
    store.admin.fault(Some(fault)).map(|_| ()).map_err(|error| to_status(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_that_cannot_be_mean_no_fault() {
        assert_eq!(slowness(0), Some(Fault::Restore));
        assert_eq!(slowness(1), Some(Fault::Slow { micros: 1_000_000 }));
        assert_eq!(slowness(3600), Some(Fault::Slow { micros: 3_600_000_000 }));
        for seconds in [-1, i32::MIN, 3601, i32::MAX] {
            assert_eq!(slowness(seconds), None, "{seconds}");
        }
    }
}
