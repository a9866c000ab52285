//! The keywords of JSON Schema that judge something, what may stand under each, and in which drafts they exist.
//! Everything else in a schema is for people, and is not kept. That goes for `format`, `contentEncoding` and
//! `contentMediaType` as well: servers read them as hints, and differ in what they take for a date or an address.

use jsonschema::Draft;

/// What may stand under a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A whole number that is not negative.
    Count,
    Number,
    /// A number above zero.
    Positive,
    Flag,
    Pattern,
    /// A list of different texts.
    Names,
    /// A list of texts under each name.
    NamesBy,
    Types,
    List,
    Any,
    /// A schema.
    One,
    /// A list of schemas.
    Many,
    /// A schema under each name.
    Named,
    /// The same, where the names are patterns.
    Patterns,
    /// A schema for all items, or one for each.
    Items,
    /// A schema or a list of names under each name.
    Dependencies,
    /// Where another schema is.
    Reference,
}

type Row = (&'static str, Shape, Draft, Draft);

use Draft::{Draft4, Draft6, Draft7, Draft201909, Draft202012};

/// Keyword, shape, first and last draft that has it.
const TABLE: [Row; 40] = [
    ("$ref", Shape::Reference, Draft4, Draft202012),
    ("$dynamicRef", Shape::Reference, Draft202012, Draft202012),
    ("$recursiveRef", Shape::Reference, Draft201909, Draft201909),
    ("additionalItems", Shape::One, Draft4, Draft202012),
    ("additionalProperties", Shape::One, Draft4, Draft202012),
    ("allOf", Shape::Many, Draft4, Draft202012),
    ("anyOf", Shape::Many, Draft4, Draft202012),
    ("const", Shape::Any, Draft6, Draft202012),
    ("contains", Shape::One, Draft6, Draft202012),
    ("dependencies", Shape::Dependencies, Draft4, Draft202012),
    ("dependentRequired", Shape::NamesBy, Draft201909, Draft202012),
    ("dependentSchemas", Shape::Named, Draft201909, Draft202012),
    ("else", Shape::One, Draft7, Draft202012),
    ("enum", Shape::List, Draft4, Draft202012),
    ("exclusiveMaximum", Shape::Number, Draft4, Draft202012),
    ("exclusiveMinimum", Shape::Number, Draft4, Draft202012),
    ("if", Shape::One, Draft7, Draft202012),
    ("items", Shape::Items, Draft4, Draft202012),
    ("maxContains", Shape::Count, Draft201909, Draft202012),
    ("maxItems", Shape::Count, Draft4, Draft202012),
    ("maxLength", Shape::Count, Draft4, Draft202012),
    ("maxProperties", Shape::Count, Draft4, Draft202012),
    ("maximum", Shape::Number, Draft4, Draft202012),
    ("minContains", Shape::Count, Draft201909, Draft202012),
    ("minItems", Shape::Count, Draft4, Draft202012),
    ("minLength", Shape::Count, Draft4, Draft202012),
    ("minProperties", Shape::Count, Draft4, Draft202012),
    ("minimum", Shape::Number, Draft4, Draft202012),
    ("multipleOf", Shape::Positive, Draft4, Draft202012),
    ("not", Shape::One, Draft4, Draft202012),
    ("oneOf", Shape::Many, Draft4, Draft202012),
    ("pattern", Shape::Pattern, Draft4, Draft202012),
    ("patternProperties", Shape::Patterns, Draft4, Draft202012),
    ("prefixItems", Shape::Many, Draft202012, Draft202012),
    ("properties", Shape::Named, Draft4, Draft202012),
    ("propertyNames", Shape::One, Draft6, Draft202012),
    ("required", Shape::Names, Draft4, Draft202012),
    ("then", Shape::One, Draft7, Draft202012),
    ("type", Shape::Types, Draft4, Draft202012),
    ("uniqueItems", Shape::Flag, Draft4, Draft202012),
];

/// Two more that are looked up apart, because their drafts differ from their neighbours'.
const UNEVALUATED: [&str; 2] = ["unevaluatedItems", "unevaluatedProperties"];

/// A keyword that judges, in this draft.
pub(super) fn find(keyword: &str, draft: Draft) -> Option<(&'static str, Shape)> {
    if let Some(name) = UNEVALUATED.into_iter().find(|name| *name == keyword) {
        return (draft >= Draft201909).then_some((name, Shape::One));
    }
    TABLE
        .iter()
        .find(|(name, _, first, last)| *name == keyword && *first <= draft && draft <= *last)
        .map(|(name, shape, ..)| (*name, *shape))
}

/// Keywords under whose names schemas are kept for others to point at.
pub(super) fn keeps_definitions(keyword: &str) -> bool {
    matches!(keyword, "$defs" | "definitions")
}

/// Whether the schemas under it judge the very value that their owner judges.
pub(super) fn is_in_place(keyword: &str) -> bool {
    matches!(
        keyword,
        "$ref"
            | "allOf"
            | "anyOf"
            | "oneOf"
            | "not"
            | "if"
            | "then"
            | "else"
            | "dependentSchemas"
            | "dependencies"
    )
}

/// Whether it says which properties or items have been looked at.
pub(super) fn evaluates(keyword: &str) -> bool {
    is_in_place(keyword)
        || matches!(
            keyword,
            "properties"
                | "patternProperties"
                | "additionalProperties"
                | "items"
                | "prefixItems"
                | "additionalItems"
                | "contains"
                | "unevaluatedItems"
                | "unevaluatedProperties"
        )
}

/// The types that there are.
pub(super) const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
