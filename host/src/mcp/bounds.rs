//! The longest parts of a request that are kept after it was read: while it is under way, on record, or as part of a
//! key. Arguments are not among them; their limit is the message's.

use serde_json::value::RawValue;

use super::splice;

/// Longest id of a request, as it is spelled, in bytes.
pub(crate) const ID: usize = 1 << 10;
/// Longest method.
pub(crate) const METHOD: usize = 256;
/// Longest progress token, as it is spelled.
pub(crate) const TOKEN: usize = 1 << 10;
/// Longest name of a tool, a prompt or a task.
pub(crate) const NAME: usize = 1 << 10;
/// Longest URI of a resource.
pub(crate) const URI: usize = 8 << 10;

/// What is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooLong {
    #[error("the id of a request may have {ID} bytes at most")]
    Id,
    #[error("no method has a name of more than {METHOD} bytes")]
    Method,
    #[error("`_meta/progressToken` may have {TOKEN} bytes at most")]
    Token,
}

/// Looks at what is kept of every request.
///
/// # Errors
/// The first part that is too long.
pub(crate) fn check(id: &RawValue, method: &str, params: Option<&str>) -> Result<(), TooLong> {
    if id.get().len() > ID {
        return Err(TooLong::Id);
    }
    if method.len() > METHOD {
        return Err(TooLong::Method);
    }
    // Most params are short, and no part of those can be too long.
    let long = params.filter(|params| params.len() > TOKEN);
    let token = long.and_then(|params| splice::get(params, "/_meta/progressToken"));
    if token.is_some_and(|token| token.len() > TOKEN) {
        return Err(TooLong::Token);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_request_is_short() {
        let id = |length: usize| RawValue::from_string(format!("\"{}\"", "i".repeat(length))).unwrap();
        let token = |length: usize| format!(r#"{{"_meta":{{"progressToken":"{}"}}}}"#, "t".repeat(length));
        let short = id(5);
        assert_eq!(check(&short, "tools/call", Some(&token(1_000))), Ok(()));
        assert_eq!(check(&id(ID), "tools/call", None), Err(TooLong::Id));
        assert_eq!(check(&short, &"m".repeat(METHOD + 1), None), Err(TooLong::Method));
        assert_eq!(check(&short, "tools/call", Some(&token(TOKEN))), Err(TooLong::Token));
        let arguments = format!(r#"{{"arguments":{{"x":"{}"}}}}"#, "x".repeat(100_000));
        assert_eq!(check(&short, "tools/call", Some(&arguments)), Ok(()));
    }
}
