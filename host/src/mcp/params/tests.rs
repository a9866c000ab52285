//! By chance: whatever params pass, readers of every kind find the same in them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::*;
use crate::mcp::splice;

/// Texts that are tried.
const TRIES: u32 = 100_000;

/// What is judged, by method.
const JUDGED: [(&str, &[&str]); 8] = [
    ("tools/call", &["/name", "/arguments", "/task/ttl", "/requestState", "/inputResponses", TOKEN, VERSION]),
    ("prompts/get", &["/name", "/arguments", TOKEN]),
    ("resources/read", &["/uri", VERSION, CLIENT]),
    ("completion/complete", &["/ref/type", "/ref/name", "/ref/uri", "/argument/name", "/context/arguments"]),
    ("tasks/get", &["/taskId"]),
    ("initialize", &["/protocolVersion", "/capabilities/roots", "/clientInfo/name"]),
    ("notifications/cancelled", &["/requestId"]),
    ("acme/run", &["/name", "/uri", "/ref/name", "/ref/uri", "/taskId", "/arguments", "/task", TOKEN]),
];
const TOKEN: &str = "/_meta/progressToken";
const VERSION: &str = "/_meta/io.modelcontextprotocol~1protocolVersion";
const CLIENT: &str = "/_meta/io.modelcontextprotocol~1clientInfo/name";

/// Keys of the protocol, and of others.
const KEYS: [&str; 24] = [
    "name",
    "arguments",
    "_meta",
    "uri",
    "ref",
    "type",
    "argument",
    "context",
    "task",
    "ttl",
    "taskId",
    "requestId",
    "requestState",
    "inputResponses",
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "protocolVersion",
    "capabilities",
    "roots",
    "clientInfo",
    "x",
    "vendor.example/y",
    "",
];

/// A small generator that is the same on every machine (xorshift, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    /// An object; `odd` is set if it holds anything that could be read in two ways.
    fn object(&mut self, depth: usize, odd: &mut bool) -> String {
        let (mut keys, mut members): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
        for _ in 0..self.below(5) {
            let key = KEYS[self.below(KEYS.len())];
            if keys.contains(&key) && !self.one_in(6) {
                continue;
            }
            *odd |= keys.contains(&key);
            keys.push(key);
            let spelled = if self.one_in(12) { self.misspelled(key) } else { key.to_owned() };
            *odd |= spelled != key;
            let spelled = if self.one_in(8) { escaped(&spelled) } else { quoted(&spelled) };
            members.push(format!("{spelled}:{}", self.value(depth, odd)));
        }
        format!("{{{}}}", members.join(","))
    }

    fn value(&mut self, depth: usize, odd: &mut bool) -> String {
        match self.below(if depth == 0 { 2 } else { 6 }) {
            0 => self.below(100).to_string(),
            1 => format!("\"v{}\"", self.below(100)),
            2 => format!("[{},{}]", self.value(depth - 1, odd), self.value(depth - 1, odd)),
            _ => self.object(depth - 1, odd),
        }
    }

    fn misspelled(&mut self, key: &str) -> String {
        match self.below(5) {
            0 => key.to_ascii_uppercase(),
            1 => key.replacen('s', "\u{17f}", 1),
            2 => key.replacen('k', "\u{212a}", 1),
            3 => format!("{key}\0"),
            _ => {
                let at = self.below(key.len().max(1));
                let upper = |(index, c): (usize, char)| if index == at { c.to_ascii_uppercase() } else { c };
                key.chars().enumerate().map(upper).collect()
            }
        }
    }
}

fn quoted(key: &str) -> String {
    serde_json::to_string(key).unwrap()
}

fn escaped(key: &str) -> String {
    let escapes: String = key.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{escapes}\"")
}

/// The members of an object as they come.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// Which of the members a reader takes for the one of this name.
type Reader = for<'a> fn(&[(String, &'a RawValue)], &str) -> Option<&'a str>;

fn first<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a str> {
    members.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
}

fn last<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a str> {
    members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.get())
}

/// As Go does: every member of that name in any case is taken, so the last one stays.
fn folding<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a str> {
    let folded = |text: &str| -> String {
        text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
    };
    members.iter().rev().find(|(key, _)| folded(key) == folded(name)).map(|(_, value)| value.get())
}

