//! Finds unknown secrets in a text by their shape: a value after a name such as `password`, a password in a URL, a
//! private key, a token that begins as one provider's tokens do.
//!
//! A text is searched once for all beginnings; each is then looked at where it stands. That takes a time that grows with
//! the length of the text and no faster: names have a longest length, and what was taken out is not looked at again. Parts
//! that hold no sign of a secret are passed over (`signs`).

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use self::signs::{Search, Signs};
use super::REDACTED;
use super::keys::{Keys, Verdict, anchors};

mod signs;

/// A shorter text holds no secret that could be told by its shape: `pwd=a`.
const SHORTEST: usize = 5;
/// The longest name before a value, in bytes, to each side of its secret word.
const MAX_NAME: usize = 64;
/// The most quotes and brackets behind a name.
const MAX_QUOTES: usize = 2;
/// The most white space between a name, what follows it and the value, in bytes.
const MAX_SPACE: usize = 8;
/// The most backslashes before a quote: JSON in a string in a string has three, the seventh level 255.
const MAX_ESCAPES: usize = 256;
/// The longest authority of a URL, in bytes.
const MAX_AUTHORITY: usize = 2_048;

/// A token by its beginning (in this case), the bytes it is made of, and how many of them follow at least.
struct Prefix(&'static str, Alphabet, usize);

#[derive(Clone, Copy)]
enum Alphabet {
    Upper,
    Alnum,
    /// Letters, digits, `-` and `_`, with at least one digit or capital letter among them.
    Mixed,
    /// Letters, digits, `-` and `_`, in parts with dots between them; at least two parts.
    Dotted,
}

const PREFIXES: [Prefix; 34] = [
    Prefix("AKIA", Alphabet::Upper, 16),
    Prefix("ASIA", Alphabet::Upper, 16),
    Prefix("ghp_", Alphabet::Alnum, 16),
    Prefix("gho_", Alphabet::Alnum, 16),
    Prefix("ghu_", Alphabet::Alnum, 16),
    Prefix("ghs_", Alphabet::Alnum, 16),
    Prefix("ghr_", Alphabet::Alnum, 16),
    Prefix("github_pat_", Alphabet::Mixed, 20),
    Prefix("glpat-", Alphabet::Mixed, 16),
    Prefix("xoxa-", Alphabet::Mixed, 8),
    Prefix("xoxb-", Alphabet::Mixed, 8),
    Prefix("xoxe-", Alphabet::Mixed, 8),
    Prefix("xoxe.", Alphabet::Mixed, 8),
    Prefix("xoxo-", Alphabet::Mixed, 8),
    Prefix("xoxp-", Alphabet::Mixed, 8),
    Prefix("xoxr-", Alphabet::Mixed, 8),
    Prefix("xoxs-", Alphabet::Mixed, 8),
    Prefix("xapp-", Alphabet::Mixed, 8),
    Prefix("sk_live_", Alphabet::Alnum, 10),
    Prefix("sk_test_", Alphabet::Alnum, 10),
    Prefix("rk_live_", Alphabet::Alnum, 10),
    Prefix("rk_test_", Alphabet::Alnum, 10),
    Prefix("whsec_", Alphabet::Alnum, 16),
    Prefix("AIza", Alphabet::Mixed, 30),
    Prefix("ya29.", Alphabet::Mixed, 20),
    Prefix("sk-", Alphabet::Mixed, 20),
    Prefix("npm_", Alphabet::Alnum, 30),
    Prefix("pypi-", Alphabet::Mixed, 30),
    Prefix("hf_", Alphabet::Alnum, 24),
    Prefix("dop_v1_", Alphabet::Alnum, 30),
    Prefix("shpat_", Alphabet::Alnum, 24),
    Prefix("SG.", Alphabet::Dotted, 40),
    Prefix("hvs.", Alphabet::Mixed, 20),
    Prefix("eyJ", Alphabet::Dotted, 20),
];

/// The shape that a beginning belongs to.
#[derive(Clone, Copy)]
enum Kind {
    /// A word of a name that may stand before a secret.
    Name,
    /// `Bearer` or `Basic`, before a credential.
    Scheme,
    /// `://`, before the authority of a URL.
    Url,
    /// `-----BEGIN `.
    Pem,
    Prefix(usize),
}

/// The beginning of a private key in PEM.
const PEM: &str = "-----BEGIN ";

/// All beginnings.
pub(super) struct Shapes {
    automaton: AhoCorasick,
    kinds: Vec<Kind>,
    signs: Signs,
}

impl Shapes {
    /// `redact` are the operator's names besides the built-in ones.
    pub(super) fn new(redact: &[String]) -> Self {
        // Of two that begin at one place the first counts, so the words come last.
        let mut beginnings: Vec<(String, Kind)> = vec![
            ("://".to_owned(), Kind::Url),
            (PEM.to_owned(), Kind::Pem),
            ("bearer ".to_owned(), Kind::Scheme),
            ("basic ".to_owned(), Kind::Scheme),
        ];
        let prefixes = PREFIXES.iter().enumerate();
        beginnings.extend(prefixes.map(|(at, prefix)| (prefix.0.to_owned(), Kind::Prefix(at))));
        beginnings.extend(anchors(redact).into_iter().map(|word| (word, Kind::Name)));
        let longest = beginnings.iter().map(|(text, _)| text.len()).max().unwrap_or_default();
        // Between the two stand the rest of the name, and quotes and blanks.
        let reach = longest + MAX_NAME + MAX_ESCAPES + MAX_QUOTES + MAX_SPACE;
        let signs = Signs::new(PREFIXES.iter().map(|prefix| prefix.0).chain([PEM]), longest, reach);
        let (texts, kinds): (Vec<String>, Vec<Kind>) = beginnings.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostFirst)
            .kind(Some(AhoCorasickKind::DFA))
            .build(texts);
        // It fails for more states than 32 bits can number; these are a few words.
        let automaton = automaton.unwrap_or_else(|error| panic!("too many keys to redact: {error}"));
        Self { automaton, kinds, signs }
    }

    /// The text with every secret replaced; borrowed if there was none.
    pub(super) fn scrub<'t>(&self, text: &'t str, keys: &Keys) -> Cow<'t, str> {
        let mut clean = String::new();
        let (mut at, mut copied) = (0, 0);
        let mut search = self.signs.search(text);
        while let Some((start, found)) = self.next(text, &mut search, at, keys, copied) {
            at = match found {
                // What is in its place already, and is looked past.
                Some(range) if text[range.clone()] == *REDACTED => range.end.max(start + 1),
                Some(range) => {
                    clean.push_str(&text[copied..range.start]);
                    clean.push_str(REDACTED);
                    copied = range.end;
                    range.end.max(start + 1)
                }
                None => start + 1,
            };
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        clean.push_str(&text[copied..]);
        Cow::Owned(clean)
    }

    /// The next beginning from `at` on: where it is, and the secret that it stands before.
    fn next(
        &self,
        text: &str,
        search: &mut Search<'_, '_>,
        mut at: usize,
        keys: &Keys,
        floor: usize,
    ) -> Option<(usize, Option<Range<usize>>)> {
        let bytes = text.as_bytes();
        let found = loop {
            if bytes.len().checked_sub(at)? < SHORTEST {
                return None;
            }
            let stretch = search.next(at)?;
            let found = self.automaton.find(Input::new(bytes).range(stretch.from..stretch.end));
            match found.filter(|found| found.start() <= stretch.last) {
                Some(found) => break found,
                None => at = stretch.last + 1,
            }
        };
        let (start, end) = (found.start(), found.end());
        let secret = match self.kinds[found.pattern().as_usize()] {
            Kind::Name => named(text, start, end, floor, keys),
            // The name of a header or a key may be the word itself: `bearer token: x`.
            Kind::Scheme => credential(bytes, start, end, floor).or_else(|| {
                let word = start + text[start..end].trim_ascii_end().len();
                named(text, start, word, floor, keys)
            }),
            Kind::Url => password_in_url(bytes, end),
            Kind::Pem => private_key(bytes, start, end),
            Kind::Prefix(index) => token(bytes, start, end, floor, &PREFIXES[index]),
        };
        Some((start, secret.filter(|range| range.start >= floor && !range.is_empty())))
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Whether a token may begin at `at`: not in the middle of a word, unless that is a percent-encoded character. Right behind
/// one that was taken out another one may begin, too.
fn begins(bytes: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).and_then(|at| bytes.get(at)) else { return true };
    let encoded = at >= 3 && bytes[at - 3] == b'%' && bytes[at - 2..at].iter().all(u8::is_ascii_hexdigit);
    encoded || !(before.is_ascii_alphanumeric() || matches!(before, b'_' | b'-'))
}

