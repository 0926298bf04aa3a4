//! Whose the entries are that this replica appended as a leader.
//!
//! An entry is known by index and term. Once any entry is committed at its index its fate is known: it is that entry, or it
//! never happens. Leaders of later terms may overwrite it here before; that decides nothing, for another replica may still
//! have it. When a snapshot stands for its index, nobody can tell any more.

use std::collections::BTreeMap;

use kv::{Error, Position, Term};

use crate::Token;

/// The open proposals by index and term.
#[derive(Default)]
pub(crate) struct Proposals {
    open: BTreeMap<Position, Vec<Token>>,
    refused: Vec<(Token, Error)>,
}

impl Proposals {
    /// An entry was appended here.
    pub(crate) fn appended(&mut self, at: Position, tokens: Vec<Token>) {
        let last = self.open.last_key_value().map(|(last, _)| *last);
        assert!(
            last.is_none_or(|last| last.term < at.term || last < at),
            "entry {at} is appended behind {last:?} of the same term"
        );
        self.open.insert(at, tokens);
    }

    /// An entry is committed: whose its ops are.
    pub(crate) fn committed(&mut self, at: Position) -> Vec<Token> {
        let tokens = self.open.remove(&at).unwrap_or_default();
        // Terms never fall along a log: what an earlier term put here or behind cannot follow this entry.
        let rest = self.open.range(Position { term: Term::ZERO, ..at }..);
        let is_dead = |other: &Position| other.index == at.index || other.term < at.term;
        let dead: Vec<Position> = rest.map(|(other, _)| *other).filter(is_dead).collect();
        assert!(
            self.open.range(..Position { term: Term::ZERO, ..at }).next().is_none(),
            "entries are committed in order"
        );
        for other in dead {
            let tokens = self.open.remove(&other).unwrap_or_default();
            self.refuse(tokens, overwritten);
        }
        tokens
    }

    /// A snapshot stands for all entries up to its place.
    pub(crate) fn covered(&mut self, at: Position) {
        let behind = self.open.split_off(&Position { index: at.index.next(), term: Term::ZERO });
        for (_, tokens) in std::mem::replace(&mut self.open, behind) {
            self.refuse(tokens, in_doubt);
        }
    }

    /// The proposals that are settled otherwise than by being applied.
    pub(crate) fn take_refused(&mut self) -> impl Iterator<Item = (Token, Error)> + '_ {
        self.refused.drain(..)
    }

    fn refuse(&mut self, tokens: Vec<Token>, error: fn() -> Error) {
        self.refused.extend(tokens.into_iter().map(|token| (token, error())));
    }
}

/// Why a write is refused that waited for its entry.
pub(crate) fn not_appended() -> Error {
    Error::Unavailable(
        "this node stopped leading the shard before it ordered the write: nothing of it happened; try again"
            .into(),
    )
}

fn overwritten() -> Error {
    Error::Unavailable(
        "the write was not agreed on before another leader took over: nothing of it happened; try again"
            .into(),
    )
}

fn in_doubt() -> Error {
    Error::InDoubt(
        "another leader took over before the write was known to be agreed on: it may have happened; read, or try again with \
         the same request id"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use kv::Outcome;

    use super::*;

    fn at(index: u64, term: u64) -> Position {
        Position::new(index, term)
    }

    fn refused(proposals: &mut Proposals) -> Vec<(Token, Outcome)> {
        proposals.take_refused().map(|(token, error)| (token, error.outcome())).collect()
    }

    #[test]
    fn proposal_committed_in_its_term_gives_its_tokens_once() {
        let mut proposals = Proposals::default();
        proposals.appended(at(5, 2), vec![7, 8]);
        assert_eq!(proposals.committed(at(4, 2)), [0; 0]);
        assert_eq!(proposals.committed(at(5, 2)), [7, 8]);
        assert_eq!(proposals.committed(at(5, 2)), [0; 0]);
        assert_eq!(refused(&mut proposals), []);
    }

    #[test]
    fn proposal_behind_a_later_term_has_failed() {
        let mut proposals = Proposals::default();
        (4..=6).for_each(|index| proposals.appended(at(index, 2), vec![index]));
        assert_eq!(proposals.committed(at(4, 2)), [4]);
        assert_eq!(proposals.committed(at(5, 3)), [0; 0]);
        assert_eq!(refused(&mut proposals), [(5, Outcome::Failed), (6, Outcome::Failed)]);
    }

    #[test]
    fn proposal_under_a_snapshot_is_in_doubt() {
        let mut proposals = Proposals::default();
        (4..=6).for_each(|index| proposals.appended(at(index, 2), vec![index]));
        proposals.covered(at(5, 3));
        assert_eq!(refused(&mut proposals), [(4, Outcome::InDoubt), (5, Outcome::InDoubt)]);
        assert_eq!(proposals.committed(at(6, 3)), [0; 0]);
        assert_eq!(refused(&mut proposals), [(6, Outcome::Failed)]);
    }

    #[test]
    fn proposal_replaced_by_an_own_later_one_has_failed_when_that_is_committed() {
        let mut proposals = Proposals::default();
        proposals.appended(at(5, 2), vec![1]);
        proposals.appended(at(5, 4), vec![2]);
        assert_eq!(refused(&mut proposals), []);
        assert_eq!(proposals.committed(at(5, 4)), [2]);
        assert_eq!(refused(&mut proposals), [(1, Outcome::Failed)]);
    }
}
