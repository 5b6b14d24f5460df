//! `postrider verify` and `postrider sign`: signatures, offline.

use std::time::Duration;

use postrider_core::signing::{
    Diagnosis, Signer, Verifier, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, X_AGENT_SIGNATURE,
};
use postrider_core::{Clock as _, EventId, IdGenerator, Secret, SystemClock, Timestamp};
use postrider_program::StartError;
use postrider_settings::SecretText;
use serde_json::json;
use zeroize::Zeroizing;

use crate::client::body;
use crate::client::output::{Format, OutputArgs, Printer, print_text};
use crate::status::usage;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider verify --secret @secret.txt --headers @headers.txt -d @body.json")]
pub(crate) struct VerifyArgs {
    /// Secret of the subscriber, or its public key; @file keeps it out of the list of processes; may be repeated
    #[arg(long, value_name = "SECRET", required = true)]
    secret: Vec<SecretText>,
    /// Body exactly as it was received: text, @file, or - for standard input
    #[arg(short = 'd', long = "data", id = "signed_body", value_name = "BODY")]
    signed_body: String,
    /// A header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// All headers, one on each line, such as `sign` prints: text, @file, or - for standard input
    #[arg(long, value_name = "HEADERS")]
    headers: Option<String>,
    /// Judge the time of the signature as of this time, in Unix seconds; otherwise now
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
    /// How far the time of the signature may be from that, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    tolerance: u64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider sign --secret @secret.txt -d @body.json > headers.txt")]
pub(crate) struct SignArgs {
    /// Secret of the subscriber; @file keeps it out of the list of processes
    #[arg(long, value_name = "SECRET")]
    secret: SecretText,
    /// Body: text, @file, or - for standard input
    #[arg(short = 'd', long = "data", id = "signed_body", value_name = "BODY")]
    signed_body: String,
    /// Value of webhook-id; otherwise a new one
    #[arg(long, id = "webhook_id", value_name = "ID")]
    id: Option<String>,
    /// Value of webhook-timestamp, in Unix seconds; otherwise now
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn verify(args: &VerifyArgs) -> Result<(), StartError> {
    let secrets = args.secret.iter().map(secret).collect::<Result<Vec<_>, _>>()?;
    let body = body::given(&args.signed_body)?;
    let headers = headers(args)?;
    let texts: Vec<&str> = secrets.iter().map(|secret| secret.as_str()).collect();
    let wrong = |error| usage(format!("--secret: {error}"));
    let verifier = Verifier::any(&texts).map_err(wrong)?.tolerance(Duration::from_secs(args.tolerance));
    let now = args.now.map_or_else(|| SystemClock.now(), Timestamp::from_seconds);
    let header = |name: &str| {
        let found = headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    let only_agent = header(WEBHOOK_SIGNATURE).is_none();
    let outcome = match header(X_AGENT_SIGNATURE).filter(|_| only_agent) {
        Some(signature) => verifier.verify_agent(signature, &body),
        None => verifier.verify(header, &body, now).map(|_| ()),
    };
    let mut printer = Printer::new(args.output, &[]);
    match outcome {
        Ok(()) => {
            let covers = if only_agent { "the body" } else { "the id, the time and the body" };
            Ok(printer.item(&json!({"verified": true, "covers": covers}).to_string())?)
        }
        Err(error) => {
            let Diagnosis { reason, detail } = Diagnosis::of(error, &texts, header, &body, now);
            printer.item(&json!({"verified": false, "reason": reason, "detail": detail}).to_string())?;
            Err(detail.into())
        }
    }
}

pub(crate) fn sign(args: &SignArgs) -> Result<(), StartError> {
    let text = secret(&args.secret)?;
    let secret = Secret::parse(&text).map_err(|error| usage(format!("--secret: {error}")))?;
    let body = body::given(&args.signed_body)?;
    let id = args.id.clone().unwrap_or_else(|| {
        let id: EventId = IdGenerator::system().next();
        id.to_string()
    });
    if id.is_empty() || id.contains('.') {
        return Err(usage(
            "--id: must not be empty or contain a full stop, which would make what is signed ambiguous"
                .to_owned(),
        ));
    }
    let timestamp = args.timestamp.unwrap_or_else(|| SystemClock.now().seconds());
    let signer = Signer::new(&secret, &[]);
    let headers = [
        (WEBHOOK_ID, id.clone()),
        (WEBHOOK_TIMESTAMP, timestamp.to_string()),
        (WEBHOOK_SIGNATURE, signer.webhook_signature(&id, timestamp, &body)),
        (X_AGENT_SIGNATURE, signer.agent_signature(&body)),
    ];
    if args.output.output == Format::Table {
        let lines = headers.map(|(name, value)| format!("{name}: {value}"));
        return Ok(print_text(lines.join("\n"))?);
    }
    let fields: serde_json::Map<_, _> =
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    Ok(Printer::new(args.output, &[]).item(&serde_json::Value::Object(fields).to_string())?)
}

/// Returns the secret that an argument gives or names a file of.
fn secret(given: &SecretText) -> Result<Zeroizing<String>, StartError> {
    let text = given.expose();
    if !text.starts_with('@') && text != "-" {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let bytes = Zeroizing::new(body::given(text)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| usage("--secret: the file is not text".to_owned()))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn headers(args: &VerifyArgs) -> Result<Vec<(String, String)>, StartError> {
    let file = args.headers.as_deref().map_or_else(|| Ok(Vec::new()), body::given)?;
    let file = String::from_utf8_lossy(&file);
    let lines =
        args.header.iter().map(String::as_str).chain(file.lines().filter(|line| !line.trim().is_empty()));
    // Dumps of requests begin with the request's own line, which has no colon before its first space.
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim(), value.trim())).filter(|(name, _)| !name.contains(' '))
    });
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if headers.is_empty() {
        return Err(usage("give the headers of the request with -H or --headers".to_owned()));
    }
    Ok(headers)
}
