//! What can be asked of the store.

use std::borrow::Cow;

use bytes::Bytes;

use crate::keyspace::Rules;
use crate::ledger::Note;
use crate::{
    CONDITIONS_MAX, Error, KEY_BYTES_MAX, KEY_BYTES_MIN, KEYS_PER_OP_MAX, OP_BYTES_MAX, VALUE_BYTES_MAX,
    Version, merged,
};

/// Any bytes, [`KEY_BYTES_MIN`] to [`KEY_BYTES_MAX`] of them.
pub type Key = Bytes;
/// Any bytes, up to [`VALUE_BYTES_MAX`] of them.
pub type Value = Bytes;

/// One question or order to the store.
///
/// Deadlines are absolute: microseconds since 1970 on the store's version clock; a value is gone once its shard's newest
/// version has reached its deadline. `previous` asks for the row as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The row of a key: the newest, or the one that was newest at a version. Answers [`crate::Answer::Row`].
    Get {
        /// The key.
        key: Key,
        /// Read the state as of this version.
        at: Option<Version>,
    },
    /// The rows of several keys. One atomic read per shard. Answers [`crate::Answer::Many`].
    GetAll {
        /// The keys, at most [`KEYS_PER_OP_MAX`].
        keys: Vec<Key>,
        /// Read the state as of this version.
        at: Option<Version>,
    },
    /// The rows between two keys, a page at a time. Answers [`crate::Answer::Page`].
    Range(Range),
    /// The kept revisions of a key, newest first, a page at a time. Answers [`crate::Answer::History`].
    History {
        /// The key.
        key: Key,
        /// At most so many; 0 = as many as a page holds.
        limit: u32,
        /// Only those older than this version (the `next` of the page before).
        before: Option<Version>,
    },
    /// Stores a value. Answers [`crate::Answer::Put`].
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
        /// When the value expires.
        deadline: Option<u64>,
        /// Answer with the row as it was before.
        previous: bool,
    },
    /// Stores several values. Atomic per shard. Answers [`crate::Answer::Many`].
    PutAll {
        /// Keys and values, at most [`KEYS_PER_OP_MAX`]; the last one of equal keys wins.
        rows: Vec<(Key, Value)>,
    },
    /// Removes a key. Answers [`crate::Answer::Deleted`].
    Delete {
        /// The key.
        key: Key,
        /// Answer with the row as it was before.
        previous: bool,
    },
    /// Removes the first keys between two keys, up to [`KEYS_PER_OP_MAX`], atomically per shard; the answer tells where to go on.
    /// Answers [`crate::Answer::Deleted`].
    DeleteRange {
        /// The first key.
        from: Key,
        /// The key after the last; `None` = to the end.
        to: Option<Key>,
    },
    /// Forgets the revisions of a key that were overwritten before a version, the oldest first, up to
    /// [`crate::TRIM_REVISIONS_MAX`]; the answer tells whether there are more. Of a key that was deleted by then nothing is
    /// left. Answers [`crate::Answer::Trimmed`].
    Trim {
        /// The key.
        key: Key,
        /// Forget what is older than the newest revision at this version; `None` = all but the newest.
        below: Option<Version>,
    },
    /// The same for the keys between two keys, deleted ones too, up to [`crate::TRIM_REVISIONS_MAX`] revisions, atomically per
    /// shard; the answer tells where to go on. Answers [`crate::Answer::Trimmed`].
    TrimRange {
        /// The first key; empty = from the beginning.
        from: Key,
        /// The key after the last; `None` = to the end.
        to: Option<Key>,
        /// As of a trim.
        below: Option<Version>,
    },
    /// Sets or takes away the deadline of a key. Answers [`crate::Answer::Expire`].
    Expire {
        /// The key.
        key: Key,
        /// The new deadline; `None` = never.
        deadline: Option<u64>,
    },
    /// Changes the value of a key by a function of what it is. The answer is the function's.
    Update {
        /// The key.
        key: Key,
        /// How.
        function: Function,
    },
    /// Checks conditions and runs one of two lists of ops on keys of one shard, atomically.
    /// Answers [`crate::Answer::Transaction`].
    Transaction {
        /// All must hold for `then`.
        conditions: Vec<Condition>,
        /// Run when all conditions hold. No transactions inside, and nothing that is asked of a range.
        then: Vec<Op>,
        /// Run otherwise.
        otherwise: Vec<Op>,
    },
    /// Raises the shard's newest version to this, or by as little as may be where it is there already, and lets expire what is due. The store's own: a leader whose clock has
    /// passed a deadline, or who is asked to read at a version of now, orders it first. Answers [`crate::Answer::Trimmed`] with nothing.
    Advance {
        /// The version to reach.
        to: Version,
        /// What the shard goes by from then on; `None` = as before.
        rules: Option<Rules>,
    },
    /// Something for the ledger of the shard. The store's own, but for [`Note::Clear`].
    Note(Note),
    /// Takes rows in, each where its version belongs ([`crate::merged`]). The store's own. Answers [`crate::Answer::Trimmed`] with how
    /// many of them were news.
    Merge {
        /// The rows, at most [`KEYS_PER_OP_MAX`].
        rows: Vec<merged::Row>,
    },
    /// Forgets tombstones that every member has, as far as they are still the newest of their keys, and all that is kept before them. The
    /// store's own. Answers [`crate::Answer::Trimmed`] with how many tombstones are gone.
    Collect {
        /// Their names, at most [`KEYS_PER_OP_MAX`].
        tombstones: Vec<merged::Named>,
    },
}

