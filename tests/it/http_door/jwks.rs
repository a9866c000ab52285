//! Keys that an identity provider publishes: fetched once, changed there, kept while it is away, and never a reason for
//! anybody to wait who is known already.

use std::time::{Duration, Instant};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::client::{Answer, Client, Door};
use crate::support::{Manner, Publisher, Setup, eventually};

/// What nobody may take who is known, however slow the server: far less than a request to it may take.
const AT_ONCE: Duration = Duration::from_secs(3);
/// What a refusal may take: the request's own limit, and a machine with other work.
const BOUND: Duration = Duration::from_secs(15);

/// A key pair of the issuer.
#[derive(Clone, Copy)]
struct Pair {
    kid: &'static str,
    alg: Algorithm,
    pem: &'static str,
}

const A: Pair =
    Pair { kid: "a", alg: Algorithm::EdDSA, pem: include_str!("../../../plugins/jwt/testdata/ed25519.pem") };
const B: Pair =
    Pair { kid: "b", alg: Algorithm::ES256, pem: include_str!("../../../plugins/jwt/testdata/p256.pem") };
const C: Pair =
    Pair { kid: "c", alg: Algorithm::RS256, pem: include_str!("../../../plugins/jwt/testdata/rsa.pem") };

impl Pair {
    fn private(self) -> EncodingKey {
        let read = match self.alg {
            Algorithm::EdDSA => EncodingKey::from_ed_pem,
            Algorithm::RS256 => EncodingKey::from_rsa_pem,
            _ => EncodingKey::from_ec_pem,
        };
        read(self.pem.as_bytes()).unwrap()
    }

    fn public(self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private(), self.alg).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    /// A token that no other has, so that no answer about another is remembered for it.
    fn token(self) -> String {
        self.named(self.kid)
    }

    fn named(self, kid: &str) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let claims = json!({
            "sub": "eve", "role": "admin", "iss": "sentinel-gateway", "aud": "sentinel-api",
            "jti": super::client::fresh().to_string(), "exp": now + 3600,
        });
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(self.alg) };
        jsonwebtoken::encode(&header, &claims, &self.private()).unwrap()
    }
}

fn set(pairs: &[Pair]) -> String {
    json!({ "keys": pairs.iter().map(|pair| pair.public()).collect::<Vec<_>>() }).to_string()
}

/// A gateway that takes the publisher's keys, and the tests' own secret besides.
fn door(publisher: &Publisher, more: &str) -> Door {
    let url = publisher.url();
    let keys = "keys = [{ alg = \"HS256\", secret_env = \"JWT_SECRET_KEY\" }]";
    Door::open(Setup::echo().auth(&format!("jwks_url = {url:?}\n{keys}\n{more}")), "")
}

fn asks(anyone: &Client, token: &str) -> Answer {
    anyone.bearer(token).ask("tools/list", &json!({}))
}

/// Any of the reasons that the authenticator gives for a token that it does not take.
const FAULT: &str = "malformed_token unknown_key bad_signature";

fn refused(answer: &Answer, status: u16, reason: &str) {
    let value = answer.value();
    let given = crate::support::reason(&value);
    assert!(answer.status == status && reason.split(' ').any(|it| it == given), "{answer:?}");
}

/// Not a wrong token: one that cannot be checked now. It says when to come again.
fn unavailable(answer: &Answer) {
    refused(answer, 503, "keys_unavailable");
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&after), "{answer:?}");
}

#[test]
fn keys_are_fetched_at_the_first_need_and_only_then() {
    let publisher = Publisher::http(&set(&[A, C]));
    let door = door(&publisher, "");
    let anyone = door.anyone();
    assert_eq!(door.client("ann").ask("tools/list", &json!({})).status, 200);
    refused(&asks(&anyone, "garbage"), 401, FAULT);
    assert_eq!(publisher.asked(), 0, "nobody needed the keys yet");
    // All at once: one of them fetches, the others wait for it.
    std::thread::scope(|scope| {
        for pair in [A, C, A, C, A, C, A, C] {
            let anyone = &anyone;
            scope.spawn(move || assert_eq!(asks(anyone, &pair.token()).status, 200, "{}", pair.kid));
        }
    });
    assert_eq!(publisher.asked(), 1);
    // The right key id over somebody else's signature.
    refused(&asks(&anyone, &B.named("b")), 401, FAULT);
    assert_eq!(publisher.asked(), 1);
}

/// As many as are taken, of the kinds that are dearest to read.
#[test]
fn a_full_set_is_read_within_a_call() {
    let many = |pair: Pair| {
        (0..21).map(move |number| {
            let mut jwk = pair.public();
            jwk["kid"] = format!("{}-{number}", pair.kid).into();
            jwk
        })
    };
    let mut keys: Vec<Value> = many(A).chain(many(B)).chain(many(C)).collect();
    keys.push(B.public());
    assert_eq!(keys.len(), 64);
    let publisher = Publisher::http(&json!({ "keys": keys }).to_string());
    let door = door(&publisher, "");
    assert_eq!(asks(&door.anyone(), &B.token()).status, 200);
    assert_eq!(asks(&door.anyone(), &C.named("c-20")).status, 200);
}

#[test]
fn keys_are_changed_at_the_issuer_and_nowhere_else() {
    let publisher = Publisher::http(&set(&[A]));
    let door = door(&publisher, "jwks_refetch_secs = 1");
    let anyone = door.anyone();
    assert_eq!(asks(&anyone, &A.token()).status, 200);
    publisher.publishes(&set(&[B]));
    eventually("the new key", || (asks(&anyone, &B.token()).status == 200).then_some(()));
    refused(&asks(&anyone, &A.token()), 401, FAULT);
}

