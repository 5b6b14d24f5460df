//! `postrider dev`: the API and a worker in one process, over SQLite in a data folder.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use postrider_core::{Keyring, Random as _, SystemRandom};
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_program::{Bounded, Observed, StartError, Transforms, readiness};
use postrider_server::{Parts, Server, Shedding};
use postrider_settings::{
    DeliveryArgs, DispatchArgs, RetryArgs, SecretKeyArgs, ServerArgs, SettingsError, ShedArgs, ShedConfig,
    ShutdownArgs, TelemetryArgs, WorkerArgs,
};
use postrider_telemetry::Program;
use postrider_worker::Worker;
use tokio_util::sync::CancellationToken;

use crate::data_folder::{DataFolder, FileError};
use crate::embedded;
use crate::say::say;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the database and the keys; created if it does not exist
    #[arg(long, env = "POSTRIDER_DATA", value_name = "FOLDER", default_value = "postrider-data")]
    data: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    shed: ShedArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    dispatch: DispatchArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    shutdown: ShutdownArgs,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

pub(crate) async fn run(args: Args, transforms: Transforms) -> Result<(), StartError> {
    refuse_settings_without_effect()?;
    // Held until the program ends.
    let _folder = DataFolder::open(&args.data)?;
    let mut server = args.server.clone();
    let admin_key = match &server.admin_key {
        Some(key) => key.expose().trim().to_owned(),
        None => key_in(&args.data.join("admin.key"), new_admin_key)?,
    };
    server.admin_key = Some(admin_key.clone().into());
    let mut secret_key = args.secret_key.clone();
    if secret_key.secret_key.is_none() {
        let key = key_in(&args.data.join("secret.key"), || Keyring::generate_key(&SystemRandom).to_string())?;
        secret_key.secret_key = Some(key.into());
    }
    let keyring = secret_key.config()?;
    let client = client(&args)?;
    let mut worker = postrider_worker::Config::from_settings(&args.worker, &args.retry, args.shutdown)?;
    let (delay, grace) = (server.shutdown_delay, args.shutdown.shutdown_grace);
    let ShedConfig { queue_age, latency, without_queue } = args.shed.config();
    let mut config = postrider_server::Config {
        body_limit: server.body_limit,
        request_memory: server.request_memory,
        connections_per_address: server.connections_per_address,
        log_requests: server.log_requests,
        delay,
        grace,
        shedding: Shedding { queue_age, latency, without_queue },
        audit_payloads: server.audit_payloads,
        trusted_proxies: server.trusted_proxies.clone(),
        ..postrider_server::Config::new(server.admin_keys()?.unwrap_or_default())
    };
    let mut dispatch = postrider_dispatch::Config {
        default_agent: args.dispatch.agent_id.clone(),
        ..postrider_dispatch::Config::default()
    };
    if let Some(configured) = transforms {
        dispatch.transforms.configure(configured)?;
    }

    let mut observed = Observed::start(&args.telemetry, Program::Whole, env!("CARGO_PKG_VERSION"))?;
    let bounds = [Bounded::connections(config.connections), Bounded::attempts(worker.concurrency)];
    // SQLite has one connection.
    let [connections, attempts] = observed.fit_descriptors(1, bounds);
    config.connections = connections as usize;
    worker.concurrency = attempts.try_into().unwrap_or(worker.concurrency);
    let store = embedded::open(&args.data, keyring).await?;
    let database = store.database().clone();
    let readiness = readiness(&database);
    let parts = Parts {
        dispatcher: Dispatcher::new(store.clone(), dispatch)?,
        store: store.clone(),
        targets: client.clone(),
        telemetry: observed.api_routes(&readiness, server.api_metrics),
    };
    let stop = postrider_program::stop_signal()?;
    let api = Server::bind(server.listen, config, parts).await;
    let api = api.map_err(|error| SettingsError::refused("POSTRIDER_LISTEN", error))?;
    let places = api.places();
    readiness.require(move || {
        if places.all_taken() { Err("all places for connections are taken".to_owned()) } else { Ok(()) }
    });
    let worker = Worker::new(store, client, worker)?;
    let trouble = worker.trouble();
    readiness.require(move || trouble.ready());
    observed.serve(&args.telemetry, &database, &readiness).await?;
    tracing::info!(service = "api", address = %api.local_addr(), "listening");
    // The new one, if it replaces an old one.
    let shown = admin_key.rsplit(',').next().unwrap_or_default().trim();
    greet(&format!("http://{}", api.local_addr()), shown, &args.data);

    // The worker stops after the API, so that it still attempts the events that were accepted last.
    let api_ended = CancellationToken::new();
    let working = tokio::spawn(worker.run(api_ended.clone()));
    let asked = async {
        stop.cancelled().await;
        readiness.stop();
    };
    api.serve(asked).await;
    api_ended.cancel();
    working.await?;

    database.close().await;
    observed.shutdown(stop.left_of(delay + grace)).await;
    Ok(())
}

/// Returns a client that may also deliver to this machine, where receivers under development are.
fn client(args: &Args) -> Result<Client, StartError> {
    let mut delivery = args.delivery.clone();
    delivery.allow_nets.extend(["127.0.0.0/8".parse::<ipnet::IpNet>()?, "::1/128".parse()?]);
    Ok(delivery.client()?)
}

/// Returns the key in `file`. If the file does not exist, creates it with a new key, readable by its owner only.
fn key_in(file: &Path, make: impl FnOnce() -> String) -> Result<String, FileError> {
    let failed = |action| FileError::of(action, file);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut new) => {
            let key = make();
            new.write_all(key.as_bytes()).map_err(failed("write a key to"))?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(file).map_err(failed("read a key from"))?.trim().to_owned())
        }
        Err(error) => Err(failed("create a key in")(error)),
    }
}

/// Settings of a database, of which `dev` has its own.
const WITHOUT_EFFECT: [&str; 5] = [
    "POSTRIDER_DATABASE_URL",
    "POSTRIDER_DATABASE_CONNECTIONS",
    "POSTRIDER_DATABASE_POOLER",
    "POSTRIDER_DATABASE_LISTEN_URL",
    "POSTRIDER_PARTITION",
];

/// A setting has no effect in `postrider dev`.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} has no effect in `postrider dev`, which has a database of its own in its data folder; unset it, or run \
    postrider-server and postrider-worker"
)]
struct WithoutEffect(&'static str);

fn refuse_settings_without_effect() -> Result<(), WithoutEffect> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    WITHOUT_EFFECT.into_iter().find(is_set).map_or(Ok(()), |name| Err(WithoutEffect(name)))
}

fn new_admin_key() -> String {
    let mut random = [0; 24];
    SystemRandom.fill(&mut random);
    random.iter().fold("dev_".to_owned(), |key, byte| format!("{key}{byte:02x}"))
}

fn greet(url: &str, key: &str, data: &Path) {
    say(format_args!(
        "Postrider is running at {url}, with its data in {}. Press Ctrl-C to stop it.

  API      {url}/docs
  key      {key}

Dispatch an event:

  curl -s {url}/v1/events -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{\"event\":\"order.created\",\"data\":{{\"order\":1}}}}'

Each subscriber receives the events whose type matches. Subscribe a receiver on this machine, then dispatch again:

  curl -s {url}/v1/subscribers -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{\"url\":\"http://127.0.0.1:9000/\",\"events\":[\"order.*\"]}}'
",
        data.display()
    ));
}
