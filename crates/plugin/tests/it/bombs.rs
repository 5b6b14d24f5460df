//! Modules that are large, deep or intricate: they are refused, or compiled within bounds.

use postrider_plugin::limits::{MAX_DEPTH, MAX_FUNCTION, MAX_LOCALS, MAX_MODULE};
use postrider_plugin::{Module, ModuleError};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Instruction, MemorySection,
    MemoryType, TypeSection, ValType,
};

use crate::modules::{GOOD, compile, text};

/// A plugin with further functions, which nothing calls.
fn module(functions: &[Function]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], [ValType::I32]);
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([ValType::I32, ValType::I32], [ValType::I64]);
    types.ty().function([], []);
    let (mut declared, mut code) = (FunctionSection::new(), CodeSection::new());
    for (place, value) in
        [Instruction::I32Const(1), Instruction::I32Const(0), Instruction::I64Const(0)].iter().enumerate()
    {
        declared.function(u32::try_from(place).unwrap());
        code.function(&function(&[], |body| {
            body.instruction(value);
        }));
    }
    for function in functions {
        declared.function(3);
        code.function(function);
    }
    let memory =
        MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
    let mut memories = MemorySection::new();
    memories.memory(memory);
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export("postrider_abi", ExportKind::Func, 0);
    exports.export("postrider_alloc", ExportKind::Func, 1);
    exports.export("postrider_transform", ExportKind::Func, 2);
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&declared).section(&memories).section(&exports).section(&code);
    module.finish()
}

fn function(locals: &[(u32, ValType)], body: impl FnOnce(&mut Function)) -> Function {
    let mut function = Function::new(locals.iter().copied());
    body(&mut function);
    function.instruction(&Instruction::End);
    function
}

fn many(body: &mut Function, count: usize, instructions: &[Instruction<'_>]) {
    for _ in 0..count {
        for instruction in instructions {
            body.instruction(instruction);
        }
    }
}

fn exceeds(wasm: &[u8]) -> &'static str {
    match Module::compile(wasm) {
        Err(ModuleError::Exceeds { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_has_a_bounded_size() {
    let nops = function(&[], |body| many(body, MAX_FUNCTION - 100, &[Instruction::Nop]));
    let huge = module(&vec![nops; 17]);
    assert!(matches!(Module::compile(&huge), Err(ModuleError::TooLarge(length)) if length == huge.len()));
    assert!(huge.len() > MAX_MODULE);
    let long = function(&[], |body| many(body, MAX_FUNCTION, &[Instruction::Nop]));
    assert_eq!(exceeds(&module(&[long])), "bytes of code in one function");
}

#[test]
fn blocks_nest_to_a_bounded_depth() {
    let nested = |levels| {
        module(&[function(&[], |body| {
            many(body, levels, &[Instruction::Block(BlockType::Empty)]);
            many(body, levels, &[Instruction::End]);
        })])
    };
    assert!(Module::compile(&nested(MAX_DEPTH)).is_ok());
    for levels in [MAX_DEPTH + 1, 80_000] {
        assert_eq!(exceeds(&nested(levels)), "levels of nested blocks");
    }
    // Megabytes of them.
    assert_eq!(exceeds(&nested(1_000_000)), "bytes of code in one function");
}

/// A few bytes can declare very many variables.
#[test]
fn local_variables_are_bounded_over_all_functions() {
    let with = |locals| module(&vec![function(&[(locals, ValType::I64)], |_| ()); 100]);
    assert!(Module::compile(&with(MAX_LOCALS / 100)).is_ok());
    assert_eq!(exceeds(&with(MAX_LOCALS / 100 + 1)), "local variables");
    assert_eq!(exceeds(&with(u32::MAX)), "local variables");
}

#[test]
fn functions_and_parameters_are_bounded() {
    let empty = function(&[], |_| ());
    assert_eq!(exceeds(&module(&vec![empty; 20_000])), "functions");
    let parameters = text(&format!("(func (param {}))", "i64 ".repeat(65)), GOOD);
    let error = compile(&parameters).unwrap_err();
    assert!(error.to_string().contains("parameters"), "{error}");
}

/// Whatever a compiler does for each value on the stack at each instruction, or for each target of a jump, is bounded by the
/// size of a function. These compile, within fractions of a second in a release build.
#[test]
fn intricate_functions_compile_within_bounds() {
    let get = Instruction::LocalGet(0);
    let i32 = ValType::I32;
    let set = [Instruction::I32Const(1), Instruction::LocalSet(0)];
    let block = [Instruction::Block(BlockType::Empty), Instruction::End];
    let deep = MAX_FUNCTION / 8;
    for body in [
        function(&[(1, i32)], |body| {
            many(body, deep, std::slice::from_ref(&get));
            many(body, deep / 2, &set);
            many(body, deep, &[Instruction::Drop]);
        }),
        function(&[(1, i32)], |body| {
            many(body, deep, std::slice::from_ref(&get));
            many(body, deep / 2, &block);
            many(body, deep, &[Instruction::Drop]);
        }),
        function(&[(1, i32)], |body| {
            many(body, deep, &[get.clone(), set[0].clone(), set[1].clone()]);
            many(body, deep, &[Instruction::Drop]);
        }),
        function(&[], |body| {
            many(body, 1, &[Instruction::Block(BlockType::Result(i32)), set[0].clone(), set[0].clone()]);
            many(
                body,
                1,
                &[Instruction::BrTable(vec![0; 100_000].into(), 0), Instruction::End, Instruction::Drop],
            );
        }),
    ] {
        let compiled = Module::compile(&module(&vec![body; 4]));
        assert!(compiled.is_ok(), "{compiled:?}");
    }
}
