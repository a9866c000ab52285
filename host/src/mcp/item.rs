//! Makes listed items acceptable to clients. Clients made with the official SDKs check a whole list at once: one item
//! that breaks the protocol costs them every tool of every server behind the gateway. So a faulty part of an item is
//! removed where it can be spared, and an item that no client could read is left out. Everything else passes as it
//! came.
//!
//! Rule: MCP 2025-11-25, "Tool", "Resource", "ResourceTemplate", "Prompt", as the SDKs for TypeScript and Python check them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::catalog::List;
use super::splice::{self, Edit};
use super::{message, schema};

/// Longest item. A list of items this long would not fit a model anyway.
pub(crate) const MAX_ITEM: usize = 1 << 20;

/// The result of looking at an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    AsIs,
    /// The item as it is shown, and what was wrong with it.
    Mended(String, Vec<String>),
    /// It is not shown; why.
    Out(String),
}

/// Looks at one item of a list. Its name is known to be a text.
#[must_use]
pub fn fit(list: List, item: &str) -> Fit {
    if item.len() > MAX_ITEM {
        return Fit::Out(format!("it is {} bytes long, the limit is {MAX_ITEM}", item.len()));
    }
    let mut mender = Mender { item, edits: Vec::new(), said: Vec::new() };
    let fits = match list {
        List::Tools => mender.tool(),
        List::Resources | List::Templates => mender.resource(list),
        List::Prompts => mender.prompt(),
    };
    if let Err(why) = fits {
        return Fit::Out(why);
    }
    if mender.said.is_empty() {
        return Fit::AsIs;
    }
    match splice::apply(item, &mender.edits) {
        Ok(mended) => Fit::Mended(mended, mender.said),
        Err(error) => Fit::Out(format!("{}, and it cannot be mended: {error}", mender.said.join("; "))),
    }
}

/// Collects the changes to an item.
struct Mender<'i> {
    item: &'i str,
    edits: Vec<Edit>,
    said: Vec<String>,
}