#[test]
fn a_storm_of_unknown_keys_costs_the_issuer_nothing() {
    let publisher = Publisher::http(&set(&[A]));
    let door = door(&publisher, "jwks_refetch_secs = 3600");
    let anyone = door.anyone();
    assert_eq!(asks(&anyone, &A.token()).status, 200);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let anyone = &anyone;
            scope.spawn(move || {
                for number in 0..25 {
                    let answer = asks(anyone, &B.named(&format!("{thread}-{number}")));
                    refused(&answer, 401, FAULT);
                    assert!(answer.text.contains("not among those that its issuer publishes"), "{answer:?}");
                }
            });
        }
    });
    assert_eq!(publisher.asked(), 1);
}

#[test]
fn the_last_keys_serve_while_the_issuer_is_away() {
    let publisher = Publisher::http(&set(&[A]));
    let door = door(&publisher, "jwks_refetch_secs = 1");
    let anyone = door.anyone();
    assert_eq!(asks(&anyone, &A.token()).status, 200);
    publisher.behaves(Manner::Breaks);
    // A new key cannot be told from an unknown one by now, which is not the fault of its token.
    let answer = eventually("an attempt that fails", || {
        let answer = asks(&anyone, &B.token());
        (answer.status == 503).then_some(answer)
    });
    unavailable(&answer);
    assert_eq!(asks(&anyone, &A.token()).status, 200);
    let log = door.gateway.log();
    assert!(log.contains("cannot be fetched") && log.contains("the last ones stay in use"), "{log}");

    // What is no key set changes nothing either.
    for bad in
        [r#"{"keys": []}"#, "<html>maintenance</html>", r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#]
    {
        let before = publisher.asked();
        publisher.publishes(bad);
        eventually("another attempt", || {
            asks(&anyone, &B.token());
            (publisher.asked() > before).then_some(())
        });
        assert_eq!(asks(&anyone, &A.token()).status, 200, "{bad}");
    }
    publisher.publishes(&set(&[A, B]));
    eventually("the new key", || (asks(&anyone, &B.token()).status == 200).then_some(()));
}

/// What was fetched is trusted by this process and by no other: a restart drops a key that was withdrawn meanwhile.
#[test]
fn no_fetched_key_outlives_the_gateway() {
    let publisher = Publisher::http(&set(&[A]));
    let door = door(&publisher, "");
    assert_eq!(asks(&door.anyone(), &A.token()).status, 200);
    publisher.behaves(Manner::Breaks);
    // In use it stays what it was.
    assert_eq!(asks(&door.anyone(), &A.token()).status, 200);
    let door = door.again();
    unavailable(&asks(&door.anyone(), &A.token()));
    publisher.publishes(&set(&[B]));
    eventually("the new key", || (asks(&door.anyone(), &B.token()).status == 200).then_some(()));
    refused(&asks(&door.anyone(), &A.token()), 401, FAULT);
}

#[test]
fn a_server_that_hangs_holds_up_nobody_who_is_known() {
    let publisher = Publisher::http(&set(&[A]));
    publisher.behaves(Manner::Hangs);
    let door = door(&publisher, "");
    let anyone = door.anyone();
    let ann = door.client("ann");
    std::thread::scope(|scope| {
        // More than the runtime has threads.
        for _ in 0..12 {
            scope.spawn(|| {
                let started = Instant::now();
                let answer = asks(&anyone, &A.token());
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
            });
        }
        eventually("the request that hangs", || (publisher.asked() > 0).then_some(()));
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(ann.ask("tools/list", &json!({})).status, 200);
            assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        }
    });
    assert!(publisher.asked() <= 2, "{}", publisher.asked());
    publisher.publishes(&set(&[A]));
    eventually("the keys", || (asks(&anyone, &A.token()).status == 200).then_some(()));
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named_and_not_before() {
    let publisher = Publisher::https(&set(&[A]));
    let stranger = door(&publisher, "");
    unavailable(&asks(&stranger.anyone(), &A.token()));
    let log = stranger.gateway.log();
    assert!(log.contains("certificate"), "{log}");
    assert_eq!(publisher.asked(), 0);

    let setup = Setup::echo();
    std::fs::write(setup.path("ca.pem"), publisher.ca.as_deref().unwrap()).unwrap();
    let url = publisher.url();
    let friend = Door::open(setup.auth(&format!("jwks_url = {url:?}\njwks_ca_file = \"ca.pem\"")), "");
    assert_eq!(asks(&friend.anyone(), &A.token()).status, 200);
    assert_eq!(publisher.asked(), 1);
}

/// Public keys are no secrets: where nothing else is configured, no secret is needed, nor granted.
#[test]
fn keys_of_a_file_need_no_secret() {
    let setup = Setup::echo().auth("jwks_file = \"keys.json\"").without_env("JWT_SECRET_KEY");
    std::fs::write(setup.path("keys.json"), set(&[A])).unwrap();
    let door = Door::open(setup, "");
    assert_eq!(asks(&door.anyone(), &A.token()).status, 200);
    refused(&asks(&door.anyone(), &B.token()), 401, FAULT);
}

#[test]
fn a_redirect_leads_nowhere() {
    let elsewhere = Publisher::http(&set(&[A]));
    let publisher = Publisher::http("");
    publisher.behaves(Manner::Says(302, format!("location: {}\r\n", elsewhere.url()), String::new()));
    let door = door(&publisher, "");
    let anyone = door.anyone();
    unavailable(&asks(&anyone, &A.token()));
    assert_eq!((publisher.asked(), elsewhere.asked()), (1, 0));
    door.gateway.await_log("redirects are not followed", 1);
}