fn run(bytes: &[u8], from: usize, fits: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|&byte| !fits(byte)).map_or(bytes.len(), |length| from + length)
}

fn at_most(bytes: &[u8], from: usize, most: usize, fits: impl Fn(u8) -> bool) -> usize {
    let end = bytes.len().min(from + most);
    run(&bytes[..end], from, fits)
}

/// The value after a name around the word at `start..end`, if the name stands before secrets.
fn named(text: &str, start: usize, end: usize, floor: usize, keys: &Keys) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let name_end = at_most(bytes, end, MAX_NAME, is_name);
    let (value, separator) = separated(bytes, name_end)?;
    let from = floor.max(start.saturating_sub(MAX_NAME));
    let back = bytes[from..start].iter().rev().take_while(|&&byte| is_name(byte)).count();
    let name = text.get(start - back..name_end)?;
    let verdict = keys.judge(name);
    if verdict == Verdict::Plain {
        return None;
    }
    let range = match opening(bytes, value) {
        Some((inner, quote, escapes)) => inner..closing(bytes, inner, quote, escapes),
        None if separator == b':' && is_header(name, bytes, value) => {
            value..run(bytes, value, |byte| !b"\r\n\"'`".contains(&byte))
        }
        None => {
            let end = bare(bytes, value)?;
            let sentence = separator == b':' && is_word(&bytes[value..end]) && goes_on(bytes, end);
            if sentence {
                return None;
            }
            value..end
        }
    };
    let said = bytes[range.clone()].trim_ascii();
    let is_number =
        said.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_' | b','));
    let kept = verdict == Verdict::SecretOrCount && is_number;
    (!kept && !says_nothing(said)).then_some(range)
}

