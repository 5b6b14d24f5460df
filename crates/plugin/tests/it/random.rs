//! Modules with changed bytes: whatever they are, compiling and running them ends within bounds.

use postrider_plugin::Module;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::modules::{GOOD, INPUT, MAX_OUTPUT, text};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_changed_module_is_refused_or_runs_within_bounds(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..5)
    ) {
        let mut wasm = wat::parse_str(text("(table 4 funcref) (elem (i32.const 0) $transform)", GOOD)).unwrap();
        for (place, byte) in changes {
            let place = place.index(wasm.len());
            wasm[place] = byte;
        }
        if let Ok(module) = Module::compile(&wasm) {
            let _ = module.run("{}", &INPUT, MAX_OUTPUT);
        }
    }
}
