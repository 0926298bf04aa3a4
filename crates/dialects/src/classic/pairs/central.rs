//! The central server: `central.CentralStorageService`.

use std::fmt;
use std::sync::Arc;

use kv::{Answer, Error, Op};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::check::Check;
use super::page::Pages;
use super::proto::central::central_storage_service_server::{
    self, CentralStorageService, CentralStorageServiceServer as Served,
};
use super::proto::central::{
    MapReply, MapRequest, RegisterReply, RegisterRequest, TerminateReply, TerminateRequest,
};
use super::{address, proto, register, row};
use crate::classic::caller::Caller;
use crate::grpc::{Grpc, respond};
use crate::native::{MESSAGE_BYTES_MAX, to_status};
use crate::{Dialect, Serving, Stop, Store, Stream};

/// The dialect of a central server.
pub struct Central(Grpc);

impl Central {
    /// Ready to serve. With `check`, a key moves to another owner only where both have the same text for it.
    pub fn new(check: bool) -> Central {
        let service = Served::new(Service { check: check.then(Check::default) })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let names = &[central_storage_service_server::SERVICE_NAME];
        Central(Grpc::new(Routes::new(service), names, proto::central::DESCRIPTOR))
    }
}

impl fmt::Debug for Central {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Dialect for Central {
    fn name(&self) -> &'static str {
        "classic/central"
    }

    fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving {
        self.0.serve(stream, store, stop)
    }
}

struct Service {
    check: Option<Check>,
}

#[tonic::async_trait]
impl CentralStorageService for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterReply>, Status> {
        register(request, self.check.as_ref()).await.map_err(|error| to_status(&error))
    }

    async fn map(&self, request: Request<MapRequest>) -> Result<Response<MapReply>, Status> {
        map(request).await.map_err(|error| to_status(&error))
    }

    async fn terminate(
        &self,
        request: Request<TerminateRequest>,
    ) -> Result<Response<TerminateReply>, Status> {
        terminate(request).await.map_err(|error| to_status(&error))
    }
}

async fn register(
    request: Request<RegisterRequest>,
    check: Option<&Check>,
) -> Result<Response<RegisterReply>, Error> {
    let (caller, RegisterRequest { host, keys }) = Caller::of(request)?;
    address::check_name(&host)?;
    // They came in as few as one byte each, and that is counted already.
    caller.hold(size_of_val(&keys[..]))?;
    let taken = match check {
        None => register::register(&caller, &host, &keys).await?,
        Some(check) => check.register(&caller, &host, &keys).await?,
    };
    Ok(Response::new(RegisterReply { result: count(taken) }))
}

async fn map(request: Request<MapRequest>) -> Result<Response<MapReply>, Error> {
    let (caller, MapRequest { key }) = Caller::of(request)?;
    let (answer, share) = caller.ask(Op::Get { key: row::key(key), at: None }).await?;
    let Answer::Row(found) = answer else { unreachable!("a get is answered with a row") };
    let host = found.as_ref().map(row::text).transpose()?.unwrap_or_default();
    Ok(respond(MapReply { host }, share))
}

async fn terminate(request: Request<TerminateRequest>) -> Result<Response<TerminateReply>, Error> {
    let (caller, TerminateRequest {}) = Caller::of(request)?;
    let end = caller.end()?;
    let mut keys = 0;
    let mut pages = Pages::of(&caller);
    while let Some(page) = pages.next().await? {
        keys += page.len();
    }
    end().await;
    Ok(Response::new(TerminateReply { result: count(keys) }))
}

/// A count as the wire has it: there are twice as many keys as it can say.
fn count(keys: usize) -> i32 {
    i32::try_from(keys).unwrap_or(i32::MAX)
}
