//! The redaction rules, by example and by random JSON.
#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn redactor(keys: &[&str], secrets: &[&str]) -> Redactor {
    let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    Redactor::new(&own(keys), &own(secrets), 1 << 20)
}

fn clean(redactor: &Redactor, raw: &str) -> String {
    let mut out = Vec::new();
    redactor.arguments(raw, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn keys_are_matched_at_any_depth_and_values_of_any_type_go() {
    let rules = redactor(&["pin-code"], &[]);
    let raw = r#" { "a" : [ { "PassWord" : {"x": [1, "]}"]} } , {"API_KEY":12.50,"n":1.50} ], "access-token": null,
        "PIN_CODE":["1"], "credentials":true, "max_tokens":5, "secretary":"Ann", "s":"\u0061" }"#;
    assert_eq!(
        clean(&rules, raw),
        concat!(
            r#"{"a":[{"PassWord":"[redacted]"},{"API_KEY":"[redacted]","n":1.50}],"access-token":"[redacted]","#,
            r#""PIN_CODE":"[redacted]","credentials":"[redacted]","max_tokens":5,"secretary":"Ann","s":"\u0061"}"#
        )
    );
}

#[test]
fn an_escaped_key_and_json_inside_a_string_hide_nothing() {
    let rules = redactor(&[], &["hunter22"]);
    assert_eq!(clean(&rules, r#"{"pass\u0077ord":"x"}"#), r#"{"pass\u0077ord":"[redacted]"}"#);
    let body = json!({"password": "x", "keep": 1}).to_string();
    let kept: Value = serde_json::from_str(&clean(&rules, &json!({"body": body}).to_string())).unwrap();
    assert_eq!(kept["body"], r#"{"password":"[redacted]","keep":1}"#);
    assert_eq!(clean(&rules, r#"["\u0068unter22", 1]"#), r#"["[redacted]",1]"#);
    assert_eq!(clean(&rules, r#"{"hunter22":1}"#), r#"{"[redacted]":1}"#);
}

#[test]
fn what_is_no_json_becomes_a_string() {
    let rules = redactor(&[], &["hunter22"]);
    assert_eq!(clean(&rules, "{oops \n hunter22"), r#""{oops \n [redacted]""#);
    assert_eq!(clean(&rules, ""), "null");
    assert_eq!(clean(&rules, r#"["\ud800x\n"]"#), "[\"\u{fffd}x\\n\"]");
}

#[test]
fn long_arguments_keep_their_digest_and_their_beginning() {
    let rules = Redactor::new(&[], &["hunter22".to_owned()], 64);
    let raw = json!({"p": format!("hunter22 {}", "\"".repeat(200))}).to_string();
    let cut: Value = serde_json::from_str(&clean(&rules, &raw)).unwrap();
    let full = raw.replace("hunter22", REDACTED);
    assert_eq!(cut["blake3"], blake3::hash(full.as_bytes()).to_hex().as_str());
    assert_eq!(cut["bytes"], full.len());
    assert_eq!(cut["prefix"], &full[..32]);
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!("{}{}{}", "[".repeat(200_000), r#"{"token":1}"#, "]".repeat(200_000));
    assert!(clean(&redactor(&[], &[]), &deep).contains(r#"{"token":"[redacted]"}"#));
}

fn any_json(leaf: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,6}", inner.clone(), 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            // JSON carried in a string.
            inner.prop_map(|value| Value::from(value.to_string())),
        ]
    })
}

proptest! {
    #[test]
    fn a_planted_secret_never_survives(
        // A character that base64 text cannot hold makes an accidental match impossible.
        secret in "[A-Za-z0-9\"\\\\\n/é]{2,20}[!#][A-Za-z0-9\"\\\\é]{2,20}",
        noise in any_json(prop_oneof![any::<String>().prop_map(Value::from), any::<i64>().prop_map(Value::from)]),
        before in "\\PC{0,5}", after in "\\PC{0,5}", as_key: bool,
    ) {
        let rules = redactor(&[], &[&secret]);
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{before}{secret}"));
        let text = format!("{before}{secret}{after}");
        let planted = if as_key {
            json!({ text: noise })
        } else {
            json!({"n": noise, "list": [[{"v": text, "quoted": json!({"k": secret}).to_string(), "b": encoded}]]})
        };
        for raw in [planted.to_string(), serde_json::to_string_pretty(&planted).unwrap(), format!("{planted} junk")] {
            let out = clean(&rules, &raw);
            let escaped = serde_json::to_string(&secret).unwrap();
            prop_assert!(!out.contains(&secret), "{out}");
            prop_assert!(!out.contains(&escaped[1..escaped.len() - 1]), "{out}");
            prop_assert!(out.contains(REDACTED));
            let value: Value = serde_json::from_str(&out).unwrap();
            prop_assert!(!value.to_string().contains(&secret));
            if !as_key && value.is_object() {
                let left = value["list"][0][0]["b"].as_str().unwrap();
                prop_assert!(left.contains(REDACTED), "{left}");
            }
        }
    }

    #[test]
    fn without_secrets_the_value_is_unchanged(
        value in any_json(prop_oneof![any::<String>().prop_map(Value::from), any::<f64>().prop_map(Value::from)])
    ) {
        let rules = Redactor { keys: Vec::new(), needles: Needles::new(&[]), max_arguments: usize::MAX, max_refused: 0 };
        let raw = serde_json::to_string_pretty(&value).unwrap();
        let out = clean(&rules, &raw);
        let expected: Value = serde_json::from_str(&raw).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
    }
}
