//! What a request for a route says, as the params of a call.

use http::HeaderMap;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{path, value};
use crate::config::rest::{Parameter, Place as In, Route};
use crate::mcp::schema::ArgumentSchema;

pub use value::plain;
pub(crate) use value::write_query;

/// A part of a request that cannot be taken, in words for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Where it is.
    pub place: Place,
    /// What is wrong with it.
    pub detail: String,
}

/// Where a misfit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the body, by a JSON pointer.
    Pointer(String),
    /// In a parameter of the path, the query or a cookie.
    Parameter(String),
    /// In a header.
    Header(String),
}

impl Place {
    /// The place that a pointer into `arguments` means.
    #[must_use]
    pub(crate) fn of_arguments(pointer: &str) -> Self {
        let mut parts = pointer.splitn(4, '/').skip(1);
        let name = |part: Option<&str>| part.unwrap_or_default().replace("~1", "/").replace("~0", "~");
        match parts.next() {
            Some("header") => Self::Header(name(parts.next())),
            Some("path" | "query" | "cookie") => Self::Parameter(name(parts.next())),
            Some("body") => Self::Pointer(pointer.strip_prefix("/body").unwrap_or_default().to_owned()),
            _ => Self::Pointer(String::new()),
        }
    }

    /// The member of an error in a problem document, and its value.
    #[must_use]
    pub fn member(&self) -> (&'static str, &str) {
        match self {
            Self::Pointer(pointer) => ("pointer", pointer),
            Self::Parameter(name) => ("parameter", name),
            Self::Header(name) => ("header", name),
        }
    }
}

/// The parts of a request.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// What stands in the place of each name of the path, as it was sent.
    pub values: &'a [&'a str],
    /// The query as it was sent.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The body, if it is JSON.
    pub json: Option<&'a str>,
}

impl Read<'_> {
    /// The params of the call: `{"name": …, "arguments": {"path": …, "query": …, "header": …, "body": …}}`.
    ///
    /// # Errors
    /// Everything that has no meaning, or more than one.
    pub fn params(&self, route: &Route) -> Result<String, Vec<Misfit>> {
        let mut misfits = Vec::new();
        let of = |place: In| route.parameters.iter().filter(move |parameter| parameter.place == place);
        let mut arguments: Vec<(&str, Map<String, Value>)> = Vec::new();

        let mut members = Map::new();
        for (name, sent) in route.path.names().zip(self.values) {
            let known = of(In::Path).find(|parameter| parameter.name == name);
            let decode =
                |text: &str| path::decode(text).map(std::borrow::Cow::into_owned).ok_or(value::NO_TEXT);
            let read = match known {
                Some(parameter) => value::in_one(parameter, sent, decode),
                None => decode(sent).map(Value::String),
            };
            keep(&mut members, &mut misfits, name, read, Place::Parameter);
        }
        arguments.push(("path", members));

        arguments.push(("query", self.query(route, &mut misfits)));

        let mut members = Map::new();
        for parameter in of(In::Header) {
            let mut values = self.headers.get_all(&parameter.name).iter();
            let Some(sent) = values.next() else { continue };
            let read = match sent.to_str() {
                _ if values.next().is_some() => Err(value::TWICE),
                Err(_) => Err("it has bytes other than printable ASCII"),
                Ok(text) => value::in_one(parameter, text, |text| Ok(text.to_owned())),
            };
            keep(&mut members, &mut misfits, &parameter.name, read, Place::Header);
        }
        arguments.push(("header", members));

        let mut members = Map::new();
        for parameter in of(In::Cookie) {
            let cookies =
                self.headers.get_all(http::header::COOKIE).iter().filter_map(|value| value.to_str().ok());
            let pairs =
                cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
            let mut found = pairs.filter(|(name, _)| *name == parameter.name).map(|(_, value)| value);
            let Some(sent) = found.next() else { continue };
            let read = match found.next() {
                Some(_) => Err(value::TWICE),
                None => value::in_one(parameter, sent, |text| Ok(text.to_owned())),
            };
            keep(&mut members, &mut misfits, &parameter.name, read, Place::Parameter);
        }
        arguments.push(("cookie", members));

        let body = self.json.map(|text| {
            serde_json::from_str::<&RawValue>(text).map(RawValue::get).map_err(|error| Misfit {
                place: Place::Pointer(String::new()),
                detail: format!("the body is not JSON: {error}"),
            })
        });
        let body = match body {
            Some(Ok(text)) => Some(text),
            Some(Err(misfit)) => {
                misfits.push(misfit);
                None
            }
            None => None,
        };
        if !misfits.is_empty() {
            return Err(misfits);
        }
        Ok(written(&route.id, &arguments, body))
    }

    fn query(&self, route: &Route, misfits: &mut Vec<Misfit>) -> Map<String, Value> {
        let mut members = Map::new();
        let mut pairs: Vec<(String, &str)> = Vec::new();
        for (key, sent) in self.query.map(value::pairs).into_iter().flatten() {
            match value::decode(key) {
                Ok(key) => pairs.push((key, sent)),
                Err(why) => {
                    misfits.push(Misfit { place: Place::Parameter(key.to_owned()), detail: why.to_owned() })
                }
            }
        }
        let mut taken: Vec<String> = Vec::new();
        for parameter in route.parameters.iter().filter(|parameter| parameter.place == In::Query) {
            let read = value::of_query(parameter, &pairs);
            if let Ok(Some(Value::Object(object))) = &read {
                taken.extend(
                    object.keys().flat_map(|key| [key.clone(), format!("{}[{key}]", parameter.name)]),
                );
            }
            taken.push(parameter.name.clone());
            match read {
                Ok(None) => {}
                Ok(Some(read)) => {
                    members.insert(parameter.name.clone(), read);
                }
                Err(why) => misfits
                    .push(Misfit { place: Place::Parameter(parameter.name.clone()), detail: why.to_owned() }),
            }
        }
        // What the route does not name is passed on as text.
        for (key, sent) in pairs.iter().filter(|(key, _)| !taken.contains(key)) {
            let read = match value::decode(sent) {
                Ok(read) => Value::String(read),
                Err(why) => {
                    misfits.push(Misfit { place: Place::Parameter(key.clone()), detail: why.to_owned() });
                    continue;
                }
            };
            match members.get_mut(key) {
                Some(Value::Array(list)) => list.push(read),
                Some(one) => *one = json!([one.take(), read]),
                None => {
                    members.insert(key.clone(), read);
                }
            }
        }
        members
    }
}