impl<'i> Mender<'i> {
    fn get(&self, pointer: &str) -> Option<&'i str> {
        splice::get(self.item, pointer)
    }

    fn set(&mut self, pointer: &str, json: String, why: String) {
        self.edits.push(Edit::Set { pointer: pointer.to_owned(), json });
        self.said.push(why);
    }

    fn remove(&mut self, pointer: &str, why: &str) {
        self.edits.push(Edit::Remove { pointer: pointer.to_owned() });
        self.said.push(format!("`{}` was left out: {why}", pointer.trim_start_matches('/')));
    }

    /// A member that may be missing, but if it is there must be of this kind.
    fn optional(&mut self, pointer: &str, kind: Kind) {
        if let Some(found) = self.get(pointer).filter(|found| !kind.fits(found)) {
            self.remove(pointer, &format!("it is {}, not {}", what(found), kind.words()));
        }
    }

    /// The members that all kinds of item have.
    fn common(&mut self) {
        for member in ["/title", "/description"] {
            self.optional(member, Kind::Text);
        }
        self.optional("/_meta", Kind::Object);
        if self.get("/icons").is_some_and(|icons| !are_icons(icons)) {
            self.remove("/icons", "it is no list of icons");
        }
    }

    fn tool(&mut self) -> Result<(), String> {
        self.common();
        self.input_schema()?;
        if let Some(output) = self.get("/outputSchema")
            && let Some(why) = unfit_output(output)
        {
            self.remove("/outputSchema", &why);
        }
        self.optional("/annotations", Kind::Object);
        if self.get("/annotations").is_some_and(|found| Kind::Object.fits(found)) {
            self.optional("/annotations/title", Kind::Text);
            for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
                self.optional(&format!("/annotations/{hint}"), Kind::Flag);
            }
        }
        if let Some(execution) = self.get("/execution") {
            let support = splice::get(execution, "/taskSupport");
            let known = ["\"required\"", "\"optional\"", "\"forbidden\""];
            if !Kind::Object.fits(execution) || support.is_some_and(|support| !known.contains(&support)) {
                self.remove("/execution", "it says nothing that the protocol knows");
            }
        }
        Ok(())
    }

    /// The arguments of a call are always an object, so a schema that says nothing about them takes any.
    fn input_schema(&mut self) -> Result<(), String> {
        const ANY: &str = r#"{"type":"object"}"#;
        let Some(schema) = self.get("/inputSchema") else {
            self.set(
                "/inputSchema",
                ANY.to_owned(),
                "it has no `inputSchema`, so any arguments are taken".to_owned(),
            );
            return Ok(());
        };
        // PHP writes an empty object as an empty list.
        if matches!(schema, "null" | "true") || is_empty_list(schema) {
            let why = format!("its `inputSchema` is {}, so any arguments are taken", what(schema));
            self.set("/inputSchema", ANY.to_owned(), why);
            return Ok(());
        }
        if !Kind::Object.fits(schema) {
            return Err(format!("its `inputSchema` is {} and no object", what(schema)));
        }
        match splice::get(schema, "/type") {
            Some("\"object\"") => {}
            Some(kind) if Kind::List.fits(kind) && holds_object(kind) => {
                let why = "the `type` of its `inputSchema` is a list, of which only `object` can be meant"
                    .to_owned();
                self.set("/inputSchema/type", "\"object\"".to_owned(), why);
            }
            None | Some("null") => {
                let why = "its `inputSchema` has no `type`, which can only be `object`".to_owned();
                self.set("/inputSchema/type", "\"object\"".to_owned(), why);
            }
            Some(kind) => {
                let kind: String = kind.chars().take(40).collect();
                return Err(format!(
                    "its `inputSchema` is of the type {kind}, and arguments are always an object"
                ));
            }
        }
        match splice::get(schema, "/properties") {
            None => {}
            Some(properties) if Kind::Object.fits(properties) => {
                if let Some((mended, names)) = mended_properties(properties) {
                    let why = format!("not a schema in its `inputSchema`: {names}");
                    self.set("/inputSchema/properties", mended, why);
                }
            }
            Some(properties) => {
                let why = format!("`properties` of its `inputSchema` is {}, read as none", what(properties));
                self.set("/inputSchema/properties", "{}".to_owned(), why);
            }
        }
        if splice::get(schema, "/required").is_some_and(|required| !are_texts(required)) {
            self.remove("/inputSchema/required", "it is no list of names");
        }
        Ok(())
    }

    fn resource(&mut self, list: List) -> Result<(), String> {
        let key = list.wire().2;
        if self.get("/name").is_none_or(|name| !Kind::Text.fits(name)) {
            let name = self.get(&format!("/{key}")).unwrap_or("\"\"").to_owned();
            self.set("/name", name, format!("it has no `name`, so its `{key}` is taken for one"));
        }
        self.common();
        self.optional("/mimeType", Kind::Text);
        if list == List::Resources {
            self.optional("/size", Kind::Number);
        }
        if self.get("/annotations").is_some_and(|annotations| !are_annotations(annotations)) {
            self.remove("/annotations", "it is not as the protocol says");
        }
        Ok(())
    }

    fn prompt(&mut self) -> Result<(), String> {
        self.common();
        let Some(arguments) = self.get("/arguments") else { return Ok(()) };
        let Ok(arguments) = serde_json::from_str::<Vec<&RawValue>>(arguments) else {
            self.remove("/arguments", "it is no list");
            return Ok(());
        };
        let mut said: Vec<String> = Vec::new();
        let mut kept: Vec<String> = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let mut inner = Mender { item: argument.get(), edits: Vec::new(), said: Vec::new() };
            if inner.get("/name").is_none_or(|name| !Kind::Text.fits(name)) {
                said.push("an argument without a name was left out".to_owned());
                continue;
            }
            inner.optional("/description", Kind::Text);
            inner.optional("/required", Kind::Flag);
            kept.push(splice::apply(inner.item, &inner.edits).unwrap_or_else(|_| inner.item.to_owned()));
            said.append(&mut inner.said);
        }
        if !said.is_empty() {
            self.set("/arguments", format!("[{}]", kept.join(",")), said.join("; "));
        }
        Ok(())
    }
}

/// What a member must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Number,
    Object,
    List,
}

