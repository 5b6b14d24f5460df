//! Runs every fuzz target over its seeds, over mutations of them, and over random bytes.

#[cfg(test)]
mod seeds;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postrider_fuzz::TARGETS;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::TestRunner;

    use crate::seeds::SEEDS;

    fn seeds_of(name: &str) -> &'static [&'static [u8]] {
        let found = SEEDS.iter().find(|(target, _)| *target == name);
        found.unwrap_or_else(|| panic!("{name} has seeds")).1
    }

    #[test]
    fn the_properties_hold_for_the_seeds() {
        for (name, target) in TARGETS {
            for seed in seeds_of(name) {
                target(seed);
            }
        }
    }

    #[test]
    fn the_properties_hold_for_random_bytes() {
        for (_, target) in TARGETS {
            let text = "(\\PC|\n){0,80}".prop_map(String::into_bytes);
            let bytes = prop_oneof![prop::collection::vec(any::<u8>(), 0..200), text];
            TestRunner::default()
                .run(&bytes, |bytes| {
                    target(&bytes);
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn the_properties_hold_for_mutated_seeds() {
        for (name, target) in TARGETS {
            let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
            let input = (prop::sample::select(seeds_of(name)), changes, any::<Option<Index>>());
            TestRunner::default()
                .run(&input, |(seed, changes, cut)| {
                    let mut bytes = seed.to_vec();
                    for (place, byte) in changes {
                        if !bytes.is_empty() {
                            let place = place.index(bytes.len());
                            // Mostly ASCII, so that most mutations are still text.
                            bytes[place] = if byte < 240 { byte & 0x7f } else { byte };
                        }
                    }
                    if let Some(cut) = cut {
                        bytes.truncate(cut.index(bytes.len() + 1));
                    }
                    target(&bytes);
                    Ok(())
                })
                .unwrap();
        }
    }

    /// A target without a binary would never be fuzzed.
    #[test]
    fn every_target_has_a_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cargo-fuzz/fuzz_targets");
        let mut binaries: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        binaries.sort();
        targets.sort_unstable();
        assert_eq!(binaries, targets);
    }
}
