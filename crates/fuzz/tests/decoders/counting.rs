//! An allocator that counts what each thread has allocated, so that several targets can run at a time.
//!
//! Memory that another thread frees is not taken off; targets start no threads.

#![allow(unsafe_code)] // An allocator is unsafe to implement; this one only counts and calls the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};

/// A single allocation of more bytes is told on standard error before it is tried: if it fails, the process ends.
const TOLD_BYTES: usize = 1 << 30;

pub struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static RUNNING: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Counts from here on. What runs is named, in case it ends the process.
pub fn begin(target: &str, whence: &str) {
    RUNNING.set(format!("target {target}, {whence}"));
    NOW.set(0);
    MOST.set(0);
}

/// The most that was allocated at a time by this thread since it began.
pub fn most() -> isize {
    MOST.get()
}

fn add(bytes: usize) {
    if bytes > TOLD_BYTES {
        let _ = RUNNING.try_with(|running| match running.try_borrow() {
            Ok(running) => eprintln!("{running}: asks for {bytes} bytes"),
            Err(_) => eprintln!("something asks for {bytes} bytes"),
        });
    }
    // A thread that ends frees its own keys last: then nobody counts.
    let _ = NOW.try_with(|now| {
        now.set(now.get().saturating_add_unsigned(bytes));
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

fn subtract(bytes: usize) {
    let _ = NOW.try_with(|now| now.set(now.get().saturating_sub_unsigned(bytes)));
}

// SAFETY: all memory is the system allocator's, which is asked for and given back just as the caller does.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        subtract(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        add(bytes);
        subtract(layout.size());
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