fn keep(
    members: &mut Map<String, Value>,
    misfits: &mut Vec<Misfit>,
    name: &str,
    read: Result<Value, &'static str>,
    place: impl Fn(String) -> Place,
) {
    match read {
        Ok(value) => {
            members.insert(name.to_owned(), value);
        }
        Err(why) => misfits.push(Misfit { place: place(name.to_owned()), detail: why.to_owned() }),
    }
}

/// The params as text; the body in them is as it was sent.
fn written(id: &str, arguments: &[(&str, Map<String, Value>)], body: Option<&str>) -> String {
    let mut out = String::with_capacity(128 + body.map_or(0, str::len));
    out.push_str("{\"name\":");
    out.push_str(&Value::from(id).to_string());
    out.push_str(",\"arguments\":{");
    let mut first = true;
    let mut member = |out: &mut String, name: &str, text: &str| {
        if !std::mem::replace(&mut first, false) {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(text);
    };
    for (name, members) in arguments.iter().filter(|(_, members)| !members.is_empty()) {
        member(&mut out, name, &serde_json::to_string(members).unwrap_or_else(|_| "{}".to_owned()));
    }
    if let Some(body) = body {
        member(&mut out, "body", body);
    }
    out.push_str("}}");
    out
}

/// The schema of `arguments`, out of those of the parameters and of the body.
pub(super) fn schema(route: &Route) -> Option<Value> {
    let mut properties = Map::new();
    let mut required: Vec<&str> = Vec::new();
    for place in [In::Path, In::Query, In::Header, In::Cookie] {
        let mut own = Map::new();
        let mut needed = Vec::new();
        for parameter in route.parameters.iter().filter(|parameter| parameter.place == place) {
            let Parameter { name, required, schema, .. } = parameter;
            let prefix = format!("/properties/{}/properties/{}", place.as_str(), escaped(name));
            own.insert(name.clone(), schema.clone().map_or(json!(true), |schema| moved(schema, &prefix)));
            if *required {
                needed.push(name.as_str());
            }
        }
        if own.is_empty() {
            continue;
        }
        if !needed.is_empty() {
            required.push(place.as_str());
        }
        let of_place = json!({ "type": "object", "properties": own, "required": needed });
        properties.insert(place.as_str().to_owned(), of_place);
    }
    if let Some(body) = &route.body {
        let json = body.content.iter().all(|media| is_json(media));
        if let Some(schema) = &body.schema {
            properties.insert("body".to_owned(), moved(schema.clone(), "/properties/body"));
        }
        if body.required && json && !route.stream {
            required.push("body");
        }
    }
    (!properties.is_empty() || !required.is_empty())
        .then(|| json!({ "type": "object", "properties": properties, "required": required }))
}

/// Whether a media type is JSON's (RFC 6839, section 3.1).
#[must_use]
pub(crate) fn is_json(media: &str) -> bool {
    media == "application/json"
        || media == "text/json"
        || media.starts_with("application/") && media.ends_with("+json")
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A schema whose references to itself hold in another place, too.
fn moved(schema: Value, prefix: &str) -> Value {
    match schema {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(key, value)| {
                    let value = match (key.as_str(), value) {
                        ("$ref" | "$dynamicRef", Value::String(to)) => match to.strip_prefix('#') {
                            Some("") => Value::String(format!("#{prefix}")),
                            Some(rest) if rest.starts_with('/') => Value::String(format!("#{prefix}{rest}")),
                            _ => Value::String(to),
                        },
                        ("enum" | "const" | "default" | "examples" | "example", value) => value,
                        (_, value) => moved(value, prefix),
                    };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| moved(item, prefix)).collect()),
        other => other,
    }
}

/// What `arguments` of a route must fit, ready to judge.
pub(super) fn judge(route: &Route) -> Option<ArgumentSchema> {
    let text = RawValue::from_string(schema(route)?.to_string()).ok();
    Some(ArgumentSchema::read(text, false, &mut crate::mcp::schema::Room::default()).0)
}
