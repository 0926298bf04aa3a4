//! All keys of a keyspace, a page at a time.

use bytes::Bytes;
use kv::{Answer, Error, Op, PAGE_ROWS_MAX, Range};

use super::row::number;
use crate::classic::caller::Caller;

/// Goes through the numbers that are keys of a keyspace, in their order.
///
/// Each page is a read of its own: of what comes and goes meanwhile, some is seen and some is not.
pub(super) struct Pages<'a> {
    caller: &'a Caller,
    next: Next,
}

enum Next {
    First,
    After(Bytes),
    End,
}

impl<'a> Pages<'a> {
    pub(super) fn of(caller: &'a Caller) -> Pages<'a> {
        Pages { caller, next: Next::First }
    }

    /// The next page; `None` = there is none. A page may be empty: keys that are no numbers are another dialect's.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<i32>>, Error> {
        let page = match &self.next {
            Next::First => None,
            Next::After(key) => Some(key.clone()),
            Next::End => return Ok(None),
        };
        let limit = PAGE_ROWS_MAX as u32;
        let range = Range { keys_only: true, limit, page, ..Range::default() };
        let (Answer::Page(page), _) = self.caller.ask(Op::Range(range)).await? else {
            unreachable!("a range is answered with a page");
        };
        self.next = page.next.map_or(Next::End, Next::After);
        Ok(Some(page.rows.iter().filter_map(|row| number(&row.key)).collect()))
    }
}
