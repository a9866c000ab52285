//! What a key opens, and everything that is no key.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

const CI: &str = "sk-0123456789abcdef0123";
const DESK: &str = "desk-key-of-the-old-days";
/// 2026-11-21, in milliseconds; the key `ci` has an hour left.
const NOW_MS: u64 = 1_795_219_200_000;
const END_S: u64 = NOW_MS / 1000 + 3600;

fn key(id: &str, text: &str) -> Key {
    Key {
        id: id.to_owned(),
        subject: format!("{id}-bot"),
        role: "deployer".to_owned(),
        digest: KeyDigest::of(text.as_bytes()),
        expires_s: None,
        doors: None,
    }
}

fn keyring() -> Keyring {
    let ci = Key { expires_s: Some(END_S), doors: Some(vec!["http".to_owned()]), ..key("ci", CI) };
    Keyring::new("x-api-key", "sk-".to_owned(), vec![ci, key("desk", DESK)])
}

fn identity(auth: Result<Auth, Refusal>) -> Identity {
    match auth.unwrap() {
        Auth::Accepted(identity) => identity,
        Auth::Abstain => panic!("abstained"),
    }
}

fn reason(auth: Result<Auth, Refusal>) -> String {
    match auth {
        Ok(Auth::Accepted(_)) => "accepted".to_owned(),
        Ok(Auth::Abstain) => "abstain".to_owned(),
        Err(refusal) => refusal.reason,
    }
}

#[test]
fn a_key_in_the_header_names_its_holder() {
    let found = identity(keyring().judge("http", Some(CI), None, NOW_MS));
    let principal = found.principal;
    assert_eq!((principal.subject.as_str(), principal.role.as_str()), ("ci-bot", "deployer"));
    assert_eq!((principal.issuer.as_deref(), principal.token_id.as_deref()), (Some("api-key"), Some("ci")));
    assert_eq!((principal.audience, principal.expires_at), (None, Some(END_S)));
    assert!(principal.claims.is_empty());
    assert_eq!(keyring().header_attr(), "header.x-api-key");
}

#[test]
fn a_bearer_token_is_a_key_only_with_the_prefix() {
    let ring = keyring();
    for (bearer, wanted) in [
        (CI, "accepted"),
        (DESK, "abstain"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "abstain"),
        ("", "abstain"),
        ("SK-0123456789abcdef0123", "abstain"),
        ("sk-", "invalid_api_key"),
        ("sk-0123456789abcdef0124", "invalid_api_key"),
    ] {
        assert_eq!(reason(ring.judge("http", None, Some(bearer), NOW_MS)), wanted, "{bearer}");
    }
    assert_eq!(reason(ring.judge("stdio", None, None, NOW_MS)), "abstain");
}

#[test]
fn a_header_is_a_key_whatever_it_says() {
    let ring = keyring();
    for (header, wanted) in [
        (DESK, "accepted"),
        ("", "invalid_api_key"),
        ("desk", "invalid_api_key"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "invalid_api_key"),
        ("desk-key-of-the-old-days ", "invalid_api_key"),
        ("DESK-key-of-the-old-days", "invalid_api_key"),
    ] {
        assert_eq!(reason(ring.judge("http", Some(header), None, NOW_MS)), wanted, "{header:?}");
    }
}

#[test]
fn two_keys_at_once_must_be_the_same() {
    let ring = keyring();
    let judge = |header, bearer| reason(ring.judge("http", Some(header), Some(bearer), NOW_MS));
    assert_eq!(judge(CI, CI), "accepted");
    assert_eq!(judge(DESK, CI), "invalid_api_key");
    assert_eq!(judge(CI, "sk-unknown"), "invalid_api_key");
    assert_eq!(judge(DESK, "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"), "accepted");
}

#[test]
fn at_another_door_a_key_is_an_unknown_one() {
    let ring = keyring();
    let unknown = ring.judge("stdio", None, Some("sk-unknown"), NOW_MS).unwrap_err();
    // Not even after its time.
    for now_ms in [NOW_MS, END_S * 1000] {
        let elsewhere = ring.judge("stdio", None, Some(CI), now_ms).unwrap_err();
        assert_eq!(elsewhere, unknown);
    }
    assert_eq!(reason(ring.judge("stdio", Some(DESK), None, NOW_MS)), "accepted");
}