impl Kind {
    fn fits(self, json: &str) -> bool {
        match json.as_bytes().first() {
            Some(b'"') => matches!(self, Self::Text),
            Some(b'{') => matches!(self, Self::Object),
            Some(b'[') => matches!(self, Self::List),
            Some(b't' | b'f') => matches!(self, Self::Flag),
            Some(b'-' | b'0'..=b'9') => matches!(self, Self::Number),
            _ => false,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::Object => "an object",
            Self::List => "a list",
        }
    }
}

/// What a value is, in words.
fn what(json: &str) -> &'static str {
    let kinds = [Kind::Text, Kind::Flag, Kind::Number, Kind::Object, Kind::List];
    kinds.into_iter().find(|kind| kind.fits(json)).map_or("null", Kind::words)
}

fn is_empty_list(json: &str) -> bool {
    json.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inside| inside.trim_ascii().is_empty())
}

fn holds_object(types: &str) -> bool {
    serde_json::from_str::<Vec<&RawValue>>(types)
        .is_ok_and(|types| types.iter().any(|name| name.get() == "\"object\""))
}

fn are_texts(json: &str) -> bool {
    serde_json::from_str::<Vec<&RawValue>>(json)
        .is_ok_and(|all| all.iter().all(|text| Kind::Text.fits(text.get())))
}

/// The properties, with a schema in place of everything that is none; and which those are. None if all are schemas.
fn mended_properties(properties: &str) -> Option<(String, String)> {
    /// Names that are told.
    const TOLD: usize = 4;
    let all: BTreeMap<String, &RawValue> = serde_json::from_str(properties).ok()?;
    let wrong: Vec<&str> = all
        .iter()
        .filter(|(_, schema)| !Kind::Object.fits(schema.get()))
        .map(|(name, _)| name.as_str())
        .collect();
    if wrong.is_empty() {
        return None;
    }
    let mended: Vec<String> = all
        .iter()
        .map(|(name, schema)| {
            let schema = match schema.get() {
                schema if Kind::Object.fits(schema) => schema,
                "false" => r#"{"not":{}}"#,
                _ => "{}",
            };
            format!("{}:{schema}", message::quoted(name))
        })
        .collect();
    let mut names = wrong.iter().take(TOLD).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if wrong.len() > TOLD {
        names.push_str(&format!(" and {} more", wrong.len() - TOLD));
    }
    Some((format!("{{{}}}", mended.join(",")), names))
}

/// Why an `outputSchema` costs clients the whole list: they compile it as soon as they have it.
fn unfit_output(output: &str) -> Option<String> {
    if !Kind::Object.fits(output) {
        return Some(format!("it is {}, not an object", what(output)));
    }
    if splice::get(output, "/type") != Some("\"object\"") {
        return Some("its `type` is not `object`".to_owned());
    }
    let properties = splice::get(output, "/properties").unwrap_or("{}");
    if !Kind::Object.fits(properties) || mended_properties(properties).is_some() {
        return Some("its `properties` are not all schemas".to_owned());
    }
    if splice::get(output, "/required").is_some_and(|required| !are_texts(required)) {
        return Some("its `required` is no list of names".to_owned());
    }
    schema::refused_by_clients(output)
}

fn are_icons(icons: &str) -> bool {
    let is_icon = |icon: &&RawValue| {
        let member = |pointer: &str| splice::get(icon.get(), pointer);
        member("/src").is_some_and(|src| Kind::Text.fits(src))
            && member("/mimeType").is_none_or(|kind| Kind::Text.fits(kind))
            && member("/sizes").is_none_or(are_texts)
            && member("/theme").is_none_or(|theme| matches!(theme, "\"light\"" | "\"dark\""))
    };
    serde_json::from_str::<Vec<&RawValue>>(icons).is_ok_and(|icons| icons.iter().all(is_icon))
}

fn are_annotations(annotations: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Annotations {
        #[serde(default)]
        audience: Vec<String>,
        #[serde(default)]
        priority: f64,
        #[serde(default)]
        last_modified: Option<String>,
    }
    let is_null = |member: &str| splice::get(annotations, member) == Some("null");
    serde_json::from_str::<Annotations>(annotations).is_ok_and(|read| {
        read.audience.iter().all(|role| matches!(role.as_str(), "user" | "assistant"))
            && (0.0..=1.0).contains(&read.priority)
            && read.last_modified.is_none_or(|time| time.parse::<jiff::Timestamp>().is_ok())
            && !is_null("/lastModified")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
