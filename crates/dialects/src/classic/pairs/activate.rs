//! Activation: a pair server registers all its keys at a central server, a page at a time. So a call of any number of keys
//! holds no more than a page.

use kv::Error;

use super::client::CentralClient;
use super::page::Pages;
use crate::classic::caller::Caller;

/// Registers all keys under the server's own HOST:PORT; returns how many the central server took. One that is not there is
/// noticed even when there is no key.
pub(super) async fn activate(caller: &Caller, central: &str) -> Result<i32, Error> {
    let client = CentralClient::new(central)?;
    let own = &caller.store.advertise;
    let mut pages = Pages::of(caller);
    let (mut is_first, mut sent, mut taken) = (true, 0, 0_i32);
    loop {
        let page = pages.next().await.map_err(|error| unfinished(error, central, sent))?;
        let Some(keys) = page else { return Ok(taken) };
        if keys.is_empty() && !is_first {
            continue;
        }
        let count = keys.len();
        let registered = client.register(own.clone(), keys).await;
        taken = taken.saturating_add(registered.map_err(|error| unfinished(error, central, sent))?);
        sent += count;
        is_first = false;
    }
}

/// An error in the middle: what was registered before stays so.
fn unfinished(error: Error, central: &str, before: usize) -> Error {
    let sent = match before {
        0 => format!("the keys could not be registered at {central}"),
        _ => format!("{before} keys were sent to {central}, and then it failed"),
    };
    let why = format!("{sent}: {error}; the pairs are all here: activate again");
    match error {
        Error::InDoubt(_) => Error::InDoubt(why),
        _ if before > 0 => Error::InDoubt(why),
        Error::Unavailable(_) => Error::Unavailable(why),
        Error::Invalid(_) => Error::Invalid(why),
        error => error,
    }
}
