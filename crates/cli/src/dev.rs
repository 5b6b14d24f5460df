//! `postrider dev`: the API and a worker in this process, over SQLite in a data folder.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use postrider_core::{Keyring, Random as _, SystemRandom};
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_program::{Observed, StartError, Transforms, readiness};
use postrider_server::{Parts, Server};
use postrider_settings::{
    DeliveryArgs, DispatchArgs, RetryArgs, SecretKeyArgs, ServerArgs, TelemetryArgs, WorkerArgs,
};
use postrider_telemetry::{Program, listener};
use postrider_worker::Worker;

use crate::embedded;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder for the database and the keys; made if it is not there
    #[arg(long, env = "POSTRIDER_DATA", value_name = "FOLDER", default_value = "postrider-data")]
    data: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    dispatch: DispatchArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

pub(crate) async fn run(args: Args, transforms: Transforms) -> Result<(), StartError> {
    let made = fs::create_dir_all(&args.data);
    made.map_err(|error| format!("cannot make the data folder {}: {error}", args.data.display()))?;
    let admin_key = match &args.server.admin_key {
        Some(key) => key.expose().to_owned(),
        None => kept(&args.data.join("admin.key"), new_admin_key)?,
    };
    let keyring = match &args.secret_key.secret_key {
        Some(_) => args.secret_key.config()?,
        None => Keyring::parse(&kept(&args.data.join("secret.key"), || {
            Keyring::generate_key(&SystemRandom).to_string()
        })?)?,
    };
    let client = client(&args)?;
    let worker = postrider_worker::Config::from_settings(&args.worker, &args.retry)?;
    let config = postrider_server::Config {
        body_limit: args.server.body_limit,
        grace: args.worker.shutdown_grace,
        ..postrider_server::Config::new(admin_key.parse()?)
    };
    let mut dispatch = postrider_dispatch::Config {
        default_agent: args.dispatch.config()?,
        ..postrider_dispatch::Config::default()
    };
    if let Some(configured) = transforms {
        dispatch.transforms.configure(configured)?;
    }

    let mut observed = Observed::start(&args.telemetry, Program::Whole, env!("CARGO_PKG_VERSION"))?;
    let store = embedded::open(&args.data, keyring).await?;
    let database = store.database().clone();
    let parts = Parts {
        dispatcher: Dispatcher::new(store.clone(), dispatch)?,
        store: store.clone(),
        targets: client.clone(),
        telemetry: listener::routes(observed.metrics().clone(), readiness(&database)),
    };
    let stop = postrider_program::stop_signal()?;
    let api = Server::bind(args.server.listen, config, parts).await;
    let api = api.map_err(|error| format!("{error} (POSTRIDER_LISTEN)"))?;
    observed.serve(&args.telemetry, &database).await?;
    tracing::info!(service = "api", address = %api.local_addr(), "listening");
    greet(&format!("http://{}", api.local_addr()), &admin_key, &args.data);

    // The worker ends after the API, so that what was acknowledged last is still tried.
    let working = tokio::spawn(Worker::new(store, client, worker)?.run(stop.clone()));
    api.serve(stop.cancelled()).await;
    working.await?;

    database.close().await;
    observed.shutdown().await;
    Ok(())
}

/// Receivers under development are on this machine.
fn client(args: &Args) -> Result<Client, StartError> {
    let mut config = args.delivery.config()?;
    let mut nets = args.delivery.allow_nets.clone();
    nets.extend(["127.0.0.0/8".parse::<ipnet::IpNet>()?, "::1/128".parse()?]);
    config.targets.addresses = config.targets.addresses.allowing(nets);
    Ok(Client::new(config)?)
}

/// The text of a file that only its owner may read; made if it is not there.
fn kept(file: &Path, make: impl FnOnce() -> String) -> Result<String, StartError> {
    let trouble = |error: std::io::Error| format!("cannot keep a key in {}: {error}", file.display());
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut new) => {
            let key = make();
            new.write_all(key.as_bytes()).map_err(trouble)?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(file).map_err(trouble)?.trim().to_owned())
        }
        Err(error) => Err(trouble(error).into()),
    }
}

fn new_admin_key() -> String {
    let mut random = [0; 24];
    SystemRandom.fill(&mut random);
    random.iter().fold("dev_".to_owned(), |key, byte| format!("{key}{byte:02x}"))
}

fn greet(url: &str, key: &str, data: &Path) {
    println!(
        "Postrider runs at {url} with its data in {}. Ctrl-C ends it.

  API      {url}/docs
  key      {key}

Dispatch an event:

  curl -s {url}/v1/events -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{\"event\":\"order.created\",\"data\":{{\"order\":1}}}}'

Nobody has asked for it yet. Subscribe a receiver on this machine, and dispatch again:

  curl -s {url}/v1/subscribers -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{\"url\":\"http://127.0.0.1:9000/\",\"events\":[\"order.*\"]}}'
",
        data.display()
    );
}
