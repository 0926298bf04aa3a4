//! The calls of a server's clients.

use std::sync::Arc;

use kv::{Answer, Error, Function, Level, Op, PAGE_ROWS_MAX, Range, Side};
use tonic::{Request, Response, Status};

use super::pause::Pause;
use super::proto::kv_store_server::KvStore;
use super::proto::{
    AppendRequest, GetRequest, GetResponse, KeyValue, PutRequest, RedistributeRequest, ServerRequest,
    TransferRequest,
};
use super::{LIMIT, Office, Seat, client, group, row};
use crate::classic::caller::Caller;
use crate::classic::store::row::text;
use crate::grpc::respond;
use crate::native::to_status;

/// Texts that go to another server in one call hold at most so many bytes, or are one.
const CALL_BYTES_MAX: usize = 1 << 20;

/// A replica that no write waits for gets what is written every second: what it answers is no older than this.
const OLD_MILLIS_MAX: u64 = 2_000;

/// The service.
pub(super) struct Service {
    office: Arc<dyn Office>,
    pause: Arc<Pause>,
}

impl Service {
    pub(super) fn new(office: Arc<dyn Office>, pause: Arc<Pause>) -> Service {
        Service { office, pause }
    }

    async fn caller<T>(&self, request: Request<T>) -> Result<(Caller, T), Error> {
        let (caller, message) = Caller::once_ready(request, LIMIT).await?;
        Ok((caller.only_here(None), message))
    }

