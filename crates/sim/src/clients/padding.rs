//! Larger values than the generator's: so that writes fill more than a sector, and copies more than a piece.
//!
//! Every value of a run grows by the same text, so that values that were equal are equal still. Appended texts stay as they
//! are: they pile up.

use kv::{Expect, Function, Op, Value};

/// The op with larger values.
pub(super) fn pad(op: Op, padding: &str) -> Op {
    let more = |value: Value| -> Value { [&value[..], padding.as_bytes()].concat().into() };
    match op {
        Op::Put { key, value, deadline, previous } => Op::Put { key, value: more(value), deadline, previous },
        Op::PutAll { rows } => {
            Op::PutAll { rows: rows.into_iter().map(|(key, value)| (key, more(value))).collect() }
        }
        Op::Update { key, function } => {
            let function = match function {
                Function::Insert { value, deadline } => Function::Insert { value: more(value), deadline },
                Function::CompareAndPut { expect, value, deadline } => {
                    let expect = match expect {
                        Expect::Value(value) => Expect::Value(more(value)),
                        other => other,
                    };
                    Function::CompareAndPut { expect, value: more(value), deadline }
                }
                other => other,
            };
            Op::Update { key, function }
        }
        Op::Transaction { conditions, then, otherwise } => {
            let all = |ops: Vec<Op>| ops.into_iter().map(|op| pad(op, padding)).collect();
            Op::Transaction { conditions, then: all(then), otherwise: all(otherwise) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_compared_grow_alike() {
        let (value, expect) = (Value::from_static(b"2"), Expect::Value(Value::from_static(b"1")));
        let function = Function::CompareAndPut { expect, value, deadline: None };
        let padded = pad(Op::Update { key: "k".into(), function }, "..");
        let Op::Update { function: Function::CompareAndPut { expect, value, .. }, .. } = padded else {
            panic!()
        };
        assert_eq!((expect, value), (Expect::Value("1..".into()), "2..".into()));
    }
}
