//! A tool's schema and the arguments of a call, with a zero byte between them.

use sentinel_gateway::mcp::schema::ArgumentSchema;
use serde_json::value::RawValue;

/// Judging ends, and says the same twice.
pub(crate) fn judge(data: &[u8]) {
    let Some(middle) = data.iter().position(|byte| *byte == 0) else { return };
    let (Ok(schema), Ok(arguments)) =
        (std::str::from_utf8(&data[..middle]), std::str::from_utf8(&data[middle + 1..]))
    else {
        return;
    };
    let Ok(schema) = serde_json::from_str::<&RawValue>(schema) else { return };
    if serde_json::from_str::<&RawValue>(arguments).is_err() {
        return;
    }
    let schema = ArgumentSchema::new(Some(schema.to_owned()));
    assert_eq!(schema.check(Some(arguments)), schema.check(Some(arguments)));
}
