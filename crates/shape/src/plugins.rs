//! The plugins that subscribers have chosen: loaded, compiled once, and run off the async threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use postrider_core::plugin::{PluginName, PluginVersion, SelectedPlugin};
use postrider_plugin::{Input, Module, ModuleError, Output, PluginError};
use postrider_store::{Store, StoreError};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

/// How long a plugin is used before the cache looks whether it was replaced, and how long at most while it looks. The sum of
/// both is less than 5 s.
const INTERVAL: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(4);

/// The most compiled plugins, and the most bytes of their modules. Compiled, a module takes a few times as many.
const MAX_MODULES: usize = 64;
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Compiled plugins, shared by everything in a process that runs them.
#[derive(Clone, Debug)]
pub struct PluginCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    entries: Mutex<HashMap<PluginName, Entry>>,
    /// As many calls at once as there are processors: each may take 16 MiB.
    running: Arc<Semaphore>,
}

#[derive(Debug)]
struct Entry {
    plugin: Arc<Loading>,
    used_at: Instant,
}

/// A plugin that is loaded, or being loaded.
#[derive(Debug, Default)]
struct Loading {
    loaded: Mutex<Option<Loaded>>,
    /// The call that holds this looks into the store; others wait for the result.
    turn: AsyncMutex<()>,
}

#[derive(Clone)]
struct Loaded {
    module: Result<Arc<Module>, Arc<ModuleError>>,
    version: PluginVersion,
    checksum: String,
    checked_at: Instant,
}

/// An event, as a plugin is given it.
#[derive(Clone, Debug)]
pub struct PluginInput {
    /// The event's id.
    pub id: String,
    /// The event type.
    pub event_type: String,
    /// The agent that emitted it.
    pub agent_id: String,
    /// When it occurred, in Unix seconds.
    pub timestamp: i64,
    /// Its channels.
    pub channels: Vec<String>,
    /// Its data, as JSON.
    pub data: String,
}

