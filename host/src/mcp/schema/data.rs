//! Keywords that hold no schemas: what may stand there.

use std::collections::HashSet;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::keyword::{Shape, TYPES};

/// What stands under a keyword that holds no schemas; none if it has no meaning.
pub(super) fn data(shape: Shape, value: &Value, draft: Draft) -> Option<Value> {
    let names = |value: &Value| {
        let mut seen = HashSet::new();
        let names: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
        let different: Vec<Value> =
            names?.into_iter().filter(|name| seen.insert(*name)).map(Value::from).collect();
        Some(Value::Array(different))
    };
    let fits = match shape {
        Shape::Count => return whole(value).map(Value::from),
        Shape::Names => return names(value),
        Shape::NamesBy => {
            let named = value.as_object()?.iter().map(|(name, value)| Some((name.clone(), names(value)?)));
            return named.collect::<Option<Map<_, _>>>().map(Value::Object);
        }
        Shape::Types => {
            let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
            let several = names(value).filter(|names| {
                names.as_array().is_some_and(|names| !names.is_empty() && names.iter().all(known))
            });
            return if known(value) { Some(value.clone()) } else { several };
        }
        Shape::Number => value.is_number(),
        Shape::Positive => value.as_f64().is_some_and(|number| number > 0.0),
        Shape::Flag => value.is_boolean(),
        // Until draft 6 an empty list was no list.
        Shape::List => value.as_array().is_some_and(|list| draft > Draft::Draft6 || !list.is_empty()),
        Shape::Any => true,
        Shape::Pattern
        | Shape::Patterns
        | Shape::One
        | Shape::Many
        | Shape::Named
        | Shape::Items
        | Shape::Dependencies
        | Shape::Reference => false,
    };
    fits.then(|| value.clone())
}

/// A count, also one that is spelled `3.0`.
fn whole(value: &Value) -> Option<u64> {
    /// Up to here every whole number is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_u64().or_else(|| {
        let number =
            value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=EXACT).contains(number))?;
        format!("{number:.0}").parse().ok()
    })
}
