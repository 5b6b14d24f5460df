//! Every fuzz target holds over seeds, over bytes near them, and over bytes at random.

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
    fn seeds_hold() {
        for (name, target) in TARGETS {
            for seed in seeds_of(name) {
                target(seed);
            }
        }
    }

    #[test]
    fn random_bytes_hold() {
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
    fn bytes_near_the_seeds_hold() {
        for (name, target) in TARGETS {
            let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
            let input = (prop::sample::select(seeds_of(name)), changes, any::<Option<Index>>());
            TestRunner::default()
                .run(&input, |(seed, changes, cut)| {
                    let mut bytes = seed.to_vec();
                    for (place, byte) in changes {
                        if !bytes.is_empty() {
                            let place = place.index(bytes.len());
                            // Mostly text, so that the change is not merely bytes that are no text.
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

    /// A target that no binary runs is not fuzzed, and a binary without a target does not build.
    #[test]
    fn every_target_has_its_binary() {
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
