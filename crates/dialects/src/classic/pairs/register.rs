//! Registration: a pair server becomes the owner of keys, whoever was.

use bytes::Bytes;
use kv::{Answer, Error, KEYS_PER_OP_MAX, Key, Op, Value};

use super::row;
use crate::classic::caller::Caller;

/// Makes `host` the owner of all keys, as many at a time as one op takes; returns how many those are.
pub(super) async fn register(caller: &Caller, host: &str, keys: &[i32]) -> Result<usize, Error> {
    let owner = Bytes::copy_from_slice(host.as_bytes());
    let mut done = 0;
    for some in keys.chunks(KEYS_PER_OP_MAX) {
        let rows = some.iter().map(|key| (row::key(*key), owner.clone())).collect();
        put(caller, rows, &mut done).await.map_err(|error| unfinished(error, done, keys.len()))?;
    }
    Ok(done)
}

/// Puts rows and counts those that are done. The error is that of the last one that is not.
async fn put(caller: &Caller, rows: Vec<(Key, Value)>, done: &mut usize) -> Result<(), Error> {
    let (answer, _) = caller.ask(Op::PutAll { rows }).await?;
    let Answer::Many(keys) = answer else { unreachable!("a put-all is answered key by key") };
    let mut result = Ok(());
    for key in keys {
        match key.result {
            Ok(_) => *done += 1,
            Err(error) => result = Err(error),
        }
    }
    result
}

/// An error in the middle: what was registered before stays so.
pub(super) fn unfinished(error: Error, before: usize, all: usize) -> Error {
    if before == 0 {
        return error;
    }
    Error::InDoubt(format!(
        "{before} of {all} keys were registered, and then: {error}; register them all again"
    ))
}
