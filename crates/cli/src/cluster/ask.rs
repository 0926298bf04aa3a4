//! What the directory is asked, with the kind of answer that each question has.

use std::time::Duration;

use kv::admin::{Answer, Ask, Move, Row};

use crate::connect::Store;
use crate::exit::Error;

/// Asks for a change.
pub async fn done(ask: Ask, store: &dyn Store, timeout: Duration) -> Result<(), Error> {
    match store.administer(ask, timeout).await? {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Asks what moves, or would.
pub async fn moves(ask: Ask, store: &dyn Store, timeout: Duration) -> Result<Vec<Move>, Error> {
    match store.administer(ask, timeout).await? {
        Answer::Moves(moves) => Ok(moves),
        other => Err(unexpected(&other)),
    }
}

/// Asks for the rows of the directory.
pub async fn rows(store: &dyn Store, timeout: Duration) -> Result<Vec<Row>, Error> {
    match store.administer(Ask::Dump, timeout).await? {
        Answer::Rows(rows) => Ok(rows),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Unavailable(format!(
        "the cluster answered {answer:?} to another question: are client and server of one version?"
    ))
}
