//! The stylesheet, the script, the icon and the chart library. Each has a hash of its text in its path and is cached for a year.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};

use crate::links::Base;

/// A file that pages load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asset {
    Style,
    Script,
    Icon,
    Charts,
}

const ALL: [(Asset, &str, &str, &str); 4] = [
    (
        Asset::Style,
        "console",
        "css",
        concat!(include_str!("assets/uPlot.min.css"), "\n", include_str!("assets/console.css")),
    ),
    (Asset::Script, "console", "js", include_str!("assets/console.js")),
    (Asset::Icon, "icon", "svg", include_str!("assets/icon.svg")),
    (Asset::Charts, "uplot", "js", include_str!("assets/uPlot.iife.min.js")),
];

/// The names of [`ALL`], with their hashes.
static NAMES: LazyLock<[String; 4]> = LazyLock::new(|| {
    ALL.map(|(_, name, ending, text)| {
        let hash = hex::encode(&digest(&SHA256, text.as_bytes()).as_ref()[..8]);
        format!("{name}.{hash}.{ending}")
    })
});

impl Asset {
    /// Returns the link to the file.
    pub(crate) fn link(self, base: Base) -> String {
        let place = ALL.iter().position(|(asset, ..)| *asset == self).unwrap_or_default();
        base.to(&format!("assets/{}", NAMES[place]))
    }
}

const CACHED: &str = "public, max-age=31536000, immutable";

pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    let Some(place) = NAMES.iter().position(|known| *known == name) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let (_, _, ending, text) = ALL[place];
    let content_type = match ending {
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(CACHED)),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_library_is_the_one_that_was_published() {
        // uplot-1.6.32.tgz of the npm registry, dist/uPlot.iife.min.js.
        let found = hex::encode(digest(&SHA256, include_bytes!("assets/uPlot.iife.min.js")));
        assert_eq!(found, include_str!("assets/uPlot.sha256").trim());
        assert!(include_str!("assets/uPlot.LICENSE").contains("MIT License"));
    }
}
