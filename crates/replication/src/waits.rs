//! Reads that wait for something that rises: an index to be applied, a round to be confirmed.

use std::collections::BTreeSet;

use kv::Index;

use crate::Token;

/// Whose wait ends first comes first.
#[derive(Debug, Default)]
pub(crate) struct Waits(BTreeSet<(Index, Token)>);

impl Waits {
    /// A read waits until this is reached.
    pub(crate) fn wait(&mut self, index: Index, token: Token) {
        self.0.insert((index, token));
    }

    /// This is reached: whose wait is over, in order.
    pub(crate) fn reached(&mut self, index: Index) -> Vec<Token> {
        let later = self.0.split_off(&(index.next(), 0));
        std::mem::replace(&mut self.0, later).into_iter().map(|(_, token)| token).collect()
    }

    /// Nobody waits for a read any more.
    pub(crate) fn forget(&mut self, token: Token) {
        self.0.retain(|(_, other)| *other != token);
    }

    /// All whose wait is for this or later: they are let go of, and may wait for something else.
    pub(crate) fn from(&mut self, index: Index) -> Vec<Token> {
        self.0.split_off(&(index, 0)).into_iter().map(|(_, token)| token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_in_order_and_each_once() {
        let mut waits = Waits::default();
        [(3, 1), (2, 2), (3, 3), (5, 4)]
            .into_iter()
            .for_each(|(index, token)| waits.wait(Index(index), token));
        waits.forget(3);
        assert_eq!(waits.reached(Index(1)), [0; 0]);
        assert_eq!(waits.reached(Index(3)), [2, 1]);
        assert_eq!(waits.from(Index(4)), [4]);
        assert_eq!(waits.from(Index::ZERO), [0; 0]);
    }
}
