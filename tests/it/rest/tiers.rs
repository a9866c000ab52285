//! Limits by tier: the plugin `tier-limits` before real calls.

use serde_json::json;

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
