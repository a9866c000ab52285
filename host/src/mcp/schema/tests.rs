//! The rules, and random schemas that keep them.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn schema(text: &str) -> ArgumentSchema {
    ArgumentSchema::new(Some(RawValue::from_string(text.to_owned()).unwrap()))
}

#[test]
fn names_the_pointer_that_is_wrong() {
    let schema = schema(
        r#"{"type":"object","properties":{"a":{"type":"object","properties":{"n":{"type":"integer"}}}},"required":["a"]}"#,
    );
    assert_eq!(schema.check(Some(r#"{"a":{"n":3}}"#)), Ok(()));
    let Err(ArgumentError::Mismatch { pointer, .. }) = schema.check(Some(r#"{"a":{"n":"x"}}"#)) else {
        panic!()
    };
    assert_eq!(pointer, "/a/n");
    assert!(matches!(schema.check(None), Err(ArgumentError::Mismatch { .. })));
}

#[test]
fn an_unusable_schema_refuses_instead_of_letting_everything_pass() {
    assert!(matches!(schema(r#"{"type":"no-such-type"}"#).check(None), Err(ArgumentError::Schema(_))));
    assert!(matches!(
        schema(r#"{"$ref":"http://127.0.0.1:9/x"}"#).check(None),
        Err(ArgumentError::Schema(_))
    ));
}

#[test]
fn what_no_type_holds_passes_where_the_schema_says_nothing() {
    let open = schema(r#"{"type":"object","properties":{"n":{"type":"integer"},"any":{}}}"#);
    for fits in [r#"{"any":1e400}"#, r#"{"n":1,"x":["\ud800",{"y":-1e999}]}"#, r#"{"any":[1e400,"\udfff"]}"#]
    {
        assert_eq!(open.check(Some(fits)), Ok(()), "{fits}");
    }
    assert_eq!(schema("{}").check(Some(r#"{"n":1e400}"#)), Ok(()));
    let refused = |arguments: &str| match open.check(Some(arguments)) {
        Err(ArgumentError::Mismatch { pointer, message }) => (pointer, message),
        other => panic!("{arguments}: {other:?}"),
    };
    let (pointer, message) = refused(r#"{"any":1e400,"n":1e400}"#);
    assert_eq!(pointer, "/n");
    assert!(message.contains("larger than a 64-bit float") && message.contains("schema"), "{message}");
    let (pointer, message) = refused(r#"{"n":"\ud800"}"#);
    assert_eq!(pointer, "/n");
    assert!(message.contains("surrogate"), "{message}");
    let required = schema(r#"{"required":["a"]}"#).check(Some(r#"{"b":1e400}"#)).unwrap_err();
    assert!(required.to_string().contains("required"), "{required}");
    assert_eq!(refused(r#"{"any":1e400,"n":"x"}"#).0, "/n", "the rest is judged as ever");
    assert!(refused(r#"{"\ud800":1}"#).1.contains("cannot be read"));
    let closed = schema(r#"{"additionalProperties":{"type":"number"}}"#);
    assert!(matches!(closed.check(Some(r#"{"x":1e400}"#)), Err(ArgumentError::Mismatch { .. })));
}

#[test]
fn values_are_not_repeated_in_messages() {
    let error =
        schema(r#"{"properties":{"k":{"type":"integer"}}}"#).check(Some(r#"{"k":"hunter2"}"#)).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
