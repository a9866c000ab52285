//! The redaction rules, by example and by random JSON.
#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn redactor(keys: &[&str], secrets: &[&str]) -> Redactor {
    let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    Redactor::new(&Secrets { values: own(secrets), redact_keys: own(keys), keep_keys: Vec::new() })
}

fn clean(redactor: &Redactor, raw: &str) -> String {
    let mut out = Vec::new();
    redactor.json(raw, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_added_later_is_hidden_from_every_handle_and_what_was_hidden_stays_so() {
    let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    let first = Secrets { values: own(&["hunter22"]), redact_keys: own(&["pin"]), keep_keys: Vec::new() };
    let (one, other) = (Redaction::new(&first), Redaction::new(&first));
    let handle = one.clone();
    one.also(&Secrets {
        values: own(&["correct-horse"]),
        redact_keys: own(&["tan"]),
        keep_keys: own(&["pin"]),
    });
    assert_eq!(handle.text("hunter22 correct-horse"), "[redacted] [redacted]");
    let now = handle.current();
    assert!(now.is_secret_key("pin") && now.is_secret_key("tan"), "nothing is shown that was hidden");
    assert_eq!(other.text("correct-horse"), "correct-horse", "another gateway's");
    one.also(&Secrets { values: own(&["staple-battery"]), ..Secrets::default() });
    assert_eq!(handle.text("hunter22 staple-battery"), "[redacted] [redacted]");
}

#[test]
fn keys_are_matched_at_any_depth_and_values_of_any_type_go() {
    let rules = redactor(&["pin-code"], &[]);
    let raw = r#" { "a" : [ { "PassWord" : {"x": [1, "]}"]} } , {"API_KEY":12.50,"n":1.50} ], "access-token": null,
        "PIN_CODE":["1"], "credentials":true, "max_tokens":5, "tokens":6, "secretary":"Ann", "s":"\u0061",
        "Tokens":["a"], "pwd":5 }"#;
    assert_eq!(
        clean(&rules, raw),
        concat!(
            r#"{"a":[{"PassWord":"[redacted]"},{"API_KEY":"[redacted]","n":1.50}],"access-token":null,"#,
            r#""PIN_CODE":"[redacted]","credentials":true,"max_tokens":5,"tokens":6,"secretary":"Ann","s":"\u0061","#,
            r#""Tokens":"[redacted]","pwd":"[redacted]"}"#
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
    // Deeper than JSON is parsed, and behind words that are no JSON.
    let mut deep = r#"{"password":"canary"}"#.to_owned();
    for _ in 0..7 {
        deep = json!({"body": deep}).to_string();
        assert!(!clean(&rules, &json!([deep]).to_string()).contains("canary"), "{deep}");
        assert!(!rules.text(&format!("it said {deep} and ended")).contains("canary"), "{deep}");
    }
}

#[test]
fn the_names_and_texts_of_the_case_are_hidden() {
    let arguments = json!({
        "pwd": "CANARY1", "bearer": "CANARY2", "private_key_pem": "CANARY3", "session_cookie_value": "CANARY4",
        "headers": ["Authorization: Bearer CANARY5"], "url": "https://u:CANARY6@h/?access_token=CANARY7",
        "Authorization2": "CANARY8", "api_key_id": "CANARY9",
    });
    let kept = clean(&redactor(&[], &[]), &arguments.to_string());
    assert!(!kept.contains("CANARY"), "{kept}");
    assert!(kept.contains("https://u:[redacted]@h/?access_token=[redacted]"), "{kept}");
}

/// What agents send every day.
const ORDINARY: [&str; 14] = [
    r#"{"path":"src/auth/token.rs","content":"pub struct Token {\n    kind: TokenKind,\n    text: String,\n}\n"}"#,
    r#"{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"What is a bearer token?"}]}"#,
    r#"{"usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12},"tokens":12}"#,
    r#"{"query":"select id, email from users where author = 'ann' and key = 5","limit":50}"#,
    r#"{"url":"https://example.org:8443/a/b?page=2&sort=asc#top","method":"GET"}"#,
    r#"{"cursor":"eyJwYWdlIjoyfQ==","nextPageToken":"CAUQAA","pageToken":null}"#,
    r#"{"command":"git commit -m 'fix: keyboard shortcuts' && git push origin main"}"#,
    r#"{"to":"secretary@example.org","subject":"Password policy","body":"Please read it: passwords have 12 letters."}"#,
    r#"{"repo":"owner/name","sha":"9fceb02d0ae598e95dc970b74767f19372d61af8"}"#,
    r#"{"id":"550e8400-e29b-41d4-a716-446655440000","when":"2026-07-28T08:00:00Z"}"#,
    r#"{"text":"Dear all,\n\nthe cookie recipe: flour, butter, sugar.\nBest: Ann"}"#,
    r#"{"schema":{"type":"object","properties":{"name":{"type":"string"}}},"required":["name"]}"#,
    r#"{"yaml":"apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n"}"#,
    r#"{"code":"if (token === null) { return parse(token, next); }\nconst key = items[0];"}"#,
];

#[test]
fn ordinary_arguments_are_left_alone() {
    let rules = redactor(&[], &["hunter22"]);
    for raw in ORDINARY {
        assert_eq!(clean(&rules, raw), raw);
        assert!(matches!(rules.text(raw), Cow::Borrowed(_)), "{raw}");
    }
}

#[test]
fn words_are_short_clean_and_on_one_line() {
    let rules = redactor(&[], &["s3cr3t-key-42"]);
    let said = format!("login refused\n\u{1b}[2J for key s3cr3t-key-42{}", "!".repeat(3_000_000));
    let words = rules.words(&said).to_string();
    assert!(words.starts_with("login refused\\n\\u{1b}[2J for key [redacted]!!"), "{words}");
    assert!(words.len() < 340 && words.ends_with("… [3000040 bytes]"), "{words}");
    // The cut falls into a secret, wherever it begins.
    for padding in 0..60 {
        let said = format!("{}{}", "x ".repeat(110 + padding), "s3cr3t-key-42 ".repeat(1_000));
        assert!(!rules.words(&said).to_string().contains("s3cr"), "{padding}");
    }
}

#[test]
fn only_known_values_are_taken_out_of_what_is_passed_on() {
    let rules = redactor(&[], &["s3cr3t-key-42"]);
    let error = r#"{"code":-32000, "message":"no login for s3cr3t-key-42", "data":{"token":"their own"}}"#;
    let clean = r#"{"code":-32000,"message":"no login for [redacted]","data":{"token":"their own"}}"#;
    assert_eq!(rules.without_known(error).unwrap(), clean);
    assert_eq!(
        rules.without_known(r#"{"code":-1,"message":"\u00733cr3t-key-42"}"#).unwrap(),
        r#"{"code":-1,"message":"[redacted]"}"#
    );
    assert_eq!(rules.without_known(r#"{"code":1,"message":"password=x"}"#), None);
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
        let encoded = STANDARD.encode(format!("{before}{secret}"));
        let for_urls = URL_SAFE_NO_PAD.encode(format!("{before}{secret}"));
        let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let units: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let text = format!("{before}{secret}{after}");
        let planted = if as_key {
            json!({ text: noise })
        } else {
            json!({
                "n": noise, "list": [[{"v": text, "quoted": json!({"k": secret}).to_string(), "b": encoded, "c": for_urls}]],
                "p": percent, "u": units,
            })
        };
        for raw in [planted.to_string(), serde_json::to_string_pretty(&planted).unwrap()] {
            let out = clean(&rules, &raw);
            let escaped = serde_json::to_string(&secret).unwrap();
            for spelling in [&secret, &escaped[1..escaped.len() - 1], &percent, &units.replace('\\', "\\\\")] {
                prop_assert!(!out.contains(spelling), "{spelling} in {out}");
            }
            prop_assert!(out.contains(REDACTED));
            let value: Value = serde_json::from_str(&out).unwrap();
            prop_assert!(!value.to_string().contains(&secret));
            if !as_key {
                for kept in ["b", "c"] {
                    let left = value["list"][0][0][kept].as_str().unwrap();
                    prop_assert!(left.contains(REDACTED), "{left}");
                }
            }
            prop_assert_eq!(clean(&rules, &out), out.clone(), "twice is as once");
        }
        let told = format!("{planted} junk");
        prop_assert!(!rules.text(&told).contains(&secret));
        prop_assert!(!rules.words(&told).to_string().contains(&secret));
    }

    #[test]
    fn json_stays_json_and_what_is_no_secret_stays(
        value in any_json(prop_oneof![any::<String>().prop_map(Value::from), any::<f64>().prop_map(Value::from)])
    ) {
        let rules = redactor(&[], &["hunter22"]);
        let raw = serde_json::to_string_pretty(&value).unwrap();
        let out = clean(&rules, &raw);
        let kept = serde_json::from_str::<Value>(&out).unwrap();
        if !out.contains(REDACTED) {
            prop_assert_eq!(kept, serde_json::from_str::<Value>(&raw).unwrap());
        }
        prop_assert_eq!(clean(&rules, &out), out);
    }

    /// Pieces that mean something to the rules, in any order.
    #[test]
    fn any_text_is_redacted_once_and_for_all(
        pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "password", "token", "tokens", "pwd", "Authorization", "Cookie", "max_", "_id", "=", ":", ": ", " ", "\n", "\"", "'",
                "\\", "{", "}", "[", "]", ",", ";", "&", "(", ")", "://", "@", "/", "Bearer ", "Basic ", "hunter22", "[redacted]",
                "aHVudGVyMjI=", "%68unter22", "\\u0068unter22", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", "sk_live_0123456789ab",
                "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "AKIAIOSFODNN7EXAMPLE", "5", "null", "%3D", "$TOKEN",
            ]).prop_map(str::to_owned),
            "[a-zA-Z0-9]{1,8}",
            "\\PC{0,4}",
        ], 0..16)
    ) {
        let rules = redactor(&["pin"], &["hunter22"]);
        let text = pieces.concat();
        let once = rules.text(&text).into_owned();
        prop_assert!(!once.contains("hunter22"), "{once}");
        prop_assert_eq!(rules.text(&once).into_owned(), once);
        let raw = json!({ "t": text }).to_string();
        prop_assert!(serde_json::from_str::<Value>(&clean(&rules, &raw)).is_ok());
        prop_assert!(!rules.words(&text).to_string().contains(crate::text::is_harmful));
    }
}
