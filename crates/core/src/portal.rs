//! The portal of subscribers' owners: what a session there may do, and how it looks.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::{Scope, Scopes};
use crate::{SubscriberId, TargetUrl};

/// The scopes that an owner may have.
pub const SCOPES: Scopes = Scopes::of(&[
    Scope::EventsWrite,
    Scope::PayloadsRead,
    Scope::SubscribersRead,
    Scope::SubscribersWrite,
    Scope::SecretsRead,
    Scope::SecretsRotate,
    Scope::DeliveriesRead,
    Scope::DeliveriesRetry,
    Scope::TypesRead,
]);

/// What a session in the portal is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portal {
    /// What the owner may do: some of [`SCOPES`].
    pub scopes: Vec<Scope>,
    /// The only subscribers that it shows; empty for all of the tenant.
    pub subscribers: Vec<SubscriberId>,
    /// Where its link back leads.
    pub return_url: Option<TargetUrl>,
    /// Whose pages may frame it.
    pub frame_ancestors: Vec<Origin>,
    /// Its colours.
    pub theme: Theme,
}

impl Portal {
    /// The scopes as a set.
    pub fn scopes(&self) -> Scopes {
        Scopes::of(&self.scopes)
    }
}

/// An origin (RFC 6454): scheme, host and port of a web application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

/// A text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an origin such as https://app.example.com, without a path")]
pub struct OriginError;

impl Origin {
    /// The text, such as `https://app.example.com`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let url = TargetUrl::parse(text).map_err(|_| OriginError)?;
        let scheme = if url.is_https() { "https" } else { "http" };
        let default = if url.is_https() { 443 } else { 80 };
        let port = if url.port() == default { String::new() } else { format!(":{}", url.port()) };
        let origin = format!("{scheme}://{}{port}", url.host());
        if text.strip_suffix('/').unwrap_or(text) == origin { Ok(Self(origin)) } else { Err(OriginError) }
    }
}

impl TryFrom<String> for Origin {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

/// The colours of the portal. Those that are not given are the portal's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Theme(BTreeMap<Part, Colour>);

/// What a colour is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Behind everything.
    Background,
    /// Panels and tables.
    Surface,
    /// Text.
    Text,
    /// Text that matters less.
    Muted,
    /// Buttons and links.
    Accent,
    /// Text on buttons.
    AccentText,
}

/// A theme cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThemeError {
    /// There is no such colour.
    #[error(
        "is not a colour of the theme; those are `background`, `surface`, `text`, `muted`, `accent` and `accent_text`"
    )]
    Unknown(String),
    /// A colour cannot be read.
    #[error("must be a colour such as #0b57d0")]
    Colour(String),
    /// A text does not stand out from what it is on.
    #[error("makes `{text}` hard to read on `{on}`: their contrast is {tenths}, and must be at least 4.5")]
    Contrast {
        /// The colour that was given.
        given: Part,
        /// The text.
        text: Part,
        /// What it is on.
        on: Part,
        /// The contrast.
        tenths: Tenths,
    },
}

impl ThemeError {
    /// The name of the colour that is wrong.
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown(name) | Self::Colour(name) => name,
            Self::Contrast { given, .. } => given.as_str(),
        }
    }
}

/// A contrast in tenths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenths(u16);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// A colour of sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Colour([u8; 3]);

/// The least contrast of text in tenths (WCAG 2.2, 1.4.3).
const LEAST: u16 = 45;

