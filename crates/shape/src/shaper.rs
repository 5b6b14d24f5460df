//! Transform, plugin and format, one after the other.

use bytes::Bytes;
use postrider_core::format::{Format, Parts, Rendered, UnreadableEnvelope};
use postrider_core::plugin::SelectedPlugin;
use postrider_core::{Channels, CustomHeaders, EventId, ExpressionId, Transform, chain};
use postrider_filter::Subject;
use postrider_store::Store;

use crate::compiled::Projections;
use crate::plugins::{PluginCache, PluginInput, PluginRun, PluginRunError};

/// A transform of more data than this runs on a thread for work that takes long, and so does every projection.
const LARGE: usize = 16 * 1024;

/// The most bytes that a transform may make of data of up to half as many.
const MAX_OUTPUT: usize = 2 * 1024 * 1024;

/// Makes bodies. Cheap to clone; clones share what is compiled. The default one knows no plugins.
#[derive(Clone, Debug, Default)]
pub struct Shaper {
    projections: Projections,
    plugins: Option<PluginCache>,
}

/// What an envelope does not say of its event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The event's id.
    pub id: EventId,
    /// Its channels.
    pub channels: Option<Channels>,
}

/// What a subscriber wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The format of the body.
    pub format: &'a Format,
    /// What is done with the data before.
    pub transform: Option<&'a Transform>,
    /// The plugin that changes it after that.
    pub plugin: Option<&'a SelectedPlugin>,
}

/// A body, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped {
    /// The body.
    pub body: Bytes,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The headers of the format.
    pub headers: Vec<(&'static str, String)>,
    /// The headers that the transform and the plugin made. They replace the subscriber's own ones of the same name.
    pub own_headers: Vec<(String, String)>,
    /// The version of the transform and the plugin together; the same version makes the same bytes of the same event.
    pub transform: Option<ExpressionId>,
}

