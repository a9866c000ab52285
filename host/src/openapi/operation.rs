//! One operation of an API, whatever version of the specification it was written in.

use serde_json::Value;

/// What a method does at a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// The document's `operationId` in characters that every client accepts, or else made of method and path; unique.
    pub id: String,
    /// In upper case.
    pub method: String,
    /// The template as it stands in the document: `/pets/{petId}`.
    pub path: String,
    pub summary: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub deprecated: bool,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub responses: Vec<Response>,
    /// The ways to be let in, of which one is enough; none if the operation is public.
    pub security: Vec<Requirement>,
    /// Where the operation is served, if the document says so; as written, with the default of every variable.
    pub server: Option<String>,
}

impl Operation {
    /// What a person calls it: `GET /pets`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Where a parameter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Path,
    Query,
    Header,
    Cookie,
}

impl Place {
    /// The word of OpenAPI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }

    /// How values are written unless the document says otherwise.
    #[must_use]
    pub(crate) const fn default_style(self) -> &'static str {
        match self {
            Self::Path | Self::Header => "simple",
            Self::Query | Self::Cookie => "form",
        }
    }
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub name: String,
    pub place: Place,
    pub required: bool,
    pub description: Option<String>,
    /// `simple`, `form`, `spaceDelimited`, `pipeDelimited`, `deepObject`, `label` or `matrix`.
    pub style: String,
    pub explode: bool,
    /// JSON Schema 2020-12 with everything that it refers to.
    pub schema: Option<Value>,
}

impl Parameter {
    /// Whether style and explode are what the specification assumes where nothing is said.
    #[must_use]
    pub(crate) fn is_plain(&self) -> bool {
        self.style == self.place.default_style() && self.explode == (self.style == "form")
    }
}

/// What is sent with a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub required: bool,
    pub description: Option<String>,
    pub content: Vec<Media>,
}

impl Body {
    /// The JSON among the media types, which is the one that schemas are about.
    #[must_use]
    pub fn json(&self) -> Option<&Media> {
        self.content.iter().find(|media| media.is_json())
    }
}

/// A media type and the schema of what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// In lower case, without parameters.
    pub name: String,
    pub schema: Option<Value>,
}

impl Media {
    /// Whether it is `application/json` or ends in `+json`.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        self.name == "application/json" || self.name.ends_with("+json")
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// `200`, `4XX` or `default`.
    pub status: String,
    pub description: Option<String>,
    pub content: Vec<Media>,
}

/// Credentials that together let a caller in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement(pub Vec<Scheme>);

/// One credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The name it has in the document.
    pub name: String,
    /// `http bearer`, `apiKey in header X-Key`, …; as a person reads it.
    pub kind: String,
    pub scopes: Vec<String>,
}
