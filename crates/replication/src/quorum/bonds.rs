//! Bonds: what is known of requests that may be sent again.
//!
//! The id of a request is bound to the rows that were made for it, for as long as its client may send it again. Sent again it gets no rows of
//! its own: the same ones are stored again, and the same is answered.
//!
//! ```text
//!   Open ── rows are made ──▶ Made ── members that weigh W have them ──▶ Done: the same is answered
//!                              │
//!                              └── its round is closed ([`collect`](super::collect)) ──▶ Over: in doubt for good
//! ```
//!
//! Rows of a round that was closed are stored no more: what was deleted since may have gone, and they would bring it back.
//!
//! # Caveats
//!
//! The bonds are in memory: another member, or this one after it was started again, knows nothing of them, and would bring the old value
//! back over what was written since. So who sends a write again that may have been run says so, and the node asks
//! ([`crate::Replicate::remembers`]) before it proposes it: what is not remembered is in doubt, and not run. Who sends it again and does not
//! say so has it run again there.

use std::collections::BTreeMap;

use kv::merged::Row;
use kv::{Answer, Error, RequestId, Version};

/// So many requests are remembered that may be sent again; more are refused.
const BOUND_MAX: usize = 65_536;

/// The requests that may be sent again.
#[derive(Debug, Default)]
pub(crate) struct Bonds {
    sessions: BTreeMap<u64, Session>,
    bound: usize,
    /// Rows of rounds up to this one are stored no more.
    closed: u64,
}

/// Those of one client.
#[derive(Debug, Default)]
struct Session {
    below: u64,
    valid_until: Version,
    bonds: BTreeMap<u64, Bond>,
}

/// What is known of a request.
#[derive(Clone, Debug)]
pub(crate) enum Bond {
    /// It is under way.
    Open,
    /// Its rows were made in this round; whether they are at W is not known.
    Made { rows: Vec<Row>, answer: Answer, version: Version, round: u64 },
    /// They are at so many members, which weigh W.
    Done { answer: Answer, version: Version, copies: u32 },
    /// What became of it is known no more.
    Over,
}

impl Bonds {
    /// Nothing has happened: it may be run when it comes again.
    pub(crate) fn refuse(&mut self, id: Option<RequestId>) {
        if let Some(session) = id.and_then(|id| self.sessions.get_mut(&id.client)) {
            self.bound -= usize::from(session.bonds.remove(&id.map_or(0, |id| id.sequence)).is_some());
        }
    }

    /// Whether a request was taken here, and what becomes of it can be told.
    pub(crate) fn remembers(&self, id: &RequestId) -> bool {
        let bond = self.sessions.get(&id.client).and_then(|session| session.bonds.get(&id.sequence));
        bond.is_some_and(|bond| !self.is_over(bond))
    }

    fn is_over(&self, bond: &Bond) -> bool {
        match bond {
            Bond::Made { round, .. } => *round <= self.closed,
            Bond::Over => true,
            Bond::Open | Bond::Done { .. } => false,
        }
    }

    /// Binds a request; what it was bound to before.
    pub(crate) fn bind(&mut self, id: &RequestId, clock: Version) -> Result<Option<Bond>, Error> {
        if self.bound >= BOUND_MAX {
            self.sessions.retain(|_, session| session.valid_until >= clock);
            self.bound = self.sessions.values().map(|session| session.bonds.len()).sum();
        }
        let session = self.sessions.entry(id.client).or_default();
        session.below = session.below.max(id.answered_below);
        session.valid_until = session.valid_until.max(id.valid_until);
        let later = session.bonds.split_off(&session.below);
        self.bound -= std::mem::replace(&mut session.bonds, later).len();
        if id.sequence < session.below || id.valid_until < clock {
            return Err(too_old());
        }
        if let Some(bond) = session.bonds.get(&id.sequence) {
            let bond = bond.clone();
            return Ok(Some(if self.is_over(&bond) { Bond::Over } else { bond }));
        }
        if self.bound >= BOUND_MAX {
            return Err(Error::Unavailable(format!(
                "{BOUND_MAX} requests are remembered already that may be sent again; nothing happened, try again in a moment"
            )));
        }
        session.bonds.insert(id.sequence, Bond::Open);
        self.bound += 1;
        Ok(None)
    }

    /// More is known of a request, if it is remembered.
    pub(crate) fn is_now(&mut self, id: Option<&RequestId>, now: Bond) {
        let session = id.and_then(|id| self.sessions.get_mut(&id.client));
        let bond = session.and_then(|session| session.bonds.get_mut(&id.map_or(0, |id| id.sequence)));
        if let Some(bond) = bond {
            *bond = now;
        }
    }

    /// Rows of rounds up to this one are stored no more.
    pub(crate) fn close(&mut self, to: u64) {
        self.closed = self.closed.max(to);
    }

    /// Whether what a round stored may be brought to others later.
    pub(crate) fn is_closed(&self, round: u64) -> bool {
        round <= self.closed
    }
}

pub(crate) fn too_old() -> Error {
    Error::InDoubt(
        "the request was answered before, or is too old: what became of it is known no more; read to see what is there".into(),
    )
}
