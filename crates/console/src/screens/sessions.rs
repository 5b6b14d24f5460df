//! The sessions that a key has, and ending them.

use axum::response::Response;
use axum::routing::get;
use maud::html;
use postrider_api::Moment;

use super::Screen;
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::table::{Row, table};
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/sessions", get(list).post(revoke))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let sessions = visit.api.sessions(&visit.parts, &visit.session).await;
    let sessions = sessions.map_err(|problem| Failure::new(&visit, problem))?;
    let now = visit.now;
    let rows = sessions.iter().map(|session| {
        let is_this = session.id == visit.session.id;
        let key = session.key.map_or_else(|| "environment".to_owned(), |key| key.to_string());
        Row {
            id: None,
            cells: vec![
                html! { (parts::short(&key)) @if is_this { " " span.quiet { "(this session)" } } },
                parts::ago(Moment(session.created_at), now),
                parts::ago(Moment(session.last_seen_at.max(session.created_at)), now),
                parts::ago(Moment(session.expires_at), now),
                html! { @if let Some(address) = session.address { (address) } @else { (parts::none()) } },
                html! { small { (session.user_agent) } },
                html! {
                    form.inline method="post" action=(visit.link("sessions")) {
                        input type="hidden" name="id" value=(session.id);
                        button.small { "End" span.unseen { " the session of " (parts::ago(Moment(session.created_at), now)) } }
                    }
                },
            ],
        }
    });
    let columns = [
        ("Key", ""),
        ("Began", ""),
        ("Last used", ""),
        ("Ends", ""),
        ("Address", ""),
        ("Browser", "wide"),
        ("", "act"),
    ];
    let main = html! {
        (parts::head(&html! { "Sessions" }, &html! {}))
        p.lead { "A session has the scopes of its key and ends after 12 hours, or with its key." }
        (table("Sessions", &columns, rows))
    };
    Ok(visit.page("Sessions", Section::Sessions, main))
}

async fn revoke(visit: Visit, form: Form) -> Result<Response, Failure> {
    let id = form.fields.get("id").and_then(|id| id.parse().ok());
    let Some(id) = id else { return Err(Failure::missing(&visit, "There is no such session.")) };
    match visit.api.revoke(&visit.parts, &visit.session, id).await {
        Ok(true) if id == visit.session.id => Ok(visit.sign_in()),
        Ok(true) => Ok(visit.go_to("sessions", "revoked")),
        Ok(false) => Err(Failure::missing(&visit, "There is no such session.")),
        Err(problem) => Err(Failure::new(&visit, problem)),
    }
}
