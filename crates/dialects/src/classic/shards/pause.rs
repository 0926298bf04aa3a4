//! A server that is about to be taken in changes nothing: what it handed over already would not go along.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kv::Error;
use tokio::time::Instant;

/// How long it waits for the next word of who takes it in. Each takes a moment; without it the server goes on.
const LONGEST: Duration = Duration::from_secs(10);

/// Until when nothing is changed.
#[derive(Debug, Default)]
pub(super) struct Pause(Mutex<Option<Instant>>);

impl Pause {
    /// Nothing is changed for a while from now on.
    pub(super) fn go_on(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + LONGEST);
    }

    /// [`Error::Unavailable`] while nothing is changed.
    pub(super) fn check(&self) -> Result<(), Error> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match until.is_some_and(|until| Instant::now() < until) {
            true => Err(Error::Unavailable(
                "this server is about to join a shard master: ask again in a moment".into(),
            )),
            false => Ok(()),
        }
    }
}