/// Whether these are letters as in a sentence.
fn is_word(said: &[u8]) -> bool {
    let begins = said.first().is_some_and(u8::is_ascii_alphabetic);
    begins && said.iter().skip(1).all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'\''))
}

/// Whether the line has more words behind `at`.
fn goes_on(bytes: &[u8], at: usize) -> bool {
    let after = at_most(bytes, at, MAX_SPACE, |byte| matches!(byte, b' ' | b',' | b'.' | b';'));
    after > at && bytes.get(after).is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether a value is none, or stands for one that is filled in: `null`, `<token>`, `${TOKEN}`, `Bearer $TOKEN`.
fn says_nothing(said: &[u8]) -> bool {
    let value = said.iter().position(|&byte| byte == b' ').map_or(said, |space| {
        if is_scheme(&said[..space]) { said[space..].trim_ascii_start() } else { said }
    });
    let name = |inner: &[u8]| {
        inner.iter().all(|byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'{' | b'}')
        })
    };
    match value {
        [b'<', inner @ ..] => {
            let end = inner.iter().position(|byte| !(byte.is_ascii_alphabetic() || b" _-".contains(byte)));
            end.is_some_and(|end| inner[end] == b'>')
        }
        [b'$', inner @ ..] => name(inner),
        b"TOKEN" | b"YOUR_TOKEN" | b"KEY" | b"API_KEY" | b"SECRET" | b"PASSWORD" => true,
        value => WORDS.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(value)),
    }
}

/// Whether this is the name of a way to send credentials (RFC 9110, section 11.1).
fn is_scheme(word: &[u8]) -> bool {
    const SCHEMES: [&str; 6] = ["bearer", "basic", "token", "digest", "apikey", "negotiate"];
    SCHEMES.iter().any(|scheme| scheme.as_bytes().eq_ignore_ascii_case(word))
}

/// Values that are no secrets: that there is none, and the types of programming languages.
const WORDS: [&str; 18] = [
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "str",
    "&str",
    "string",
    "number",
    "int",
    "bool",
    "boolean",
    "any",
    "bytes",
    "required",
    "optional",
    "unset",
];

