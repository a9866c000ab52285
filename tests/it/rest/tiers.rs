//! Limits by tier: the plugin `tier-limits` before real calls.

use serde_json::json;

use super::stage::{Caller, Upstream, gateway};
use crate::support::{Gateway, SECRET, Setup, eventually, reason, target};

/// A token with a claim of its own.
fn token(subject: &str, tier: Option<&str>) -> String {
    let now = i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap();
    let mut claims = json!({
        "sub": subject, "role": "admin", "iss": "sentinel-gateway", "aud": "sentinel-api", "jti": "test", "iat": now, "exp": now + 3_600,
    });
    if let Some(tier) = tier {
        claims["tier"] = json!(tier);
    }
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

fn limited(subject: &str, tier: Option<&str>) -> Setup {
    let wasm = target().join("debug/plugins/tier-limits.wasm");
    assert!(wasm.exists(), "{} is missing: run `cargo xtask build`", wasm.display());
    Setup::echo().env("SENTINEL_TOKEN", &token(subject, tier)).more(&format!(
        "[[plugins]]\nname = \"tier-limits\"\nstage = \"guard\"\nwasm = {:?}\nlimits = {{ deadline_ms = 10000 }}\n\
         config = {{ anonymous = \"free\", tiers = {{ free = {{ per_hour = 3, concurrent = 2 }}, pro = {{ per_day = 5 }}, wide = {{ concurrent = 2 }} }} }}\n",
        wasm.to_str().unwrap()
    ))
}

#[test]
fn a_tier_is_given_by_a_claim_and_its_limit_survives_a_reload() {
    for (tier, most, said) in [
        (None, 3, "3 calls per hour"),
        (Some("pro"), 5, "5 calls per day"),
        (Some("gold"), 3, "3 calls per hour"),
    ] {
        let mut gateway = Gateway::start(limited("ann", tier));
        // The handshake is no call of a tool, and counts nevertheless where it goes through the chain.
        let mut passed = 0;
        let refused = loop {
            let response = gateway.call("echo", json!({"text": "hi"}));
            if response["error"].is_object() {
                break response;
            }
            passed += 1;
            assert!(passed <= most, "more than {most} passed");
        };
        assert_eq!(passed, most, "{tier:?}");
        assert_eq!(reason(&refused), "rate_limited", "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains(said), "{refused}");
        let data = &refused["error"]["data"];
        assert!(data["RateLimit-Policy"].as_str().unwrap().contains(&format!("q={most};w=")), "{refused}");
        assert!(data["RateLimit"].as_str().unwrap().contains("r=0;t="), "{refused}");
        assert!(data["retryAfter"].as_u64().unwrap() > 3_000, "{refused}");
        gateway.reload(|_| ());
        assert_eq!(
            reason(&gateway.call("echo", json!({"text": "hi"}))),
            "rate_limited",
            "a reload is no new allowance"
        );
    }
}

#[test]
fn so_many_calls_at_once_and_a_place_is_free_when_one_ends() {
    let mut gateway = Gateway::start(limited("ann", Some("wide")));
    let slow = json!({"name": "slow", "arguments": {"ms": 6_000}});
    // Each call is a task of its own, so any of the three may be the one too many.
    let under_way = [0, 1, 2].map(|_| gateway.send("tools/call", &slow));
    let answers = under_way.map(|id| gateway.answer(id));
    let (refused, done): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer["error"].is_object());
    assert_eq!((refused.len(), done.len()), (1, 2), "{answers:?}");
    assert_eq!(reason(refused[0]), "rate_limited");
    assert!(refused[0]["error"]["message"].as_str().unwrap().contains("2 calls at once"), "{refused:?}");
    // The end of a call is counted after its answer.
    eventually("a free place", || {
        gateway.call("echo", json!({"text": "hi"}))["result"].is_object().then_some(())
    });
}

/// The items of a list of structured fields (RFC 9651): a text in quotes, and parameters that are whole numbers or texts.
fn items(field: &str) -> Vec<(String, Vec<(String, String)>)> {
    let item = |item: &str| {
        let mut parts = item.split(';');
        let name = parts.next().unwrap().strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned();
        let parameter = |part: &str| {
            let (key, value) = part.split_once('=').unwrap();
            assert!(
                value.parse::<u64>().is_ok() || value.starts_with('"') && value.ends_with('"'),
                "{field}"
            );
            (key.to_owned(), value.to_owned())
        };
        (name, parts.map(parameter).collect())
    };
    field.split(", ").map(item).collect()
}

fn number(field: &str, name: &str, key: &str) -> Option<u64> {
    let items = items(field);
    let (_, parameters) = items.iter().find(|(known, _)| known == name)?;
    parameters.iter().find(|(known, _)| known == key)?.1.parse().ok()
}

const TIERS: &str = r#"
[[plugins]]
name = "tier-limits"
limits = { deadline_ms = 10000 }
[plugins.config.tiers]
anonymous = { per_hour = 2 }
free = { per_minute = 3, per_day = 50, concurrent = 4 }
pro = { per_day = 100 }
enterprise = {}
"#;

#[test]
fn every_answer_of_a_route_says_what_is_left_and_a_refusal_when_to_come_back() {
    let upstream = Upstream::start();
    let door = gateway(&upstream, Setup::echo().more(TIERS), "trusted_proxies = [\"127.0.0.1\"]\n");
    let of = |subject: &str, tier: Option<&str>| {
        Caller::of(&door).with("Authorization", &format!("Bearer {}", token(subject, tier)))
    };
    let ann = of("ann", None);
    for left in (0..3).rev() {
        let said = ann.ask("GET", "/pets/7");
        assert_eq!(said.status, 200, "{said:?}");
        let (policy, limit) = (said.header("ratelimit-policy").unwrap(), said.header("ratelimit").unwrap());
        assert_eq!(
            policy,
            r#""minute";q=3;w=60, "day";q=50;w=86400, "concurrent";q=4;qu="concurrent-requests""#
        );
        assert_eq!(number(limit, "minute", "r"), Some(left), "{limit}");
        assert_eq!(number(limit, "day", "r"), Some(left + 47), "{limit}");
        assert_eq!(number(limit, "concurrent", "r"), Some(3), "this one was under way: {limit}");
        assert!(number(limit, "minute", "t").is_some_and(|t| (1..=63).contains(&t)), "{limit}");
        assert_eq!(said.header("retry-after"), None);
    }
    // What is refused is not counted, and says the limit that refused it and no other.
    for _ in 0..3 {
        let said = ann.ask("GET", "/pets/7");
        assert_eq!(said.refusal(), (429, "rate_limited".to_owned()));
        let limit = said.header("ratelimit").unwrap();
        assert_eq!(items(limit).len(), 1, "{limit}");
        assert_eq!(number(limit, "minute", "r"), Some(0), "{limit}");
        let again: u64 = said.header("retry-after").unwrap().parse().unwrap();
        assert!(again >= number(limit, "minute", "t").unwrap() && again <= 63, "{said:?}");
        let problem = said.json();
        assert_eq!((&problem["violated_policies"], &problem["tier"]), (&json!("minute"), &json!("free")));
        assert_eq!(problem["retry_after"], again, "{problem}");
    }
    // What roles forbid spends nothing. What an upstream answers, and what its schema refuses, does.
    let bob = of("bob", Some("pro"));
    let none = bob.ask("GET", "/scoped");
    assert_eq!((none.status, none.header("ratelimit")), (403, None), "{none:?}");
    for (path, status, left) in [("/pets/7", 200, 99), ("/any/status/500", 500, 98), ("/pets/0", 400, 97)] {
        let said = bob.ask("GET", path);
        let limit = said.header("ratelimit").unwrap_or_else(|| panic!("{path}: {said:?}"));
        assert_eq!((said.status, number(limit, "day", "r")), (status, Some(left)), "{path}: {limit}");
    }
    let wide = of("eve", Some("enterprise")).ask("GET", "/pets/7");
    assert_eq!((wide.status, wide.header("ratelimit"), wide.header("ratelimit-policy")), (200, None, None));
    // A request that is no call of a known caller spends nothing that others would see.
    let stranger = Caller::of(&door).ask("GET", "/pets/7");
    assert_eq!((stranger.status, stranger.header("ratelimit")), (401, None));
    // Who needs no token is known by the address: of IPv6 by its network.
    let from =
        |address: &str| Caller::of(&door).with("X-Forwarded-For", address).ask("GET", "/open/x").status;
    assert_eq!([(); 3].map(|()| from("192.0.2.1")), [200, 200, 429]);
    assert_eq!(from("192.0.2.2"), 200, "another client");
    assert_eq!([from("2001:db8::1"), from("2001:db8::2"), from("2001:db8::3")], [200, 200, 429]);
    assert_eq!(from("2001:db8:0:1::1"), 200);
    // A client that writes the header itself is still that client.
    assert_eq!(from("203.0.113.9, 192.0.2.1"), 429);
}

#[test]
fn callers_with_tokens_can_be_counted_by_their_address() {
    let upstream = Upstream::start();
    let setup = Setup::echo().more(
        &TIERS.replace("[plugins.config.tiers]", "[plugins.config]\nby = \"client\"\n[plugins.config.tiers]"),
    );
    let door = gateway(&upstream, setup, "trusted_proxies = [\"127.0.0.1\"]\n");
    let ask = |subject: &str, address: &str| {
        let bearer = format!("Bearer {}", token(subject, None));
        Caller::of(&door)
            .with("Authorization", &bearer)
            .with("X-Forwarded-For", address)
            .ask("GET", "/pets/7")
            .status
    };
    assert_eq!(["a", "b", "c", "d"].map(|subject| ask(subject, "192.0.2.1")), [200, 200, 200, 429]);
    assert_eq!(ask("d", "192.0.2.2"), 200);
}
