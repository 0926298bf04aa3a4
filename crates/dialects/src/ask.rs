//! Requests on behalf of a connection: one, or many at once.

use std::time::Duration;

use kv::{Charge, Class, Completions, Error, KeyValue, Reply, Request, Share};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::account::{Tab, deadline};

/// The pause before a read is asked again whose answer found no room, by the one of a connection that has the turn.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// Asks when there is room for the answer; a read for whose answer there was none after all is asked again. Returns the
/// reply, and the share it holds until it has left.
pub(crate) async fn ask(
    keys: &dyn KeyValue,
    mut request: Request,
    mut tab: Tab,
) -> Result<(Reply, Share), Error> {
    let deadline = deadline(request.timeout);
    let is_read = request.op.class() == Class::Read;
    let mut was_refused = false;
    loop {
        let turn = tab.room(deadline, was_refused).await?;
        if was_refused {
            // There is room here; where there was none, some has to be made.
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
        if turn.is_some() {
            request.timeout = deadline.saturating_duration_since(Instant::now());
        }
        if !is_read {
            let reply = submit(keys, request, false, tab.charge.clone()).await?;
            return Ok((reply, tab.charge.answer));
        }
        let result = submit(keys, request.clone(), true, tab.charge.clone()).await;
        was_refused = tab.charge.answer.was_refused();
        if !was_refused || Instant::now() >= deadline {
            return result.map(|reply| (reply, tab.charge.answer));
        }
        tab.begin_again();
    }
}

/// Asks many independent requests at once when there is room for the answers. One reply each, in their order.
pub(crate) async fn ask_all(
    keys: &dyn KeyValue,
    requests: Vec<Request>,
    tab: &Tab,
) -> Result<Vec<Result<Reply, Error>>, Error> {
    let Some(longest) = requests.iter().map(|request| request.timeout).max() else { return Ok(Vec::new()) };
    let _turn = tab.room(deadline(longest), false).await?;
    let are_reads: Vec<bool> = requests.iter().map(|request| request.op.class() == Class::Read).collect();
    let (send, receive) = oneshot::channel();
    let (left, results) = (requests.len(), requests.iter().map(|_| None).collect());
    let collect = Many { results, left, send: Some(send), charge: tab.charge.clone() };
    keys.submit(requests, Box::new(collect));
    let results = receive.await.expect("the results are sent at the latest when they are dropped");
    let answered = |(result, is_read): (Option<_>, _)| result.unwrap_or_else(|| Err(unanswered(is_read)));
    Ok(results.into_iter().zip(are_reads).map(answered).collect())
}

async fn submit(
    keys: &dyn KeyValue,
    request: Request,
    is_read: bool,
    charge: Charge,
) -> Result<Reply, Error> {
    let (send, receive) = oneshot::channel();
    keys.submit(vec![request], Box::new(One { send: Some(send), charge }));
    receive.await.unwrap_or_else(|_| Err(unanswered(is_read)))
}

/// Takes the answer to one request.
struct One {
    send: Option<oneshot::Sender<Result<Reply, Error>>>,
    charge: Charge,
}

impl Completions for One {
    fn complete(&mut self, _: usize, result: Result<Reply, Error>) {
        let send = self.send.take().expect("a store answers each request once");
        let _ = send.send(result); // The caller may have gone away.
    }

    fn charge(&self) -> Charge {
        self.charge.clone()
    }
}

/// The answers in the order of the requests; `None` where the store dropped a request.
type Results = Vec<Option<Result<Reply, Error>>>;

/// Gathers the answers to many requests; sends them when all are there, or when the store drops it.
struct Many {
    results: Results,
    left: usize,
    send: Option<oneshot::Sender<Results>>,
    charge: Charge,
}

impl Many {
    fn finish(&mut self) {
        if let Some(send) = self.send.take() {
            let _ = send.send(std::mem::take(&mut self.results)); // The caller may have gone away.
        }
    }
}

impl Completions for Many {
    fn complete(&mut self, index: usize, result: Result<Reply, Error>) {
        let before = self.results[index].replace(result);
        assert!(before.is_none(), "a store answers each request once");
        self.left -= 1;
        if self.left == 0 {
            self.finish();
        }
    }

    fn charge(&self) -> Charge {
        self.charge.clone()
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What a request comes to that the store dropped without an answer: it is stopping.
fn unanswered(is_read: bool) -> Error {
    if is_read {
        Error::Unavailable("the node stopped before it answered: ask another one".into())
    } else {
        Error::InDoubt(
            "the node stopped before it answered: the write may have happened; read, or ask another node with the same request id"
                .into(),
        )
    }
}
