//! The portal: pages for the owners of subscribers, who come with a link instead of a key.
//!
//! | module | what it shows |
//! |---|---|
//! | `enter` | using a link, and leaving |
//! | `endpoints` | all endpoints, and adding one |
//! | `endpoint` | one endpoint, its deliveries and what can be done about them |
//! | `secret` | the secret of an endpoint, and code that verifies its signatures |
//! | `delivery` | one delivery and its attempts |

mod delivery;
mod endpoint;
mod endpoints;
mod enter;
mod events;
mod secret;

use std::fmt::Write as _;

use axum::Router;
use axum::routing::get;
use http::header;

use crate::assets;
use crate::visit::{Console, Visit};

pub(crate) fn routes(router: Router<Console>) -> Router<Console> {
    let router = enter::routes(router);
    let router = endpoints::routes(router);
    let router = endpoint::routes(router);
    let router = secret::routes(router);
    let router = delivery::routes(router);
    router.route("/portal/theme.css", get(theme)).route("/portal/assets/{name}", get(assets::asset))
}

/// The colours of the session's theme, in the names of the console's stylesheet.
async fn theme(visit: Visit) -> ([(http::HeaderName, &'static str); 1], String) {
    let mut css = String::from(":root, :root:root {");
    for (part, colour) in visit.session.portal.iter().flat_map(|portal| portal.theme.colours()) {
        for name in variables(part) {
            // Writing to a string does not fail.
            let _ = write!(css, " {name}: {colour};");
        }
    }
    css.push_str(" color-scheme: only light; }\n");
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], css)
}

fn variables(part: postrider_core::portal::Part) -> &'static [&'static str] {
    use postrider_core::portal::Part;
    match part {
        Part::Background => &["--ground"],
        Part::Surface => &["--panel"],
        Part::Text => &["--text"],
        Part::Muted => &["--soft"],
        Part::Accent => &["--accent", "--link"],
        Part::AccentText => &["--on-accent"],
    }
}
