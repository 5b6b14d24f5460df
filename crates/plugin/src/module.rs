//! A compiled module, and calls of it.

use std::fmt;

use wasmi::errors::ErrorKind;
use wasmi::{
    CompilationMode, Config, CustomFuelCosts, Engine, ExternType, Instance, Linker, Memory, OperatorCost,
    Store, StoreLimits, StoreLimitsBuilder, TrapCode, TypedFunc, ValType, WasmParams, WasmResults,
};

use crate::exchange::{given, returned};
use crate::limits::{ABI, ABI_FUEL, MAX_CALLS, MAX_FUEL, MAX_MEMORY, MAX_STACK, MAX_TABLE};
use crate::scan::scan;
use crate::{Input, ModuleError, Output, PluginError};

const MEMORY: &str = "memory";
const VERSION: &str = "postrider_abi";
const ALLOC: &str = "postrider_alloc";
const TRANSFORM: &str = "postrider_transform";

/// A compiled module. It may be run on several threads at once.
pub struct Module {
    // An engine keeps the code of its modules until it is dropped, so each module has one of its own.
    engine: Engine,
    code: wasmi::Module,
    size: usize,
}

impl Module {
    /// Compiles a module, after having checked that it can be a plugin.
    ///
    /// # Errors
    /// Fails if the module is invalid, too large or too intricate, imports something, lacks an export, or was built for
    /// another version of the interface.
    pub fn compile(wasm: &[u8]) -> Result<Self, ModuleError> {
        scan(wasm)?;
        let engine = Engine::new(&config());
        let code =
            wasmi::Module::new(&engine, wasm).map_err(|error| ModuleError::Invalid(Box::new(error)))?;
        exports(&code)?;
        let compiled = Self { engine, code, size: wasm.len() };
        match compiled.version().map_err(ModuleError::Instance)? {
            ABI => Ok(compiled),
            other => Err(ModuleError::Version(other)),
        }
    }

    /// The bytes of the module as it was given. Compiled, it takes several times as many.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Runs the module on an event, in an instance of its own. `config` is JSON, and `max_output` the most bytes that the
    /// module may return.
    ///
    /// This holds the thread for up to about 0.1 s, and takes up to 18 MiB of memory.
    ///
    /// # Errors
    /// Fails if the module refuses the event, exceeds a bound, or returns something else than the interface says. The same
    /// input always has the same result.
    pub fn run(&self, config: &str, input: &Input<'_>, max_output: usize) -> Result<Output, PluginError> {
        let given = given(config, input)?;
        let length = i32::try_from(given.len()).map_err(|_| PluginError::Allocation)?;
        let (mut store, instance) = self.instance(MAX_FUEL)?;
        let memory = instance.get_memory(&store, MEMORY).ok_or(PluginError::OutputPlace)?;
        let address =
            typed::<i32, i32>(&store, instance, ALLOC)?.call(&mut store, length).map_err(stopped)?;
        let place = usize::try_from(address.cast_unsigned()).map_err(|_| PluginError::Allocation)?;
        memory.write(&mut store, place, given.as_bytes()).map_err(|_| PluginError::Allocation)?;
        let transform = typed::<(i32, i32), i64>(&store, instance, TRANSFORM)?;
        let returned_place = transform.call(&mut store, (address, length)).map_err(stopped)?;
        let fuel = MAX_FUEL.saturating_sub(store.get_fuel().unwrap_or_default());
        returned(output(&store, memory, returned_place.cast_unsigned(), max_output)?, fuel)
    }

    fn version(&self) -> Result<i32, PluginError> {
        let (mut store, instance) = self.instance(ABI_FUEL)?;
        typed::<(), i32>(&store, instance, VERSION)?.call(&mut store, ()).map_err(stopped)
    }

    fn instance(&self, fuel: u64) -> Result<(Store<StoreLimits>, Instance), PluginError> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(MAX_MEMORY)
            .memories(1)
            .tables(1)
            .table_elements(MAX_TABLE)
            .instances(1)
            .build();
        let mut store = Store::new(&self.engine, limits);
        store.limiter(|limits| limits);
        store.set_fuel(fuel).map_err(stopped)?;
        let linker = Linker::new(&self.engine);
        let instance = linker.instantiate_and_start(&mut store, &self.code).map_err(stopped)?;
        Ok((store, instance))
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("size", &self.size).finish_non_exhaustive()
    }
}

