//! The list of mutants is whole, and names each once.

use super::*;

#[test]
fn every_mutant_is_listed_in_its_place_and_its_name_parses() {
    for (place, (mutant, name, what)) in ALL.iter().enumerate() {
        assert_eq!(*mutant as usize, place, "{name} stands where the enum has it");
        assert_eq!(name.parse::<Mutant>().as_ref(), Ok(mutant));
        assert!(!what.is_empty() && name.chars().all(|c| c == '-' || c.is_ascii_lowercase()), "{name}");
    }
    assert_eq!(ALL.len(), Mutant::LateJoinerAnswersEarly as usize + 1, "all are listed");
    assert!("coffee".parse::<Mutant>().is_err());
}

#[test]
fn no_mutant_is_there_unless_it_was_chosen() {
    assert!(Mutant::all().all(|mutant| !crate::is(mutant)));
}
