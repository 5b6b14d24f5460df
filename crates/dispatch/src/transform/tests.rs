use postrider_core::event::EventDataError;
use postrider_core::{AgentId, EventData, EventType, TenantId, chain};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Transforms, TransformsError, hook};
use crate::DispatchError;

/// Runs the transforms on an `order.created`. Returns `None` if they change nothing.
fn apply(transforms: &Transforms, json: &str) -> Result<Option<String>, DispatchError> {
    let data = EventData::from_json(json).unwrap();
    let event: EventType = "order.created".parse().unwrap();
    let changed = transforms.apply(&TenantId::default(), &event, &AgentId::default(), &data)?;
    Ok(changed.map(|data| data.as_json().to_owned()))
}

fn configured(toml: &str) -> Result<Transforms, TransformsError> {
    let file: toml::Table = toml.parse().unwrap();
    let mut transforms = Transforms::new();
    transforms.configure(file["transforms"].clone())?;
    Ok(transforms)
}

/// One entry for every event, with these fields.
fn entry(fields: &str) -> Transforms {
    configured(&format!("[[transforms]]\nevent = '*'\n{fields}")).unwrap()
}

#[track_caller]
fn check(fields: &str, given: &str, expected: &str) {
    let changed = apply(&entry(fields), given).unwrap();
    assert_eq!(changed.as_deref().unwrap_or(given), expected, "{fields}");
    assert_eq!(changed.is_none(), given == expected, "unchanged data stays as it is");
}

