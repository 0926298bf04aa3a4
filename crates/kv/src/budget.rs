//! What may be held for someone at a time: bytes of requests that came in, bytes of answers that were not taken.
//!
//! A [`Budget`] has a limit and may be a part of a larger one: a connection's of its node's. A [`Share`] is what one request
//! holds of it. It grows as bytes come or are read, travels with them in clones, and gives all back when the last clone
//! is dropped: when the bytes were written to a socket, or their connection ended, whichever way.
//!
//! ```text
//! node 256 MiB ─┬─ connection 32 MiB ─┬─ share of a get:    8 MiB read, and not yet written to its socket
//!               │                     └─ share of a get:    waits, because ...
//!               └─ connection 32 MiB ─── share of a range:  1 MiB
//! ```
//!
//! # Caveats
//!
//! An answer's size is known only when it was read. So there is room as long as anything is left, and the last one to find
//! room may go beyond the limit, by one answer.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// A limit, and how much of it is held. Clones are the same budget. The default one has no limit and counts nothing.
#[derive(Clone, Default)]
pub struct Budget(Option<Arc<Inner>>);

struct Inner {
    limit: usize,
    held: AtomicUsize,
    whole: Budget,
    waiting: Mutex<Vec<Waker>>,
}

/// What one request holds of a budget. Clones are the same share; the last one that is dropped gives it back.
#[derive(Clone, Default)]
pub struct Share(Option<Arc<Held>>);

struct Held {
    budget: Budget,
    amount: AtomicUsize,
    refused: AtomicBool,
}

/// What a request is counted against: what came in for it, and what is to go out.
#[derive(Clone, Debug, Default)]
pub struct Charge {
    /// Grows as the request is received.
    pub request: Share,
    /// Grows as its answer is read.
    pub answer: Share,
}

impl Budget {
    /// So much may be held.
    pub fn new(limit: usize) -> Budget {
        Budget::of(limit, Budget::default())
    }

    /// A part of this budget: what is held of the part is held of the whole.
    pub fn part(&self, limit: usize) -> Budget {
        Budget::of(limit, self.clone())
    }

    fn of(limit: usize, whole: Budget) -> Budget {
        let (held, waiting) = Default::default();
        Budget(Some(Arc::new(Inner { limit, held, whole, waiting })))
    }

    /// Whether anything is left, here and of the whole. The last quarter of a whole is for parts that hold nothing: a few
    /// that hold all they may leave room for the others.
    pub fn has_room(&self) -> bool {
        self.levels().all(|level| {
            let held = level.held.load(Ordering::Acquire);
            held < level.limit && (held == 0 || !level.whole.is_scarce())
        })
    }

