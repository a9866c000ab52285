//! The configuration, as operators write it and as they get it wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use sentinel_plugin_sdk::Auth;
use serde_json::json;

use super::*;

const KEY: &str = "sk-0123456789abcdef0123";
/// The digest of `KEY`, as sha256sum tells it.
const HEX: &str = "e636700b4adadb66cd71b1dac31d1dd2419ea53580391171645e0defc59b50c1";

fn secrets(name: &str) -> Option<String> {
    match name {
        "CI_API_KEY" => Some(KEY.to_owned()),
        "SHORT" => Some("sk-0123456789abcdef".to_owned()),
        "SHORTEST_GOOD" => Some("sk-0123456789abcdef0".to_owned()),
        "LONG" => Some("k".repeat(513)),
        "LINE" => Some(format!("{KEY}\n")),
        "UMLAUT" => Some("sk-0123456789abcdefgräser".to_owned()),
        _ => None,
    }
}

fn read(config: Value) -> Result<Keyring, Vec<ConfigError>> {
    super::read(config, secrets)
}

fn key(more: &Value) -> Value {
    let mut key = json!({"id": "ci", "role": "deployer", "sha256": HEX});
    for (name, value) in more.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

/// The only mistake; every one of them tells what to do.
fn mistake(config: Value) -> ConfigError {
    let mut errors = read(config).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

fn mistake_in_key(more: &Value) -> String {
    let path = mistake(json!({"keys": [key(more)]})).path;
    path.strip_prefix("/keys/0").unwrap_or(&path).to_owned()
}

fn end_of(expires: &Value) -> Option<u64> {
    let ring = read(json!({"keys": [key(&json!({"expires": expires}))]})).unwrap();
    match ring.judge("http", Some(KEY), None, 0).unwrap() {
        Auth::Accepted(identity) => identity.principal.expires_at,
        Auth::Abstain => panic!("abstained"),
    }
}

#[test]
fn a_digest_and_a_secret_know_the_same_key() {
    for how in
        [json!({"sha256": HEX}), json!({"sha256": HEX.to_uppercase()}), json!({"secret": "CI_API_KEY"})]
    {
        let mut key = json!({"id": "ci", "role": "deployer"});
        for (name, value) in how.as_object().unwrap() {
            key[name] = value.clone();
        }
        let ring = read(json!({"keys": [key]})).unwrap();
        let Ok(Auth::Accepted(found)) = ring.judge("stdio", None, Some(KEY), 0) else { panic!("{how}") };
        assert_eq!((found.principal.subject.as_str(), found.principal.role.as_str()), ("ci", "deployer"));
    }
}

#[test]
fn the_documented_example_is_one() {
    let text: String = include_str!("lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .skip_while(|line| line.trim() != "```toml")
        .skip(1)
        .take_while(|line| line.trim() != "```")
        .map(|line| format!("{line}\n"))
        .collect();
    let example: Value = toml::from_str(&text).unwrap();
    let plugin = &example["plugins"][0];
    assert_eq!(plugin["name"], env!("CARGO_PKG_NAME"));
    let granted = |name: &str| {
        let named = plugin["secrets"].as_array().unwrap().iter().any(|secret| secret == name);
        named.then(|| KEY.to_owned())
    };
    let ring = super::read(plugin["config"].clone(), granted).unwrap();
    assert_eq!(ring.header_attr(), "header.x-api-key");
    assert!(matches!(ring.judge("http", Some(KEY), None, 0), Ok(Auth::Accepted(_))));
    // The defaults are what it says they are.
    let mut config = plugin["config"].clone();
    for key in ["header", "prefix"] {
        config.as_object_mut().unwrap().remove(key).unwrap();
    }
    assert_eq!(format!("{:?}", super::read(config, granted).unwrap()), format!("{ring:?}"));
}

#[test]
fn every_mistake_is_named_at_once() {
    let other = "ab".repeat(32);
    let errors = read(json!({
        "kyes": [], "header": "x api", "prefix": "",
        "keys": [
            key(&json!({})),
            key(&json!({"secret": "CI_API_KEY"})),
            {"id": "b", "role": " ", "subject": "a\nb", "expires": "soon", "doors": ["http", "window"]},
            {"role": "r", "sha256": "xyz", "key": KEY},
            {"id": "d", "role": "r", "sha256": HEX},
            {"id": "e", "role": "r", "sha256": other, "expires": "2027-01-01T00:00:00", "doors": []},
            "f",
            {"id": "g", "role": "r", "secret": "UNSET"},
        ],
    }))
    .unwrap_err();
    let mut paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "/header",
            "/keys/1",
            "/keys/1/id",
            "/keys/2",
            "/keys/2/doors/1",
            "/keys/2/expires",
            "/keys/2/role",
            "/keys/2/subject",
            "/keys/3/id",
            "/keys/3/key",
            "/keys/3/sha256",
            "/keys/4/sha256",
            "/keys/5/doors",
            "/keys/5/expires",
            "/keys/6",
            "/keys/7/secret",
            "/kyes",
            "/prefix",
        ]
    );
    let text = format!("{errors:?}");
    assert!(!text.contains(KEY) && !text.contains(HEX), "{text}");
}

#[test]
fn no_key_at_all_and_too_many_are_refused() {
    for config in [json!({}), json!({"keys": null}), json!({"keys": []}), json!({"keys": {}})] {
        assert_eq!(mistake(config).path, "/keys");
    }
    let many = |count: u32| {
        let keys =
            (0..count).map(|n| json!({"id": n.to_string(), "role": "r", "sha256": format!("{n:064x}")}));
        json!({"keys": keys.collect::<Vec<_>>()})
    };
    assert!(read(many(256)).is_ok());
    assert_eq!(mistake(many(257)).path, "/keys");
    assert_eq!(mistake(json!([])).path, "");
}

#[test]
fn a_secret_is_missing_short_long_or_unsendable() {
    let by_secret = |name: Value| json!({"keys": [{"id": "ci", "role": "r", "secret": name}]});
    for name in ["UNSET", "SHORT", "LONG", "LINE", "UMLAUT", KEY] {
        let error = mistake(by_secret(json!(name)));
        assert_eq!(error.path, "/keys/0/secret", "{name}");
        let text = format!("{error:?}");
        let value = secrets(name).unwrap_or_else(|| name.to_owned());
        assert!(!text.contains(value.trim()) && error.hint.is_some(), "{text}");
    }
    assert_eq!(mistake(by_secret(json!(7))).path, "/keys/0/secret");
    assert!(read(by_secret(json!("SHORTEST_GOOD"))).is_ok());
}

#[test]
fn a_digest_is_64_hex_digits_of_something() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for wrong in [
        json!(""),
        json!(&HEX[1..]),
        json!(format!("{HEX}0")),
        json!(format!("g{}", &HEX[1..])),
        json!(format!("+{}", &HEX[1..])),
        json!(format!("ä{}", &HEX[2..])),
        json!(KEY),
        json!(7),
        json!([HEX]),
        json!(empty),
    ] {
        let error = mistake(json!({"keys": [key(&json!({"sha256": wrong}))]}));
        assert_eq!(error.path, "/keys/0/sha256", "{wrong}");
        assert!(!format!("{error:?}").contains(KEY) && error.hint.is_some(), "{error:?}");
    }
}

