//! The attacks on tokens (RFC 8725 and the CVEs of its kind), each by its name.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm as Alg;
use proptest::prelude::*;
use serde_json::json;

use super::support::{
    ALGORITHMS, NOW, RSA, SECRET, claims, hs256, jwks, oracle_accepts, raw, reason, sign, verifier, with_keys,
};

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The claims of a good token with this text instead of, or besides, its last member.
fn claims_text(more: &str) -> String {
    format!(r#"{{"sub":"mia","role":"admin","iss":"sentinel-gateway","aud":"sentinel-api",{more}}}"#)
}

/// The reason for a token with good HMAC, this header and good claims.
fn with_header(header: &str) -> &'static str {
    reason(verifier(), &raw(header, &claims().to_string(), SECRET.as_bytes()))
}

/// The reason for a token with good HMAC and these claims besides the names.
fn with_claims(more: &str) -> &'static str {
    reason(verifier(), &raw(HEADER, &claims_text(more), SECRET.as_bytes()))
}

#[test]
fn the_helpers_make_tokens_that_would_pass() {
    assert_eq!(with_header(HEADER), "accepted");
    assert_eq!(with_claims(&format!(r#""exp":{}"#, NOW + 1)), "accepted");
}

#[test]
fn alg_none_in_any_spelling() {
    for none in ["none", "None", "nOnE", "NONE"] {
        let header = format!(r#"{{"alg":"{none}","typ":"JWT"}}"#);
        assert_eq!(with_header(&header), "bad_signature");
        let unsigned =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims().to_string()));
        assert_eq!(reason(verifier(), &unsigned), "bad_signature");
    }
    for alg in [r#""""#, r#""none ""#, r#""hs256""#, r#""HS512""#, r#""HS256\u0000""#] {
        assert_eq!(with_header(&format!(r#"{{"alg":{alg}}}"#)), "unknown_key", "{alg}");
    }
    for alg in ["null", "7", r#"["HS256"]"#] {
        assert_eq!(with_header(&format!(r#"{{"alg":{alg}}}"#)), "malformed_token", "{alg}");
    }
    assert_eq!(with_header("{}"), "malformed_token");
}

#[test]
fn rs256_to_hs256_with_the_public_key() {
    let rsa_only = with_keys(&json!([{"alg": "RS256", "pem": RSA}]));
    for secret in [RSA, RSA.trim_end()] {
        let token = raw(HEADER, &claims().to_string(), secret.as_bytes());
        assert_eq!(reason(&rsa_only, &token), "unknown_key");
        assert_eq!(reason(verifier(), &token), "bad_signature");
        let lying = raw(r#"{"alg":"RS256"}"#, &claims().to_string(), secret.as_bytes());
        assert_eq!(reason(&rsa_only, &lying), "bad_signature");
    }
}

#[test]
fn a_token_under_another_algorithm_than_its_keys() {
    for alg in ALGORITHMS {
        let token = sign(alg, None, &claims());
        let (_, rest) = token.split_once('.').unwrap();
        for other in ALGORITHMS.into_iter().filter(|other| *other != alg) {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{other:?}"}}"#));
            assert_eq!(reason(verifier(), &format!("{header}.{rest}")), "bad_signature", "{alg:?} {other:?}");
        }
    }
}

#[test]
fn kid_is_compared_and_never_looked_up() {
    let named = with_keys(&json!([{"alg": "HS256", "kid": "k1", "secret": "S"}]));
    for kid in ["../../dev/null", "k1' OR '1'='1", "https://evil.example/key", "K1", "k1\u{0}", ""] {
        assert_eq!(reason(&named, &sign(Alg::HS256, Some(kid), &claims())), "unknown_key", "{kid}");
    }
    assert_eq!(reason(&named, &sign(Alg::HS256, Some("k1"), &claims())), "accepted");
    assert_eq!(reason(&named, &hs256(&claims())), "accepted");
    assert_eq!(with_header(r#"{"alg":"HS256","kid":7}"#), "malformed_token");
}

#[test]
fn an_embedded_key_is_never_used() {
    let attacker = b"the attacker's own secret, long enough";
    let key = URL_SAFE_NO_PAD.encode(attacker);
    for extra in [
        format!(r#""jwk":{{"kty":"oct","k":"{key}"}}"#),
        r#""jku":"https://evil.example/jwks.json""#.to_owned(),
        r#""x5u":"https://evil.example/cert.pem""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"HS256",{extra}}}"#);
        assert_eq!(reason(verifier(), &raw(&header, &claims().to_string(), attacker)), "bad_signature");
    }
}

#[test]
fn a_critical_extension_or_foreign_type_is_refused() {
    for header in [
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","typ":"logout+jwt"}"#,
        r#"{"alg":"HS256","typ":7}"#,
    ] {
        assert_eq!(with_header(header), "malformed_token", "{header}");
    }
    assert_eq!(with_header(r#"{"alg":"HS256","typ":"at+jwt"}"#), "accepted");
}

#[test]
fn duplicate_keys_are_refused() {
    for header in [r#"{"alg":"HS256","alg":"HS256"}"#, r#"{"alg":"none","alg":"HS256"}"#] {
        assert_eq!(with_header(header), "malformed_token", "{header}");
    }
    let exp = NOW + 1;
    for more in [
        format!(r#""exp":{exp},"exp":{exp}"#),
        format!(r#""exp":{exp},"role":"viewer""#),
        // The same key in another spelling.
        format!(r#""exp":{exp},"\u0072ole":"viewer""#),
        format!(r#""exp":{exp},"deep":[{{"a":1,"a":2}}]"#),
    ] {
        assert_eq!(with_claims(&more), "malformed_token", "{more}");
    }
}

#[test]
fn a_time_is_a_number_that_fits() {
    // CVE-2026-25537: a reader that skips what it cannot read lets an expired token live.
    let bad = [
        r#""1900000000""#,
        "-1",
        "-0.5",
        "1e400",
        "1e20",
        "18446744073709551616",
        "null",
        "true",
        "[]",
        "{}",
    ];
    for name in ["exp", "nbf", "iat"] {
        for value in bad {
            let exp = if name == "exp" { String::new() } else { format!(r#""exp":{},"#, NOW + 1) };
            let more = format!(r#"{exp}"{name}":{value}"#);
            assert_eq!(with_claims(&more), "malformed_token", "{more}");
        }
    }
    for value in ["NaN", "Infinity", "0x7fffffff", "01900000000"] {
        assert_eq!(with_claims(&format!(r#""exp":{value}"#)), "malformed_token", "{value}");
    }
    for value in ["1900000000.5", "1.9e9", "18446744073709551615"] {
        assert_eq!(with_claims(&format!(r#""exp":{value}"#)), "accepted", "{value}");
    }
}

#[test]
fn skew_of_59_seconds_passes_and_of_61_does_not() {
    for (exp, wanted) in [
        (NOW - 59, "accepted"),
        (NOW - 60, "token_expired"),
        (NOW - 61, "token_expired"),
        (0, "token_expired"),
    ] {
        assert_eq!(with_claims(&format!(r#""exp":{exp}"#)), wanted, "exp {exp}");
    }
    for (nbf, wanted) in [
        (NOW + 59, "accepted"),
        (NOW + 60, "accepted"),
        (NOW + 61, "token_not_yet_valid"),
        (u64::MAX, "token_not_yet_valid"),
    ] {
        assert_eq!(with_claims(&format!(r#""exp":{},"nbf":{nbf}"#, NOW + 9)), wanted, "nbf {nbf}");
    }
    // A fraction counts against the token on either side.
    assert_eq!(with_claims(&format!(r#""exp":{}.9"#, NOW - 60)), "token_expired");
    assert_eq!(with_claims(&format!(r#""exp":{},"nbf":{}.1"#, NOW + 9, NOW + 60)), "token_not_yet_valid");
}

#[test]
fn a_token_of_one_megabyte_is_refused_unread() {
    let mut large = claims();
    large["pad"] = json!("x".repeat(1024 * 1024));
    assert_eq!(reason(verifier(), &hs256(&large)), "malformed_token");
    large["pad"] = json!("x".repeat(11 * 1024));
    assert_eq!(reason(verifier(), &hs256(&large)), "accepted");
}

#[test]
fn nesting_does_not_exhaust_the_stack() {
    let deep = format!(r#""exp":{},"deep":{}{}"#, NOW + 1, "[".repeat(4000), "]".repeat(4000));
    assert_eq!(with_claims(&deep), "malformed_token");
}

#[test]
fn other_shapes_and_spellings_are_malformed() {
    let good = hs256(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for token in [
        "x".to_owned(),
        "..".to_owned(),
        "a.b".to_owned(),
        format!("{good}.{signature}"),
        format!("{good}=="),
        format!("{good} "),
        format!("Bearer {good}"),
        format!("{good}\n"),
        format!("{signed}.+/{signature}"),
    ] {
        assert_eq!(reason(verifier(), &token), "malformed_token", "{token}");
    }
    for text in ["[]", r#""x""#, "{} {}", "", "\u{feff}{}"] {
        assert_eq!(reason(verifier(), &raw(HEADER, text, SECRET.as_bytes())), "malformed_token", "{text}");
    }
    assert_eq!(reason(verifier(), &format!("{signed}.")), "bad_signature");
}

#[test]
fn a_truncated_or_zero_signature_is_refused() {
    for alg in ALGORITHMS {
        let token = sign(alg, None, &claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let long = [&bytes[..], &[0]].concat();
        let zero_first = [&[0], &bytes[..]].concat();
        for forged in [&bytes[..bytes.len() - 1], &bytes[..16], &vec![0; bytes.len()], &long, &zero_first] {
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(forged));
            assert_eq!(reason(verifier(), &token), "bad_signature", "{alg:?}");
        }
    }
}

/// The token with its byte at `at` (any index) replaced; none if it would be the same.
fn changed(token: &str, at: prop::sample::Index, byte: u8) -> Option<String> {
    let mut bytes = token.as_bytes().to_vec();
    let place = at.index(bytes.len());
    bytes[place] = byte;
    String::from_utf8(bytes).ok().filter(|other| other != token)
}

/// A good token; kept, because signing takes most of the time of a property test.
fn signed_once(alg: Alg) -> &'static str {
    static TOKENS: LazyLock<Vec<(Alg, String)>> =
        LazyLock::new(|| ALGORITHMS.map(|alg| (alg, sign(alg, None, &claims()))).into());
    TOKENS.iter().find(|(known, _)| *known == alg).map(|(_, token)| token.as_str()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_single_byte_change_of_a_signed_token_is_refused(
        alg in prop::sample::select(&ALGORITHMS[..]), at: prop::sample::Index, byte in 0_u8..128,
    ) {
        let token = signed_once(alg);
        prop_assume!(changed(token, at, byte).is_some());
        let forged = changed(token, at, byte).unwrap();
        prop_assert!(verifier().accept(&forged, NOW).is_err());
        prop_assert!(jwks().accept(&forged, NOW).is_err());
    }

    #[test]
    fn whatever_is_accepted_the_oracle_accepts_too(
        alg in prop::sample::select(&ALGORITHMS[..]),
        iss in prop::sample::select(&["sentinel-gateway", "evil"][..]),
        aud in prop::sample::select(&["sentinel-api", "evil"][..]),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut claims = claims();
        claims["iss"] = json!(iss);
        claims["aud"] = json!(aud);
        let mut token = sign(alg, None, &claims);
        if let Some(cut) = cut {
            token.truncate(cut.index(token.len()));
        }
        prop_assert_eq!(verifier().accept(&token, NOW).is_ok(), oracle_accepts(alg, &token));
    }

    #[test]
    fn no_text_makes_it_panic(token in "[ -~]{0,64}", header in "\\PC{0,64}", text in "\\PC{0,64}") {
        prop_assert!(verifier().accept(&token, NOW).is_err());
        prop_assert!(verifier().accept(&raw(&header, &text, SECRET.as_bytes()), NOW).is_err());
        prop_assert!(verifier().accept(&raw(HEADER, &text, SECRET.as_bytes()), NOW).is_err());
    }
}
