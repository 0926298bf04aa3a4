//! What reads and writes must weigh, under [`Protocol::Quorum`](crate::Protocol::Quorum).

/// How much the members must weigh that a read hears, and those that have what a write stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Those that a read hears.
    pub read: u32,
    /// Those that have what a write stores.
    pub write: u32,
}

impl Votes {
    /// A majority for both, of members that weigh so much together.
    pub fn majority(total: u32) -> Votes {
        let most = total / 2 + 1;
        Votes { read: most, write: most }
    }

    /// Checks them for members of these weights; the text says what would do.
    pub fn check(self, weights: &[u32]) -> Result<(), String> {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let (read, write) = (u64::from(self.read), u64::from(self.write));
        if read == 0 || write == 0 {
            return Err("a read and a write each need members that weigh 1 or more".into());
        }
        if read > total || write > total {
            return Err(format!("all members together weigh {total}: a read or a write cannot need more"));
        }
        if read + write <= total {
            return Err(format!(
                "a read of {read} may miss a write of {write}: of {total} together they must be more, as in --read {} --write {}",
                total / 2 + 1,
                total / 2 + 1
            ));
        }
        Ok(())
    }

    /// Whether one member alone weighs enough for a write: what it has, and loses, nobody else need have.
    pub fn is_met_by_one(self, weights: &[u32]) -> bool {
        weights.iter().any(|weight| *weight >= self.write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_that_may_miss_each_other_are_refused() {
        let weights = [1, 2, 1];
        assert_eq!(Votes { read: 2, write: 3 }.check(&weights), Ok(()));
        assert!(Votes { read: 2, write: 2 }.check(&weights).unwrap_err().contains("--read 3 --write 3"));
        assert!(Votes { read: 0, write: 5 }.check(&weights).is_err());
        assert!(Votes { read: 5, write: 5 }.check(&weights).unwrap_err().contains("weigh 4"));
        assert_eq!(Votes::majority(4).check(&weights), Ok(()));
        assert!(Votes { read: 3, write: 2 }.is_met_by_one(&weights));
        assert!(!Votes { read: 2, write: 3 }.is_met_by_one(&weights));
    }
}