/// A function of a key's present value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Function {
    /// Adds text at one end; a missing key counts as empty. Answers [`crate::Answer::Length`].
    Append {
        /// Which end.
        side: Side,
        /// What to add.
        value: Value,
    },
    /// Takes characters (Unicode scalar values; bytes when the value is not UTF-8) off one end. Answers [`crate::Answer::Popped`].
    Pop {
        /// Which end.
        side: Side,
        /// How many; fewer when there are not so many.
        count: u32,
    },
    /// Adds to a decimal number of 64 bits; a missing key counts as 0. Answers [`crate::Answer::Number`].
    Increment {
        /// May be negative. An overflow is refused.
        by: i64,
    },
    /// Stores a value only when the key is absent. Answers [`crate::Answer::Condition`].
    Insert {
        /// The value.
        value: Value,
        /// When the value expires.
        deadline: Option<u64>,
    },
    /// Stores a value only when the present one is as expected. Answers [`crate::Answer::Condition`].
    CompareAndPut {
        /// What must be there.
        expect: Expect,
        /// The value.
        value: Value,
        /// When the value expires.
        deadline: Option<u64>,
    },
}

/// An end of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its beginning.
    Left,
    /// Its end.
    Right,
}

/// What a compare wants to find at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No value.
    Absent,
    /// Some value, whichever.
    Present,
    /// This value.
    Value(Value),
    /// A value written at this version.
    Version(Version),
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key to look at.
    pub key: Key,
    /// What must be there.
    pub expect: Expect,
}

/// The order of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    #[default]
    Forward,
    /// Descending keys.
    Backward,
}

/// A page of the rows with `from <= key < to`.
///
/// Over several shards it merges their reads; that is no snapshot unless `at` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first key; empty = from the beginning.
    pub from: Key,
    /// The key after the last; `None` = to the end.
    pub to: Option<Key>,
    /// The order. The page begins at that end.
    pub direction: Direction,
    /// At most so many rows; 0 = as many as a page holds. With `count_only` it is ignored.
    pub limit: u32,
    /// Go on after this key (the `next` of the page before).
    pub page: Option<Key>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Count the rows, return none.
    pub count_only: bool,
    /// Read the state as of this version.
    pub at: Option<Version>,
    /// Read the ledger instead ([`crate::ledger`]): each row has the key and the bytes of a line. No version is read at.
    pub ledger: bool,
}

/// All that a protocol knows of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes nothing.
    Read,
    /// Writes without looking: what it leaves does not depend on what was there.
    Blind,
    /// One key's new value depends on its old one.
    Update,
    /// Several keys, one decision.
    Transaction,
}

impl Op {
    /// What protocols know of it.
    pub fn class(&self) -> Class {
        match self {
            Op::Get { .. } | Op::GetAll { .. } | Op::Range(_) | Op::History { .. } => Class::Read,
            Op::Update { .. } => Class::Update,
            Op::Transaction { .. } | Op::PutAll { .. } => Class::Transaction,
            Op::Put { .. } | Op::Delete { .. } | Op::DeleteRange { .. } => Class::Blind,
            Op::Trim { .. } | Op::TrimRange { .. } | Op::Expire { .. } | Op::Advance { .. } => Class::Blind,
            Op::Note(_) | Op::Merge { .. } | Op::Collect { .. } => Class::Blind,
        }
    }

