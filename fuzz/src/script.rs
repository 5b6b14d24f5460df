//! Scripts of sandboxes and of simulations.

use postrider_core::script::{MAX_DELAY, MAX_RETRY_AFTER, STATUS, Script};

/// An accepted script serialises to JSON that parses to the same script, and each of its answers is within the bounds, whatever the
/// number of the request.
pub fn script(data: &[u8]) {
    let Ok(script) = serde_json::from_slice::<Script>(data) else { return };
    let shown = serde_json::to_vec(&script).expect("a script is JSON");
    let again: Script = serde_json::from_slice(&shown).expect("a serialised script parses");
    assert_eq!(again, script);
    for number in [0, 1, 2, 3, 99, 100, 101, u64::MAX] {
        let step = script.step(number);
        assert_eq!(step, again.step(number));
        assert!(STATUS.contains(&step.status) && step.delay <= MAX_DELAY);
        assert!(step.retry_after.is_none_or(|seconds| seconds <= MAX_RETRY_AFTER));
    }
}
