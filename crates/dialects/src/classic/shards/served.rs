//! What a shard master says to a server: it takes it in.

use std::sync::Arc;

use bytes::Bytes;
use kv::{Answer, Error, Op, PAGE_ROWS_MAX, Range};
use tonic::{Request, Response, Status};

use super::between::server_server::Server;
use super::between::{
    BeginRequest, BeginResponse, EnterRequest, EnterResponse, Held, HeldRequest, HeldResponse, KnowsRequest,
    KnowsResponse,
};
use super::pause::Pause;
use super::{Office, SHARDS, Seat, row, settled};
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
        let (caller, EnterRequest { join, name, zone }) = Caller::of(request)?;
        if self.office.seat().is_some() {
            return Err(Error::Conflict("this server is of a shard master already".into()));
        }
        self.pause.go_on();
        let end = caller.end()?;
        self.office.enter(Seat { join, name, zone })?;
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
        let seat = self.office.seat().map(|seat| (seat.name, seat.join));
        let (name, join) = seat.unwrap_or_default();
        Ok(Response::new(BeginResponse { name, consistency: self.office.consistency(), join }))
    }

    async fn held(&self, request: Request<HeldRequest>) -> Result<Response<HeldResponse>, Status> {
        self.held(request).await.map_err(|error| to_status(&error))
    }

    async fn knows(&self, request: Request<KnowsRequest>) -> Result<Response<KnowsResponse>, Status> {
        let (caller, keys) = Caller::of(request).map_err(|error| to_status(&error))?;
        if keys.leads.len() + keys.has.len() > SHARDS as usize {
            return Err(to_status(&Error::Invalid(format!("a key of each shard will do: at most {SHARDS}"))));
        }
        let status = caller.store.cluster.status();
        let knows = self.office.seat().is_some_and(|seat| settled::knows(&status, &seat.name, &keys));
        Ok(Response::new(KnowsResponse { knows }))
    }

    async fn enter(&self, request: Request<EnterRequest>) -> Result<Response<EnterResponse>, Status> {
        self.enter(request).await.map_err(|error| to_status(&error))
    }
}
