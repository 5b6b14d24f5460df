//! Modules that run on and on, take all memory, or return nonsense: each call ends with an error.

use postrider_plugin::PluginError;

use crate::modules::{INPUT, MAX_OUTPUT, compile, run, text};

fn fails(parts: &str, body: &str) -> PluginError {
    run(parts, body).unwrap_err()
}

#[test]
fn endless_loops_use_up_their_fuel() {
    for body in [
        "(loop $l (br $l)) (i64.const 0)",
        "(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $l)) (i64.const 0)",
        "(loop $l (memory.copy (i32.const 0) (i32.const 1) (i32.const 65535)) (br $l)) (i64.const 0)",
        "(loop $l (drop (memory.grow (i32.const 0))) (br $l)) (i64.const 0)",
        "(loop $l (br_table $l $l (i32.const 0))) (i64.const 0)",
        "(loop $l (br_if $l (i32.const 1))) (i64.const 0)",
        "(loop $l (call $f) (br $l)) (i64.const 0)",
    ] {
        let error = fails("(func $f)", body);
        assert!(matches!(error, PluginError::Fuel), "{body}: {error:?}");
    }
    let version = text("", "(i64.const 11)").replace("(i32.const 1))", "(loop $l (br $l)) (i32.const 1))");
    assert!(compile(&version).is_err(), "while it returns its version");
    let alloc = text("", "(i64.const 11)").replace("(i32.const 1024)", "(loop $l (br $l)) (i32.const 1024)");
    let error = compile(&alloc).unwrap().run("{}", &INPUT, MAX_OUTPUT).unwrap_err();
    assert!(matches!(error, PluginError::Fuel), "{error:?}");
}

/// Growing stops at 16 MiB, which is 256 pages, and the output says so: the size, as one byte, less 256.
#[test]
fn memory_stops_at_its_bound() {
    let body = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (if (i32.ne (memory.size) (i32.const 256)) (then unreachable)) (i64.const 11)";
    assert_eq!(run("", body).unwrap().data, "{}");
    let error = fails("", "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) (i64.const 0)");
    assert!(matches!(error, PluginError::Fuel), "{error:?}");
    for pages in [257, 65536] {
        let error = compile(&text("", "(i64.const 11)").replace(" 1 300", &format!(" {pages} 65536")));
        assert!(error.unwrap_err().to_string().contains("bytes of memory"), "{pages}");
    }
}

#[test]
fn tables_stop_at_their_bound() {
    let grows =
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
        (if (i32.gt_u (table.size $t) (i32.const 65536)) (then unreachable)) (i64.const 11)";
    assert_eq!(run("(table $t 1 funcref)", grows).unwrap().data, "{}");
    let huge = compile(&text("(table 4000000000 funcref)", "(i64.const 11)"));
    assert!(huge.unwrap_err().to_string().contains("table entries"));
    let two = compile(&text("(table 1 funcref) (table 1 funcref)", "(i64.const 11)"));
    assert!(two.unwrap_err().to_string().contains("tables"));
}

#[test]
fn recursion_stops_at_its_bound() {
    let error = fails("", "(call $transform (i32.const 0) (i32.const 0))");
    assert!(matches!(error, PluginError::Trap(_)), "{error:?}");
    // Few calls with many values.
    let locals = "i64 ".repeat(20_000);
    let error = fails(&format!("(func $f (local {locals}) (call $f))"), "(call $f) (i64.const 0)");
    assert!(matches!(error, PluginError::Trap(_)), "{error:?}");
}

#[test]
fn traps_end_the_call() {
    for body in [
        "unreachable",
        "(drop (i32.load (i32.const 100000000))) (i64.const 0)",
        "(drop (i32.div_u (i32.const 1) (i32.const 0))) (i64.const 0)",
        "(call_indirect (type $t) (i32.const 7)) (i64.const 0)",
        "(drop (i32.trunc_f64_s (f64.const nan))) (i64.const 0)",
    ] {
        let error = fails("(type $t (func)) (table 1 funcref)", body);
        assert!(matches!(error, PluginError::Trap(_)), "{body}: {error:?}");
    }
}

#[test]
fn an_output_is_inside_the_memory_and_not_too_long() {
    let at = |address: u64, length: u64| {
        let body = format!("(i64.const {})", (address << 32 | length).cast_signed());
        fails("", &body)
    };
    for (address, length) in [(65_536, 1), (65_530, 100), (u64::from(u32::MAX), 100), (1 << 31, 1)] {
        let error = at(address, length);
        assert!(matches!(error, PluginError::OutputPlace), "{address} {length}: {error:?}");
    }
    for length in [MAX_OUTPUT as u64 + 1, u64::from(u32::MAX)] {
        let error = at(0, length);
        assert!(matches!(error, PluginError::OutputTooLong { .. }), "{length}: {error:?}");
    }
    // Zeros are no JSON, and neither is nothing.
    assert!(matches!(at(32, 100), PluginError::OutputJson(_)));
    assert!(matches!(at(0, 0), PluginError::OutputJson(_)));
}

#[test]
fn an_input_goes_only_where_there_is_memory() {
    for address in ["-1", "65536", "65535", "2147483647"] {
        let text = text("", "(i64.const 11)").replace("(i32.const 1024)", &format!("(i32.const {address})"));
        let error = compile(&text).unwrap().run("{}", &INPUT, MAX_OUTPUT).unwrap_err();
        assert!(matches!(error, PluginError::Allocation), "{address}: {error:?}");
    }
}

#[test]
fn a_segment_outside_the_memory_is_found_when_the_module_is_compiled() {
    let error = compile(&text(r#"(data (i32.const 65535) "abc")"#, "(i64.const 11)")).unwrap_err();
    assert!(error.to_string().contains("cannot be instantiated"), "{error}");
    let error =
        compile(&text("(table 1 funcref) (elem (i32.const 5) $transform)", "(i64.const 11)")).unwrap_err();
    assert!(error.to_string().contains("cannot be instantiated"), "{error}");
}
