//! Texts as servers write them.

use super::*;

fn read(text: &[u8]) -> (Vec<serde_json::Value>, Oddities) {
    let mended = mend(text).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(text)));
    let texts = mended.texts.iter().map(|text| serde_json::from_slice(text).unwrap()).collect();
    (texts, mended.oddities)
}

#[test]
fn what_has_one_meaning_is_read() {
    use serde_json::json;
    let cases: &[(&[u8], serde_json::Value, Oddities)] = &[
        (
            br#"{"a":NaN,"b":-Infinity,"c":[Infinity]}"#,
            json!({"a":null,"b":null,"c":[null]}),
            Oddities::NUMBER,
        ),
        (br#"{"a":[1,2,],"b":{"c":1,},}"#, json!({"a":[1,2],"b":{"c":1}}), Oddities::COMMA),
        ("\u{feff}{\"a\":1}".as_bytes(), json!({"a":1}), Oddities::MARK),
        (b"{\"a\":\"x\xffy\"}", json!({"a":"x\u{fffd}y"}), Oddities::BYTES),
        (br#"{"a":"x\ud83d"}"#, json!({"a":"x\u{fffd}"}), Oddities::HALF),
        (br#"{"a":"\ude00x\ud83d\ude00"}"#, json!({"a":"\u{fffd}x😀"}), Oddities::HALF),
        (b"{\"a\":\"tab\there\"}", json!({"a":"tab\there"}), Oddities::ESCAPE),
        (br#"{"a":"C:\Users\x"}"#, json!({"a":"C:\\Users\\x"}), Oddities::ESCAPE),
        (br#"{"a":True,"b":None}"#, json!({"a":true,"b":null}), Oddities::PYTHON),
        (br#"{"a":1} done."#, json!({"a":1}), Oddities::AROUND),
        (br#"[INFO] {x} {"a":1}"#, json!({"a":1}), Oddities::AROUND),
        (br#"{"a":"\\ud83d"}"#, json!({"a":"\\ud83d"}), Oddities::default()),
    ];
    for (text, value, oddities) in cases {
        assert_eq!(read(text), (vec![value.clone()], *oddities), "{}", String::from_utf8_lossy(text));
    }
    assert!(mend(br#"[INFO] {"a":1}"#).unwrap().quoted && mend(br#"12:00 {"a":1}"#).unwrap().quoted);
    assert!(!mend(b"\x1b[2K\r|##| {\"a\":1}").unwrap().quoted);
    assert!(!mend(br#"{"a":1} said {"b":1}"#).unwrap().quoted);
}

#[test]
fn several_messages_are_several() {
    use serde_json::json;
    for text in [r#"{"a":1}{"b":2}"#, r#"{"a":1} {"b":2}"#, r#"[{"a":1},{"b":2}]"#, r#"{"a":1},{"b":2},"#] {
        let (texts, oddities) = read(text.as_bytes());
        assert_eq!(texts, [json!({"a":1}), json!({"b":2})], "{text}");
        assert_eq!(oddities, Oddities::SEVERAL, "{text}");
    }
}

#[test]
fn what_has_no_end_or_no_meaning_is_not_read() {
    for text in ["", "hello", "[INFO] started", "{", r#"{"a":1"#, r#"{"a":"#, "{}", "[1,2]", r#"{"a"[1}"#] {
        assert!(mend(text.as_bytes()).is_none(), "{text}");
    }
    // Two commas are copied to nobody: no reader could know what is missing. Nor is what stands inside read by itself.
    assert!(mend(br#"{"a":[1,,2],"b":{"jsonrpc":"2.0"}}"#).is_none());
}

#[test]
fn a_text_made_to_cost_time_costs_little() {
    let hostile = r#"{"a":["#.repeat(200_000) + &r#"{"a":1}"#.repeat(200_000);
    let since = std::time::Instant::now();
    assert!(mend(hostile.as_bytes()).is_none());
    assert!(since.elapsed() < std::time::Duration::from_secs(20), "{:?}", since.elapsed());
}

#[test]
fn halves_are_found_and_pairs_are_not() {
    for text in
        [r#""\ud800""#, r#""\uDC00""#, r#""\ud83d\u0041""#, r#""a\\\ud800""#, r#""\ud83d\ud83d\ude00""#]
    {
        assert!(has_half_pair(text.as_bytes()), "{text}");
    }
    for text in
        [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\uD83D\uDE00""#, r#""\ud7ff""#, r#""\u00e9""#, "plain"]
    {
        assert!(!has_half_pair(text.as_bytes()), "{text}");
    }
}