fn config() -> Config {
    // What is left are features that common compilers use. Several results of a block would let few bytes of a module become
    // much code.
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .operator_cost(costs())
        .fuel_cost(CustomFuelCosts {
            bytes_copied_per_fuel: 32,
            // Nothing is compiled during a call.
            fuel_per_bytes_translated: 0,
            fuel_per_bytes_validated: 0,
        })
        // The same call then takes the same fuel each time.
        .compilation_mode(CompilationMode::Eager)
        .allow_start_fn(false)
        .ignore_custom_sections(true)
        .wasm_multi_value(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .set_max_recursion_depth(MAX_CALLS)
        .set_max_stack_height(MAX_STACK)
        .set_max_cached_stacks(1);
    config
}

/// Fuel in proportion to time, as measured: with wasmi's own costs, an empty loop takes twenty times as long for its fuel as the
/// code of a real plugin. No loop is free, because jumps are not.
fn costs() -> OperatorCost {
    OperatorCost {
        // They become operands and results of other instructions.
        local_get: 0,
        local_set: 0,
        i32_const: 0,
        i64_const: 0,
        f32_const: 0,
        f64_const: 0,
        br: 16,
        br_if: 4,
        if_: 4,
        br_table: 16,
        call: 16,
        call_indirect: 24,
        memory_grow: 40,
        memory_copy: 16,
        memory_fill: 16,
        memory_init: 16,
        table_grow: 40,
        table_copy: 16,
        table_fill: 16,
        table_init: 16,
        ..OperatorCost::default()
    }
}

/// Checks the exports and their types.
fn exports(module: &wasmi::Module) -> Result<(), ModuleError> {
    let is_function = |name, parameters: &[ValType], results: &[ValType]| match module.get_export(name) {
        Some(ExternType::Func(found)) => found.params() == parameters && found.results() == results,
        _ => false,
    };
    let required = |found: bool, name, expected| {
        if found { Ok(()) } else { Err(ModuleError::Export { name, expected }) }
    };
    let i32 = ValType::I32;
    required(matches!(module.get_export(MEMORY), Some(ExternType::Memory(_))), MEMORY, "a memory")?;
    required(is_function(VERSION, &[], &[i32]), VERSION, "a function () -> i32")?;
    required(is_function(ALLOC, &[i32], &[i32]), ALLOC, "a function (i32) -> i32")?;
    required(is_function(TRANSFORM, &[i32, i32], &[ValType::I64]), TRANSFORM, "a function (i32, i32) -> i64")
}

fn typed<P: WasmParams, R: WasmResults>(
    store: &Store<StoreLimits>,
    instance: Instance,
    name: &str,
) -> Result<TypedFunc<P, R>, PluginError> {
    instance.get_typed_func(store, name).map_err(stopped)
}

/// The bytes of an output, from its address and length.
fn output(
    store: &Store<StoreLimits>,
    memory: Memory,
    place: u64,
    max_output: usize,
) -> Result<&[u8], PluginError> {
    let half = |half: u64| usize::try_from(half).map_err(|_| PluginError::OutputPlace);
    let (address, length) = (half(place >> 32)?, half(place & 0xffff_ffff)?);
    if length > max_output {
        return Err(PluginError::OutputTooLong { length, most: max_output });
    }
    let end = address.checked_add(length).ok_or(PluginError::OutputPlace)?;
    memory.data(store).get(address..end).ok_or(PluginError::OutputPlace)
}

/// What a failure inside a module means.
fn stopped(error: wasmi::Error) -> PluginError {
    match error.kind() {
        ErrorKind::TrapCode(TrapCode::OutOfFuel) | ErrorKind::Fuel(_) => PluginError::Fuel,
        _ => PluginError::Trap(Box::new(error)),
    }
}
