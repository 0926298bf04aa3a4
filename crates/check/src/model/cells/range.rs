//! Ranges of keys.

use kv::{Answer, Direction, KEYS_PER_OP_MAX, Key, Page, Range};

use super::Cells;

/// Whether a range reads this page. Only a model that knows its keys can tell.
pub(super) fn read<C: Cells>(cells: &C, range: &Range, seen: Option<&Answer>) -> bool {
    let (Some(answer), None) = (seen, range.at) else { return true };
    let Answer::Page(page) = answer else { return false };
    let keys = cells.keys().expect("a model of single keys leaves ranges out");
    let mut rows: Vec<Key> =
        keys.into_iter().filter(|key| inside(key, &range.from, range.to.as_ref())).collect();
    if range.direction == Direction::Backward {
        rows.reverse();
    }
    if range.count_only {
        return page.count == rows.len() as u64;
    }
    if let Some(after) = &range.page {
        rows.retain(|key| if range.direction == Direction::Backward { key < after } else { key > after });
    }
    agrees(cells, range, page, &rows)
}

/// A page may end early, when it is full, but only if it says that there is more.
fn agrees<C: Cells>(cells: &C, range: &Range, page: &Page, rows: &[Key]) -> bool {
    let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
    let complete = page.rows.len() == rows.len().min(limit);
    let continued = page.next.is_some() && page.rows.len() < rows.len();
    page.rows.len() <= rows.len()
        && (complete || continued)
        && page.rows.iter().zip(rows).all(|(row, key)| {
            let value = cells.cell(key).map(|cell| &cell.value);
            row.key == *key && (range.keys_only || Some(&row.value) == value)
        })
}

/// Removes the keys of a range, as many as the answer says it got to.
pub(super) fn delete<C: Cells>(cells: &mut C, from: &Key, to: Option<&Key>, seen: Option<&Answer>) -> bool {
    let keys = cells.keys().expect("a model of single keys leaves delete-ranges out");
    let next = match seen {
        Some(Answer::Deleted { next, .. }) => next.as_ref(),
        Some(_) => return false,
        None => None,
    };
    let end = next.or(to);
    let gone: Vec<Key> =
        keys.into_iter().filter(|key| inside(key, from, end)).take(KEYS_PER_OP_MAX).collect();
    gone.iter().for_each(|key| cells.set(key, None));
    match seen {
        Some(Answer::Deleted { count, .. }) => *count == gone.len() as u64,
        _ => true,
    }
}

fn inside(key: &Key, from: &Key, to: Option<&Key>) -> bool {
    key >= from && to.is_none_or(|to| key < to)
}