    /// Changes who is in this server's group; that goes on though its client goes away.
    async fn change<F: Future<Output = Result<(), Error>> + Send + 'static>(
        &self,
        request: Request<ServerRequest>,
        what: impl FnOnce(Caller, Option<Seat>, String) -> F,
    ) -> Result<Response<()>, Error> {
        let (caller, ServerRequest { server }) = Caller::once_ready(request, LIMIT).await?;
        let done = tokio::spawn(what(caller.unlimited(), self.office.seat(), server)).await;
        done.unwrap_or_else(|_| Err(Error::Unavailable("this server is stopping".into()))).map(Response::new)
    }

    async fn pop(&self, request: Request<GetRequest>, side: Side) -> Result<Response<GetResponse>, Error> {
        let (caller, GetRequest { key }) = self.caller(request).await?;
        self.pause.check()?;
        let function = Function::Pop { side, count: 1 };
        let (answer, share) = ask(&caller, Op::Update { key: row::key(key), function }).await?;
        let Answer::Popped(taken) = answer else { unreachable!("a pop is answered with what it took") };
        let utf8 = |taken: bytes::Bytes| String::from_utf8(taken.to_vec());
        let value = taken.map(utf8).transpose().map_err(|_| {
            Error::Conflict("the value is no text: read it with the dialect that wrote it".into())
        })?;
        Ok(respond(GetResponse { value }, share))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Error> {
        let (caller, GetRequest { key }) = self.caller(request).await?;
        let caller = caller.only_here(Some(Level::Bounded(OLD_MILLIS_MAX)));
        let (answer, share) = match caller.ask(Op::Get { key: row::key(key), at: None }).await {
            Err(Error::WrongNode { .. }) => return Ok(Response::new(GetResponse { value: None })),
            asked => asked?,
        };
        let Answer::Row(found) = answer else { unreachable!("a get is answered with a row") };
        Ok(respond(GetResponse { value: found.as_ref().map(text).transpose()? }, share))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<()>, Error> {
        let (caller, PutRequest { key, value }) = self.caller(request).await?;
        self.pause.check()?;
        ask(&caller, put(key, value)).await?;
        Ok(Response::new(()))
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<()>, Error> {
        let (caller, AppendRequest { key, value }) = self.caller(request).await?;
        self.pause.check()?;
        let function = Function::Append { side: Side::Right, value: value.into() };
        ask(&caller, Op::Update { key: row::key(key), function }).await?;
        Ok(Response::new(()))
    }

    /// All or none, as far as they are not this server's; a call that fails in the middle says so.
    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<()>, Error> {
        let (caller, TransferRequest { keys_values }) = self.caller(request).await?;
        self.pause.check()?;
        let keys = keys_values.iter().map(|KeyValue { key, .. }| row::key(*key));
        let gets = keys.map(|key| Op::Get { key, at: None }).collect();
        caller.ask_all(gets).await?.into_iter().try_for_each(|found| found.map(|_| ())).map_err(elsewhere)?;
        // One after the other: of two texts of a key the last one stays.
        for KeyValue { key, value } in keys_values {
            ask(&caller, put(key, value)).await?;
        }
        Ok(Response::new(()))
    }

    async fn redistribute(&self, request: Request<RedistributeRequest>) -> Result<Response<()>, Error> {
        let (caller, RedistributeRequest { destination_server, lower_val, upper_val }) =
            self.caller(request).await?;
        if lower_val > upper_val {
            return Err(Error::Invalid(format!("no key is from {lower_val} to {upper_val}")));
        }
        self.pause.check()?;
        let there = client::ServerClient::new(&destination_server)?;
        let pairs = pairs(&caller, lower_val, upper_val).await?;
        let mut rest = &pairs[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |pair: &&KeyValue| {
                bytes += pair.value.len() + 16;
                bytes <= CALL_BYTES_MAX
            };
            let (some, after) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            there.transfer(some.to_vec()).await?;
            for KeyValue { key, .. } in some {
                ask(&caller, Op::Delete { key: row::key(*key), previous: false }).await?;
            }
            rest = after;
        }
        Ok(Response::new(()))
    }
}

fn put(key: u32, value: String) -> Op {
    Op::Put { key: row::key(key), value: value.into(), deadline: None, previous: false }
}

/// Asks one thing of this server's own; what it does not have is refused so that its client knows what to do.
async fn ask(caller: &Caller, op: Op) -> Result<(Answer, kv::Share), Error> {
    caller.ask(op).await.map_err(elsewhere)
}

fn elsewhere(error: Error) -> Error {
    match error {
        Error::WrongNode { .. } => Error::Conflict(
            "this server does not have the key, or is no master of it: ask the shard master who does (Query, QueryReplica)".into(),
        ),
        error => error,
    }
}

/// What this server has of the keys from the first to the last.
async fn pairs(caller: &Caller, first: u32, last: u32) -> Result<Vec<KeyValue>, Error> {
    let mut pairs = Vec::new();
    let singles: Vec<u32> = (first..=last).take_while(|number| *number <= row::LAST).collect();
    let get = |number: &u32| Op::Get { key: row::key(*number), at: None };
    let found = caller.ask_all(singles.iter().map(get).collect()).await?;
    let mut has_last = last > row::LAST && first > row::LAST;
    for (number, found) in singles.iter().zip(found) {
        match found {
            Ok(Answer::Row(Some(row))) => pairs.push(KeyValue { key: *number, value: text(&row)? }),
            Err(Error::WrongNode { .. }) => continue,
            other => drop(other?),
        }
        has_last |= *number == row::LAST;
    }
    if has_last && last > row::LAST {
        let (from, end) = (first.max(row::LAST + 1), row::key(last));
        for row in rows_of_last(caller, from, end).await? {
            pairs.extend(
                row::number(&row.key)
                    .map(|key| text(&row).map(|value| KeyValue { key, value }))
                    .transpose()?,
            );
        }
    }
    Ok(pairs)
}

/// The rows of the last shard from a number to a key. None where it is not this server's.
async fn rows_of_last(caller: &Caller, from: u32, last: kv::Key) -> Result<Vec<kv::Row>, Error> {
    match caller.ask(Op::Get { key: row::key(from), at: None }).await {
        Err(Error::WrongNode { .. }) => return Ok(Vec::new()),
        asked => drop(asked?),
    }
    let to = Some([&last[..], b"\0"].concat().into());
    let (mut rows, mut page) = (Vec::new(), None);
    loop {
        let limit = PAGE_ROWS_MAX as u32;
        let range = Range { from: row::key(from), to: to.clone(), limit, page, ..Range::default() };
        let Answer::Page(found) = caller.ask_anywhere(Op::Range(range)).await? else {
            unreachable!("a range is answered with a page")
        };
        rows.extend(found.rows);
        page = match found.next {
            Some(next) => Some(next),
            None => return Ok(rows),
        };
    }
}

#[tonic::async_trait]
impl KvStore for Service {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.get(request).await.map_err(|error| to_status(&error))
    }

    async fn l_pop(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.pop(request, Side::Left).await.map_err(|error| to_status(&error))
    }

    async fn r_pop(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.pop(request, Side::Right).await.map_err(|error| to_status(&error))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<()>, Status> {
        self.put(request).await.map_err(|error| to_status(&error))
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<()>, Status> {
        self.append(request).await.map_err(|error| to_status(&error))
    }

    async fn redistribute(&self, request: Request<RedistributeRequest>) -> Result<Response<()>, Status> {
        self.redistribute(request).await.map_err(|error| to_status(&error))
    }

    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<()>, Status> {
        self.transfer(request).await.map_err(|error| to_status(&error))
    }

    async fn add_replica(&self, request: Request<ServerRequest>) -> Result<Response<()>, Status> {
        let add = |caller, seat, text: String| async move { group::add(&caller, seat, &text).await };
        self.change(request, add).await.map_err(|error| to_status(&error))
    }

    async fn remove_replica(&self, request: Request<ServerRequest>) -> Result<Response<()>, Status> {
        let remove = |caller, seat, text: String| async move { group::remove(&caller, seat, &text).await };
        self.change(request, remove).await.map_err(|error| to_status(&error))
    }
}
