//! The safe variant of registration. A key that another server owns moves only where the old and the new owner answer the same
//! text for it; else the directory stays as it is, and the key is not counted.
//!
//! ```text
//! the rows of 1,024 keys ─┬─ this host's ─────────────────────────────────────────────────▶ taken
//!                         ├─ nobody's ──────────────────────┬─▶ compare-and-put ─┬─ met ──▶ taken
//!                         └─ another's ─▶ consult ─┬─ same ─┘    on the row read └─ not met: look again
//!                                         both     └─ differs, or cannot be asked ────────▶ stays
//! ```
//!
//! Another registration may change a row between the read and the write. Then the write does nothing, and the key is looked
//! at again as it is by then.
//!
//! # Caveats
//!
//! What was the same when it was asked may differ later: a pair server that starts anew has other pairs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv::{Answer, Error, Expect, Function, Op, Row};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::PairClient;
use super::register::unfinished;
use super::row;
use crate::classic::caller::Caller;

/// Keys that are looked at together.
const KEYS_MAX: usize = 1024;
/// Keys whose owners are asked at a time, of all registrations at this listener: both texts of each are in memory.
const CONSULTS_MAX: usize = 16;
/// A server that cannot answer at this moment, as in an election or a crowd, is asked again after these.
const CONSULT_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];
/// How often keys are looked at that other registrations change all the time.
const ROUNDS_MAX: usize = 8;
/// Servers that cannot be asked and are remembered for the rest of a registration.
const GONE_MAX: usize = 1024;

/// What all registrations at a listener share.
pub(super) struct Check {
    permits: Arc<Semaphore>,
}

impl Default for Check {
    fn default() -> Check {
        Check { permits: Arc::new(Semaphore::new(CONSULTS_MAX)) }
    }
}

impl Check {
    /// Makes `host` the owner of the keys that may move to it; returns how many of them it then owns.
    pub(super) async fn register(&self, caller: &Caller, host: &str, keys: &[i32]) -> Result<usize, Error> {
        let mut registration = Registration {
            caller,
            host,
            permits: &self.permits,
            client: Arc::new(PairClient::new(host)?),
            gone: HashSet::new(),
            taken: 0,
        };
        for some in keys.chunks(KEYS_MAX) {
            let done = registration.take(some).await;
            done.map_err(|error| unfinished(error, registration.taken, keys.len()))?;
        }
        Ok(registration.taken)
    }
}

/// One call of Register.
struct Registration<'a> {
    caller: &'a Caller,
    host: &'a str,
    permits: &'a Arc<Semaphore>,
    /// Of the new owner.
    client: Arc<PairClient>,
    /// Owners that could not be asked.
    gone: HashSet<String>,
    taken: usize,
}

/// A key, and the row that the directory has for it.
struct Found {
    number: i32,
    row: Option<Row>,
}