/// Whether this is a header whose value has blanks in it: credentials behind their scheme, and cookies.
fn is_header(name: &str, bytes: &[u8], value: usize) -> bool {
    let name = name.as_bytes();
    let ends = |word: &str| {
        let from = name.len().checked_sub(word.len());
        from.is_some_and(|from| name[from..].eq_ignore_ascii_case(word.as_bytes()))
    };
    let first = at_most(bytes, value, MAX_NAME, is_name);
    if ends("authorization") {
        bytes.get(first) == Some(&b' ') && is_scheme(&bytes[value..first])
    } else {
        ends("cookie") && bytes.get(first) == Some(&b'=')
    }
}

/// Where the value begins after a name that ends at `at`, and what stands between them: `:`, `=` or their percent-encoded
/// forms, with quotes and blanks around.
fn separated(bytes: &[u8], at: usize) -> Option<(usize, u8)> {
    let mut at = at_most(bytes, at, MAX_ESCAPES, |byte| byte == b'\\');
    // `os.environ["TOKEN"] = …`
    at = at_most(bytes, at, MAX_QUOTES, |byte| matches!(byte, b'"' | b'\'' | b'`' | b']'));
    at = at_most(bytes, at, MAX_SPACE, |byte| matches!(byte, b' ' | b'\t'));
    let separator = match bytes.get(at..)? {
        // A path, a comparison, the scheme of a URL.
        [b':', b':', ..] | [b'=', b'=' | b'~', ..] | [b':', b'/', b'/', ..] => return None,
        [b':', b'=', ..] => (at + 2, b'='),
        [b'=', b'>', ..] => (at + 2, b'='),
        [byte @ (b':' | b'='), ..] => (at + 1, *byte),
        [b'%', b'3', b'D' | b'd', ..] => (at + 3, b'='),
        [b'%', b'3', b'A' | b'a', ..] => (at + 3, b':'),
        _ => return None,
    };
    Some((at_most(bytes, separator.0, MAX_SPACE, |byte| matches!(byte, b' ' | b'\t')), separator.1))
}

/// The quote a value begins with: where the value is, which quote, and how many backslashes are before it.
fn opening(bytes: &[u8], at: usize) -> Option<(usize, u8, usize)> {
    let quote = at_most(bytes, at, MAX_ESCAPES, |byte| byte == b'\\');
    match bytes.get(quote)? {
        byte @ (b'"' | b'\'' | b'`') => Some((quote + 1, *byte, quote - at)),
        _ => None,
    }
}

/// Where a quoted value ends. In a string that is in a string the quotes have backslashes before them, and those of what
/// is deeper have more.
fn closing(bytes: &[u8], inner: usize, quote: u8, escapes: usize) -> usize {
    let mut at = inner;
    while let Some(found) = memchr::memchr(quote, &bytes[at..]) {
        let end = at + found;
        let before = bytes[inner..end].iter().rev().take_while(|&&byte| byte == b'\\').count();
        let closes = if escapes == 0 { before % 2 == 0 } else { before <= escapes };
        if closes {
            return if escapes == 0 { end } else { end - before };
        }
        at = end + 1;
    }
    bytes.len()
}

/// Where a value without quotes ends; none if it is the call of a function or the like, and no value.
fn bare(bytes: &[u8], start: usize) -> Option<usize> {
    let word = |from: usize| {
        run(bytes, from, |byte| {
            !(byte.is_ascii_whitespace() || byte.is_ascii_control() || b"&;\"'`<>|(\\".contains(&byte))
        })
    };
    let mut end = word(start);
    if bytes.get(end) == Some(&b'(') && end - start <= MAX_NAME {
        return None;
    }
    if bytes.get(end) == Some(&b' ') && is_scheme(&bytes[start..end]) {
        let next = word(end + 1);
        end = if next > end + 1 { next } else { end };
    }
    // A comma or a bracket at the end belongs to what is around.
    while end > start
        && matches!(bytes[end - 1], b',' | b')' | b'}' | b']' | b'.')
        && !bytes[start..end].ends_with(REDACTED.as_bytes())
    {
        end -= 1;
    }
    Some(end)
}

