//! What a module may contain, checked before anything is compiled.
//!
//! One pass over its bytes, without recursion. It bounds what the compiler's time and memory depend on.

use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload};

use crate::ModuleError;
use crate::limits::{
    MAX_DEPTH, MAX_FUNCTION, MAX_FUNCTIONS, MAX_LOCALS, MAX_MEMORY, MAX_MODULE, MAX_PARAMETERS, MAX_PARTS,
    MAX_TABLE,
};

const PAGE: u64 = 64 * 1024;

/// Refuses a module that imports anything, starts by itself, or is larger or more intricate than plugins are.
pub(crate) fn scan(wasm: &[u8]) -> Result<(), ModuleError> {
    if wasm.len() > MAX_MODULE {
        return Err(ModuleError::TooLarge(wasm.len()));
    }
    let mut locals = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(invalid)? {
            Payload::ImportSection(imports) => {
                if let Some(import) = imports.into_iter().next() {
                    let import = import.map_err(invalid)?;
                    let (module, name) = (import.module.to_owned(), import.name.to_owned());
                    return Err(ModuleError::Imports { module, name });
                }
            }
            Payload::StartSection { .. } => return Err(ModuleError::Start),
            Payload::TypeSection(types) => {
                within("types", types.count(), MAX_FUNCTIONS)?;
                for function in types.into_iter_err_on_gc_types() {
                    let parameters = function.map_err(invalid)?.params().len();
                    within("parameters of one function", parameters as u64, MAX_PARAMETERS as u64)?;
                }
            }
            Payload::FunctionSection(functions) => within("functions", functions.count(), MAX_FUNCTIONS)?,
            Payload::ExportSection(exports) => within("exports", exports.count(), MAX_FUNCTIONS)?,
            Payload::GlobalSection(globals) => within("globals", globals.count(), MAX_PARTS)?,
            Payload::DataSection(segments) => within("data segments", segments.count(), MAX_PARTS)?,
            Payload::ElementSection(segments) => within("element segments", segments.count(), MAX_PARTS)?,
            Payload::MemorySection(memories) => {
                within("memories", memories.count(), 1_u32)?;
                for memory in memories {
                    let bytes = memory.map_err(invalid)?.initial.saturating_mul(PAGE);
                    within("bytes of memory", bytes, MAX_MEMORY as u64)?;
                }
            }
            Payload::TableSection(tables) => {
                within("tables", tables.count(), 1_u32)?;
                for table in tables {
                    within("table entries", table.map_err(invalid)?.ty.initial, MAX_TABLE as u64)?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                locals = function(&body, locals)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns how many local variables there are, with those of this function.
fn function(body: &FunctionBody<'_>, mut locals: u32) -> Result<u32, ModuleError> {
    within("bytes of code in one function", body.range().len() as u64, MAX_FUNCTION as u64)?;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals = locals.saturating_add(group.map_err(invalid)?.0);
        within("local variables", locals, MAX_LOCALS)?;
    }
    let mut depth = 0_usize;
    for operator in body.get_operators_reader().map_err(invalid)? {
        match operator.map_err(invalid)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                depth += 1;
                within("levels of nested blocks", depth as u64, MAX_DEPTH as u64)?;
            }
            // One more ends the function.
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(locals)
}

fn within(what: &'static str, count: impl Into<u64>, most: impl Into<u64>) -> Result<(), ModuleError> {
    let most = most.into();
    if count.into() > most { Err(ModuleError::Exceeds { what, most }) } else { Ok(()) }
}

fn invalid(error: BinaryReaderError) -> ModuleError {
    ModuleError::Invalid(Box::new(error))
}