impl Registration<'_> {
    async fn take(&mut self, numbers: &[i32]) -> Result<(), Error> {
        let mut left = self.look_up(numbers).await?;
        for _ in 0..ROUNDS_MAX {
            let before = left.len();
            left.retain(|found| found.row.as_ref().is_none_or(|row| row.value != self.host));
            self.taken += before - left.len();
            if left.is_empty() {
                return Ok(());
            }
            let free = self.free(left).await;
            left = self.put(free).await?;
        }
        tracing::warn!(
            host = self.host,
            keys = left.len(),
            "others register the same keys all the time: these stay as they are"
        );
        Ok(())
    }

    async fn look_up(&self, numbers: &[i32]) -> Result<Vec<Found>, Error> {
        let keys = numbers.iter().copied().map(row::key).collect();
        let (Answer::Many(keys), _) = self.caller.ask(Op::GetAll { keys, at: None }).await? else {
            unreachable!("a get-all is answered key by key");
        };
        let found =
            numbers.iter().zip(keys).map(|(number, key)| Ok(Found { number: *number, row: key.result? }));
        found.collect()
    }

    /// Those that nobody owns, and those whose owner has the same text as the new one.
    async fn free(&mut self, found: Vec<Found>) -> Vec<Found> {
        let mut free = Vec::new();
        let mut owned: BTreeMap<Bytes, Vec<Found>> = BTreeMap::new();
        for found in found {
            match &found.row {
                None => free.push(found),
                Some(row) => owned.entry(row.value.clone()).or_default().push(found),
            }
        }
        for (owner, found) in owned {
            let owner = String::from_utf8_lossy(&owner);
            if !self.gone.contains(self.host) && !self.gone.contains(&*owner) {
                free.extend(self.same(&owner, found).await);
            }
        }
        free
    }

    /// Those for which the owner has the same text as the new one.
    async fn same(&mut self, owner: &str, found: Vec<Found>) -> Vec<Found> {
        let old = match PairClient::new(owner) {
            Ok(client) => Arc::new(client),
            Err(error) => {
                self.stays(owner, &error);
                return Vec::new();
            }
        };
        let mut asked = JoinSet::new();
        for found in found {
            let (permits, old, new) = (self.permits.clone(), old.clone(), self.client.clone());
            asked.spawn(async move {
                let _permit = permits.acquire_owned().await.expect("nobody closes the semaphore");
                (agree(&old, &new, found.number).await, found)
            });
        }
        let (mut same, mut is_noted) = (Vec::new(), false);
        while let Some(joined) = asked.join_next().await {
            match joined.expect("a consultation does not panic") {
                (Ok(true), found) => same.push(found),
                (Ok(false), _) => {}
                (Err((server, error)), _) => {
                    if !std::mem::replace(&mut is_noted, true) {
                        self.stays(owner, &error);
                    }
                    if error.is_transient() {
                        // The other keys would find the same, each after its time. Their tasks end with the set.
                        self.forget(server);
                        break;
                    }
                }
            }
        }
        same
    }

    /// Makes the host their owner, where the row is as it was found; returns those where it is not.
    async fn put(&mut self, found: Vec<Found>) -> Result<Vec<Found>, Error> {
        let host = Bytes::copy_from_slice(self.host.as_bytes());
        let ops = found.iter().map(|found| {
            let expect = found.row.as_ref().map_or(Expect::Absent, |row| Expect::Version(row.version));
            let function = Function::CompareAndPut { expect, value: host.clone(), deadline: None };
            Op::Update { key: row::key(found.number), function }
        });
        let answers = self.caller.ask_all(ops.collect()).await?;
        let (mut changed, mut failed) = (Vec::new(), None);
        for (Found { number, .. }, answer) in found.into_iter().zip(answers) {
            match answer {
                Ok(Answer::Condition { met: true, .. }) => self.taken += 1,
                Ok(Answer::Condition { met: false, current }) => changed.push(Found { number, row: current }),
                Ok(_) => unreachable!("a compare-and-put is answered so"),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(changed), Err)
    }

    /// Says in the journal why keys of this owner stay its own.
    fn stays(&self, owner: &str, error: &Error) {
        let host = self.host;
        tracing::warn!(%error, owner, host, "keys stay with their owner: it and the host that registers them cannot be compared");
    }

    /// Asks a server no more.
    fn forget(&mut self, server: String) {
        if self.gone.len() < GONE_MAX {
            self.gone.insert(server);
        }
    }
}

/// Whether both servers have the same text for a key, or none; or who could not be asked, and why.
async fn agree(old: &PairClient, new: &PairClient, number: i32) -> Result<bool, (String, Error)> {
    let consult = async |server: &PairClient| {
        let mut asked = server.consult(number).await;
        for pause in CONSULT_PAUSES {
            if !asked.as_ref().is_err_and(Error::is_transient) {
                break;
            }
            sleep(pause).await;
            asked = server.consult(number).await;
        }
        asked.map_err(|error| (server.address().to_owned(), error))
    };
    let (old, new) = tokio::try_join!(consult(old), consult(new))?;
    Ok(old == new)
}
