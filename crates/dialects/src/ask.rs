//! Requests on behalf of a connection: one, or many at once.

use std::sync::Arc;
use std::time::Duration;

use kv::{Charge, Class, Completions, Error, KeyValue, Reply, Request, Share};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::account::{Tab, Turn, deadline};

/// The pause before a read is asked again whose answer found no room, by the one of a connection that has the turn.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// Asks when there is room for the answer, and has `then` take the reply, with the share that it holds until it has left. A
/// read for whose answer there was no room after all is asked again.
pub(crate) fn ask_then<T>(keys: Arc<dyn KeyValue>, request: Request, tab: Tab, then: T)
where
    T: FnOnce(Result<(Reply, Share), Error>) + Send + 'static,
{
    let deadline = deadline(request.timeout);
    let is_read = request.op.class() == Class::Read;
    let asking = Asking { keys, request: Some(request), is_read, deadline, tab, then };
    if asking.tab.has_room() {
        asking.submit(None);
    } else {
        tokio::spawn(asking.wait(false));
    }
}

/// As [`ask_then`], for those who wait.
pub(crate) async fn ask(
    keys: &Arc<dyn KeyValue>,
    request: Request,
    tab: Tab,
) -> Result<(Reply, Share), Error> {
    let is_read = request.op.class() == Class::Read;
    let (send, receive) = oneshot::channel();
    // The caller may have gone away.
    ask_then(keys.clone(), request, tab, move |result| drop(send.send(result)));
    receive.await.unwrap_or_else(|_| Err(unanswered(is_read)))
}

/// A request on its way, and who takes its answer.
struct Asking<T> {
    keys: Arc<dyn KeyValue>,
    /// A write goes with its only attempt.
    request: Option<Request>,
    is_read: bool,
    deadline: Instant,
    tab: Tab,
    then: T,
}

impl<T: FnOnce(Result<(Reply, Share), Error>) + Send + 'static> Asking<T> {
    /// Waits for room, and asks.
    async fn wait(mut self, was_refused: bool) {
        let turn = match self.tab.room(self.deadline, was_refused).await {
            Ok(turn) => turn,
            Err(error) => return (self.then)(Err(error)),
        };
        if was_refused {
            // There is room here; where there was none, some has to be made.
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
        if let Some(request) = &mut self.request {
            request.timeout = self.deadline.saturating_duration_since(Instant::now());
        }
        self.submit(turn);
    }

    fn submit(mut self, turn: Option<Turn>) {
        let request = if self.is_read { self.request.clone() } else { self.request.take() };
        let request = request.expect("a write is asked once");
        let keys = self.keys.clone();
        keys.submit(vec![request], Box::new(One { asking: Some(self), turn }));
    }

    fn answered(mut self, result: Result<Reply, Error>) {
        let was_refused = self.is_read && self.tab.charge.answer.was_refused();
        if was_refused && Instant::now() < self.deadline {
            self.tab.begin_again();
            tokio::spawn(self.wait(true));
        } else {
            (self.then)(result.map(|reply| (reply, self.tab.charge.answer)));
        }
    }
}

/// Takes the answer to one request.
struct One<T: FnOnce(Result<(Reply, Share), Error>) + Send + 'static> {
    /// Until it is answered.
    asking: Option<Asking<T>>,
    /// Of who waited: held until it is answered.
    turn: Option<Turn>,
}

impl<T: FnOnce(Result<(Reply, Share), Error>) + Send + 'static> Completions for One<T> {
    fn complete(&mut self, _: usize, result: Result<Reply, Error>) {
        let asking = self.asking.take().expect("a store answers each request once");
        self.turn = None;
        asking.answered(result);
    }

    fn charge(&self) -> Charge {
        self.asking.as_ref().map(|asking| asking.tab.charge.clone()).unwrap_or_default()
    }
}

impl<T: FnOnce(Result<(Reply, Share), Error>) + Send + 'static> Drop for One<T> {
    fn drop(&mut self) {
        if let Some(asking) = self.asking.take() {
            (asking.then)(Err(unanswered(asking.is_read)));
        }
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