#[test]
fn one_key_has_one_holder() {
    let keys = json!([key(&json!({})), {"id": "two", "role": "r", "secret": "CI_API_KEY"}]);
    let error = mistake(json!({"keys": keys}));
    assert_eq!(error.path, "/keys/1/secret");
    assert!(error.message.contains("/keys/0"), "{error:?}");
}

#[test]
fn a_time_is_a_date_a_date_time_or_seconds() {
    for (typed, wanted) in [
        (json!("2027-01-01"), 1_798_761_600),
        (json!("2027-01-01T00:00:00Z"), 1_798_761_600),
        (json!("2027-01-01t00:00:00z"), 1_798_761_600),
        (json!("2027-01-01 01:00:00.999+01:00"), 1_798_761_600),
        (json!("2026-12-31T18:30:00-05:30"), 1_798_761_600),
        (json!(1_798_761_600), 1_798_761_600),
        (json!("9999-12-30T22:00:00Z"), 253_402_207_200),
    ] {
        assert_eq!(end_of(&typed), Some(wanted), "{typed}");
    }
    assert_eq!(end_of(&json!(null)), None);
    for wrong in [
        json!("2027-01-01T00:00:00"),
        json!("2027-13-01"),
        json!("2027-02-29"),
        json!("20270101T0"),
        json!("01/01/2027"),
        json!("2027-01-01T24:00:00Z"),
        json!("2027-01-01T00:00:00Z "),
        json!("2027-01-01T00:00:00+01:00[Europe/Berlin]"),
        json!("1798761600"),
        json!("1969-12-31"),
        json!(""),
        json!(-1),
        json!(1.5),
        // Milliseconds.
        json!(1_798_761_600_000_u64),
        json!(true),
    ] {
        assert_eq!(mistake_in_key(&json!({"expires": wrong})), "/expires", "{wrong}");
    }
}