/// As a reader in C does, to which a text ends at a NUL.
fn to_nul<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a str> {
    members.iter().find(|(key, _)| key.split('\0').next() == Some(name)).map(|(_, value)| value.get())
}

fn read<'a>(text: &'a str, pointer: &str, reader: Reader) -> Option<&'a str> {
    let mut at = text;
    for step in pointer.split('/').skip(1) {
        let members: Members<'_> = serde_json::from_str(at).ok()?;
        at = reader(&members.0, &step.replace("~1", "/"))?;
    }
    Some(at)
}

#[test]
fn all_readers_agree_on_what_is_judged_or_the_text_is_refused() {
    let readers: [Reader; 4] = [first, last, folding, to_nul];
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let (mut passed, mut refused, mut would_differ) = (0u32, 0u32, 0u32);
    for _ in 0..TRIES {
        let (method, pointers) = JUDGED[chance.below(JUDGED.len())];
        let mut odd = false;
        let text = chance.object(3, &mut odd);
        let ours = |pointer: &str| splice::get(&text, pointer);
        let differs =
            |pointer: &&str| readers.iter().any(|reader| read(&text, pointer, *reader) != ours(pointer));
        match check(method, &text) {
            Ok(()) => {
                passed += 1;
                // Nothing was odd in most of them, and then there is nothing to differ about.
                if odd {
                    let apart = pointers.iter().find(|pointer| differs(pointer));
                    assert_eq!(apart, None, "{method}: {text}");
                }
            }
            Err(ambiguous) => {
                refused += 1;
                assert!(odd, "{method}: {ambiguous}: {text}");
                would_differ += u32::from(pointers.iter().any(differs));
            }
        }
    }
    // The test has seen what it is about.
    assert!(
        passed > TRIES / 4 && refused > TRIES / 50 && would_differ > 500,
        "{passed} {refused} {would_differ}"
    );
}

#[test]
fn every_level_has_its_own_names() {
    for (method, params) in [
        ("tools/call", r#"{"name":"a","Arguments":{}}"#),
        ("tools/call", r#"{"name":"a","_meta":{"ProgressToken":1}}"#),
        ("tools/call", r#"{"name":"a","_META":{}}"#),
        ("tools/call", r#"{"name":"a","task":{"TTL":1}}"#),
        ("tools/call", r#"{"name":"a","ta\u017f\u212a":{}}"#),
        ("tools/call", r#"{"name":"a","inputResponses":{"q":{"Action":"accept"}}}"#),
        ("resources/read", r#"{"uri":"a","URI":"b"}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"a","Name":"b"}}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"a"},"argument":{"Value":""}}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"a"},"context":{"Arguments":{}}}"#),
        ("initialize", r#"{"capabilities":{"Roots":{}}}"#),
        ("initialize", r#"{"capabilities":{"roots":{"ListChanged":true}}}"#),
        ("initialize", r#"{"clientInfo":{"Name":"c"}}"#),
        ("tasks/get", r#"{"taskid":"t"}"#),
        ("subscriptions/listen", r#"{"notifications":{"toolslistchanged":true}}"#),
        ("notifications/cancelled", r#"{"requestId":1,"RequestId":2}"#),
        ("acme/run", r#"{"Name":"a"}"#),
        ("acme/run", r#"{"ref":{"Uri":"a"}}"#),
    ] {
        assert!(matches!(check(method, params), Err(Ambiguous::Misspelled(..))), "{method}: {params}");
    }
    for (method, params) in [
        ("tools/call", r#"{"name":"a","arguments":{"Name":1,"name":2,"_Meta":{}},"vendor":{"Name":1}}"#),
        ("tools/call", r#"{"name":"a","_meta":{"vendor/Name":1,"NAME":2}}"#),
        ("prompts/get", r#"{"name":"a","arguments":{"Arguments":"x","NAME":"y"}}"#),
        ("initialize", r#"{"capabilities":{"experimental":{"Roots":{}},"extensions":{"x/Y":{"Name":1}}}}"#),
        ("acme/run", r#"{"All":true,"TOTAL":1}"#),
    ] {
        assert_eq!(check(method, params), Ok(()), "{method}: {params}");
    }
}
