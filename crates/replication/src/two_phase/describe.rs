//! One line for people: what a replica is at present, and what a message says.

use bytes::Bytes;

use super::message::Message;
use super::{Part, TwoPhase};

impl TwoPhase {
    /// Such as `n1@2 master last=6@2 durable=6 decided=5 applied=5 votes={2:6 3:5}`: node and life, what it is, the last entry of
    /// its log and that entry's life, how far the log is synced, decided and applied.
    ///
    /// A master's votes are, for each participant, the last entry that it has voted for in this life, `?` while it is expected to,
    /// `away` when writes are refused for it, `lacks` when it lost what it had voted for. `sealed=4` is the entry with which
    /// the epoch has ended, `may-be-sealed` that there is one that is not known to be decided. `lacks=4`: it lost what it had itself.
    pub fn describe(&self) -> String {
        let (id, life, journal) = (self.id, self.life, &self.journal);
        let (last, durable, applied) = (journal.last(), journal.durable(), journal.applied());
        let (of, decided) = (journal.log().term(last).unwrap_or_default(), self.decided);
        let role = if self.is_master() { "master" } else { "participant" };
        let mut line = format!(
            "n{id}@{life} {role} last={last}@{of} durable={durable} decided={decided} applied={applied}"
        );
        if let Some(end) = self.end {
            line.push_str(&format!(" sealed={}", end.at.index));
        } else if self.is_sealed() {
            line.push_str(" may-be-sealed");
        }
        if let Some(lacks) = self.lacks {
            line.push_str(&format!(" lacks={lacks}"));
        }
        if let Part::Master(master) = &self.part {
            line.push_str(&format!(" votes={{{}}}", Vec::from_iter(master.progress()).join(" ")));
        }
        line
    }
}

/// A message ([`crate::Output::Send`]'s body), for people.
pub fn describe(body: &Bytes) -> String {
    match Message::decode(body) {
        Ok(message) => message.to_string(),
        Err(error) => error.to_string(),
    }
}
