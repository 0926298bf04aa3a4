//! An answer is of the kind that its op has (the texts of `kv::Op`).

use kv::{Answer, Function, Op};

use super::Told;

/// What is wrong with an answer's kind.
pub(super) fn check(told: &Told<'_>) -> Option<String> {
    let answer = &told.reply.answer;
    let fits = match told.op {
        Op::Get { .. } => matches!(answer, Answer::Row(_)),
        Op::GetAll { .. } | Op::PutAll { .. } => matches!(answer, Answer::Many(_)),
        Op::Range(_) => matches!(answer, Answer::Page(_)),
        Op::History { .. } => matches!(answer, Answer::History { .. }),
        Op::Put { .. } => matches!(answer, Answer::Put { .. }),
        Op::Delete { .. } | Op::DeleteRange { .. } => matches!(answer, Answer::Deleted { .. }),
        Op::Trim { .. }
        | Op::TrimRange { .. }
        | Op::Advance { .. }
        | Op::Note(_)
        | Op::Merge { .. }
        | Op::Collect { .. } => {
            matches!(answer, Answer::Trimmed { .. })
        }
        Op::Expire { .. } => matches!(answer, Answer::Expire(_)),
        Op::Transaction { .. } => matches!(answer, Answer::Transaction { .. }),
        Op::Update { function, .. } => match function {
            Function::Append { .. } => matches!(answer, Answer::Length(_)),
            Function::Pop { .. } => matches!(answer, Answer::Popped(_)),
            Function::Increment { .. } => matches!(answer, Answer::Number(_)),
            Function::Insert { .. } | Function::CompareAndPut { .. } => {
                matches!(answer, Answer::Condition { .. })
            }
        },
    };
    (!fits).then(|| format!("answers fit their ops: {:?} was answered {answer:?}", told.op))
}
