//! Which keys an op concerns: what a protocol knows of it beside its class.

use crate::{Key, Op};

/// The keys that an op concerns within its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One key.
    Key(Key),
    /// These keys.
    Keys(Vec<Key>),
    /// All keys from `from` to before `to`; no `to` = to the end.
    Range {
        /// The first.
        from: Key,
        /// Behind the last.
        to: Option<Key>,
    },
    /// The shard as a whole.
    Shard,
}

impl Op {
    /// The keys it concerns.
    pub fn scope(&self) -> Scope {
        match self {
            Op::Get { key, .. } => Scope::Key(key.clone()),
            Op::Range(range) if range.ledger => Scope::Shard,
            Op::Range(range) => Scope::Range { from: range.from.clone(), to: range.to.clone() },
            Op::DeleteRange { from, to } | Op::TrimRange { from, to, .. } => {
                Scope::Range { from: from.clone(), to: to.clone() }
            }
            Op::Advance { .. } | Op::Note(_) => Scope::Shard,
            op => {
                let mut keys = Vec::new();
                op.for_each_key(&mut |key| keys.push(key.clone()));
                if keys.len() == 1 { Scope::Key(keys.swap_remove(0)) } else { Scope::Keys(keys) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(text: &'static str) -> Key {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn scope_names_the_keys_or_the_range() {
        assert_eq!(Op::Get { key: key("a"), at: None }.scope(), Scope::Key(key("a")));
        let keys = vec![key("a"), key("b")];
        assert_eq!(Op::GetAll { keys: keys.clone(), at: None }.scope(), Scope::Keys(keys));
        let op = Op::DeleteRange { from: key("a"), to: None };
        assert_eq!(op.scope(), Scope::Range { from: key("a"), to: None });
        assert_eq!(Op::Advance { to: crate::Version::MAX, rules: None }.scope(), Scope::Shard);
    }
}