/// Texts, and what they are on.
const PAIRS: [(Part, Part); 7] = [
    (Part::Text, Part::Background),
    (Part::Text, Part::Surface),
    (Part::Muted, Part::Background),
    (Part::Muted, Part::Surface),
    (Part::Accent, Part::Background),
    (Part::Accent, Part::Surface),
    (Part::AccentText, Part::Accent),
];

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Background, Self::Surface, Self::Text, Self::Muted, Self::Accent, Self::AccentText];

    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Surface => "surface",
            Self::Text => "text",
            Self::Muted => "muted",
            Self::Accent => "accent",
            Self::AccentText => "accent_text",
        }
    }

    /// The colour of a theme that does not give one. The portal with a theme of its own does not follow dark mode.
    const fn default(self) -> Colour {
        Colour(match self {
            Self::Background => [0xf7, 0xf8, 0xfa],
            Self::Surface | Self::AccentText => [0xff, 0xff, 0xff],
            Self::Text => [0x1a, 0x1f, 0x29],
            Self::Muted => [0x59, 0x63, 0x74],
            Self::Accent => [0x0b, 0x57, 0xd0],
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Theme {
    /// Reads a theme.
    ///
    /// ```
    /// use postrider_core::portal::Theme;
    ///
    /// assert!(Theme::new([("accent", "#0b57d0"), ("accent_text", "#ffffff")]).is_ok());
    /// assert!(Theme::new([("accent", "#ffff00")]).is_err(), "yellow on white cannot be read");
    /// ```
    ///
    /// # Errors
    /// Fails if a name is unknown, a colour cannot be read, or a text would not stand out from what it is on.
    pub fn new<'a>(colours: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ThemeError> {
        let mut theme = BTreeMap::new();
        for (name, colour) in colours {
            let part = Part::ALL.into_iter().find(|part| part.as_str() == name);
            let part = part.ok_or_else(|| ThemeError::Unknown(name.chars().take(40).collect()))?;
            let colour = Colour::parse(colour).ok_or_else(|| ThemeError::Colour(name.to_owned()))?;
            theme.insert(part, colour);
        }
        let theme = Self(theme);
        for (text, on) in PAIRS {
            let tenths = theme.colour(text).contrast(theme.colour(on));
            if tenths < LEAST {
                let given = if theme.0.contains_key(&text) { text } else { on };
                return Err(ThemeError::Contrast { given, text, on, tenths: Tenths(tenths) });
            }
        }
        Ok(theme)
    }

    /// Whether no colour is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All colours as `#rrggbb`, those that were not given among them.
    pub fn colours(&self) -> impl Iterator<Item = (Part, String)> {
        Part::ALL.into_iter().map(|part| (part, self.colour(part).to_string()))
    }

    fn colour(&self, part: Part) -> Colour {
        self.0.get(&part).copied().unwrap_or(part.default())
    }
}

impl TryFrom<BTreeMap<String, String>> for Theme {
    type Error = ThemeError;

    fn try_from(colours: BTreeMap<String, String>) -> Result<Self, ThemeError> {
        Self::new(colours.iter().map(|(name, colour)| (name.as_str(), colour.as_str())))
    }
}

impl From<Theme> for BTreeMap<String, String> {
    fn from(theme: Theme) -> Self {
        theme.0.iter().map(|(part, colour)| (part.as_str().to_owned(), colour.to_string())).collect()
    }
}

impl Colour {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = |place: usize| u8::from_str_radix(digits.get(place..place + 2)?, 16).ok();
        Some(Self([byte(0)?, byte(2)?, byte(4)?]))
    }

    /// The contrast to another colour, in tenths, rounded down.
    fn contrast(self, other: Self) -> u16 {
        let (one, two) = (self.luminance() + 0.05, other.luminance() + 0.05);
        let contrast = if one > two { one / two } else { two / one };
        // At most 21.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 21")]
        let tenths = (contrast * 10.0) as u16;
        tenths
    }

    /// The relative luminance, from 0 to 1 (WCAG 2.2).
    fn luminance(self) -> f64 {
        let linear = self.0.map(|byte| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        let [red, green, blue] = linear;
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_is_that_of_the_guidelines() {
        let contrast = |one, two| Colour::parse(one).unwrap().contrast(Colour::parse(two).unwrap());
        assert_eq!(contrast("#000000", "#ffffff"), 210);
        assert_eq!(contrast("#777777", "#ffffff"), 44);
        assert_eq!(contrast("#767676", "#ffffff"), 45);
        assert_eq!(contrast("#ffffff", "#767676"), 45);
    }

    #[test]
    fn the_portals_own_colours_can_be_read() {
        assert!(Theme::new([]).is_ok());
    }

    #[test]
    fn a_theme_is_refused_with_the_colour_that_was_given() {
        let error = |colours: &[(&str, &str)]| {
            let error = Theme::new(colours.iter().copied()).unwrap_err();
            (error.name().to_owned(), error.to_string())
        };
        assert_eq!(error(&[("accent", "#ffff00")]).0, "accent");
        let (name, text) = error(&[("surface", "#111111")]);
        assert_eq!(name, "surface");
        assert!(text.starts_with("makes `text` hard to read on `surface`: their contrast is "), "{text}");
        assert_eq!(error(&[("font", "#000000")]).0, "font");
        for colour in ["red", "#fff", "#gggggg", "#0b57d0;", "url(x)", "#+12345", ""] {
            assert_eq!(error(&[("accent", colour)]).0, "accent", "{colour}");
        }
    }

    #[test]
    fn a_theme_is_stored_as_it_was_given() {
        let theme = Theme::new([("accent", "#0B57D0")]).unwrap();
        let text = serde_json::to_string(&theme).unwrap();
        assert_eq!(text, r##"{"accent":"#0b57d0"}"##);
        assert_eq!(serde_json::from_str::<Theme>(&text).unwrap(), theme);
    }

    #[test]
    fn an_origin_has_no_path() {
        for (text, origin) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://app.example.com/", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), origin);
        }
        for text in [
            "https://a.example/x",
            "*",
            "https://*.example.com",
            "a.example",
            "https://a.example; script-src *",
            "",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