#[test]
fn drop_removes_every_duplicate_and_leaves_the_rest_unchanged() {
    let drop = "drop = ['/card/number', '/items/0', '/items/2', '/a~1b', '/nothing/here']";
    check(
        drop,
        r#"{"n": 1.10e5, "card": {"x": "\u0041", "number": 1, "y":[ 1 ], "number": 2}, "items": [10, 11, 12], "a/b": 0, "n":2}"#,
        r#"{"n":1.10e5,"card":{"x":"\u0041","y":[ 1 ]},"items":[11],"n":2}"#,
    );
    // A key may be written with escapes, or not be valid Unicode.
    check(drop, r#"{"c\u0061rd": {"number": 1}, "\ud800": 1}"#, r#"{"c\u0061rd":{},"\ud800":1}"#);
    // Parsers differ on which of two duplicate containers counts.
    check(drop, r#"{"card":{"number":1},"card":{"number":2,"z":1}}"#, r#"{"card":{},"card":{"z":1}}"#);
    for untouched in
        [r#"{ "card" : "text" }"#, "[ ]", r#"{"card":null,"items":{"x":[1]}}"#, r#"{"items":[]}"#]
    {
        check(drop, untouched, untouched);
    }
    check("drop = ['/1']", "[1, 2 ,3]", "[1,3]");
    check("drop = ['/10', '/9', '/0']", "[0,1,2,3,4,5,6,7,8,9,10]", "[1,2,3,4,5,6,7,8]");
}

#[test]
fn rename_moves_all_at_once() {
    check("rename = { '/mail' = '/contact/email' }", r#"{"mail": "a"}"#, r#"{"contact":{"email":"a"}}"#);
    check(
        "rename = { '/a' = '/b', '/b' = '/a' }",
        r#"{"a": 1, "b": {"c": 1e400}}"#,
        r#"{"a":{"c": 1e400},"b":1}"#,
    );
    check("rename = { '/a' = '/b' }", r#"{"a":1,"b":2,"b":3}"#, r#"{"b":1}"#);
    check("rename = { '/a' = '/b' }", r#"{"b": 2}"#, r#"{"b": 2}"#);
    check("rename = { '/0' = '/-' }", "[1,2]", "[2,1]");
}

#[test]
fn set_creates_the_objects_on_its_path() {
    let set = "set = { '/source/name' = 'shop', '/flags' = [true, 1, 2.5], '/x' = { y = 1 } }";
    let made = r#"{"a":1,"flags":[true,1,2.5],"source":{"name":"shop"},"x":{"y":1}}"#;
    check(set, r#"{"a":1}"#, made);
    check(set, r#"{"a":1,"flags":0,"source":null,"x":[]}"#, made);
    check(set, r#"{"flags":0,"flags":1}"#, r#"{"flags":[true,1,2.5],"source":{"name":"shop"},"x":{"y":1}}"#);
    check("set = { '/1' = 9 }", "[1,2]", "[1,9]");
    check("set = { '/day' = 1979-05-27 }", "{}", r#"{"day":"1979-05-27"}"#);

    for (given, message) in [
        (r#"{"source":"text"}"#, "`/source/name` leads through a value that is neither object nor array"),
        (r#"{"source":[1]}"#, "`/source/name` names an element that its array does not have"),
    ] {
        let error = apply(&entry(set), given).unwrap_err();
        let text = chain(&error).to_string();
        assert!(
            text.starts_with("the hook `[[transforms]] 1 for *` failed:") && text.contains(message),
            "{text}"
        );
    }
}

#[test]
fn mask_reveals_at_most_the_last_characters() {
    let mask = "mask = { '/v' = 4 }";
    for (given, masked) in [
        (r#""4111111111111234""#, r#""************1234""#),
        (r#""12345""#, r#""*2345""#),
        (r#""1234""#, r#""****""#),
        (r#""ab""#, r#""**""#),
        (r#""grüße-ß€😀x""#, r#""******ß€😀x""#),
        ("4111111111111234", r#""************1234""#),
        ("true", r#""****""#),
        (r#"{"number":"4111"}"#, r#""****""#),
        (r#"["4111"]"#, r#""****""#),
        // Text that is not valid Unicode cannot be counted in characters.
        (r#""4111\ud800111""#, r#""****""#),
    ] {
        check(mask, &format!(r#"{{"v":{given}}}"#), &format!(r#"{{"v":{masked}}}"#));
    }
    for untouched in [r#"{ "v": null }"#, r#"{ "v": "" }"#, r#"{ "w": "1" }"#] {
        check(mask, untouched, untouched);
    }
    check(mask, r#"{"v":"12345","v":"67890"}"#, r#"{"v":"*2345","v":"*7890"}"#);
    check("mask = { '/v' = 0 }", r#"{"v":"abc"}"#, r#"{"v":"***"}"#);
}

#[test]
fn within_an_entry_the_order_is_drop_rename_set_mask() {
    check(
        "mask = { '/c' = 1 }\nset = { '/b' = 'set', '/c' = 'secret' }\nrename = { '/a' = '/b', '/d' = '/e' }\ndrop = ['/d']",
        r#"{"a":"renamed","d":1}"#,
        r#"{"b":"set","c":"*****t"}"#,
    );
}

#[test]
fn the_error_names_the_invalid_entry() {
    for (fields, message) in [
        (
            "event = '*'\ndrop = ['a']",
            "entry 2 of [[transforms]] (event `*`): drop: `a` is not a place in the data: a JSON Pointer begins with `/`",
        ),
        (
            "event = '*'\nmask = { '/a~' = 1 }",
            "mask: `/a~` is not a place in the data: in a JSON Pointer `~` is written `~0`",
        ),
        ("event = 'order.*'\ndrop = ['/a']", "(event `order.*`): event: use `*` or one event type"),
        ("drop = ['/a']", "entry 2 of [[transforms]]: missing field `event`"),
        ("event = '*'\ndrp = ['/a']", "unknown field `drp`, expected one of `event`, `drop`"),
        ("event = '*'\nmask = { '/a' = -1 }", "entry 2 of [[transforms]] (event `*`): invalid value"),
        ("event = '*'\ndrop = ['']", "drop: the data as a whole cannot be changed"),
        ("event = '*'\nrename = { '/a' = '' }", "rename: the data as a whole cannot be changed"),
        ("event = '*'\nset = { '/a' = 1, '/a/b' = 2 }", "set: `/a/b` is inside `/a`"),
        ("event = '*'\nrename = { '/a' = '/c', '/b' = '/c' }", "rename: `/c` is inside `/c`"),
        ("event = '*'\nset = { '/a' = { b = [nan] } }", "set: `/a` holds `nan`, `inf` or null"),
        ("event = '*'", "the entry does nothing"),
    ] {
        let toml = format!("[[transforms]]\nevent = '*'\ndrop = ['/fine']\n[[transforms]]\n{fields}\n");
        let error = configured(&toml).unwrap_err();
        assert!(matches!(error, TransformsError::Entry { number: 2, .. }));
        let text = chain(&error).to_string();
        assert!(text.contains(message), "{fields}: {text}");
    }
    let error = configured("[transforms.redact]\nfields = ['a']").unwrap_err();
    assert!(error.to_string().starts_with("transforms must be a list of tables"), "{error}");
}

#[test]
fn a_hook_is_for_every_event_or_one_event_type() {
    let mut transforms = Transforms::new();
    assert!(transforms.is_empty());
    for event in ["order.*", "", "a b"] {
        let error = transforms.register(event, hook("h", |_| Ok(()))).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("the hook `h` is registered for `{event}`")),
            "{error}"
        );
    }
    assert!(transforms.is_empty());
    transforms.register("*", hook("h", |_| Ok(()))).unwrap();
    assert!(!transforms.is_empty());
    assert!(format!("{transforms:?}").contains(r#""*": ["h"]"#), "{transforms:?}");
}

#[test]
fn a_hook_reads_and_changes_data_by_pointer_or_as_a_whole() {
    let mut transforms = Transforms::new();
    let pointers = hook("pointers", |event| {
        assert_eq!(event.get::<u32>("/a/1")?, Some(2));
        assert_eq!(event.get::<u32>("/b")?, None);
        assert!(event.get::<String>("/a").is_err());
        assert!(event.rename("/a/0", "/first")? && !event.rename("/x", "/y")?);
        assert!(event.remove("/gone")? && !event.remove("/gone")?);
        event.set("/card", "4111111111111234")?;
        assert!(event.mask("/card", 4)?);
        assert!(event.set("card", &1).is_err());
        Ok(())
    });
    let whole = hook("whole", |event| {
        let mut data: Value = event.read()?;
        data["sum"] = json!(data["first"].as_u64().unwrap_or(0) + 1);
        event.replace(&data)?;
        assert!(event.replace("text").is_err());
        Ok(())
    });
    transforms.register("*", pointers).unwrap().register("order.created", whole).unwrap();
    let changed = apply(&transforms, r#"{"a":[1,2],"gone":null}"#).unwrap().unwrap();
    let changed: Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(changed, json!({ "a": [2], "first": 1, "card": "************1234", "sum": 2 }));
}

#[test]
fn the_error_names_a_hook_whose_result_is_not_event_data() {
    let deep = "[".repeat(60) + &"]".repeat(60);
    let nested = deep.clone();
    let mut transforms = Transforms::new();
    let bury = hook("bury", move |event| {
        let value: Box<serde_json::value::RawValue> = serde_json::from_str(&nested)?;
        Ok(event.set(&"/a".repeat(60), &value)?)
    });
    transforms.register("*", bury).unwrap();
    let error = apply(&transforms, "{}").unwrap_err();
    let DispatchError::Hook { name, source } = error else { panic!("{error}") };
    assert_eq!((&*name, source.to_string()), ("bury", EventDataError::TooDeep.to_string()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c~/\"\\\\é]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c~/]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_data() -> impl Strategy<Value = Value> {
    any_json().prop_filter("a container", |value| value.is_object() || value.is_array())
}

proptest! {
    /// Our pointers agree with those of `serde_json`.
    #[test]
    fn pointers_agree_with_serde_json(data in any_data(), steps in prop::collection::vec("[a-c~/0-2]{0,2}", 0..4)) {
        let escaped = steps.iter().flat_map(|step| ["/".to_owned(), step.replace('~', "~0").replace('/', "~1")]);
        let pointer: String = escaped.collect();
        let expected = data.pointer(&pointer).cloned();
        let mut transforms = Transforms::new();
        let (asked, there) = (pointer.clone(), expected.clone());
        transforms.register("*", hook("get", move |event| {
            assert_eq!(event.get::<Value>(&asked)?, there);
            Ok(())
        })).unwrap();
        prop_assert_eq!(apply(&transforms, &data.to_string()).unwrap(), None);

        let mut transforms = Transforms::new();
        let asked = pointer.clone();
        transforms.register("*", hook("set", move |event| Ok(event.set(&asked, &json!(["new"]))?))).unwrap();
        if let Ok(Some(changed)) = apply(&transforms, &data.to_string()) {
            let changed: Value = serde_json::from_str(&changed).unwrap();
            prop_assert_eq!(changed.pointer(&pointer), Some(&json!(["new"])));
        } else {
            prop_assert!(expected.is_none(), "an existing value can be replaced");
        }

        if pointer.is_empty() { return Ok(()) }
        let mut transforms = Transforms::new();
        transforms.register("*", hook("remove", move |event| {
            event.remove(&pointer)?;
            Ok(())
        })).unwrap();
        let removed = apply(&transforms, &data.to_string()).unwrap();
        prop_assert_eq!(removed.is_some(), expected.is_some());
    }

    #[test]
    fn no_data_and_no_pointer_panics(data in any_data(), pointer in "[/~0-2a-c]{0,6}", keep in 0_usize..4) {
        let mut transforms = Transforms::new();
        transforms.register("*", hook("all", move |event| {
            let _ = event.mask(&pointer, keep);
            let _ = event.rename(&pointer, "/a/b");
            let _ = event.set(&pointer, &1);
            let _ = event.remove(&pointer);
            Ok(())
        })).unwrap();
        if let Err(error) = apply(&transforms, &data.to_string()) {
            prop_assert!(!error.to_string().contains("panicked"), "{}", error);
        }
    }
}