    /// Whether only the last quarter is left.
    pub fn is_scarce(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| self.held() >= inner.limit - inner.limit / 4)
    }

    /// How much is held.
    pub fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.held.load(Ordering::Acquire))
    }

    /// What this is a part of.
    pub fn whole(&self) -> Budget {
        self.0.as_ref().map_or_else(Budget::default, |inner| inner.whole.clone())
    }

    /// Ready when there is room; else the task is woken when there may be.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        for level in self.levels() {
            let mut waiting = level.waiting.lock().expect("no holder of the waiting panics");
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        // What was given back before the waker lay there has woken nobody.
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// A share that holds nothing yet.
    pub fn share(&self) -> Share {
        Share(self.0.is_some().then(|| {
            let (amount, refused) = Default::default();
            Arc::new(Held { budget: self.clone(), amount, refused })
        }))
    }

    fn levels(&self) -> impl Iterator<Item = &Inner> {
        std::iter::successors(self.0.as_deref(), |inner| inner.whole.0.as_deref())
    }

    fn give_back(&self, amount: usize) {
        if amount == 0 {
            return;
        }
        for level in self.levels() {
            level.held.fetch_sub(amount, Ordering::AcqRel);
            let waiting =
                std::mem::take(&mut *level.waiting.lock().expect("no holder of the waiting panics"));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Share {
    /// Another share of the same budget, which holds nothing yet.
    pub fn another(&self) -> Share {
        self.0.as_ref().map_or_else(Share::default, |held| held.budget.share())
    }

    /// Holds so much more, whether there is room or not.
    pub fn add(&self, amount: usize) {
        if let Some(held) = &self.0 {
            held.amount.fetch_add(amount, Ordering::AcqRel);
            held.budget.levels().for_each(|level| {
                level.held.fetch_add(amount, Ordering::AcqRel);
            });
        }
    }

    /// Holds so much more if there is room. False = there is none, which [`Share::was_refused`] tells from now on.
    pub fn try_add(&self, amount: usize) -> bool {
        let room = self.has_room();
        if room {
            self.add(amount);
        }
        room
    }

    /// Whether the budget has room. False is remembered, see [`Share::was_refused`].
    pub fn has_room(&self) -> bool {
        let room = self.0.as_ref().is_none_or(|held| held.budget.has_room());
        if !room {
            self.refuse();
        }
        room
    }

    /// Somebody else had no room.
    pub fn refuse(&self) {
        if let Some(held) = &self.0 {
            held.refused.store(true, Ordering::Release);
        }
    }

    /// Whether there was no room since this was asked last.
    pub fn was_refused(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.refused.swap(false, Ordering::AcqRel))
    }

    /// How much it holds.
    pub fn amount(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.amount.load(Ordering::Acquire))
    }

    /// The same bytes, with which this share lives on until the last of them is dropped.
    pub fn keep_with(self, bytes: Bytes) -> Bytes {
        if self.0.is_none() {
            return bytes;
        }
        Bytes::from_owner(Kept { bytes, _share: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(*self.amount.get_mut());
    }
}

struct Kept {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(inner) => write!(f, "Budget({} of {})", self.held(), inner.limit),
            None => f.write_str("Budget(no limit)"),
        }
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({})", self.amount())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn share_is_held_of_the_part_and_of_the_whole_until_its_last_clone_goes() {
        let whole = Budget::new(100);
        let part = whole.part(10);
        let share = part.share();
        share.add(4);
        share.clone().add(3);
        assert_eq!((share.amount(), part.held(), whole.held()), (7, 7, 7));
        let clone = share.clone();
        drop(share);
        assert_eq!(part.held(), 7);
        drop(clone);
        assert_eq!((part.held(), whole.held()), (0, 0));
    }

    #[test]
    fn room_is_gone_when_the_part_or_the_whole_is_full() {
        let whole = Budget::new(10);
        let (one, other) = (whole.part(6), whole.part(6));
        let share = one.share();
        assert!(share.try_add(6) && !share.was_refused());
        assert!(!share.try_add(1) && share.amount() == 6);
        assert!(share.was_refused() && !share.was_refused());
        assert!(other.share().has_room());
        // The last one to find room goes beyond the limit, by one answer.
        let last = other.share();
        assert!(last.try_add(5) && whole.held() == 11 && other.held() < 6);
        assert!(!other.has_room());
        drop(last);
        assert!(other.has_room() && !one.has_room());
    }

    #[test]
    fn room_that_is_scarce_is_for_those_who_hold_nothing() {
        let whole = Budget::new(100);
        let (one, other) = (whole.part(100), whole.part(100));
        let share = one.share();
        assert!(share.try_add(75) && whole.is_scarce());
        assert!(!one.has_room() && other.has_room());
        assert!(other.share().try_add(1) && other.has_room(), "the share is gone again");
        let little = other.share();
        assert!(little.try_add(1) && !other.has_room());
    }

    #[test]
    fn waiting_is_woken_when_anything_is_given_back() {
        let whole = Budget::new(10);
        let (one, other) = (whole.part(10), whole.part(10));
        let share = one.share();
        share.add(10);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(other.poll_room(&Context::from_waker(&waker)).is_pending());
        assert!(other.poll_room(&Context::from_waker(&waker)).is_pending());
        drop(share);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(other.poll_room(&Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn bytes_keep_their_share_until_the_last_of_them_is_dropped() {
        let budget = Budget::new(10);
        let share = budget.share();
        share.add(5);
        let mut bytes = share.keep_with(Bytes::from_static(b"hello"));
        assert_eq!(bytes, "hello");
        let front = bytes.split_to(2);
        drop(bytes);
        assert_eq!(budget.held(), 5);
        drop(front);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn default_has_no_limit() {
        let share = Budget::default().share();
        share.add(usize::MAX);
        assert!(share.try_add(usize::MAX) && share.amount() == 0);
        assert!(Budget::default().poll_room(&Context::from_waker(Waker::noop())).is_ready());
    }
}
