//! Traces over OTLP: where they go, as the standard variables say it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// How long an export may take when no variable says so (OpenTelemetry's default).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    HttpProtobuf,
}

/// Where traces go.
///
/// Only this is a plain value. The SDK itself reads the rest of the standard: `OTEL_TRACES_SAMPLER`
/// and its `_ARG`, `OTEL_BSP_*`, `OTEL_SPAN_*`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME` and
/// `OTEL_EXPORTER_OTLP_HEADERS` (with `_TRACES_`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// How it is spoken.
    pub protocol: Protocol,
    /// The whole URL that spans are sent to, with a scheme; for [`Protocol::HttpProtobuf`] with its path.
    pub endpoint: String,
    /// How long one export may take, retries included.
    pub timeout: Duration,
}

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A protocol that is not spoken here.
    #[error("{variable} is `{value}`: use `grpc` or `http/protobuf`")]
    Protocol {
        /// The variable's name.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// A time-out that is not a number.
    #[error("{variable} is `{value}`: use a number of milliseconds above zero")]
    Timeout {
        /// The variable's name.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// The exporter cannot be built.
    #[error("the OTLP exporter cannot be set up: check OTEL_EXPORTER_OTLP_ENDPOINT and its kin")]
    Exporter(#[from] ExporterBuildError),
    /// The machine's certificates cannot be read.
    #[error(
        "the OTLP endpoint is https, but the machine's root certificates cannot be read: install ca-certificates"
    )]
    Roots(#[source] std::io::Error),
    /// The exporter needs a Tokio runtime to send on.
    #[error("traces can be exported only from inside of a Tokio runtime")]
    Runtime(#[from] tokio::runtime::TryCurrentError),
}

impl Otlp {
    /// What the standard variables ask for, or `None` if no endpoint is set, `OTEL_SDK_DISABLED` is
    /// `true` or `OTEL_TRACES_EXPORTER` is `none`. Variables that are empty count as unset.
    ///
    /// ```
    /// use postrider_telemetry::{Otlp, Protocol};
    ///
    /// let otlp = Otlp::from_variables(|name| {
    ///     (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://collector:4318".to_owned())
    /// });
    /// let otlp = otlp.unwrap().unwrap();
    /// assert_eq!(otlp.protocol, Protocol::HttpProtobuf);
    /// assert_eq!(otlp.endpoint, "http://collector:4318/v1/traces");
    /// ```
    ///
    /// # Errors
    /// If the protocol is not spoken here or the time-out is no number.
    pub fn from_variables(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpError> {
        let set =
            |name| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).map(|v| (name, v));
        let is = |name, value: &str| set(name).is_some_and(|(_, v)| v.eq_ignore_ascii_case(value));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let own = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").map(|(_, url)| url);
        let general = set("OTEL_EXPORTER_OTLP_ENDPOINT").map(|(_, url)| url);
        if own.is_none() && general.is_none() {
            return Ok(None);
        }
        let protocol =
            set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
        let protocol = match protocol.as_ref().map(|(name, value)| (*name, value.as_str())) {
            // The specification's default.
            None | Some((_, "http/protobuf")) => Protocol::HttpProtobuf,
            Some((_, "grpc")) => Protocol::Grpc,
            Some((variable, value)) => return Err(OtlpError::Protocol { variable, value: value.to_owned() }),
        };
        let timeout = set("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| set("OTEL_EXPORTER_OTLP_TIMEOUT"));
        let timeout = match timeout {
            None => DEFAULT_TIMEOUT,
            Some((variable, value)) => match value.parse() {
                Ok(ms) if ms > 0 => Duration::from_millis(ms),
                _ => return Err(OtlpError::Timeout { variable, value }),
            },
        };
        // The general endpoint is a base that the signal's path is added to; the traces' own is used as it is.
        let endpoint = match (own, general, protocol) {
            (Some(own), _, _) => own,
            (None, Some(base), Protocol::HttpProtobuf) => format!("{}/v1/traces", base.trim_end_matches('/')),
            (None, base, _) => base.unwrap_or_default(),
        };
        let insecure = ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"];
        let insecure =
            insecure.into_iter().find_map(set).is_some_and(|(_, v)| v.eq_ignore_ascii_case("true"));
        let endpoint = match (endpoint.contains("://"), insecure) {
            (true, _) => endpoint,
            (false, true) => format!("http://{endpoint}"),
            (false, false) => format!("https://{endpoint}"),
        };
        Ok(Some(Self { protocol, endpoint, timeout }))
    }

    /// A tracer provider that exports in batches, for spans of `service_name` unless the environment names it.
    pub(crate) fn provider(&self, service_name: &'static str) -> Result<SdkTracerProvider, OtlpError> {
        let exporter = match self.protocol {
            Protocol::Grpc => self.grpc()?,
            Protocol::HttpProtobuf => self.http()?,
        };
        Ok(SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(service_name))
            .build())
    }

    fn grpc(&self) -> Result<SpanExporter, OtlpError> {
        tokio::runtime::Handle::try_current()?; // tonic spawns its connection's task here and panics without one
        let builder =
            SpanExporter::builder().with_tonic().with_endpoint(&self.endpoint).with_timeout(self.timeout);
        // Roots are read at once, so only who needs them must have some.
        let builder = if self.is_https() {
            builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
        } else {
            builder
        };
        Ok(builder.build()?)
    }

    fn http(&self) -> Result<SpanExporter, OtlpError> {
        let runtime = tokio::runtime::Handle::try_current()?;
        let inner: Arc<dyn HttpClient> = if self.is_https() {
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                .map_err(OtlpError::Roots)?
                .https_only()
                .enable_http1()
                .build();
            Arc::new(HyperClient::new(connector, self.timeout, None))
        } else {
            Arc::new(HyperClient::with_default_connector(self.timeout, None))
        };
        let builder = SpanExporter::builder()
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_endpoint(&self.endpoint)
            .with_timeout(self.timeout)
            .with_http_client(OnRuntime { runtime, inner });
        Ok(builder.build()?)
    }

    fn is_https(&self) -> bool {
        self.endpoint.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }
}

fn resource(service_name: &'static str) -> Resource {
    const SERVICE_NAME: Key = Key::from_static_str("service.name");
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = || Resource::builder().with_attribute(version.clone());
    // The SDK's default detectors read OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and make
    // `unknown_service…` of their absence.
    let detected = builder().build();
    let named = detected.get(&SERVICE_NAME).map(|name| name.to_string());
    match named.as_deref().map_or(Cow::Borrowed(""), Cow::Borrowed) {
        name if name.is_empty() || name.starts_with("unknown_service") => {
            builder().with_service_name(service_name).build()
        }
        _ => detected,
    }
}

/// Sends on a Tokio runtime, wherever it is called: the SDK exports from a thread of its own, on
/// which hyper would find no reactor.
#[derive(Debug)]
struct OnRuntime {
    runtime: tokio::runtime::Handle,
    inner: Arc<dyn HttpClient>,
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let inner = Arc::clone(&self.inner);
        self.runtime.spawn(async move { inner.send_bytes(request).await }).await?
    }
}

#[cfg(test)]
mod tests;
