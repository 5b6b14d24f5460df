use serde_json::{Value, json};

use super::*;

fn script(value: &Value) -> Script {
    Script::try_from(value).unwrap()
}

#[test]
fn each_form_of_a_step_is_read_and_written() {
    let value = json!([503, {"status": 429, "retry_after": 10}, {"delay": "5s"}, "reset", "cut", "redirect", 410, 200]);
    let script = script(&value);
    let step = |number| script.step(number);
    assert_eq!((step(1), step(7), step(8)), (Step::status(503), Step::status(410), Step::status(200)));
    assert_eq!(step(2), Step { retry_after: Some(10), ..Step::status(429) });
    assert_eq!(step(3), Step { delay: Duration::from_secs(5), ..Step::status(200) });
    assert_eq!((step(4).ending, step(5).ending), (Ending::Reset, Ending::Cut));
    assert_eq!((step(6).status, step(6).location().is_some()), (302, true));
    assert_eq!(step(1000), Step::status(200), "the last step stays");
    let written = Value::from(&script);
    assert_eq!(written[2], json!({"status": 200, "delay": "5s"}));
    assert_eq!(Script::try_from(&written).unwrap(), script);
    assert_eq!(Script::default().step(5), Step::status(200));
}

#[test]
fn a_seed_draws_the_same_steps_again() {
    let of = |seed: u64| script(&json!({"random": [503, "reset", 200], "seed": seed}));
    let drawn = |script: &Script| (1..=200).map(|number| script.step(number).status).collect::<Vec<_>>();
    assert_eq!(drawn(&of(7)), drawn(&of(7)));
    assert_ne!(drawn(&of(7)), drawn(&of(8)));
    assert!(drawn(&of(7)).contains(&503) && drawn(&of(7)).contains(&200));
    assert_eq!(script(&Value::from(of(7))), of(7));
}

#[test]
fn a_wrong_script_names_its_step() {
    let refused = |value: Value| Script::try_from(&value).unwrap_err().to_string();
    for (value, message) in [
        (json!("x"), "expected a list of steps"),
        (json!([200, 99]), "step 2: a status must be from 200 to 599"),
        (json!([70000]), "step 1: a status"),
        (json!(["cat"]), "step 1: expected a status"),
        (json!([{"delay": "3m"}]), "step 1: a delay must be at most 2m"),
        (json!([{"retry_after": 86_401}]), "step 1: `retry_after`"),
        (json!([{"what": 1}]), "step 1: unknown field `what`"),
        (json!({"random": []}), "must have at most 100"),
        (json!({"seed": 1}), "missing field `random`"),
        (json!(vec![200; 101]), "must have at most 100"),
    ] {
        let found = refused(value.clone());
        assert!(found.starts_with(message), "{value}: {found}");
    }
}