#[test]
fn names_fit_into_a_log_line() {
    for name in ["id", "role", "subject"] {
        for wrong in [json!(""), json!(" "), json!(7), json!("x".repeat(257)), json!("a\u{1b}[2J")] {
            assert_eq!(mistake_in_key(&json!({ name: wrong })), format!("/{name}"), "{wrong}");
        }
        assert!(read(json!({"keys": [key(&json!({ name: "x".repeat(256) }))]})).is_ok());
    }
}

#[test]
fn doors_are_those_of_the_gateway() {
    assert_eq!(mistake_in_key(&json!({"doors": []})), "/doors");
    assert_eq!(mistake_in_key(&json!({"doors": "http"})), "/doors");
    assert_eq!(mistake_in_key(&json!({"doors": ["stdio", "HTTP"]})), "/doors/1");
    let ring = read(json!({"keys": [key(&json!({"doors": ["stdio"]}))]})).unwrap();
    assert!(ring.judge("stdio", None, Some(KEY), 0).is_ok());
    assert!(ring.judge("http", None, Some(KEY), 0).is_err());
}

#[test]
fn a_header_is_a_name_of_its_own_and_a_prefix_leaves_jwts_alone() {
    let long = "x".repeat(65);
    for wrong in ["", "x api", "x:api", "grün", "Authorization", "cookie", &long] {
        let error = mistake(json!({"keys": [key(&json!({}))], "header": wrong}));
        assert_eq!((error.path.as_str(), error.hint.is_some()), ("/header", true), "{wrong}");
    }
    let long = "s".repeat(33);
    for wrong in ["", "e", "ey", "eyJ", "eyJhbGci", "s k", "ä", &long] {
        let error = mistake(json!({"keys": [key(&json!({}))], "prefix": wrong}));
        assert_eq!((error.path.as_str(), error.hint.is_some()), ("/prefix", true), "{wrong}");
    }
    let ring = read(json!({"keys": [key(&json!({}))], "header": "X-My-Key", "prefix": "sk-01"})).unwrap();
    assert_eq!(ring.header_attr(), "header.x-my-key");
    assert!(matches!(ring.judge("stdio", None, Some("sk-10"), 0), Ok(Auth::Abstain)));
    assert!(matches!(ring.judge("stdio", None, Some(KEY), 0), Ok(Auth::Accepted(_))));
}

proptest! {
    /// The digits are read as the rest of the world writes them.
    #[test]
    fn any_key_is_known_by_its_digest(text in "[!-~]{1,80}") {
        let hex: String = KeyDigest::of(text.as_bytes()).bytes().iter().map(|b| format!("{b:02x}")).collect();
        let ring = read(json!({"keys": [key(&json!({"sha256": hex}))]})).unwrap();
        prop_assert!(matches!(ring.judge("http", Some(&text), None, 0), Ok(Auth::Accepted(_))));
    }

    /// Whatever stands in a key's place, it is judged and never repeated.
    #[test]
    fn no_mistake_repeats_what_may_be_a_key(text in "[!-~]{24,80}") {
        let keys = json!([
            {"id": "a", "role": "r", "sha256": text},
            {"id": "b", "role": "r", "secret": text},
            {"id": "c", "role": "r", "sha256": [text], "expires": text},
        ]);
        let errors = read(json!({"keys": keys})).unwrap_err();
        prop_assert_eq!(errors.len(), 4);
        let shown = format!("{errors:?}");
        prop_assert!(!shown.contains(&text), "{}", shown);
    }
}