    /// Whether no client may ask for it: the store orders it itself.
    pub fn is_own(&self) -> bool {
        match self {
            Op::Advance { .. } | Op::Merge { .. } | Op::Collect { .. } => true,
            Op::Note(note) => !matches!(note, Note::Clear { .. }),
            _ => false,
        }
    }

    /// The version it wants to read at.
    pub fn at(&self) -> Option<Version> {
        match self {
            Op::Get { at, .. } | Op::GetAll { at, .. } => *at,
            Op::Range(range) => range.at,
            _ => None,
        }
    }

    /// The same with the time of each deadline left out: a time to live that is sent again is another deadline, and still
    /// the same request.
    pub fn without_deadlines(&self) -> Cow<'_, Op> {
        if let Op::Put { deadline: None, .. } = self {
            return Cow::Borrowed(self);
        }
        let mut op = self.clone();
        op.leave_out_deadlines();
        Cow::Owned(op)
    }

    fn leave_out_deadlines(&mut self) {
        let leave_out = |deadline: &mut Option<u64>| *deadline = deadline.map(|_| 0);
        match self {
            Op::Put { deadline, .. } | Op::Expire { deadline, .. } => leave_out(deadline),
            Op::Update { function: Function::Insert { deadline, .. }, .. } => leave_out(deadline),
            Op::Update { function: Function::CompareAndPut { deadline, .. }, .. } => leave_out(deadline),
            Op::Transaction { then, otherwise, .. } => {
                then.iter_mut().chain(otherwise).for_each(Op::leave_out_deadlines);
            }
            _ => {}
        }
    }

    /// Calls `visit` with each key it names. What is asked of a range names none: it concerns every shard.
    pub fn for_each_key<'a>(&'a self, visit: &mut dyn FnMut(&'a Key)) {
        match self {
            Op::Get { key, .. }
            | Op::History { key, .. }
            | Op::Put { key, .. }
            | Op::Delete { key, .. }
            | Op::Trim { key, .. }
            | Op::Expire { key, .. }
            | Op::Note(Note::Clear { key, .. })
            | Op::Update { key, .. } => visit(key),
            Op::GetAll { keys, .. } => keys.iter().for_each(visit),
            Op::PutAll { rows } => rows.iter().for_each(|(key, _)| visit(key)),
            Op::Merge { rows } => rows.iter().for_each(|row| visit(&row.key)),
            Op::Collect { tombstones } => tombstones.iter().for_each(|(key, _)| visit(key)),
            Op::Transaction { conditions, then, otherwise } => {
                conditions.iter().for_each(|condition| visit(&condition.key));
                then.iter().chain(otherwise).for_each(|op| op.for_each_key(visit));
            }
            Op::Range(_)
            | Op::DeleteRange { .. }
            | Op::TrimRange { .. }
            | Op::Advance { .. }
            | Op::Note(_) => {}
        }
    }

    /// Checks it against every limit; the first that fails is told.
    pub fn validate(&self) -> Result<(), Error> {
        let mut found = Ok(());
        let mut keys = 0;
        self.for_each_key(&mut |key| {
            keys += 1;
            if found.is_ok() {
                found = check_key(key);
            }
        });
        found?;
        check_count("keys of one op", keys, KEYS_PER_OP_MAX)?;
        check_size("the op (all its keys and values)", self.bytes(), OP_BYTES_MAX)?;
        match self {
            Op::Put { value, .. } => check_value(value),
            Op::PutAll { rows } => rows.iter().try_for_each(|(_, value)| check_value(value)),
            Op::Merge { rows } => rows.iter().try_for_each(check_row),
            Op::Update { function, .. } => function.validate(),
            Op::Note(Note::Clear { lost, .. }) => {
                check_count("lines taken off a ledger by one op", lost.len(), KEYS_PER_OP_MAX)
            }
            Op::Range(range) => check_bounds(&range.from, range.to.as_ref()),
            Op::DeleteRange { from, to } | Op::TrimRange { from, to, .. } => check_bounds(from, to.as_ref()),
            Op::Transaction { conditions, then, otherwise } => {
                check_count("conditions of a transaction", conditions.len(), CONDITIONS_MAX)?;
                then.iter().chain(otherwise).try_for_each(check_inner)
            }
            _ => Ok(()),
        }
    }

    /// Bytes of all its keys and values.
    pub fn bytes(&self) -> usize {
        let mut sum = 0;
        self.for_each_key(&mut |key| sum += key.len());
        sum + match self {
            Op::Put { value, .. } => value.len(),
            Op::PutAll { rows } => rows.iter().map(|(_, value)| value.len()).sum(),
            Op::Merge { rows } => rows.iter().map(|row| row.bytes() - row.key.len()).sum(),
            Op::Note(note) => note.bytes(),
            Op::Update { function, .. } => function.bytes(),
            Op::Range(range) => range.from.len() + range.to.as_ref().map_or(0, Bytes::len),
            Op::DeleteRange { from, to } | Op::TrimRange { from, to, .. } => {
                from.len() + to.as_ref().map_or(0, Bytes::len)
            }
            Op::Transaction { conditions, then, otherwise } => {
                let expected = conditions.iter().map(|condition| condition.expect.bytes()).sum::<usize>();
                // The keys of the inner ops were counted above.
                let inner = |op: &Op| {
                    let mut keys = 0;
                    op.for_each_key(&mut |key| keys += key.len());
                    op.bytes() - keys
                };
                expected + then.iter().chain(otherwise).map(inner).sum::<usize>()
            }
            _ => 0,
        }
    }
}

