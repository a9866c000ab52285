//! Routes as an OpenAPI document of version 3.1: what is configured, and what the gateway itself may answer.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::hoist::Shelf;
use super::operation::{Media, Operation, Parameter, Response};

/// The version of the specification.
const SPECIFICATION: &str = "3.1.2";
/// The media type of everything that the gateway refuses (RFC 9457).
const PROBLEM: &str = "application/problem+json";

/// About the document as a whole.
#[derive(Clone, Debug)]
pub struct Info {
    pub title: String,
    /// Grows with every configuration that is put in force.
    pub version: String,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A JWT as bearer token.
    Jwt,
    /// A key as bearer token.
    ApiKey,
    /// Everybody.
    None,
}

/// A route with what the gateway adds to it.
#[derive(Clone, Debug)]
pub struct Described {
    pub operation: Operation,
    pub auth: Auth,
    pub scopes: Vec<String>,
    /// Since when callers should not use it, and when it ends (RFC 3339).
    pub deprecated_since: Option<String>,
    pub sunset: Option<String>,
    /// Longest body in bytes.
    pub max_body: usize,
    /// Seconds until the answer is there or the caller hears 504.
    pub timeout_secs: u64,
    /// None if a key is not looked at, else whether it is required.
    pub idempotency: Option<bool>,
}

/// What every route may answer, with the sentence that explains it and the headers that come with it.
const ANSWERS: [(&str, &str, &[&str]); 15] = [
    ("400", "The request is not well formed, or does not fit what is described here.", &[]),
    ("401", "No credentials, or credentials that are not valid.", &["WWW-Authenticate"]),
    ("403", "The caller may not do this.", &[]),
    ("404", "There is no such route, or the API behind it knows no such thing.", &[]),
    ("405", "The path has no route with this method.", &["Allow"]),
    ("406", "The answer cannot be given in a form that the client accepts.", &[]),
    ("408", "The request took too long to arrive.", &[]),
    ("413", "The body is longer than the route takes.", &[]),
    ("414", "The path or the query is too long.", &[]),
    ("415", "The body is of a media type that the route does not take.", &[]),
    ("421", "The request was meant for another host.", &[]),
    ("429", "Too many requests.", &["Retry-After", "RateLimit-Policy", "RateLimit"]),
    ("431", "The headers are too long.", &[]),
    ("502", "The API behind the route cannot be reached or did not answer properly.", &[]),
    ("503", "The route is switched off or saturated.", &["Retry-After"]),
];
/// What only some routes answer.
const LATE: (&str, &str) = ("504", "The API behind the route did not answer in time.");
const LENGTH: (&str, &str) = ("411", "The length of the body is not known.");
const CONFLICT: (&str, &str) =
    ("409", "A request with this Idempotency-Key is under way, or its outcome is not known.");
const REUSED: (&str, &str) = ("422", "This Idempotency-Key belongs to another request.");
const KEY_NEEDED: (&str, &str) = ("428", "The route needs an Idempotency-Key.");

/// The document of the routes, in their order.
#[must_use]
pub fn generate(info: &Info, routes: &[Described]) -> Value {
    let mut shelf = Shelf::new("#/components/schemas/");
    shelf.reserve("Problem");
    let mut paths: Map<String, Value> = Map::new();
    let (mut tags, mut auths) = (BTreeSet::new(), BTreeSet::new());
    for route in routes {
        tags.extend(route.operation.tags.iter().cloned());
        auths.extend(scheme(route.auth));
        let path = route.operation.path.replace("{*", "{");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.operation.method.to_ascii_lowercase()] = operation(route, &mut shelf);
    }
    let mut schemas = Map::new();
    schemas.insert("Problem".to_owned(), problem());
    schemas.extend(shelf.into_definitions());
    let schemes: Map<String, Value> =
        auths.into_iter().map(|name| (name.to_owned(), described_scheme(name))).collect();
    let (responses, headers) = shared(&paths);
    let mut components = json!({"schemas": schemas, "headers": headers, "responses": responses});
    if !schemes.is_empty() {
        components["securitySchemes"] = Value::Object(schemes);
    }
    let mut document = json!({
        "openapi": SPECIFICATION,
        "info": {"title": info.title, "version": info.version},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
    });
    if !tags.is_empty() {
        document["tags"] = tags.into_iter().map(|name| json!({"name": name})).collect();
    }
    document
}

