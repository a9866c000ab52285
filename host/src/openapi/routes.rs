//! The routes of a configuration as the document that is served at `/openapi.json`.

use bytes::Bytes;

use super::generate::{Auth, Described, Info, generate};
use super::operation::{Body, Media, Operation, Parameter, Place, Response};
use crate::config::Config;
use crate::config::rest;

/// The document of a generation, as it is sent.
#[derive(Clone, Debug)]
pub struct Served {
    /// The document.
    pub bytes: Bytes,
    /// Its digest, as a weak entity tag: the document may be sent compressed.
    pub etag: http::HeaderValue,
}

/// The document of all routes of a configuration; its version is the digest of what it describes, so that it changes with every change
/// and with no other.
#[must_use]
pub fn served(config: &Config) -> Served {
    let routes: Vec<Described> = config.routes.iter().map(described).collect();
    let mut info = Info { title: "Sentinel Gateway".to_owned(), version: String::new() };
    let digest = blake3::hash(generate(&info, &routes).to_string().as_bytes()).to_hex();
    info.version = digest.as_str().chars().take(16).collect();
    let bytes = Bytes::from(generate(&info, &routes).to_string());
    // Hexadecimal digits in quotes are a header's value.
    let etag = http::HeaderValue::from_str(&format!("W/\"{}\"", info.version));
    Served { bytes, etag: etag.unwrap_or_else(|_| http::HeaderValue::from_static("W/\"\"")) }
}

/// A route with what its callers should know.
#[must_use]
pub(crate) fn described(route: &rest::Route) -> Described {
    let body = route.body.as_ref().map(|body| Body {
        required: body.required,
        description: None,
        content: body.content.iter().map(|name| media(name, body.schema.as_ref())).collect(),
    });
    let operation = Operation {
        id: route.id.clone(),
        method: route.method.as_str().to_owned(),
        path: route.path.as_str().to_owned(),
        summary: route.summary.clone(),
        description: route.description.clone(),
        tags: route.tags.clone(),
        deprecated: route.deprecated,
        parameters: parameters(route),
        body,
        responses: route.responses.iter().map(response).collect(),
        security: Vec::new(),
        server: None,
    };
    Described {
        operation,
        auth: match route.auth {
            rest::RouteAuth::Jwt => Auth::Jwt,
            rest::RouteAuth::ApiKey => Auth::ApiKey,
            rest::RouteAuth::None => Auth::None,
        },
        scopes: route.scopes.clone(),
        deprecated_since: route.deprecation.since.map(|since| since.to_string()),
        sunset: route.deprecation.sunset.map(|sunset| sunset.to_string()),
        max_body: route.max_body,
        timeout_secs: route.timeout.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX),
        idempotency: match route.idempotency {
            rest::Idempotency::Off => None,
            rest::Idempotency::Optional => Some(false),
            rest::Idempotency::Required => Some(true),
        },
    }
}

/// Those that are described, and those that only the path names.
fn parameters(route: &rest::Route) -> Vec<Parameter> {
    let mut all: Vec<Parameter> = route.parameters.iter().map(parameter).collect();
    for name in route.path.names() {
        if !all.iter().any(|known| known.place == Place::Path && known.name == name) {
            all.push(Parameter {
                name: name.to_owned(),
                place: Place::Path,
                required: true,
                description: None,
                style: "simple".to_owned(),
                explode: false,
                schema: Some(serde_json::json!({"type": "string"})),
            });
        }
    }
    all
}

fn parameter(parameter: &rest::Parameter) -> Parameter {
    let style = match parameter.style {
        rest::Style::Simple => "simple",
        rest::Style::Form => "form",
        rest::Style::SpaceDelimited => "spaceDelimited",
        rest::Style::PipeDelimited => "pipeDelimited",
        rest::Style::DeepObject => "deepObject",
    };
    Parameter {
        name: parameter.name.clone(),
        place: match parameter.place {
            rest::Place::Path => Place::Path,
            rest::Place::Query => Place::Query,
            rest::Place::Header => Place::Header,
            rest::Place::Cookie => Place::Cookie,
        },
        required: parameter.required || parameter.place == rest::Place::Path,
        description: parameter.description.clone(),
        style: style.to_owned(),
        explode: parameter.explode,
        schema: parameter.schema.clone(),
    }
}

/// A schema is about JSON.
fn media(name: &str, schema: Option<&serde_json::Value>) -> Media {
    let mut media = Media { name: name.to_owned(), schema: None };
    if media.is_json() {
        media.schema = schema.cloned();
    }
    media
}

fn response(response: &rest::Described) -> Response {
    Response {
        status: response.status.clone(),
        description: response.description.clone(),
        content: response.content.iter().map(|name| media(name, response.schema.as_ref())).collect(),
    }
}
