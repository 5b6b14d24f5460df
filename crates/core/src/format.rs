//! Formats: the body that a subscriber receives, made from the stored envelope.
//!
//! | format | body | content type |
//! |---|---|---|
//! | `postrider` | the envelope, byte for byte | `application/json` |
//! | `standard` | `{"type":…,"timestamp":"…","data":…}` ([Standard Webhooks]) | `application/json` |
//! | `data` | the data, byte for byte | `application/json` |
//! | `cloudevents` | [CloudEvents] 1.0 in structured mode | `application/cloudevents+json` |
//! | `cloudevents-binary` | the data, and the attributes as `ce-*` headers | `application/json` |
//! | `slack` | `{"text":…}`, from a [`Template`] | `application/json` |
//! | `form` | the data's members as fields | `application/x-www-form-urlencoded` |
//!
//! In all of them the data is inserted byte for byte, never parsed and written again.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
//! [CloudEvents]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

mod escape;
mod members;
mod name;
mod parts;
mod template;

use serde::{Deserialize, Serialize};

use crate::EventId;

pub use self::name::FormatName;
pub use self::parts::{Parts, UnreadableEnvelope};
pub use self::template::{Template, TemplateError};

use self::escape::{header_value, path_segment};

/// How the body of a subscriber's requests looks.
///
/// ```
/// use postrider_core::format::Format;
///
/// let envelope = br#"{"event":"order.paid","timestamp":1700000000,"agent_id":"shop","data":{"total": 9.50}}"#;
/// let id = "evt_01h455vb4pex5vsknk084sn02q".parse()?;
/// let rendered = Format::Standard.render(id, envelope)?;
/// assert_eq!(
///     rendered.body,
///     br#"{"type":"order.paid","timestamp":"2023-11-14T22:13:20Z","data":{"total": 9.50}}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "kebab-case")]
pub enum Format {
    /// The envelope.
    #[default]
    Postrider,
    /// Type, time and data after Standard Webhooks.
    Standard,
    /// The data alone.
    Data,
    /// A CloudEvent in structured mode.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// A CloudEvent in binary mode.
    #[serde(rename = "cloudevents-binary")]
    CloudEventsBinary,
    /// A message for an incoming webhook of Slack.
    Slack {
        /// The text of the message.
        template: Template,
    },
    /// The fields of a form.
    Form,
}

/// A body, and the headers that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// Further headers: names in lower case, and values of visible ASCII characters and spaces.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

const JSON: &str = "application/json";

impl Format {
    /// The name of the format.
    pub const fn name(&self) -> FormatName {
        match self {
            Self::Postrider => FormatName::Postrider,
            Self::Standard => FormatName::Standard,
            Self::Data => FormatName::Data,
            Self::CloudEvents => FormatName::CloudEvents,
            Self::CloudEventsBinary => FormatName::CloudEventsBinary,
            Self::Slack { .. } => FormatName::Slack,
            Self::Form => FormatName::Form,
        }
    }

    /// Makes the body of a request about an event from its envelope.
    ///
    /// # Errors
    /// Fails if the bytes are not an envelope.
    pub fn render(&self, id: EventId, envelope: &[u8]) -> Result<Rendered, UnreadableEnvelope> {
        let plain = |content_type, body| Rendered { content_type, headers: Vec::new(), body };
        if matches!(self, Self::Postrider) {
            return Ok(plain(JSON, envelope.to_vec()));
        }
        let parts = Parts::of(envelope)?;
        let (data, event_type, time) = (parts.data.get(), &parts.event_type, parts.time());
        Ok(match self {
            Self::Postrider | Self::Data => plain(JSON, data.as_bytes().to_vec()),
            Self::Standard => {
                let head = format!(r#"{{"type":"{event_type}","timestamp":"{time}","data":"#);
                plain(JSON, [&head, data, "}"].concat().into_bytes())
            }
            Self::CloudEvents => {
                let source = source(&parts.agent_id);
                let head = format!(
                    r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{event_type}","time":"{time}","datacontenttype":"application/json","data":"#
                );
                plain("application/cloudevents+json", [&head, data, "}"].concat().into_bytes())
            }
            Self::CloudEventsBinary => {
                let headers = [
                    ("ce-specversion", "1.0".to_owned()),
                    ("ce-id", id.to_string()),
                    ("ce-source", source(&parts.agent_id)),
                    ("ce-type", event_type.to_string()),
                    ("ce-time", time),
                ];
                let headers = headers.map(|(name, value)| (name, header_value(&value))).to_vec();
                Rendered { headers, ..plain(JSON, data.as_bytes().to_vec()) }
            }
            Self::Slack { template } => {
                let text = template.render(id, &parts);
                plain(JSON, serde_json::json!({ "text": text }).to_string().into_bytes())
            }
            Self::Form => plain("application/x-www-form-urlencoded", members::form(parts.data).into_bytes()),
        })
    }
}

/// The `source` of a CloudEvent: a URI reference.
fn source(agent: &str) -> String {
    format!("/agents/{}", path_segment(agent))
}

#[cfg(test)]
mod tests;