fn scheme(auth: Auth) -> Option<&'static str> {
    match auth {
        Auth::Jwt => Some("jwt"),
        Auth::ApiKey => Some("apiKey"),
        Auth::None => None,
    }
}

fn described_scheme(name: &str) -> Value {
    if name == "jwt" {
        json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    } else {
        json!({"type": "http", "scheme": "bearer", "bearerFormat": "API key"})
    }
}

fn operation(route: &Described, shelf: &mut Shelf) -> Value {
    let operation = &route.operation;
    let mut out = json!({"operationId": operation.id});
    for (key, text) in [("summary", &operation.summary), ("description", &operation.description)] {
        if let Some(text) = text {
            out[key] = json!(text);
        }
    }
    if !operation.tags.is_empty() {
        out["tags"] = json!(operation.tags);
    }
    if operation.deprecated {
        out["deprecated"] = json!(true);
    }
    for (key, date) in
        [("x-sentinel-deprecated-since", &route.deprecated_since), ("x-sentinel-sunset", &route.sunset)]
    {
        if let Some(date) = date {
            out[key] = json!(date);
        }
    }
    // Always there, so that no default of the document can make a route open or closed by accident.
    out["security"] = match scheme(route.auth) {
        Some(name) => json!([{name: route.scopes}]),
        None => json!([]),
    };
    let mut parameters: Vec<Value> = operation.parameters.iter().map(|one| parameter(one, shelf)).collect();
    if let Some(required) = route.idempotency {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": required,
            "description": "A text in quotes, or a plain word; a request that is sent again with it is answered with the first answer.",
            "schema": {"type": "string", "pattern": "^(\"([ !#-\\[\\]-~]|\\\\[\"\\\\]){1,255}\"|[A-Za-z0-9_.:~+/=-]{1,255})$"},
        }));
    }
    if !parameters.is_empty() {
        out["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = &operation.body {
        let mut content = content(&body.content, shelf);
        if body.required {
            not_empty(&mut content);
        }
        out["requestBody"] = json!({"required": body.required, "content": content});
        if let Some(text) = &body.description {
            out["requestBody"]["description"] = json!(text);
        }
        out["x-sentinel-max-body-bytes"] = json!(route.max_body);
    }
    out["x-sentinel-timeout-seconds"] = json!(route.timeout_secs);
    out["responses"] = answers(route, shelf);
    out
}

fn parameter(parameter: &Parameter, shelf: &mut Shelf) -> Value {
    let mut out = json!({
        "name": parameter.name,
        "in": parameter.place.as_str(),
        "required": parameter.required,
        "schema": parameter.schema.as_ref().map_or(json!({}), |schema| shelf.put(schema)),
    });
    if !parameter.is_plain() {
        out["style"] = json!(parameter.style);
        out["explode"] = json!(parameter.explode);
    }
    if let Some(text) = &parameter.description {
        out["description"] = json!(text);
    }
    out
}

fn content(media: &[Media], shelf: &mut Shelf) -> Value {
    let entry = |media: &Media| {
        let described =
            media.schema.as_ref().map_or(json!({}), |schema| json!({"schema": shelf.put(schema)}));
        (media.name.clone(), described)
    };
    Value::Object(media.iter().map(entry).collect())
}

/// A text that is required has something in it: over HTTP an empty body is none.
fn not_empty(content: &mut Value) {
    let texts = content.as_object_mut().into_iter().flatten();
    for (_, media) in texts.filter(|(name, media)| name.starts_with("text/") && media["schema"].is_null()) {
        media["schema"] = json!({"type": "string", "minLength": 1});
    }
}

