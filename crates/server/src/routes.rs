//! Routes, each with what it requires of a request.

use std::collections::HashMap;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::needs::Needs;
use crate::openapi;
use crate::state::ApiState;

/// The routes of the API.
pub(crate) struct Routes {
    router: OpenApiRouter<ApiState>,
    requirements: Requirements,
}

/// What each route requires, by path and method.
#[derive(Debug, Default)]
pub(crate) struct Requirements(HashMap<String, Vec<(Method, Needs)>>);

impl Routes {
    pub(crate) fn new() -> Self {
        let router = OpenApiRouter::with_openapi(openapi::Api::openapi());
        Self { router, requirements: Requirements::default() }
    }

    /// Adds the operations of `routes!(…)`, which all require `needs`.
    pub(crate) fn add(mut self, needs: Needs, route: UtoipaMethodRouter<ApiState>) -> Self {
        let (schemas, mut paths, handlers) = route;
        for (path, item) in &mut paths.paths {
            let declared = self.requirements.0.entry(path.clone()).or_default();
            for (method, operation) in operations(item) {
                openapi::complete(operation, &method, needs);
                declared.push((method, needs));
            }
        }
        Self { router: self.router.routes((schemas, paths, handlers)), ..self }
    }

    pub(crate) fn into_parts(self) -> (Router<ApiState>, Requirements, OpenApi) {
        let (router, description) = self.router.split_for_parts();
        (router, self.requirements, description)
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, post, put, patch, delete, .. } = item;
    [
        (Method::GET, get),
        (Method::POST, post),
        (Method::PUT, put),
        (Method::PATCH, patch),
        (Method::DELETE, delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

impl Requirements {
    /// What the route of `request` requires. `None` for a method that the path does not have: any key, so that nothing about
    /// the API is visible without one.
    pub(crate) fn of(&self, request: &Request) -> Option<Needs> {
        let path = request.extensions().get::<MatchedPath>();
        let declared = path.and_then(|path| self.0.get(path.as_str())).map_or(&[][..], Vec::as_slice);
        // axum answers HEAD with the handler of GET.
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        declared.iter().find(|(declared, _)| declared == method).map(|(_, needs)| *needs)
    }
}
