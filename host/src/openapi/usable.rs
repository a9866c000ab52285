//! Whether an operation can be judged by what its document says of it.

use serde_json::Value;

use super::operation::Operation;

/// Why a schema of the operation cannot be used; none if all can. A route or tool with such a schema would refuse every call.
#[must_use]
pub fn unusable(operation: &Operation) -> Option<String> {
    let parameters = operation.parameters.iter().map(|one| (one.name.as_str(), one.schema.as_ref()));
    let body =
        operation.body.iter().flat_map(|body| &body.content).map(|media| ("body", media.schema.as_ref()));
    parameters.chain(body).find_map(|(name, schema)| {
        let why = flaw(schema?)?;
        Some(format!("the schema of {:?} cannot be used: {why}", crate::text::excerpt(name.as_bytes(), 60)))
    })
}

fn flaw(schema: &Value) -> Option<String> {
    let error = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(schema).err()?;
    Some(crate::text::excerpt(error.to_string().as_bytes(), 200))
}
