//! What a shard master says to a server: it takes it in.

use std::sync::Arc;

use bytes::Bytes;
use kv::{Answer, Error, Op, PAGE_ROWS_MAX, Range};
use tonic::{Request, Response, Status};

use super::between::server_server::Server;
use super::between::{
    BeginRequest, BeginResponse, EnterRequest, EnterResponse, Held, HeldRequest, HeldResponse,
};
use super::pause::Pause;
use super::{Office, Seat, row};
use crate::classic::caller::Caller;
use crate::classic::store::row::text;
use crate::grpc::respond;
use crate::native::to_status;

/// The service.
pub(super) struct Served {
    office: Arc<dyn Office>,
    pause: Arc<Pause>,
}

impl Served {
    pub(super) fn new(office: Arc<dyn Office>, pause: Arc<Pause>) -> Served {
        Served { office, pause }
    }

    async fn held(&self, request: Request<HeldRequest>) -> Result<Response<HeldResponse>, Error> {
        let (caller, HeldRequest { after }) = Caller::of(request)?;
        if self.office.seat().is_some() {
            return Err(Error::Conflict("this server is of a shard master already".into()));
        }
        self.pause.go_on();
        let page = Some(after).filter(|after| !after.is_empty());
        let range = Range { page, limit: PAGE_ROWS_MAX as u32, ..Range::default() };
        let (Answer::Page(found), share) = caller.ask(Op::Range(range)).await? else {
            unreachable!("a range is answered with a page")
        };
        let pair = |row: &kv::Row| Some((row::number(&row.key)?, text(row)));
        let pairs = found.rows.iter().filter_map(pair);
        let pairs: Result<_, Error> = pairs.map(|(key, value)| Ok(Held { key, value: value? })).collect();
        Ok(respond(HeldResponse { pairs: pairs?, next: found.next.unwrap_or_else(Bytes::new) }, share))
    }

    async fn enter(&self, request: Request<EnterRequest>) -> Result<Response<EnterResponse>, Error> {
        let (caller, EnterRequest { join, name, zone, may_be_old }) = Caller::of(request)?;
        if self.office.seat().is_some() {
            return Err(Error::Conflict("this server is of a shard master already".into()));
        }
        self.pause.go_on();
        let end = caller.end()?;
        self.office.enter(Seat { join, name, zone, may_be_old })?;
        end().await;
        Ok(Response::new(EnterResponse {}))
    }
}

#[tonic::async_trait]
impl Server for Served {
    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<BeginResponse>, Status> {
        if request.get_ref().take_in && self.office.seat().is_none() {
            self.pause.go_on();
        }
        let name = self.office.seat().map(|seat| seat.name).unwrap_or_default();
        Ok(Response::new(BeginResponse { name, consistency: self.office.consistency() }))
    }

    async fn held(&self, request: Request<HeldRequest>) -> Result<Response<HeldResponse>, Status> {
        self.held(request).await.map_err(|error| to_status(&error))
    }

    async fn enter(&self, request: Request<EnterRequest>) -> Result<Response<EnterResponse>, Status> {
        self.enter(request).await.map_err(|error| to_status(&error))
    }
}
