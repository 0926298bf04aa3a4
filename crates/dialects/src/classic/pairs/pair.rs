//! The pair server: `keyvalue.KeyValueService`.

use std::fmt;
use std::sync::Arc;

use kv::{Answer, Error, Function, Op};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::proto::keyvalue::key_value_service_server::{
    self, KeyValueService, KeyValueServiceServer as Served,
};
use super::proto::keyvalue::{
    ActivateReply, ActivateRequest, ConsultReply, ConsultRequest, InsertReply, InsertRequest, TerminateReply,
    TerminateRequest,
};
use super::{IN_USE, STORED, activate, proto, row};
use crate::classic::caller::Caller;
use crate::grpc::{Grpc, respond};
use crate::native::{MESSAGE_BYTES_MAX, to_status};
use crate::{Dialect, Serving, Stop, Store, Stream};

/// The dialect of a pair server.
pub struct Pairs(Grpc);

impl Pairs {
    /// Ready to serve. Without `activate`, Activate does nothing.
    pub fn new(activate: bool) -> Pairs {
        let service = Served::new(Service { activate })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Pairs(Grpc::new(
            Routes::new(service),
            &[key_value_service_server::SERVICE_NAME],
            proto::keyvalue::DESCRIPTOR,
        ))
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Dialect for Pairs {
    fn name(&self) -> &'static str {
        "classic/pairs"
    }

    fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving {
        self.0.serve(stream, store, stop)
    }
}

struct Service {
    activate: bool,
}

#[tonic::async_trait]
impl KeyValueService for Service {
    async fn insert(&self, request: Request<InsertRequest>) -> Result<Response<InsertReply>, Status> {
        insert(request).await.map_err(|error| to_status(&error))
    }

    async fn consult(&self, request: Request<ConsultRequest>) -> Result<Response<ConsultReply>, Status> {
        consult(request).await.map_err(|error| to_status(&error))
    }

    async fn activate(&self, request: Request<ActivateRequest>) -> Result<Response<ActivateReply>, Status> {
        if !self.activate {
            return Ok(Response::new(ActivateReply { result: 0 }));
        }
        activate(request).await.map_err(|error| to_status(&error))
    }

    async fn terminate(
        &self,
        request: Request<TerminateRequest>,
    ) -> Result<Response<TerminateReply>, Status> {
        terminate(request).await.map_err(|error| to_status(&error))
    }
}

async fn insert(request: Request<InsertRequest>) -> Result<Response<InsertReply>, Error> {
    let (caller, InsertRequest { key, value }) = Caller::of(request)?;
    let function = Function::Insert { value: value.into(), deadline: None };
    let (answer, share) = caller.ask(Op::Update { key: row::key(key), function }).await?;
    let Answer::Condition { met, .. } = answer else { unreachable!("an insert is answered so") };
    Ok(respond(InsertReply { result: if met { STORED } else { IN_USE } }, share))
}

async fn consult(request: Request<ConsultRequest>) -> Result<Response<ConsultReply>, Error> {
    let (caller, ConsultRequest { key }) = Caller::of(request)?;
    let (answer, share) = caller.ask(Op::Get { key: row::key(key), at: None }).await?;
    let Answer::Row(found) = answer else { unreachable!("a get is answered with a row") };
    let value = found.as_ref().map(row::text).transpose()?.unwrap_or_default();
    Ok(respond(ConsultReply { value }, share))
}

async fn activate(request: Request<ActivateRequest>) -> Result<Response<ActivateReply>, Error> {
    let (caller, ActivateRequest { host }) = Caller::of(request)?;
    let result = activate::activate(&caller, &host).await?;
    Ok(Response::new(ActivateReply { result }))
}

async fn terminate(request: Request<TerminateRequest>) -> Result<Response<TerminateReply>, Error> {
    let (caller, TerminateRequest {}) = Caller::of(request)?;
    caller.end()?().await;
    Ok(Response::new(TerminateReply { result: 0 }))
}