#[test]
fn a_key_ends_with_its_first_expired_millisecond() {
    let ring = keyring();
    let judge = |now_ms| ring.judge("http", Some(CI), None, now_ms);
    assert_eq!(identity(judge(END_S * 1000 - 1)).cache_until, Some(END_S * 1000));
    assert_eq!(reason(judge(END_S * 1000)), "expired_api_key");
    assert_eq!(reason(judge(u64::MAX)), "expired_api_key");
    assert_eq!(identity(judge(NOW_MS)).cache_until, Some(NOW_MS + 300_000));
    let for_ever = identity(ring.judge("http", Some(DESK), None, NOW_MS));
    assert_eq!((for_ever.cache_until, for_ever.principal.expires_at), (Some(NOW_MS + 300_000), None));
}

#[test]
fn a_longer_key_than_the_longest_is_unknown_even_if_its_digest_fits() {
    let (fits, long) = ("k".repeat(MAX_KEY_BYTES), "k".repeat(MAX_KEY_BYTES + 1));
    let ring = Keyring::new("x-api-key", "sk-".to_owned(), vec![key("a", &fits), key("b", &long)]);
    assert_eq!(reason(ring.judge("http", Some(&fits), None, NOW_MS)), "accepted");
    assert_eq!(reason(ring.judge("http", Some(&long), None, NOW_MS)), "invalid_api_key");
}

#[test]
fn debug_output_shows_no_digest() {
    let text = format!("{:?}", keyring());
    let first = KeyDigest::of(CI.as_bytes()).bytes()[..2].iter().map(u8::to_string).collect::<Vec<_>>();
    assert!(text.contains("ci-bot") && !text.contains(&first.join(", ")), "{text}");
}

proptest! {
    /// A key belongs to its holder and nobody else, wherever it stands among the others.
    #[test]
    fn every_key_finds_its_own_holder(texts in prop::collection::btree_set("[!-~]{0,24}", 1..20)) {
        let keys = texts.iter().enumerate().map(|(index, text)| key(&index.to_string(), text)).collect();
        let ring = Keyring::new("x-api-key", "sk-".to_owned(), keys);
        for (index, text) in texts.iter().enumerate() {
            let found = identity(ring.judge("http", Some(text), None, NOW_MS));
            prop_assert_eq!(found.principal.token_id, Some(index.to_string()));
        }
    }

    /// A key with one byte changed, one more or one less is unknown; the refusal repeats nothing of it.
    #[test]
    fn a_key_that_is_almost_right_is_unknown(
        place in 0..DESK.len(), byte in 0x21_u8..0x7f, kind in 0..3,
    ) {
        let mut bytes = DESK.as_bytes().to_vec();
        match kind {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            _ => { bytes.remove(place); }
        }
        let text = String::from_utf8(bytes).unwrap();
        prop_assume!(text != DESK);
        let refusal = keyring().judge("http", Some(&text), None, NOW_MS).unwrap_err();
        prop_assert_eq!(&refusal, &Refusal::from(Fault::Invalid));
        prop_assert!(!refusal.message.contains(&text) && refusal.details.is_empty());
    }

    /// Nothing without the prefix is judged, and nothing with it is passed on.
    #[test]
    fn the_prefix_alone_says_whose_a_bearer_token_is(bearer in "(sk|s|k|-|[!-~]){0,6}") {
        let left = matches!(keyring().judge("http", None, Some(&bearer), NOW_MS), Ok(Auth::Abstain));
        prop_assert_eq!(left, !bearer.starts_with("sk-"));
    }

    /// An answer is good for at most five minutes, and never past the key's time.
    #[test]
    fn an_answer_never_outlives_its_key(
        expires_s in prop_oneof![0..2_000_u64, any::<u64>()],
        now_ms in prop_oneof![0..2_000_000_u64, any::<u64>()],
    ) {
        let timed = Key { expires_s: Some(expires_s), ..key("t", "timed") };
        let ring = Keyring::new("x-api-key", "sk-".to_owned(), vec![timed]);
        let end_ms = u128::from(expires_s) * 1000;
        match ring.judge("http", Some("timed"), None, now_ms) {
            Ok(Auth::Accepted(found)) => {
                let until = found.cache_until.unwrap();
                prop_assert!(u128::from(now_ms) < end_ms);
                prop_assert!(until > now_ms && until - now_ms <= 300_000 && u128::from(until) <= end_ms);
            }
            Ok(Auth::Abstain) => prop_assert!(false, "abstained"),
            Err(refusal) => {
                prop_assert_eq!(refusal.reason, "expired_api_key");
                // A time past the end of 64 bits of milliseconds is that end.
                prop_assert!(u128::from(now_ms) >= end_ms.min(u128::from(u64::MAX)));
            }
        }
    }
}
