//! A fast hash that is the same in every run.
//!
//! The method of the Rust compiler's FxHash: rotate, xor, multiply, eight bytes at a time. The keys here come from a
//! history, not from somebody who wants them to collide.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map that hashes fast. Nothing may depend on its order.
pub(super) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Fast>>;

#[derive(Default)]
pub(super) struct Fast(u64);

/// The constant of FxHash: pi's digits, made odd.
const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

impl Fast {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        // The low bits of a product are weak, and the map takes its buckets from them.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
        self.add(bytes.len() as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.add(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }
}
