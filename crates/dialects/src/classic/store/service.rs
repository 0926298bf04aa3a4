//! The calls of a node of the store.

use std::time::Duration;

use kv::fault::Fault;
use kv::{Answer, Error, Op, Outcome, Share};
use tokio::time::{Instant, sleep};
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

/// How long a call is asked again that found a node away: one that is started again is back by then.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two times.
const PAUSE: Duration = Duration::from_millis(25);
/// How often it is looked whether a node that has just started knows its cluster.
const LOOK: Duration = Duration::from_millis(10);

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
    let (caller, PutRequest { key, value }) = caller(request).await?;
    let put = Op::Put { key: row::key(&key), value: value.into(), deadline: None, previous: false };
    ask(&caller, put).await.map(|_| ())
}

async fn get(request: Request<GetRequest>) -> Result<Response<GetResponse>, Error> {
    let (caller, GetRequest { key }) = caller(request).await?;
    let (answer, share) = ask(&caller, Op::Get { key: row::key(&key), at: None }).await?;
    let Answer::Row(found) = answer else { unreachable!("a get is answered with a row") };
    let value = found.as_ref().map(row::text).transpose()?;
    let found = value.is_some();
    Ok(respond(GetResponse { value: value.unwrap_or_default(), found }, share))
}

/// Who calls. A node that has just started is waited for until it knows its cluster: its clients come as soon as it listens.
async fn caller<T>(mut request: Request<T>) -> Result<(Caller, T), Error> {
    let until = Instant::now() + LIMIT;
    let asked = Asked::take(request.extensions_mut());
    while let Err(error) = asked.store.cluster.id() {
        if Instant::now() + LOOK >= until || !matches!(error, Error::Unavailable(_)) {
            return Err(error);
        }
        sleep(LOOK).await;
    }
    request.extensions_mut().insert(asked);
    let (caller, message) = Caller::of(request)?;
    Ok((caller.by(until), message))
}

/// Asks one thing; again for a while where it failed for want of a node: those that were just started find each other. What failed
/// never happens, so it may be asked again.
async fn ask(caller: &Caller, op: Op) -> Result<(Answer, Share), Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        let result = caller.ask(op.clone()).await;
        let Err(error) = &result else { return result };
        let may_pass = error.is_transient() && error.outcome() == Outcome::Failed;
        if !may_pass || Instant::now() + PAUSE >= until {
            return result;
        }
        sleep(PAUSE).await;
    }
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
