//! What one connection may hold at a node: requests that came in and are not done, answers that it has not taken.
//!
//! A dialect counts a request's bytes as they arrive, whole or not, and refuses what goes beyond; and it sees to it that an
//! answer counts until its last byte was written to the socket, or its connection ended. Between the two the store counts what
//! it reads ([`kv::Charge`]).
//!
//! A connection that takes its answers slowly is served slowly: its requests wait for room, one after the other, before
//! they are asked of the store. What does not find room in its time is refused.

use std::sync::Arc;
use std::time::Duration;

use kv::{Budget, Charge, Error, Share, TIMEOUT_MILLIS_MAX};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

/// What a connection may hold. Clones are the same account; the default one is without limits.
#[derive(Clone, Debug, Default)]
pub struct Account {
    requests: Budget,
    answers: Budget,
    turn: Arc<Mutex<()>>,
}

impl Account {
    /// Of a connection that may hold so much: bytes of requests, and of answers.
    pub fn new(requests: Budget, answers: Budget) -> Account {
        Account { requests, answers, turn: Arc::default() }
    }

    /// Its answers.
    pub fn answers(&self) -> &Budget {
        &self.answers
    }

    /// A charge for one request.
    pub(crate) fn charge(&self) -> Charge {
        Charge { request: self.requests.share(), answer: self.answers.share() }
    }
}

/// The turn of one who waited for room: others of the account that wait come after it.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// A request's account and what it holds of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tab {
    account: Account,
    pub(crate) charge: Charge,
}

impl Tab {
    /// Of a request that came over a connection with this account.
    pub(crate) fn new(account: Account) -> Tab {
        Tab { charge: account.charge(), account }
    }

    /// Whether there is room for an answer.
    pub(crate) fn has_room(&self) -> bool {
        self.account.answers.has_room()
    }

    /// Waits until there is room for an answer, at the latest until `deadline`. Whoever had to wait holds the turn, so that
    /// those who wait try one at a time.
    pub(crate) async fn room(&self, deadline: Instant, was_refused: bool) -> Result<Option<Turn>, Error> {
        let answers = &self.account.answers;
        if !was_refused && answers.has_room() {
            return Ok(None);
        }
        let wait = async {
            let turn = self.account.turn.clone().lock_owned().await;
            std::future::poll_fn(|cx| answers.poll_room(cx)).await;
            turn
        };
        timeout_at(deadline, wait).await.map(Some).map_err(|_| no_room_for_answer())
    }

    /// Forgets what an attempt held that came to nothing.
    pub(crate) fn begin_again(&mut self) {
        self.charge.answer = self.account.answers.share();
    }
}

fn no_room_for_answer() -> Error {
    Error::Unavailable(
        "too many bytes of answers wait to be taken from this node: take them faster, ask for less at once, or use \
         another connection"
            .into(),
    )
}

fn no_room_for_request() -> Error {
    Error::Unavailable(
        "too many bytes of requests are open on this connection or at this node: send fewer at once, or to other nodes"
            .into(),
    )
}

/// When a request's time is over.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(Duration::from_millis(TIMEOUT_MILLIS_MAX))
}

/// Counts more of a request against its account.
pub(crate) fn admit(share: &Share, bytes: usize) -> Result<(), Error> {
    if share.try_add(bytes) { Ok(()) } else { Err(no_room_for_request()) }
}
