//! Inputs from a seed: kept ones, changed in a few places the way that decoders dislike.

/// Inputs grow no longer than this: longer ones take time and find nothing more.
const BYTES_MAX: usize = 48 << 10;
/// Changes of one input.
const CHANGES_MAX: u64 = 6;
/// Bytes that are inserted or repeated at a time.
const PIECE_BYTES_MAX: u64 = 64;

/// Numbers at which lengths and versions turn over.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    (1 << 24) - 1,
    (1 << 31) - 1,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// Words that mean something in the text formats.
const WORDS: [&str; 24] = [
    "\"",
    "\\",
    "\\u",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "#",
    "#{",
    "#_",
    "^",
    ";",
    ",",
    ":",
    "\n",
    "\r\n",
    "nil",
    "null",
    "\u{feff}",
    "ä",
    "18446744073709551616",
    "-1",
];

/// Draws inputs from a seed (SplitMix64).
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutator<'a> {
    /// Over a corpus that holds one input at least.
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Mutator<'a> {
        assert!(!corpus.is_empty(), "there is something to change");
        Mutator { corpus, state: seed }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.kept().to_vec();
        for _ in 0..1 + self.below(CHANGES_MAX) {
            self.change(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() as u64 + 1) as usize;
        let end = (at + self.below(PIECE_BYTES_MAX) as usize).min(input.len());
        match self.below(12) {
            0 | 1 => self.flip(input),
            2 => self.set(input),
            3 => input.truncate(at),
            4 => drop(input.drain(at..end)),
            5 => input.splice(at..at, input[at..end].to_vec()).for_each(drop),
            6 => self.splice(input, at),
            7 => {
                let number = self.number();
                let width = 1 << self.below(4);
                self.overwrite(input, at, number, width);
            }
            8 => {
                let number = self.number();
                input.splice(at..at, varint(number)).for_each(drop);
            }
            9 => {
                let word = WORDS[self.below(WORDS.len() as u64) as usize];
                input.splice(at..at, word.bytes()).for_each(drop);
            }
            10 => self.lengthen(input, at),
            _ => self.swap(input, at, end),
        }
    }

    fn flip(&mut self, input: &mut [u8]) {
        if !input.is_empty() {
            let at = self.below(input.len() as u64) as usize;
            input[at] ^= 1 << self.below(8);
        }
    }

    fn set(&mut self, input: &mut [u8]) {
        if !input.is_empty() {
            let at = self.below(input.len() as u64) as usize;
            input[at] = self.next() as u8;
        }
    }

    /// Puts a piece of another input in.
    fn splice(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.kept();
        let from = self.below(other.len() as u64 + 1) as usize;
        let end = match self.below(2) {
            0 => other.len(),
            _ => (from + self.below(PIECE_BYTES_MAX) as usize).min(other.len()),
        };
        let until = if self.below(2) == 0 { input.len() } else { at };
        input.splice(at..until, other[from..end].iter().copied()).for_each(drop);
    }

    /// Writes a number of so many bytes over what is there, either end first.
    fn overwrite(&mut self, input: &mut [u8], at: usize, number: u64, width: usize) {
        let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
        let bytes = if self.below(2) == 0 { &big[8 - width..] } else { &little[..width] };
        for (place, byte) in input[at..].iter_mut().zip(bytes) {
            *place = *byte;
        }
    }

    /// Takes a byte for a length, changes it a little, and what follows with it.
    fn lengthen(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(length) = input.get_mut(at) else { return };
        *length = length.wrapping_add(1);
        if self.below(2) == 0 {
            let byte = self.next() as u8;
            input.insert(at + 1, byte);
        }
    }

    /// Moves a piece elsewhere.
    fn swap(&mut self, input: &mut Vec<u8>, at: usize, end: usize) {
        let piece: Vec<u8> = input.drain(at..end).collect();
        let to = self.below(input.len() as u64 + 1) as usize;
        input.splice(to..to, piece).for_each(drop);
    }

    fn number(&mut self) -> u64 {
        match self.below(3) {
            0 => self.next() >> self.below(64),
            _ => {
                NUMBERS[self.below(NUMBERS.len() as u64) as usize].wrapping_add(self.below(3)).wrapping_sub(1)
            }
        }
    }

    fn kept(&mut self) -> &'a [u8] {
        let number = self.below(self.corpus.len() as u64);
        &self.corpus[number as usize]
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutator_same_seed_draws_the_same_inputs() {
        let corpus = [b"{:a [1 2]}".to_vec(), vec![0; 300], Vec::new()];
        let (mut one, mut other) = (Mutator::new(&corpus, 9), Mutator::new(&corpus, 9));
        let inputs: Vec<Vec<u8>> = (0..1000).map(|_| one.input()).collect();
        assert!(inputs.iter().all(|input| *input == other.input() && input.len() <= BYTES_MAX));
        assert!(inputs.iter().any(|input| *input != inputs[0]));
    }
}
