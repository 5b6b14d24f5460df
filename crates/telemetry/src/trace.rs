//! The export of traces over OTLP, configured by the standard variables.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
#[cfg(feature = "otlp-grpc")]
use opentelemetry_otlp::{WithTonicConfig, tonic_types::transport::ClientTlsConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// The default time limit of an export, as OpenTelemetry specifies it.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The transport of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`; needs the feature `otlp-grpc`.
    Grpc,
    /// `http/protobuf`.
    HttpProtobuf,
}

/// Where to export traces.
///
/// The SDK itself reads the other standard variables: `OTEL_TRACES_SAMPLER` and its `_ARG`, `OTEL_BSP_*`, `OTEL_SPAN_*`,
/// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME` and `OTEL_EXPORTER_OTLP_HEADERS` (with `_TRACES_`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The transport.
    pub protocol: Protocol,
    /// The URL to send spans to, with a scheme, and with a path for [`Protocol::HttpProtobuf`].
    pub endpoint: String,
    /// The time limit of one export, including its retries.
    pub timeout: Duration,
}

/// The protocols of this build, for an error.
const PROTOCOLS: &str = if cfg!(feature = "otlp-grpc") {
    "use `grpc` or `http/protobuf`"
} else {
    "use `http/protobuf`; this build has no gRPC (cargo feature `otlp-grpc`)"
};

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The protocol is unknown, or not part of this build.
    #[error("{variable} is `{value}`: {PROTOCOLS}")]
    Protocol {
        /// The variable's name.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The timeout is not a number above zero.
    #[error("{variable} is `{value}`: use a number of milliseconds above zero")]
    Timeout {
        /// The variable's name.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The exporter cannot be built.
    #[error("the OTLP exporter cannot be set up: check the OTEL_EXPORTER_OTLP_… variables")]
    Exporter(#[from] ExporterBuildError),
    /// The machine's root certificates cannot be read.
    #[error(
        "the OTLP endpoint is https, but the machine's root certificates cannot be read: install ca-certificates"
    )]
    Roots(#[source] std::io::Error),
    /// There is no Tokio runtime for the exporter.
    #[error("traces can only be exported inside a Tokio runtime")]
    Runtime(#[from] tokio::runtime::TryCurrentError),
}

impl Otlp {
    /// Reads the standard variables. `None` if no endpoint is set, `OTEL_SDK_DISABLED` is `true`, or
    /// `OTEL_TRACES_EXPORTER` is `none`. An empty variable counts as unset.
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
    /// Fails if the protocol is unknown or not part of this build, or the timeout is not a number above zero.
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
            // The default of the specification is HTTP.
            None | Some((_, "http/protobuf")) => Protocol::HttpProtobuf,
            Some((_, "grpc")) if cfg!(feature = "otlp-grpc") => Protocol::Grpc,
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
        // The general endpoint is a base, to which the path is added; the endpoint for traces is used unchanged.
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

    /// Returns a tracer provider that exports in batches, with `service_name` unless the environment sets one.
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

    #[cfg(not(feature = "otlp-grpc"))]
    fn grpc(&self) -> Result<SpanExporter, OtlpError> {
        Err(OtlpError::Protocol { variable: "OTEL_EXPORTER_OTLP_PROTOCOL", value: "grpc".to_owned() })
    }

    #[cfg(feature = "otlp-grpc")]
    fn grpc(&self) -> Result<SpanExporter, OtlpError> {
        // tonic spawns the task of its connection and panics without a runtime.
        tokio::runtime::Handle::try_current()?;
        let builder =
            SpanExporter::builder().with_tonic().with_endpoint(&self.endpoint).with_timeout(self.timeout);
        // This reads the root certificates at once, and a machine without any must still be able to use http.
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
    // The SDK's default detectors read OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES. Without them they set
    // `unknown_service…`.
    let detected = builder().build();
    let named = detected.get(&SERVICE_NAME).map(|name| name.to_string());
    match named.as_deref().map_or(Cow::Borrowed(""), Cow::Borrowed) {
        name if name.is_empty() || name.starts_with("unknown_service") => {
            builder().with_service_name(service_name).build()
        }
        _ => detected,
    }
}

/// Sends on a Tokio runtime. The SDK exports from a thread of its own, where hyper would find no reactor.
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
