//! Modules for the tests, and what a module must have.

use postrider_plugin::{Input, Module, ModuleError, Output, PluginError};

/// An event for the tests.
pub(crate) const INPUT: Input<'static> = Input {
    id: "evt_01h455vb4pex5vsknk084sn02q",
    event_type: "order.created",
    agent_id: "shop",
    timestamp: 1_700_000_000,
    channels: &["customer:42"],
    data: r#"{"total": 1.50}"#,
};

/// The most bytes of an output in the tests.
pub(crate) const MAX_OUTPUT: usize = 512 * 1024;

/// A module in the text format: its parts, and the body of its transform. At address 0 is the output `{"data":{}}`.
pub(crate) fn text(parts: &str, body: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 1 300) {parts}
            (data (i32.const 0) "{{\"data\":{{}}}}")
            (func (export "postrider_abi") (result i32) (i32.const 1))
            (func (export "postrider_alloc") (param i32) (result i32) (i32.const 1024))
            (func $transform (export "postrider_transform") (param i32 i32) (result i64)
                (local $n i32) (local $x f64) {body}))"#
    )
}

pub(crate) fn compile(text: &str) -> Result<Module, ModuleError> {
    Module::compile(&wat::parse_str(text).unwrap())
}

/// Compiles and runs a module.
pub(crate) fn run(parts: &str, body: &str) -> Result<Output, PluginError> {
    compile(&text(parts, body)).unwrap().run("{}", &INPUT, MAX_OUTPUT)
}

/// The body of a transform that returns the output at address 0.
pub(crate) const GOOD: &str = "(i64.const 11)";

#[test]
fn a_module_transforms_an_event() {
    let output = run("", GOOD).unwrap();
    assert_eq!((output.data.as_str(), output.headers.len()), ("{}", 0));
    assert!(output.fuel > 0);
}

#[test]
fn the_same_call_takes_the_same_fuel_and_sees_nothing_of_the_one_before() {
    // It counts in a global and in its memory, and returns `{"data":0}` with the count.
    let module = compile(&text(
        r#"(global $calls (mut i32) (i32.const 0)) (data (i32.const 100) "{\"data\":0}")"#,
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (i32.store8 (i32.const 108) (i32.add (i32.load8_u (i32.const 108)) (global.get $calls)))
         (i64.or (i64.shl (i64.const 100) (i64.const 32)) (i64.const 10))",
    ))
    .unwrap();
    let outputs: Vec<Output> = (0..3).map(|_| module.run("{}", &INPUT, MAX_OUTPUT).unwrap()).collect();
    assert_eq!(outputs[0].data, "1");
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{outputs:?}");
}

#[test]
fn a_module_reads_its_input() {
    // It returns the input, which is no output.
    let echo =
        "(i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))";
    match run("", echo) {
        Err(PluginError::OutputJson(error)) => {
            assert!(error.to_string().contains("unknown field `event`"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_needs_its_exports() {
    let good = text("", GOOD);
    for (name, other) in [
        ("\"memory\"", "\"memori\""),
        ("\"postrider_abi\"", "\"abi\""),
        ("\"postrider_alloc\"", "\"alloc\""),
        ("\"postrider_transform\"", "\"transform\""),
        ("(param i32) (result i32) (i32.const 1024)", "(param i64) (result i32) (i32.const 1024)"),
        ("(param i32) (result i32) (i32.const 1024)", "(param i32) (result i64) (i64.const 1024)"),
    ] {
        let error = compile(&good.replace(name, other)).unwrap_err();
        assert!(matches!(error, ModuleError::Export { .. }), "{name}: {error:?}");
    }
    let newer = good.replace("(result i32) (i32.const 1))", "(result i32) (i32.const 2))");
    assert!(matches!(compile(&newer), Err(ModuleError::Version(2))));
}

#[test]
fn a_module_cannot_import_anything_nor_start_by_itself() {
    match compile(&text("", GOOD).replace("(module", r#"(module (import "env" "now" (func))"#)) {
        Err(ModuleError::Imports { module, name }) => assert_eq!((&*module, &*name), ("env", "now")),
        other => panic!("{other:?}"),
    }
    let imports_memory = r#"(module (import "env" "memory" (memory 1)))"#;
    assert!(matches!(compile(imports_memory), Err(ModuleError::Imports { .. })));
    let starts = text("(func $start) (start $start)", GOOD);
    assert!(matches!(compile(&starts), Err(ModuleError::Start)));
}

#[test]
fn what_is_not_a_module_is_refused() {
    let good = wat::parse_str(text("", GOOD)).unwrap();
    // What is left of it before its data is a module by itself.
    for length in 0..100 {
        assert!(Module::compile(&good[..length]).is_err(), "{length}");
    }
    assert!(matches!(Module::compile(b"\0asm\x0d\0\x01\0"), Err(ModuleError::Invalid(_))), "a component");
    let invalid = text("(func (result i32) (i64.const 1))", GOOD);
    assert!(matches!(compile(&invalid), Err(ModuleError::Invalid(_))));
}

#[test]
fn a_module_refuses_an_event_with_a_message() {
    let parts = r#"(data (i32.const 100) "{\"error\":\"no total\"}")"#;
    match run(parts, "(i64.or (i64.shl (i64.const 100) (i64.const 32)) (i64.const 20))") {
        Err(PluginError::Refused(message)) => assert_eq!(message, "no total"),
        other => panic!("{other:?}"),
    }
}