/// The answers of the API, and those of the gateway at the statuses it may refuse with.
fn answers(route: &Described, shelf: &mut Shelf) -> Value {
    let mut out = Map::new();
    for response in &route.operation.responses {
        out.insert(response.status.clone(), answer(response, shelf));
    }
    if !out.keys().any(|status| status.starts_with(['2', '3']) || status == "default") {
        out.insert("200".to_owned(), json!({"description": "The answer of the API."}));
    }
    let mut refuse = |status: &str| {
        match out.get_mut(status) {
            // Both may answer so: what the API says, and a problem of the gateway.
            Some(known) => {
                known["content"][PROBLEM] = json!({"schema": {"$ref": "#/components/schemas/Problem"}})
            }
            None => drop(
                out.insert(status.to_owned(), json!({"$ref": format!("#/components/responses/{status}")})),
            ),
        }
    };
    for (status, _, _) in ANSWERS {
        if status != "401" || route.auth != Auth::None {
            refuse(status);
        }
    }
    refuse(LATE.0);
    if route.operation.body.is_some() {
        refuse(LENGTH.0);
    }
    if let Some(required) = route.idempotency {
        refuse(CONFLICT.0);
        refuse(REUSED.0);
        if required {
            refuse(KEY_NEEDED.0);
        }
    }
    out.sort_keys();
    Value::Object(out)
}

fn answer(response: &Response, shelf: &mut Shelf) -> Value {
    let mut out = json!({"description": response.description.as_deref().unwrap_or("An answer of the API.")});
    if !response.content.is_empty() {
        out["content"] = content(&response.content, shelf);
    }
    out
}

/// The answers of the gateway that some route may give, and the headers of those.
fn shared(paths: &Map<String, Value>) -> (Value, Value) {
    let operations = paths.values().filter_map(Value::as_object).flat_map(Map::values);
    let answers = operations.filter_map(|operation| operation["responses"].as_object()).flatten();
    let used: BTreeSet<&str> =
        answers.filter(|(_, answer)| answer["$ref"].is_string()).map(|(status, _)| status.as_str()).collect();
    let (mut responses, mut headers) = (responses(), headers());
    if let (Some(responses), Some(headers)) = (responses.as_object_mut(), headers.as_object_mut()) {
        responses.retain(|status, _| used.contains(status.as_str()));
        let named: BTreeSet<String> = responses
            .values()
            .filter_map(|response| response["headers"].as_object())
            .flat_map(|named| named.keys().cloned())
            .collect();
        headers.retain(|name, _| named.contains(name));
    }
    (responses, headers)
}

fn responses() -> Value {
    let more =
        [LATE, LENGTH, CONFLICT, REUSED, KEY_NEEDED].map(|(status, text)| (status, text, [].as_slice()));
    let entry = |(status, text, headers): (&str, &str, &[&str])| {
        let mut response = json!({
            "description": text,
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        });
        if !headers.is_empty() {
            let headers: Map<String, Value> = headers
                .iter()
                .map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")})))
                .collect();
            response["headers"] = Value::Object(headers);
        }
        (status.to_owned(), response)
    };
    Value::Object(ANSWERS.into_iter().chain(more).map(entry).collect())
}

fn headers() -> Value {
    json!({
        "Allow": {"description": "The methods that the path has.", "required": true, "schema": {"type": "string"}},
        "RateLimit": {"description": "What is left of each limit (draft-ietf-httpapi-ratelimit-headers).", "schema": {"type": "string"}},
        "RateLimit-Policy": {"description": "The limits that hold for the caller (draft-ietf-httpapi-ratelimit-headers).", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds after which another try makes sense.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        "WWW-Authenticate": {"description": "How to authenticate (RFC 6750).", "required": true, "schema": {"type": "string"}},
    })
}

/// RFC 9457, with the gateway's own members.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "What was refused and why (RFC 9457).",
        "required": ["type", "title", "status", "reason", "request_id"],
        "properties": {
            "type": {"type": "string", "description": "about:blank, or a URI that names the kind of problem."},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "reason": {"type": "string", "description": "A stable word for programs: rate_limited, invalid_request, …"},
            "request_id": {"type": "string", "description": "By this the call is found in the record."},
            "errors": {
                "type": "array",
                "description": "Every place where the request does not fit.",
                "items": {
                    "type": "object",
                    "required": ["detail"],
                    "properties": {
                        "pointer": {"type": "string", "description": "A JSON pointer into the body."},
                        "parameter": {"type": "string"},
                        "header": {"type": "string"},
                        "detail": {"type": "string"},
                    },
                },
            },
        },
    })
}
