//! The definition of the commands on faults: words, options and help.

use clap::Subcommand;
use kv::fault::SLOW_MICROS_MAX;

/// What the commands are for, for help.
pub const EXAMPLES: &str = "\
Examples:
  capstan up --lab                    a cluster that takes faults
  capstan fault slow n2 1.5           its responses leave 1.5 s late
  capstan fault partition n1/n2,n3    nothing passes between n1 and the others
  capstan cluster status              shows the faults that are in force
Faults are in memory: a node that is started again has none. A node that is cut
off stays so while one of the two sides remembers it.";

/// Something is to go wrong, or right again.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Have the responses of a node leave late, to clients and to other nodes
    #[command(after_help = "\
Examples:
  capstan fault slow n2 1
  capstan fault slow n2 0.25
Late are answers, votes and acknowledgements; requests, decisions and signs of life
leave as ever, so it is not taken for dead. 'fault restore n2' ends it at once.")]
    Slow {
        /// The name of the node
        #[arg(value_name = "NODE")]
        node: String,
        /// How late: more than 0, up to 3600
        #[arg(value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
        micros: u64,
    },
    /// Have the responses of a node leave at once again
    #[command(after_help = "Examples:\n  capstan fault restore n2")]
    Restore {
        /// The name of the node
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Let nothing pass between nodes on two sides, in both directions
    #[command(after_help = "\
Examples:
  capstan fault partition n1/n2,n3
  capstan fault partition n1,n2/n3,n4
Nodes that are on no side hear everybody. Clients reach all nodes as before. Several
partitions add up until 'fault heal' ends them all.")]
    Partition {
        /// The nodes of one side, a slash, those of the other
        #[arg(value_name = "A,B/C", value_parser = sides)]
        sides: Sides,
    },
    /// End all partitions
    #[command(after_help = "Examples:\n  capstan fault heal")]
    Heal,
    /// End the process of a node, as kill -9 does
    #[command(after_help = "\
Examples:
  capstan fault kill n3
'capstan up' starts it again a moment later.")]
    Kill {
        /// The name of the node
        #[arg(value_name = "NODE")]
        node: String,
    },
}

/// The two sides of a partition: names of nodes, at least one each, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides {
    /// One side.
    pub one: Vec<String>,
    /// The other.
    pub other: Vec<String>,
}

fn sides(text: &str) -> Result<Sides, String> {
    const FORM: &str = "a partition is two sides with a slash between them, as n1/n2,n3";
    let (one, other) = text.split_once('/').ok_or(FORM)?;
    let names = |side: &str| side.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let (one, other) = (names(one), names(other));
    let mut all: Vec<&String> = one.iter().chain(&other).collect();
    if all.iter().any(|name| name.is_empty() || name.contains('/')) {
        return Err(FORM.into());
    }
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(format!("{} is named twice: a node is on one side, once", twice[0])),
        None => Ok(Sides { one, other }),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let most = SLOW_MICROS_MAX / 1_000_000;
    let why = || format!("seconds are a number of more than 0, up to {most}, as 1 or 0.25");
    let seconds: f64 = text.parse().map_err(|_| why())?;
    // What is no number at all compares with nothing.
    if !(0.000_001..=most as f64).contains(&seconds) {
        return Err(why());
    }
    Ok((seconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_names_around_a_slash() {
        let parsed = |text| sides(text).map(|Sides { one, other }| (one.join(" "), other.join(" ")));
        assert_eq!(parsed("n1/n2,n3"), Ok(("n1".into(), "n2 n3".into())));
        assert_eq!(parsed("a, b/c"), Ok(("a b".into(), "c".into())));
        for text in ["", "n1", "/", "n1/", "/n1", "n1,/n2", "n1/n2/n3", "n1//n2"] {
            assert!(sides(text).unwrap_err().contains("a slash between"), "{text}");
        }
        for text in ["n1/n1", "n1,n1/n2", "n1/n2,n1"] {
            assert!(sides(text).unwrap_err().contains("n1 is named twice"), "{text}");
        }
    }

    #[test]
    fn seconds_have_a_fraction_and_a_limit() {
        assert_eq!(seconds("1"), Ok(1_000_000));
        assert_eq!(seconds("0.25"), Ok(250_000));
        assert_eq!(seconds("3600"), Ok(SLOW_MICROS_MAX));
        for text in ["0", "-1", "-0.5", "3601", "1e99", "nan", "inf", "", "1s", "99999999999999999999"] {
            assert!(seconds(text).unwrap_err().contains("up to 3600"), "{text}");
        }
    }
}
