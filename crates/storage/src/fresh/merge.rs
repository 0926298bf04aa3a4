//! Several layers, and the rows below them, as one.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow, Deref};

use bytes::Bytes;

use super::layer::{Layer, Rows};
use crate::engine::{self, EngineError, View};

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The rows of layers in order, each key once: as the newest layer has it.
pub struct Merged<'a> {
    /// Those that have a row left; of the newest layer first.
    sources: Vec<Source<'a>>,
    backward: bool,
}

type Row<'a> = (Bytes, Option<&'a Bytes>);

struct Source<'a> {
    next: Row<'a>,
    rows: Rows<'a>,
}

impl<'a> Source<'a> {
    fn new(mut rows: Rows<'a>, backward: bool) -> Option<Source<'a>> {
        let next = if backward { rows.next_back() } else { rows.next() }?;
        Some(Source { next, rows })
    }

    /// Goes on to the next row; `None` = that was the last.
    fn advance(&mut self, backward: bool) -> Option<()> {
        self.next = if backward { self.rows.next_back() } else { self.rows.next() }?;
        Some(())
    }
}

impl<'a> Merged<'a> {
    /// Of layers, newest first, between two bounds.
    pub fn new(
        layers: impl Iterator<Item = &'a Layer>,
        (from, to): Bounds<'a>,
        backward: bool,
    ) -> Merged<'a> {
        let lists = layers.flat_map(|layer| layer.lists(from, to));
        Merged { sources: lists.filter_map(|rows| Source::new(rows, backward)).collect(), backward }
    }

    /// Of whole layers, newest first.
    pub fn all(layers: impl Iterator<Item = &'a Layer>) -> Merged<'a> {
        Merged::new(layers, (Bound::Unbounded, Bound::Unbounded), false)
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let backward = self.backward;
        // Of equal keys the first: the newest.
        let first =
            self.sources.iter().min_by(|one, other| in_order(&one.next.0, &other.next.0, backward))?;
        let row = first.next.clone();
        self.sources.retain_mut(|source| source.next.0 != row.0 || source.advance(backward).is_some());
        Some(row)
    }
}

fn in_order(one: &[u8], other: &[u8], backward: bool) -> Ordering {
    if backward { other.cmp(one) } else { one.cmp(other) }
}

/// Visits the rows of layers, newest first, and of what lies below them; see [`View::scan`].
pub fn scan<'a>(
    layers: impl Iterator<Item = &'a Layer>,
    below: &dyn View,
    bounds: Bounds<'a>,
    backward: bool,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    if engine::is_empty(bounds.0, bounds.1) {
        return Ok(());
    }
    let mut fresh = Merged::new(layers, bounds, backward).peekable();
    let mut flow = ControlFlow::Continue(());
    below.scan(bounds.0, bounds.1, backward, &mut |key, value| {
        flow = visit_before(&mut fresh, &key, backward, visit);
        if flow.is_continue() {
            flow = match fresh.next_if(|(newer, _)| *newer == key) {
                Some((_, newer)) => newer.map_or(flow, |newer| visit(key, newer.clone())),
                None => visit(key, value),
            };
        }
        flow
    })?;
    if flow.is_continue() {
        let _ = fresh.try_for_each(|row| visit_row(row, visit));
    }
    Ok(())
}

/// Visits the rows of layers that come before a key.
fn visit_before(
    fresh: &mut Peekable<Merged<'_>>,
    key: &[u8],
    backward: bool,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) -> ControlFlow<()> {
    while let Some(row) = fresh.next_if(|(next, _)| in_order(next, key, backward).is_lt()) {
        visit_row(row, visit)?;
    }
    ControlFlow::Continue(())
}

fn visit_row(
    (key, value): Row<'_>,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) -> ControlFlow<()> {
    value.map_or(ControlFlow::Continue(()), |value| visit(key, value.clone()))
}

/// Layers that do not change any more, and a view of the engine below them.
pub struct Over<L> {
    /// Newest first.
    pub layers: Vec<L>,
    pub below: Box<dyn View>,
}

impl<L: Deref<Target = Layer> + Send> View for Over<L> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.layers.iter().find_map(|layer| layer.get(key)) {
            Some(found) => Ok(found.cloned()),
            None => self.below.get(key),
        }
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        scan(self.layers.iter().map(Deref::deref), &*self.below, (from, to), backward, visit)
    }
}