impl Function {
    fn validate(&self) -> Result<(), Error> {
        match self {
            Function::Append { value, .. } | Function::Insert { value, .. } => check_value(value),
            Function::CompareAndPut { value, .. } => check_value(value),
            Function::Pop { count: 0, .. } => {
                Err(Error::Invalid("pop 0 characters: ask for 1 or more".into()))
            }
            Function::Pop { .. } | Function::Increment { .. } => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Function::Append { value, .. } | Function::Insert { value, .. } => value.len(),
            Function::CompareAndPut { expect, value, .. } => expect.bytes() + value.len(),
            Function::Pop { .. } | Function::Increment { .. } => 0,
        }
    }
}

impl Expect {
    fn bytes(&self) -> usize {
        if let Expect::Value(value) = self { value.len() } else { 0 }
    }
}

fn check_key(key: &Key) -> Result<(), Error> {
    if key.len() < KEY_BYTES_MIN {
        return Err(Error::Invalid("the key is empty: a key has at least one byte".into()));
    }
    check_size("the key", key.len(), KEY_BYTES_MAX)
}

fn check_row(row: &merged::Row) -> Result<(), Error> {
    row.check().map_err(|why| Error::Invalid(why.to_string()))
}

fn check_value(value: &Value) -> Result<(), Error> {
    check_size("the value", value.len(), VALUE_BYTES_MAX)
}

fn check_bounds(from: &Key, to: Option<&Key>) -> Result<(), Error> {
    check_size("the key", from.len(), KEY_BYTES_MAX)?;
    match to {
        Some(to) => check_size("the key", to.len(), KEY_BYTES_MAX),
        None => Ok(()),
    }
}

fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit {
        Err(Error::TooLarge { what: what.into(), size: size as u64, limit: limit as u64 })
    } else {
        Ok(())
    }
}

fn check_count(what: &'static str, count: usize, limit: usize) -> Result<(), Error> {
    check_size(what, count, limit)
}

fn check_inner(op: &Op) -> Result<(), Error> {
    match op {
        Op::Transaction { .. }
        | Op::Range(_)
        | Op::DeleteRange { .. }
        | Op::TrimRange { .. }
        | Op::Advance { .. }
        | Op::Note(_)
        | Op::Merge { .. }
        | Op::Collect { .. } => Err(Error::Invalid(
            "a transaction holds gets, puts, deletes and updates of single keys; run ranges and transactions on their own"
                .into(),
        )),
        _ if op.at().is_some() => {
            Err(Error::Invalid("a get inside a transaction reads the newest state: leave its version out".into()))
        }
        _ => op.validate(),
    }
}