/// What a plugin made of an event.
#[derive(Clone, Debug)]
pub struct PluginRun {
    /// What to send.
    pub output: Output,
    /// The version that ran.
    pub version: PluginVersion,
    /// The checksum of its module, by which two runs of the same version are the same.
    pub checksum: String,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginRunError {
    /// The plugin failed, and fails again with the same input.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// There is no such plugin.
    #[error("the plugin `{0}` is not installed")]
    Missing(PluginName),
    /// Its module was accepted by another release of Postrider.
    #[error("the plugin's module cannot be used by this release of Postrider")]
    Module(#[source] Arc<ModuleError>),
    /// It cannot be read at the moment.
    #[error("the plugin cannot be loaded")]
    Store(#[from] StoreError),
    /// A call ended without a result.
    #[error("the plugin's call was interrupted")]
    Interrupted(#[from] JoinError),
}

impl PluginCache {
    /// A cache over the plugins of a store.
    pub fn new(store: Store) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let running = Arc::new(Semaphore::new(processors));
        Self(Arc::new(Shared { store, entries: Mutex::default(), running }))
    }

    /// Runs a subscriber's plugin on an event. `max_output` is the most bytes that it may return.
    ///
    /// A plugin that was replaced takes effect within 5 s, except while the database is unavailable. If this is cancelled, a
    /// call that has begun ends by itself.
    ///
    /// # Errors
    /// Fails if the plugin fails, is not installed, or cannot be loaded.
    pub async fn run(
        &self,
        plugin: &SelectedPlugin,
        input: PluginInput,
        max_output: usize,
    ) -> Result<PluginRun, PluginRunError> {
        let Loaded { module, version, checksum, .. } = self.loaded(&plugin.name).await?;
        let module = module.map_err(PluginRunError::Module)?;
        let config = plugin.config.to_json();
        // The semaphore is never closed.
        let permit = Arc::clone(&self.0.running).acquire_owned().await.ok();
        let output = spawn_blocking(move || {
            let _permit = permit;
            input.pass_to(|input| module.run(&config, input, max_output))
        });
        Ok(PluginRun { output: output.await??, version, checksum })
    }

    /// The plugin, not older than [`LONGEST`].
    async fn loaded(&self, name: &PluginName) -> Result<Loaded, PluginRunError> {
        let plugin = self.0.entry(name);
        if let Some(loaded) = plugin.within(INTERVAL) {
            return Ok(loaded);
        }
        let _turn = match (plugin.turn.try_lock(), plugin.within(LONGEST)) {
            (Ok(turn), _) => turn,
            // Another call is looking.
            (Err(_), Some(loaded)) => return Ok(loaded),
            (Err(_), None) => plugin.turn.lock().await,
        };
        if let Some(loaded) = plugin.within(INTERVAL) {
            return Ok(loaded);
        }
        let before = plugin.loaded().clone();
        match self.0.look(name, before.clone()).await {
            Ok(Some(loaded)) => {
                *plugin.loaded() = Some(loaded.clone());
                self.0.make_room(name);
                Ok(loaded)
            }
            Ok(None) => {
                self.0.entries().remove(name);
                Err(PluginRunError::Missing(name.clone()))
            }
            // While the database is unavailable, the last module that was read is used.
            Err(PluginRunError::Store(error)) if error.is_unavailable() => {
                before.ok_or(PluginRunError::Store(error))
            }
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, HashMap<PluginName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, name: &PluginName) -> Arc<Loading> {
        let (mut entries, now) = (self.entries(), Instant::now());
        if let Some(entry) = entries.get_mut(name) {
            entry.used_at = now;
            return Arc::clone(&entry.plugin);
        }
        let plugin = Arc::<Loading>::default();
        entries.insert(name.clone(), Entry { plugin: Arc::clone(&plugin), used_at: now });
        plugin
    }

    /// Reads a plugin, and compiles it unless `before` has the same module. `None` if there is none.
    async fn look(
        &self,
        name: &PluginName,
        before: Option<Loaded>,
    ) -> Result<Option<Loaded>, PluginRunError> {
        let checked_at = Instant::now();
        let Some(installed) = self.store.plugin(name).await? else { return Ok(None) };
        if let Some(before) = before.filter(|before| before.checksum == installed.checksum) {
            return Ok(Some(Loaded { version: installed.version, checked_at, ..before }));
        }
        let Some((installed, wasm)) = self.store.plugin_module(name).await? else { return Ok(None) };
        let module = spawn_blocking(move || Module::compile(&wasm)).await?;
        if let Err(error) = &module {
            let error = postrider_core::chain(error);
            tracing::error!(plugin = %name, %error, "module of a plugin not compiled");
        }
        Ok(Some(Loaded {
            module: module.map(Arc::new).map_err(Arc::new),
            version: installed.version,
            checksum: installed.checksum,
            checked_at,
        }))
    }

    /// Forgets the plugins that have not been used for the longest time until the others fit.
    fn make_room(&self, but: &PluginName) {
        let mut entries = self.entries();
        loop {
            let bytes: usize = entries.values().map(|entry| entry.plugin.size()).sum();
            if entries.len() <= MAX_MODULES && bytes <= MAX_BYTES {
                return;
            }
            let others = entries.iter().filter(|(name, _)| *name != but);
            let oldest = others.min_by_key(|(_, entry)| entry.used_at).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { return };
            entries.remove(&oldest);
        }
    }
}

impl Loading {
    fn loaded(&self) -> MutexGuard<'_, Option<Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugin, if it was checked within this time.
    fn within(&self, age: Duration) -> Option<Loaded> {
        self.loaded().as_ref().filter(|loaded| loaded.checked_at.elapsed() < age).cloned()
    }

    fn size(&self) -> usize {
        let loaded = self.loaded();
        loaded.as_ref().and_then(|loaded| loaded.module.as_ref().ok()).map_or(0, |module| module.size())
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("version", &self.version).finish_non_exhaustive()
    }
}

impl PluginInput {
    fn pass_to<T>(&self, run: impl FnOnce(&Input<'_>) -> T) -> T {
        let channels: Vec<&str> = self.channels.iter().map(String::as_str).collect();
        run(&Input {
            id: &self.id,
            event_type: &self.event_type,
            agent_id: &self.agent_id,
            timestamp: self.timestamp,
            channels: &channels,
            data: &self.data,
        })
    }
}
