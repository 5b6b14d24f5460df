//! Errors of the API, as pages.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use maud::html;
use postrider_api::Problem;

use crate::layout::Section;
use crate::visit::Visit;

/// A call of the API has failed.
pub(crate) struct Failure(Box<(Visit, Problem)>);

impl Failure {
    pub(crate) fn new(visit: &Visit, problem: Problem) -> Self {
        Self(Box::new((visit.clone(), problem)))
    }

    /// A page, or what it would show, does not exist.
    pub(crate) fn missing(visit: &Visit, detail: impl Into<String>) -> Self {
        Self::new(visit, problem(StatusCode::NOT_FOUND, detail))
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.1.status
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.0.1
    }

    /// Whether a page can be shown without what the call would have answered.
    pub(crate) fn is_bearable(&self) -> bool {
        matches!(self.status(), 403 | 404)
    }
}

/// Makes a problem that the console has found itself.
pub(crate) fn problem(status: StatusCode, detail: impl Into<String>) -> Problem {
    Problem {
        kind: "about:blank".into(),
        title: status.canonical_reason().unwrap_or("Error").into(),
        status: status.as_u16(),
        detail: detail.into(),
        errors: Vec::new(),
        needs: None,
        request_id: None,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (visit, problem) = *self.0;
        if problem.status == 401 {
            return visit.sign_in();
        }
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let title = match problem.status {
            403 => "Not allowed",
            404 => "Not found",
            409 => "Not possible now",
            422 => "Check the filter or the form",
            429 => "Too many requests",
            503 => "Try again",
            _ => "That failed",
        };
        let main = html! {
            header.head { h1 { (title) } }
            div.panel.problem {
                p { (problem.detail) }
                @if let Some(scope) = &problem.needs {
                    p { "This session’s key has no scope " code { (scope) } ". Sign in with a key that has it." }
                }
                @if !problem.errors.is_empty() {
                    ul {
                        @for error in &problem.errors {
                            li { code { (error.field) } ": " (error.message) }
                        }
                    }
                }
                @if let Some(id) = &problem.request_id {
                    p.quiet { "Status " (problem.status) " · request " code { (id) } }
                }
                p { a.button href=(visit.link("")) { "Go to Now" } }
            }
        };
        let mut response = visit.page_with(status, title, Section::None, main).into_response();
        if matches!(problem.status, 429 | 503) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}
