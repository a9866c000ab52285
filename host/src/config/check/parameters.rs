//! What a route takes besides the body: every parameter with its place, its style and its schema.

use super::super::raw::{RawParameter, RawPlace, RawStyle};
use super::super::rest::{Parameter, Place, Segment, Style, Template};
use super::Checker;

impl Checker<'_> {
    pub(super) fn parameters(
        &mut self,
        at: &str,
        raw: &[RawParameter],
        path: Option<&Template>,
    ) -> Vec<Parameter> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let at = format!("{at}/parameters/{index}");
            let Some(parameter) = self.parameter(&at, raw) else { continue };
            if parameters.iter().any(|other| other.place == parameter.place && other.name == parameter.name) {
                self.problem(&format!("{at}/name"), "it is there already", "take one of them out");
            }
            let in_path = path.is_none_or(|path| path.names().any(|name| name == parameter.name));
            if parameter.place == Place::Path && !in_path {
                let message = format!("{{{}}} is not in the path", parameter.name);
                self.problem(&format!("{at}/name"), message, "name one that is, or write in = \"query\"");
            }
            let is_rest = path.is_some_and(|path| {
                path.segments()
                    .any(|segment| matches!(segment, Segment::Rest(name) if name == parameter.name))
            });
            if parameter.place == Place::Path && is_rest && parameter.explode {
                self.problem(&format!("{at}/explode"), "all that follows in a path is one text", "remove it");
            }
            parameters.push(parameter);
        }
        parameters
    }

    fn parameter(&mut self, at: &str, raw: &RawParameter) -> Option<Parameter> {
        let schema = self.schema(&format!("{at}/schema"), raw.schema.as_deref());
        let name = raw.name.clone().filter(|name| !name.is_empty());
        if name.is_none() {
            self.problem(&format!("{at}/name"), "a parameter needs a name", "name = \"limit\"");
        }
        let place = match raw.place {
            Some(RawPlace::Path) => Place::Path,
            Some(RawPlace::Query) => Place::Query,
            Some(RawPlace::Header) => Place::Header,
            Some(RawPlace::Cookie) => Place::Cookie,
            None => {
                self.problem(&format!("{at}/in"), "it is not said where it stands", "in = \"query\"");
                return None;
            }
        };
        let usual = if matches!(place, Place::Path | Place::Header) { Style::Simple } else { Style::Form };
        let style = match raw.style {
            None => usual,
            Some(RawStyle::Simple) => Style::Simple,
            Some(RawStyle::Form) => Style::Form,
            Some(RawStyle::SpaceDelimited) => Style::SpaceDelimited,
            Some(RawStyle::PipeDelimited) => Style::PipeDelimited,
            Some(RawStyle::DeepObject) => Style::DeepObject,
        };
        let fits = style == usual
            || place == Place::Query
                && matches!(style, Style::SpaceDelimited | Style::PipeDelimited | Style::DeepObject);
        if !fits {
            let message = format!("no parameter in the {} is written so", place.as_str());
            self.problem(&format!("{at}/style"), message, "remove it");
        }
        let name = name?;
        let name = if place == Place::Header { name.to_ascii_lowercase() } else { name };
        if place == Place::Header && !sentinel_names::headers::is_name(&name) {
            self.problem(&format!("{at}/name"), format!("{name:?} is not a header"), "such as \"X-Tenant\"");
        }
        if place == Place::Header && matches!(name.as_str(), "accept" | "content-type" | "authorization") {
            let message = format!("a parameter called {name} means nothing (OpenAPI, \"Parameter Object\")");
            self.warn(&format!("{at}/name"), message, "remove it");
            return None;
        }
        Some(Parameter {
            required: raw.required || place == Place::Path,
            explode: raw.explode.unwrap_or(style == Style::Form),
            description: raw.description.clone(),
            name,
            place,
            style,
            schema,
        })
    }
}