/// A body could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The stored envelope cannot be read.
    #[error(transparent)]
    Envelope(#[from] UnreadableEnvelope),
    /// The transform or the plugin failed. The text says why. That of a transform shows nothing of the event.
    #[error("{0}")]
    Transform(String),
    /// The plugin cannot be loaded at the moment.
    #[error("the plugin is not available at the moment")]
    Unavailable(#[source] PluginRunError),
}

/// What a transform made.
struct Transformed {
    data: String,
    headers: Vec<(String, String)>,
}

impl Shaped {
    /// Returns the subscriber's own headers with those that the transform made; `None` if it made none.
    ///
    /// # Errors
    /// Fails if they are too many together.
    pub fn merged_headers(&self, own: &CustomHeaders) -> Result<Option<CustomHeaders>, ShapeError> {
        if self.own_headers.is_empty() {
            return Ok(None);
        }
        let made = self.own_headers.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        own.clone().merged(made).map(Some).map_err(|error| ShapeError::Transform(error.to_string()))
    }
}

impl Shaper {
    /// Makes one that knows no plugins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that runs the plugins of a store.
    pub fn with_plugins(store: Store) -> Self {
        Self { plugins: Some(PluginCache::new(store)), ..Self::default() }
    }

    /// Makes the body of a request about an event from its envelope.
    ///
    /// # Errors
    /// Fails if the envelope cannot be read, the plugin cannot be loaded, or transform or plugin do not fit the event or make too
    /// much: more than twice as much as they were given, and more than 2 MiB.
    pub async fn shape(
        &self,
        event: &Event,
        envelope: Bytes,
        wanted: &Wanted<'_>,
    ) -> Result<Shaped, ShapeError> {
        if wanted.transform.is_none() && wanted.plugin.is_none() {
            return render(event.id, envelope, wanted.format, Vec::new(), None);
        }
        // Boxed, since few attempts need it.
        Box::pin(self.changed(event, envelope, wanted)).await
    }

    async fn changed(
        &self,
        event: &Event,
        envelope: Bytes,
        wanted: &Wanted<'_>,
    ) -> Result<Shaped, ShapeError> {
        let max = MAX_OUTPUT.max(2 * envelope.len());
        let (mut envelope, mut headers, mut version) = (envelope, Vec::new(), None);
        if let Some(transform) = wanted.transform {
            let made = self.transformed(event, &envelope, transform).await?;
            envelope = with_data(&envelope, &made.data)?;
            (headers, version) = (made.headers, Some(transform.version()));
        }
        if let Some(plugin) = wanted.plugin {
            let PluginRun { output, checksum, .. } = self.run(event, &envelope, plugin, max).await?;
            envelope = with_data(&envelope, &output.data)?;
            headers
                .retain(|(name, _)| !output.headers.iter().any(|(made, _)| made.eq_ignore_ascii_case(name)));
            headers.extend(output.headers);
            let transform = version.map(|version: ExpressionId| version.to_string()).unwrap_or_default();
            let config = plugin.config.to_json();
            version = Some(ExpressionId::of([&*transform, &*checksum, &*config].join("\n").as_bytes()));
        }
        render(event.id, envelope, wanted.format, headers, version)
    }

    async fn transformed(
        &self,
        event: &Event,
        envelope: &Bytes,
        transform: &Transform,
    ) -> Result<Transformed, ShapeError> {
        let is_quick = matches!(transform, Transform::Steps(_)) && envelope.len() <= LARGE;
        if is_quick {
            return self.transform(event, envelope, transform);
        }
        let (shaper, event, envelope, transform) =
            (self.clone(), event.clone(), envelope.clone(), transform.clone());
        let made = tokio::task::spawn_blocking(move || shaper.transform(&event, &envelope, &transform));
        made.await.unwrap_or_else(|_| Err(ShapeError::Transform("the transform was interrupted".to_owned())))
    }

    async fn run(
        &self,
        event: &Event,
        envelope: &[u8],
        plugin: &SelectedPlugin,
        max: usize,
    ) -> Result<PluginRun, ShapeError> {
        let Some(plugins) = &self.plugins else {
            return Err(ShapeError::Transform("plugins are not available here".to_owned()));
        };
        let parts = Parts::of(envelope)?;
        let input = PluginInput {
            id: event.id.to_string(),
            event_type: parts.event_type.into_owned(),
            agent_id: parts.agent_id.into_owned(),
            timestamp: parts.timestamp.into(),
            channels: event.channels.iter().flat_map(Channels::iter).map(str::to_owned).collect(),
            data: parts.data.get().to_owned(),
        };
        plugins.run(plugin, input, max).await.map_err(|error| match error {
            PluginRunError::Store(_) | PluginRunError::Interrupted(_) => ShapeError::Unavailable(error),
            error => ShapeError::Transform(chain(&error).to_string()),
        })
    }

    fn transform(
        &self,
        event: &Event,
        envelope: &[u8],
        transform: &Transform,
    ) -> Result<Transformed, ShapeError> {
        let failed =
            |error: &(dyn std::error::Error + 'static)| ShapeError::Transform(chain(error).to_string());
        let parts = Parts::of(envelope)?;
        let data = parts.data.get();
        let max = MAX_OUTPUT.max(2 * data.len());
        let transformed = match transform {
            Transform::Steps(steps) => {
                Transformed { data: steps.apply(data).map_err(|error| failed(&error))?, headers: Vec::new() }
            }
            Transform::Project(expression) => {
                let subject = Subject::of_envelope(event.id, event.channels.as_ref(), envelope);
                let subject = subject.map_err(|error| failed(&error))?;
                let compiled = self.projections.get(expression);
                let projection = compiled.as_ref().as_ref().map_err(|error| failed(error))?;
                let projected = projection.project(&subject, max).map_err(|error| failed(&error))?;
                Transformed { data: projected.data, headers: projected.headers }
            }
        };
        if transformed.data.len() > max {
            return Err(ShapeError::Transform(format!("the transform made more than {max} bytes")));
        }
        CustomHeaders::try_new(transformed.headers.clone()).map_err(|error| failed(&error))?;
        Ok(transformed)
    }
}

/// The envelope with other data.
fn with_data(envelope: &[u8], data: &str) -> Result<Bytes, ShapeError> {
    let parts = Parts::of(envelope)?;
    // The data is the last member, and is followed by `}` alone.
    let before = envelope.len().saturating_sub(parts.data.get().len() + 1);
    let before = envelope.get(..before).unwrap_or_default();
    Ok([before, data.as_bytes(), b"}"].concat().into())
}

fn render(
    id: EventId,
    envelope: Bytes,
    format: &Format,
    own_headers: Vec<(String, String)>,
    transform: Option<ExpressionId>,
) -> Result<Shaped, ShapeError> {
    // The envelope is sent as it is.
    if *format == Format::Postrider {
        let content_type = "application/json";
        return Ok(Shaped { body: envelope, content_type, headers: Vec::new(), own_headers, transform });
    }
    let Rendered { content_type, headers, body } = format.render(id, &envelope)?;
    Ok(Shaped { body: body.into(), content_type, headers, own_headers, transform })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: &str = r#"{"event":"order.paid","timestamp":1700000000,"agent_id":"shop","data":{"total": 9.50, "card": {"number": "4111111111111111", "cvv": "123"}, "items": [{"sku": "a", "n": 2}]}}"#;

    async fn shaped(transform: &str, format: Format) -> Result<Shaped, ShapeError> {
        let transform: Transform = serde_json::from_str(transform).unwrap();
        let event = Event {
            id: "evt_01h455vb4pex5vsknk084sn02q".parse().unwrap(),
            channels: Some(Channels::try_from(vec!["eu".to_owned()]).unwrap()),
        };
        let wanted = Wanted { format: &format, transform: Some(&transform), plugin: None };
        Shaper::default().shape(&event, ENVELOPE.into(), &wanted).await
    }

    #[tokio::test]
    async fn what_asks_for_nothing_gets_the_stored_bytes() {
        let event = Event { id: "evt_01h455vb4pex5vsknk084sn02q".parse().unwrap(), channels: None };
        let stored = Bytes::from_static(ENVELOPE.as_bytes());
        let wanted = Wanted { format: &Format::Postrider, transform: None, plugin: None };
        let shaped = Shaper::default().shape(&event, stored.clone(), &wanted).await.unwrap();
        assert_eq!(shaped.body.as_ptr(), stored.as_ptr(), "no copy");
        assert_eq!(shaped.transform, None);
    }

    #[tokio::test]
    async fn steps_change_the_data_of_the_envelope_alone() {
        let steps = r#"{"steps": [{"op": "drop", "path": "/card/cvv"}, {"op": "mask", "path": "/card/number", "keep": 4}]}"#;
        let data = r#"{"total":9.50,"card":{"number":"************1111"},"items":[{"sku": "a", "n": 2}]}"#;
        let envelope =
            format!(r#"{{"event":"order.paid","timestamp":1700000000,"agent_id":"shop","data":{data}}}"#);
        assert_eq!(shaped(steps, Format::Postrider).await.unwrap().body, envelope);
        assert_eq!(shaped(steps, Format::Data).await.unwrap().body, data);
        let standard = format!(r#"{{"type":"order.paid","timestamp":"2023-11-14T22:13:20Z","data":{data}}}"#);
        assert_eq!(shaped(steps, Format::Standard).await.unwrap().body, standard);
    }

    #[tokio::test]
    async fn a_projection_makes_data_and_headers() {
        let project = r#"{"project": "{'data': {'sum': data.total, 'in': event.channels, 'what': data.items.map(i, {'sku': i.sku})}, 'headers': {'X-Kind': event.event_type}}"}"#;
        let shaped = shaped(project, Format::Data).await.unwrap();
        assert_eq!(shaped.body, r#"{"in":["eu"],"sum":9.5,"what":[{"sku":"a"}]}"#);
        assert_eq!(shaped.own_headers, [("X-Kind".to_owned(), "order.paid".to_owned())]);
        assert!(shaped.transform.is_some());
    }

    #[tokio::test]
    async fn what_fails_says_why_and_shows_nothing_of_the_event() {
        for (transform, message) in [
            (
                r#"{"steps": [{"op": "set", "path": "/total/x", "value": 1}]}"#,
                "step 1 (set /total/x) does not fit the data: the path leads through text, a number or a boolean",
            ),
            (r#"{"project": "{'data': data.missing}"}"#, "the event has no `missing`; ask with has() before"),
            (r#"{"project": "{'data': 1, 'headers': {'host': 'x'}}"}"#, "host"),
            (r#"{"project": "{'data': 1, 'headers': {'x-a': 'a\\r\\nb: c'}}"}"#, "x-a"),
            (r#"{"project": "data +"}"#, "line 1, column "),
        ] {
            let error = shaped(transform, Format::Postrider).await.unwrap_err().to_string();
            assert!(error.contains(message), "{transform}: {error}");
        }
    }

    #[tokio::test]
    async fn one_version_makes_the_same_bytes() {
        let project = r#"{"project": "{'data': {'b': data.total, 'a': data.items, 'c': {'z': 1, 'y': 2}}}"}"#;
        let (one, other) =
            (shaped(project, Format::CloudEvents).await, shaped(project, Format::CloudEvents).await);
        assert_eq!(one.unwrap(), other.unwrap());
    }
}
