//! Rotating a key.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::Method;
use maud::html;
use postrider_api::key::{CreatedKeyView, RotateKeyRequest};

use super::{API, PATH, read, shown_once};
use crate::controls::Control;
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::visit::{Page, Visit};

pub(super) async fn ask(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    /// The overlaps that are offered, in seconds.
    const OVERLAPS: [(&str, &str); 5] = [
        ("86400", "one day"),
        ("3600", "one hour"),
        ("604800", "seven days"),
        ("2592000", "thirty days"),
        ("0", "no time"),
    ];
    let key = read(&visit, &id).await?;
    let path = format!("{PATH}/{}", key.id);
    let overlap = Control {
        name: "overlap_seconds",
        label: "The present text also works for",
        value: "86400",
        hint: "Enough time to give the new text to every program that uses the key.",
        ..Control::default()
    };
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Keys"), (&path, &key.name)]))
        (parts::head(&html! { "Rotate this key" }, &html! {}))
        p.lead { (key.name) }
        form.stack.panel method="post" action=(visit.link(&format!("{path}/rotate"))) {
            (overlap.choice(OVERLAPS.into_iter()))
            div.row { button.danger { "Rotate" } a.button.plain href=(visit.link(&path)) { "Back" } }
        }
    };
    Ok(visit.page("Rotate a key", Section::Keys, main))
}

pub(super) async fn rotate(visit: Visit, Path(id): Path<String>, sent: Form) -> Result<Response, Failure> {
    let overlap_seconds = sent.fields.get("overlap_seconds").and_then(|seconds| seconds.parse().ok());
    let path = format!("{API}/{}/rotate", segment(&id));
    let created: CreatedKeyView =
        visit.send(Method::POST, &path, &RotateKeyRequest { overlap_seconds }).await?;
    Ok(shown_once(&visit, &created).into_response())
}
