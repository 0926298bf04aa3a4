//! How replicas go from node to node: options that `serve` and `up` have alike.

use std::time::Duration;

use server::Moves;

use crate::parse;

/// What is said of it; who says nothing leaves it as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Pace {
    /// How long a dead node is waited for before its replicas are made again elsewhere; the same on all nodes [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub grace: Option<Duration>,
    /// How many shards change nodes at once; the same on all nodes [default: 16]
    #[arg(long, value_name = "N", value_parser = parse::moves)]
    pub moves_max: Option<usize>,
    /// How much a node sends a second to make replicas elsewhere; 0 = as fast as it goes [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub move_rate: Option<usize>,
}

impl Pace {
    /// With what another one says where this one says nothing.
    pub fn or(self, other: Pace) -> Pace {
        Pace {
            grace: self.grace.or(other.grace),
            moves_max: self.moves_max.or(other.moves_max),
            move_rate: self.move_rate.or(other.move_rate),
        }
    }

    /// As a node takes it.
    pub fn moves(&self) -> Moves {
        let usual = Moves::default();
        let micros = |grace: Duration| u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
        Moves {
            grace_micros: self.grace.map_or(usual.grace_micros, micros),
            max: self.moves_max.unwrap_or(usual.max),
            bytes_per_second: self.move_rate.map_or(usual.bytes_per_second, |bytes| bytes as u64),
        }
    }

    /// As options of another process: name and value.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let grace = self.grace.map(|grace| ("grace", format!("{}us", grace.as_micros())));
        let moves_max = self.moves_max.map(|max| ("moves-max", max.to_string()));
        let move_rate = self.move_rate.map(|bytes| ("move-rate", bytes.to_string()));
        grace.into_iter().chain(moves_max).chain(move_rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        pace: Pace,
    }

    #[test]
    fn pace_as_options_of_another_process_is_the_same() {
        let pace =
            Pace { grace: Some(Duration::from_millis(1500)), moves_max: Some(3), move_rate: Some(1 << 20) };
        let options = pace.options().into_iter().flat_map(|(name, value)| [format!("--{name}"), value]);
        let line = Line::try_parse_from(["capstan".to_owned()].into_iter().chain(options));
        assert_eq!(line.map(|line| line.pace).map_err(|error| error.to_string()), Ok(pace));
        assert!(Pace::default().options().is_empty());
    }

    #[test]
    fn pace_that_says_nothing_is_as_usual() {
        assert_eq!(Pace::default().moves(), Moves::default());
        let said = Pace { grace: Some(Duration::from_secs(30)), moves_max: Some(1), move_rate: Some(0) };
        let moves = Moves { grace_micros: 30_000_000, max: 1, bytes_per_second: 0 };
        assert_eq!(said.clone().or(Pace { move_rate: Some(9), ..Pace::default() }).moves(), moves);
        assert_eq!(Pace::default().or(said).moves(), moves);
    }
}
