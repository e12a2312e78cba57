//! Names for containers that were given none: an adjective and somebody who found something out.

use super::registry::Containers;
use crate::random;

const ADJECTIVES: [&str; 48] = [
    "amber", "apt", "blithe", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "cheery", "civil", "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "fair",
    "fleet", "frank", "gentle", "glad", "golden", "hardy", "hearty", "honest", "jolly", "keen",
    "kind", "lively", "lucid", "mellow", "merry", "modest", "nimble", "patient", "placid",
    "prudent", "quick", "quiet", "serene", "steady", "sunny", "swift", "tidy", "witty",
];

const PEOPLE: [&str; 60] = [
    "abel",
    "agnesi",
    "ampere",
    "archimedes",
    "avicenna",
    "banach",
    "bernoulli",
    "boole",
    "bose",
    "brahe",
    "cantor",
    "cauchy",
    "curie",
    "dalton",
    "darwin",
    "dirac",
    "dijkstra",
    "einstein",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "feynman",
    "fibonacci",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "hamilton",
    "herschel",
    "hilbert",
    "hopper",
    "hubble",
    "hypatia",
    "johnson",
    "kepler",
    "khwarizmi",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "laplace",
    "leibniz",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "mirzakhani",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "shannon",
    "turing",
    "volta",
    "wu",
];

/// A name that is free now.
pub(crate) fn free_name(containers: &Containers) -> String {
    for attempt in 0_u32.. {
        let bytes = random::bytes::<4>();
        let pick = |list: &[&str], low: u8, high: u8| {
            list[usize::from(u16::from_le_bytes([low, high])) % list.len()].to_owned()
        };
        let mut name = format!(
            "{}_{}",
            pick(&ADJECTIVES, bytes[0], bytes[1]),
            pick(&PEOPLE, bytes[2], bytes[3])
        );
        if attempt > 4 {
            name.push_str(&attempt.to_string());
        }
        if !containers.taken(&name) {
            return name;
        }
    }
    unreachable!("numbers do not run out")
}