/// The credential after `Bearer ` or `Basic `. In a sentence these are words like others: what follows is one if it does
/// not look like a word, or is all there is.
fn credential(bytes: &[u8], start: usize, end: usize, floor: usize) -> Option<Range<usize>> {
    if start != floor && !begins(bytes, start) {
        return None;
    }
    let from = at_most(bytes, end, MAX_SPACE, |byte| byte == b' ');
    let to = run(bytes, from, |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    let to = from + bytes[from..to].trim_ascii_end().len();
    let said = bytes[from..to].strip_suffix(b".").unwrap_or(&bytes[from..to]);
    let to = from + said.len();
    let plain =
        said.iter().skip(1).all(u8::is_ascii_lowercase) && said.first().is_some_and(u8::is_ascii_alphabetic);
    let hyphenated = said.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
    let looks_like_one = said.len() >= 6 && !plain && !hyphenated;
    let alone = bytes[start..end].eq_ignore_ascii_case(b"bearer ")
        && start <= MAX_SPACE
        && bytes[..start].trim_ascii().is_empty()
        && bytes.len() - to <= MAX_SPACE
        && bytes[to..].trim_ascii().is_empty();
    (!said.is_empty() && (looks_like_one || alone)).then_some(from..to)
}

/// The password in `user:password@host`, or a user that is itself a token.
fn password_in_url(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let end = at_most(bytes, start, MAX_AUTHORITY, |byte| {
        !(byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/?#\"'<>\\".contains(&byte))
    });
    let at = start + memchr::memrchr(b'@', &bytes[start..end])?;
    match memchr::memchr(b':', &bytes[start..at]) {
        Some(colon) => Some(start + colon + 1..at),
        None => {
            let user = &bytes[start..at];
            let looks_like_one = user.len() >= 16 && user.iter().any(u8::is_ascii_digit);
            (looks_like_one && user != REDACTED.as_bytes()).then_some(start..at)
        }
    }
}

/// The body of a private key in PEM, to its end or to that of the text.
fn private_key(bytes: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let label_end = at_most(bytes, end, MAX_NAME, |byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
    });
    let label = &bytes[end..label_end];
    let is_private = memchr::memmem::find(label, b"PRIVATE KEY").is_some();
    if !is_private || !bytes[start..end].starts_with(b"-----BEGIN") {
        return None;
    }
    let body = label_end + bytes[label_end..].iter().take_while(|&&byte| byte == b'-').count();
    let last = memchr::memmem::find(&bytes[body..], b"-----END").map_or(bytes.len(), |found| body + found);
    (bytes[body..last].trim_ascii() != REDACTED.as_bytes()).then_some(body..last)
}

/// A token by its beginning.
fn token(bytes: &[u8], start: usize, end: usize, floor: usize, prefix: &Prefix) -> Option<Range<usize>> {
    let Prefix(text, alphabet, least) = prefix;
    if bytes[start..end] != *text.as_bytes() || (start != floor && !begins(bytes, start)) {
        return None;
    }
    let wordlike = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let to = match alphabet {
        Alphabet::Upper => run(bytes, end, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()),
        Alphabet::Alnum => run(bytes, end, |byte| byte.is_ascii_alphanumeric()),
        Alphabet::Mixed => run(bytes, end, wordlike),
        Alphabet::Dotted => run(bytes, end, |byte| wordlike(byte) || byte == b'.'),
    };
    let body = &bytes[end..to];
    let fits = body.len() >= *least
        && match alphabet {
            Alphabet::Upper | Alphabet::Alnum => true,
            Alphabet::Mixed => body.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()),
            Alphabet::Dotted => body.contains(&b'.'),
        };
    fits.then_some(start..to)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(text: &str) -> String {
        let keys = Keys::new(&["pin-code".to_owned()], &["session_secret".to_owned()]);
        let shapes = Shapes::new(&["pin-code".to_owned()]);
        let once = shapes.scrub(text, &keys).into_owned();
        assert_eq!(shapes.scrub(&once, &keys), once, "twice is as once");
        once
    }

    #[test]
    fn values_after_names_go_and_the_rest_stays() {
        for (text, wanted) in [
            ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
            ("curl -H 'Authorization: Bearer a b' -d x", "curl -H 'Authorization: [redacted]' -d x"),
            ("Cookie: a=1; b=2\r\nHost: h", "Cookie: [redacted]\r\nHost: h"),
            ("x-api-key: k1 and on", "x-api-key: [redacted] and on"),
            ("/p?access_token=abc&user=u", "/p?access_token=[redacted]&user=u"),
            ("api_key=abc;sig=de,f&x=y", "api_key=[redacted];sig=[redacted]&x=y"),
            ("redirect=https%3A%2F%2Fh%3Ftoken%3Dabc", "redirect=https%3A%2F%2Fh%3Ftoken%3D[redacted]"),
            ("Server=h;Password=hunter2;", "Server=h;Password=[redacted];"),
            ("export API_KEY=\"a b\" X=1", "export API_KEY=\"[redacted]\" X=1"),
            ("{'password': 'x', 'n': 1}", "{'password': '[redacted]', 'n': 1}"),
            (r#"body: {"password":"a\"b","n":1}"#, r#"body: {"password":"[redacted]","n":1}"#),
            (r#"{\"password\":\"x\",\"n\":1}"#, r#"{\"password\":\"[redacted]\",\"n\":1}"#),
            (r#"{\\\"pwd\\\":\\\"x\\\",\\\"n\\\":1}"#, r#"{\\\"pwd\\\":\\\"[redacted]\\\",\\\"n\\\":1}"#),
            ("password: hunter2\nuser: bob", "password: [redacted]\nuser: bob"),
            ("login(user=a, password=hunter2)", "login(user=a, password=[redacted])"),
            ("pin_code=1234 code=5", "pin_code=[redacted] code=5"),
            ("authorization=Bearer abcdef x", "authorization=[redacted] x"),
            ("token=\"unended", "token=\"[redacted]"),
            ("tokens=12 tokens=abc", "tokens=12 tokens=[redacted]"),
            ("login failed, token: abc123 user: bob", "login failed, token: [redacted] user: bob"),
            ("Authorization: Digest username=\"u\"", "Authorization: [redacted]\"u\""),
            ("os.environ[\"API_KEY\"] = 'x y'", "os.environ[\"API_KEY\"] = '[redacted]'"),
            ("authorization: AWS4-HMAC-SHA256x y", "authorization: [redacted] y"),
        ] {
            assert_eq!(clean(text), wanted);
        }
    }

    #[test]
    fn credentials_go_wherever_they_stand() {
        for (text, wanted) in [
            ("sent Bearer CANARY5 to h", "sent Bearer [redacted] to h"),
            ("Bearer hush", "Bearer [redacted]"),
            ("Basic dXNlcjpwdw==", "Basic [redacted]"),
            ("https://u:p@h/x", "https://u:[redacted]@h/x"),
            ("https://u:p:q@r@h/x", "https://u:[redacted]@h/x"),
            ("https://0123456789abcdef0123@h/x", "https://[redacted]@h/x"),
            ("key AKIAIOSFODNN7EXAMPLE.", "key [redacted]."),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[redacted]"),
            ("x=%3Dghp_0123456789abcdefghijABCDEFGHIJ012345", "x=%3D[redacted]"),
            ("(xoxb-1234567890-abc)", "([redacted])"),
            ("sk_live_0123456789abc, sk-ant-api03-abcdefgh-ijklmnop", "[redacted], [redacted]"),
            ("a eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln b", "a [redacted] b"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nrest",
                "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----\nrest",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "-----BEGIN PRIVATE KEY-----[redacted]"),
        ] {
            assert_eq!(clean(text), wanted);
        }
    }

    #[test]
    fn ordinary_texts_are_left_alone() {
        for text in [
            "The bearer of this letter uses Basic authentication and Bearer tokens.",
            "Basic plan",
            "let token = lexer.next_token();",
            "fn login(password: &str, token: String) -> bool",
            "max_tokens=100&nextPageToken=abc&session_secret=x",
            "if token == other && key::token != 1",
            "git clone ssh://git@github.com/a/b.git https://host:8080/path/@user",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "task-0123456789-abcdefghijklm disk-sk-x sk-learn-is-a-library-for-learning",
            "the eyJ prefix, AKIA, ghp_short, npm_config_cache, hf_hub",
            "password: null, token: None, secret = ",
            "select key, value from secrets where author = 'a'",
            "send it as `Authorization: Bearer TOKEN`. Or Authorization: Bearer <token>, or -H \"Authorization: Bearer $TOKEN\"",
            "backends[0].headers.X-Token: this looks like a secret written into the file",
            "plugins.auth-jwt.secrets: the plugin was not granted any; write env = { API_KEY = \"${API_KEY}\" }",
            "keyboard: qwerty, monkey=1, design: x, code=5, primary_key=id",
            "",
            "=",
            ":",
            "://",
            "@",
            "token",
            "pwd",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    /// What is found where parts are passed over is what is found where nothing is.
    fn everywhere(text: &str) -> String {
        let redact = ["pin-code".to_owned()];
        let (keys, mut shapes) = (Keys::new(&redact, &[]), Shapes::new(&redact));
        let quick = shapes.scrub(text, &keys).into_owned();
        shapes.signs = Signs::none();
        assert_eq!(quick, shapes.scrub(text, &keys), "{text}");
        quick
    }

    #[test]
    fn nothing_is_passed_over_that_a_secret_begins_in() {
        let far = "x".repeat(3_000);
        for (text, wanted) in [
            ("password: hunter2", "password: [redacted]"),
            ("Bearer CANARY5", "Bearer [redacted]"),
            ("bAsIc dXNlcjpwdw==", "bAsIc [redacted]"),
            ("https://u:p@h/x", "https://u:[redacted]@h/x"),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[redacted]"),
            ("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----[redacted]"),
            ("pin-code%3D1234", "pin-code%3D[redacted]"),
        ] {
            for (before, after) in [("\n", ""), (" ", " "), ("é ", "\n")] {
                let clean = everywhere(&format!("{far}{before}{text}{after}{far}"));
                let begins = format!("{far}{before}{}", wanted.trim_end());
                assert!(clean.starts_with(&begins), "{text}: {}", &clean[3_000..clean.len().min(3_100)]);
            }
        }
        // As far apart as a name and its separator may be.
        // Of it the search finds the first four letters.
        let name = format!("password{}", "_a".repeat(MAX_NAME / 2 - 2));
        let text =
            format!("{far} {name}{}\"] {}= 'hush'", "\\".repeat(MAX_ESCAPES), " ".repeat(MAX_SPACE - 1));
        assert!(!everywhere(&text).contains("hush"));
    }

    proptest! {
        #[test]
        fn it_is_as_if_everything_were_looked_at(
            pieces in prop::collection::vec(prop_oneof![
                4 => prop::sample::select(vec![
                    "password", "token", "pwd", "pin_code", "Authorization", "Bearer ", "BASIC ", "=", ":", ": ", "%3D", "%3a", "://",
                    "u:p@h", "ghp_0123456789abcdefghij", "eyJhbGciOi.eyJzdWIiOiJhIn0.c2ln", "-----BEGIN PRIVATE KEY-----", "\\",
                    "\"", " ", "\n", "é", "AKIAIOSFODNN7EXAMPLE", "hunter2",
                ]).prop_map(str::to_owned),
                2 => "[a-zA-Z0-9_.é\\\\ -]{0,40}",
                1 => (400_usize..900).prop_map(|length| "y".repeat(length)),
            ], 0..24)
        ) {
            everywhere(&pieces.concat());
        }
    }

    #[test]
    fn a_long_text_takes_no_longer_than_its_length_says() {
        // Each of these makes one beginning after the other, none of which ends.
        for part in [
            "token",
            "pwd=\\\"",
            "://",
            "Bearer ",
            "-----BEGIN PRIVATE KEY-----",
            "eyJ",
            "password:",
            "sk-",
            "'",
            "SG.",
            "token=(",
            "token: aaaa ",
            // What has stalled other programs: one line of letters, of constants, of hexadecimal digits, of package names.
            "x",
            "CONSTANT_SECRET_",
            "0123456789ABCDEF",
            "agent-challenge-1.0.1 aiohappyeyeballs-2.7.1 ",
            "key_token.secret-",
            "%3D",
        ] {
            let text = part.repeat(200_000 / part.len());
            let _ = clean(&text);
        }
    }
}
