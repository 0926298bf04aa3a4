//! The one list of dialects that a node can serve: a new one is a line here.

use std::sync::Arc;

use crate::Dialect;
use crate::classic::pairs::{Central, Pairs};
use crate::classic::store::Store;
use crate::classic::versioned::Versioned;
use crate::native::Native;

/// A dialect, and how it is made.
struct Known {
    name: &'static str,
    options: &'static [&'static str],
    /// Of options that it has.
    make: fn(&[String]) -> Arc<dyn Dialect>,
}

const DIALECTS: &[Known] = &[
    Known { name: "native", options: &[], make: |_| Arc::new(Native::new()) },
    Known {
        name: "classic/pairs",
        options: &["activate"],
        make: |options| Arc::new(Pairs::new(has(options, "activate"))),
    },
    Known {
        name: "classic/central",
        options: &["check"],
        make: |options| Arc::new(Central::new(has(options, "check"))),
    },
    Known { name: "classic/store", options: &[], make: |_| Arc::new(Store::new()) },
    Known { name: "classic/versioned", options: &[], make: |_| Arc::new(Versioned::new()) },
];

/// The dialect of this name, with these options. The error says what there is.
pub fn named(name: &str, options: &[String]) -> Result<Arc<dyn Dialect>, String> {
    let Some(known) = DIALECTS.iter().find(|known| known.name == name) else {
        let names: Vec<&str> = DIALECTS.iter().map(|known| known.name).collect();
        return Err(format!("there is no dialect '{name}': use one of {}", names.join(", ")));
    };
    match options.iter().find(|option| !known.options.contains(&option.as_str())) {
        None => Ok((known.make)(options)),
        Some(option) if known.options.is_empty() => {
            Err(format!("the dialect {name} has no option '{option}': it has none"))
        }
        Some(option) => {
            Err(format!("the dialect {name} has no option '{option}': use {}", known.options.join(", ")))
        }
    }
}

fn has(options: &[String], option: &str) -> bool {
    options.iter().any(|given| given == option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_makes_each_dialect_with_each_of_its_options() {
        for known in DIALECTS {
            assert_eq!(named(known.name, &[]).unwrap().name(), known.name);
            let options: Vec<String> = known.options.iter().map(|option| option.to_string()).collect();
            assert_eq!(named(known.name, &options).unwrap().name(), known.name);
        }
    }

    #[test]
    fn named_unknown_is_refused_with_what_there_is() {
        let refused = |name, option: &str| named(name, &[option.to_owned()]).unwrap_err();
        assert_eq!(
            named("redis", &[]).unwrap_err(),
            "there is no dialect 'redis': use one of native, classic/pairs, classic/central, classic/store, classic/versioned"
        );
        assert_eq!(
            refused("classic/pairs", "check"),
            "the dialect classic/pairs has no option 'check': use activate"
        );
        assert_eq!(refused("native", "check"), "the dialect native has no option 'check': it has none");
    }
}
