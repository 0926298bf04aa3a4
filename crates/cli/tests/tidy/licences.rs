//! What others wrote may be used as we use it.

use std::collections::BTreeSet;

use super::{is_ours, packages, text};

/// Licences that fit MIT OR Apache-2.0; any one of an OR is enough.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "MPL-2.0+",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that have no business here, as in deny.toml.
const BANNED: &[&str] = &["openssl", "fjall", "sled"];

#[test]
fn dependencies_licences_fit_and_none_is_banned() {
    let allowed: BTreeSet<&str> = LICENCES.iter().copied().collect();
    for package in packages().iter().filter(|package| !is_ours(package)) {
        let name = text(package, "name");
        assert!(!BANNED.contains(&name), "{name} is banned: see deny.toml");
        let licence = text(package, "license").replace('/', " OR ");
        let fits = |choice: &str| {
            choice.split(" AND ").all(|one| allowed.contains(one.trim_matches(['(', ')', ' '])))
        };
        let fits_one = fits(&licence) || licence.split(" OR ").any(fits);
        assert!(fits_one, "the licence of {name} does not fit: {licence}");
    }
}
