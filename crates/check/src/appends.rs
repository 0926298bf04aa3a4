//! Judges unique appends without a search: who only appended texts that occur once can be told at the end what was lost.
//!
//! The plainest proof of durability: kill what you like while clients append, then read the final value.

use std::collections::HashMap;

/// One append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append<'a> {
    /// Who appended. Each writer waits for its answer before it appends again.
    pub writer: u64,
    /// The text: not empty, and no text occurs within another or across the seam of two (end it with a separator that
    /// it does not contain).
    pub text: &'a str,
    /// Whether it was acknowledged; otherwise it may or may not be there, once.
    pub acknowledged: bool,
}

/// What is wrong with a final value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An acknowledged append is not there.
    #[error("the append '{text}' of writer {writer} was acknowledged and is lost")]
    Lost {
        /// Who appended it.
        writer: u64,
        /// The text.
        text: String,
    },
    /// An append is there more than once.
    #[error("the append '{text}' of writer {writer} is there {times} times")]
    Repeated {
        /// Who appended it.
        writer: u64,
        /// The text.
        text: String,
        /// How often.
        times: usize,
    },
    /// A writer's appends are there in another order than it made them.
    #[error("writer {writer} appended '{first}' before '{second}', but they are there the other way round")]
    Reordered {
        /// Who appended them.
        writer: u64,
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
    /// The value holds something that nobody appended.
    #[error("at byte {at} the value holds '{text}', which nobody appended")]
    Invented {
        /// Where.
        at: usize,
        /// What, as far as the next known append.
        text: String,
    },
}

/// Judges a final value: each acknowledged append is in it exactly once, each other one at most once, those of one writer
/// in their order, and nothing else is. `appends` lists each writer's in its order. All faults are told.
pub fn check(appends: &[Append], value: &str) -> Vec<Fault> {
    let places: Vec<Vec<usize>> =
        appends.iter().map(|append| value.match_indices(append.text).map(|(at, _)| at).collect()).collect();
    let mut faults = Vec::new();
    for (append, places) in appends.iter().zip(&places) {
        let (writer, text) = (append.writer, append.text.to_owned());
        match places.len() {
            0 if append.acknowledged => faults.push(Fault::Lost { writer, text }),
            0 | 1 => {}
            times => faults.push(Fault::Repeated { writer, text, times }),
        }
    }
    faults.extend(reordered(appends, &places));
    faults.extend(invented(appends, &places, value));
    faults
}

fn reordered(appends: &[Append], places: &[Vec<usize>]) -> Vec<Fault> {
    let mut latest: HashMap<u64, (usize, &str)> = HashMap::new();
    let mut faults = Vec::new();
    for (append, places) in appends.iter().zip(places) {
        let Some(at) = places.first() else { continue };
        match latest.get(&append.writer) {
            Some((earlier, first)) if earlier > at => {
                let (first, second) = ((*first).to_owned(), append.text.to_owned());
                faults.push(Fault::Reordered { writer: append.writer, first, second });
            }
            _ => drop(latest.insert(append.writer, (*at, append.text))),
        }
    }
    faults
}

fn invented(appends: &[Append], places: &[Vec<usize>], value: &str) -> Vec<Fault> {
    let known = appends
        .iter()
        .zip(places)
        .flat_map(|(append, places)| places.iter().map(|at| (*at, append.text.len())));
    let mut known: Vec<(usize, usize)> = known.collect();
    known.sort_unstable();
    known.push((value.len(), 0));
    let mut faults = Vec::new();
    let mut end = 0;
    for (at, length) in known {
        if at > end {
            faults.push(Fault::Invented { at: end, text: value[end..at].to_owned() });
        }
        end = end.max(at + length);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(writer: u64, text: &str, acknowledged: bool) -> Append<'_> {
        Append { writer, text, acknowledged }
    }

    #[test]
    fn value_with_all_appends_in_order_is_right() {
        let appends = [
            append(1, "a1;", true),
            append(2, "b1;", true),
            append(1, "a2;", false),
            append(2, "b2;", false),
        ];
        for value in ["a1;b1;", "b1;a1;a2;", "a1;b1;b2;a2;"] {
            assert_eq!(check(&appends, value), [], "{value}");
        }
    }

    #[test]
    fn value_with_each_fault_names_it() {
        let appends = [append(1, "a1;", true), append(1, "a2;", true), append(2, "b1;", false)];
        let lost = Fault::Lost { writer: 1, text: "a2;".into() };
        assert_eq!(check(&appends, "a1;b1;"), [lost]);
        let repeated = Fault::Repeated { writer: 2, text: "b1;".into(), times: 2 };
        assert_eq!(check(&appends, "b1;a1;a2;b1;"), [repeated]);
        let reordered = Fault::Reordered { writer: 1, first: "a1;".into(), second: "a2;".into() };
        assert_eq!(check(&appends, "a2;a1;"), [reordered]);
        let invented = Fault::Invented { at: 3, text: "x;".into() };
        assert_eq!(check(&appends, "a1;x;a2;"), [invented]);
    }
}
