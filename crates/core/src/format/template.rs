//! Templates: text with places for parts of an event.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::members::{Members, text};
use super::parts::Parts;
use crate::EventId;

/// Text in which `{{…}}` stands for a part of an event: `{{event}}`, `{{id}}`, `{{agent_id}}`, `{{timestamp}}`, `{{data}}`, or
/// a member of the data such as `{{data.order.id}}` or `{{data.items.0}}`. What an event does not have is left out.
///
/// Inserted text is escaped for Slack: `&`, `<` and `>` become `&amp;`, `&lt;` and `&gt;` ("Formatting text for app
/// surfaces", "Escaping text").
///
/// ```
/// use postrider_core::format::Template;
///
/// assert!("Order {{data.order.id}} is paid".parse::<Template>().is_ok());
/// assert!("Order {{order".parse::<Template>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Event,
    Id,
    Agent,
    Timestamp,
    /// Names or numbers, from the data inwards.
    Data(Vec<String>),
}

/// Why text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It is empty or too long.
    #[error("must have 1 to {} characters", Template::MAX_CHARS)]
    Length,
    /// A place is not closed.
    #[error("`{{{{` at character {0} has no `}}}}`")]
    Unclosed(usize),
    /// A place names nothing that an event has.
    #[error("`{{{{{0}}}}}` is none of `event`, `id`, `agent_id`, `timestamp`, `data` and `data.…`")]
    Unknown(String),
    /// There are too many places, or one goes too deep.
    #[error(
        "must have at most {} places, each with at most {} names",
        Template::MAX_PLACES,
        Template::MAX_NAMES
    )]
    TooMany,
}

impl Template {
    /// The greatest number of characters.
    pub const MAX_CHARS: usize = 4_000;
    /// The greatest number of places.
    pub const MAX_PLACES: usize = 50;
    /// The greatest number of names in a place.
    pub const MAX_NAMES: usize = 10;
    /// The greatest number of characters of what is made from it: Slack cuts longer messages off.
    pub const MAX_RENDERED: usize = 40_000;

    /// Returns the text of the template.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Inserts the parts of an event.
    pub(super) fn render(&self, id: EventId, parts: &Parts<'_>) -> String {
        let mut rendered = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => rendered.push_str(text),
                Piece::Event => escape(&parts.event_type, &mut rendered),
                Piece::Id => rendered.push_str(&id.to_string()),
                Piece::Agent => escape(&parts.agent_id, &mut rendered),
                Piece::Timestamp => rendered.push_str(&parts.timestamp.to_string()),
                Piece::Data(names) => escape(&member(parts.data, names), &mut rendered),
            }
        }
        if let Some((end, _)) = rendered.char_indices().nth(Self::MAX_RENDERED) {
            rendered.truncate(end);
        }
        rendered
    }
}

/// The text of what these names lead to; empty if there is nothing.
fn member<'a>(data: &'a RawValue, names: &[String]) -> Cow<'a, str> {
    let mut value = data;
    for name in names {
        let Ok(Members(members)) = serde_json::from_str(value.get()) else { return "".into() };
        let Some((_, found)) = members.into_iter().find(|(found, _)| found == name) else { return "".into() };
        value = found;
    }
    text(value)
}

fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            other => into.push(other),
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, TemplateError> {
        let chars = source.chars().count();
        if chars == 0 || chars > Self::MAX_CHARS {
            return Err(TemplateError::Length);
        }
        let (mut pieces, mut rest, mut places) = (Vec::new(), source, 0);
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let Some((place, following)) = after.split_once("}}") else {
                let read = source.len() - after.len() - 2;
                return Err(TemplateError::Unclosed(source[..read].chars().count() + 1));
            };
            pieces.push(Piece::named(place.trim())?);
            places += 1;
            rest = following;
        }
        if places > Self::MAX_PLACES {
            return Err(TemplateError::TooMany);
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { source: source.to_owned(), pieces })
    }
}

impl Piece {
    fn named(place: &str) -> Result<Self, TemplateError> {
        let unknown = || TemplateError::Unknown(place.chars().take(100).collect());
        let mut names = place.split('.');
        let first = names.next().unwrap_or_default();
        let inner: Vec<String> = names.map(str::to_owned).collect();
        if inner.len() > Template::MAX_NAMES {
            return Err(TemplateError::TooMany);
        }
        if inner.iter().any(String::is_empty) {
            return Err(unknown());
        }
        match (first, inner.is_empty()) {
            ("data", _) => Ok(Self::Data(inner)),
            ("event", true) => Ok(Self::Event),
            ("id", true) => Ok(Self::Id),
            ("agent_id", true) => Ok(Self::Agent),
            ("timestamp", true) => Ok(Self::Timestamp),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(source: String) -> Result<Self, TemplateError> {
        source.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.source
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}
