//! `postrider plugins test`: one call of a plugin, without a server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postrider_api::event::EventRequest;
use postrider_core::plugin::PluginConfig;
use postrider_core::{EventData, chain};
use postrider_plugin::limits::MAX_FUEL;
use postrider_plugin::{Input, Module};
use postrider_program::{StartError, WithStatus};

use super::module;
use crate::say::say;
use crate::status::{REFUSED, usage};

/// The event, unless a file has another one.
const EVENT: &str = r#"{"event":"order.created","data":{"order":{"id":"o1","total":1.50}}}"#;

/// Twice the default of the server's largest body.
const MAX_OUTPUT: usize = 2 * 1024 * 1024;

/// The most bytes of an event's file.
const MAX_EVENT: u64 = 64 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The WebAssembly module
    file: PathBuf,
    /// Configuration of the plugin: a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    plugin_config: String,
    /// File with an event, as POST /v1/events takes it; otherwise an order.created
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), StartError> {
    let wasm = module(&args.file)?;
    let config: PluginConfig = serde_json::from_str(&args.plugin_config)
        .map_err(|error| usage(format!("--plugin-config: {error}")))?;
    let event = args.event.as_deref().map_or_else(|| Ok(EVENT.to_owned()), event)?;
    let invalid = |error: &dyn std::fmt::Display| usage(format!("--event: {error}"));
    let event: EventRequest = serde_json::from_str(&event).map_err(|error| invalid(&error))?;
    let data = event.data.ok_or_else(|| invalid(&"`data` is required"))?;
    let data = EventData::from_raw(data).map_err(|error| invalid(&error))?;
    let channels = event.channels.unwrap_or_default();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let input = Input {
        id: "evt_01h455vb4pex5vsknk084sn02q",
        event_type: event.event_type.as_deref().unwrap_or("order.created"),
        agent_id: event.agent_id.as_deref().unwrap_or("default"),
        timestamp: 1_700_000_000,
        channels: &channels,
        data: data.as_json(),
    };

    let began = Instant::now();
    let compiled = Module::compile(&wasm).map_err(|error| WithStatus::new(REFUSED, error))?;
    say(format_args!("compiled {} bytes in {}", wasm.len(), shown(began.elapsed())));
    let began = Instant::now();
    match compiled.run(&config.to_json(), &input, MAX_OUTPUT) {
        Ok(output) => {
            let took = shown(began.elapsed());
            say(format_args!("used {} of {MAX_FUEL} units of fuel, in {took}", output.fuel));
            for (name, value) in &output.headers {
                say(format_args!("{name}: {value}"));
            }
            say(format_args!("{}", output.data));
            Ok(())
        }
        Err(error) => {
            say(format_args!("failed after {}: {}", shown(began.elapsed()), chain(&error)));
            Err(error.into())
        }
    }
}

fn event(path: &Path) -> Result<String, StartError> {
    let unreadable = |error: std::io::Error| usage(format!("cannot read {}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_EVENT {
        return Err(usage(format!("{} has {length} bytes; at most {MAX_EVENT} are allowed", path.display())));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn shown(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}
