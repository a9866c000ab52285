//! What is typed, what is given and what is sent: nothing leaves its place.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::frames::{Call, Ended, Question, Reply, Stream};
use super::*;

fn command(text: &str) -> Result<Command, Vec<Mistake>> {
    check(&toml::from_str(text).unwrap(), "exec")
}

fn good(text: &str) -> Command {
    command(text).unwrap()
}

const DEPLOY: &str = r#"
    name = "deploy"
    executable = "/opt/app/bin/deploy"
    argv = ["--env={env}", "{count}", "--label={label}", "--", "{files}", "{note}"]
    [slots]
    env = { type = "enum", values = ["dev", "test"] }
    count = { type = "int", min = 0, max = 99, optional = true }
    label = { type = "text", pattern = "[a-z-]{0,8}", optional = true }
    files = { type = "path", beneath = "/srv/app", repeat = 3, optional = true }
    note = { type = "text", pattern = "[ -~]{1,20}" }
"#;

/// Words that are likely to be mistaken for others.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("--env=dev".to_owned()),
        Just("--label=-x".to_owned()),
        Just("--label=".to_owned()),
        Just("--".to_owned()),
        Just("/srv/app/a".to_owned()),
        Just("/srv/app/../a".to_owned()),
        Just("5".to_owned()),
        Just("05".to_owned()),
        Just("x".to_owned()),
        "[ -~]{0,6}",
        any::<String>(),
    ]
}

proptest! {
    /// Whatever is recognised is, word for word, what will be run.
    #[test]
    fn a_line_that_is_recognised_is_the_line_that_runs(words in proptest::collection::vec(word(), 0..9)) {
        let command = good(DEPLOY);
        if let Ok(filled) = command.recognise(&words) {
            prop_assert_eq!(command.shown(&filled), words);
        }
    }

    /// What fills the slots stays in the tokens it belongs to: their number, and what stands around it, are the command's.
    #[test]
    fn a_value_never_leaves_its_token(
        env in "dev|test|.{0,8}", count in any::<Option<i8>>(), label in any::<Option<String>>(),
        files in proptest::collection::vec("[a-z./-]{0,12}", 0..5), note in any::<String>(),
    ) {
        let command = good(DEPLOY);
        let mut given = vec![("env".to_owned(), Given::Text(env)), ("note".to_owned(), Given::Text(note.clone()))];
        given.extend(count.map(|count| ("count".to_owned(), Given::Int(count.into()))));
        given.extend(label.clone().map(|label| ("label".to_owned(), Given::Text(label))));
        given.extend(files.iter().map(|file| ("files".to_owned(), Given::Text(file.clone()))));
        if let Ok(filled) = command.fill(given, None) {
            let shown = command.shown(&filled);
            let expected = 3 + files.len() + usize::from(count.is_some()) + usize::from(label.is_some());
            prop_assert_eq!(shown.len(), expected);
            prop_assert!(shown[0] == "--env=dev" || shown[0] == "--env=test");
            prop_assert_eq!(shown.last().unwrap(), &note);
            let dashes = shown.iter().position(|word| word == "--").unwrap();
            prop_assert_eq!(dashes, expected - 2 - files.len());
            for file in &shown[dashes + 1..shown.len() - 1] {
                prop_assert!(file.starts_with("/srv/app/") && !file.contains("/../") && !file.ends_with("/.."), "{}", file);
            }
            prop_assert!(shown.iter().all(|word| !word.chars().any(crate::text::is_harmful)));
        }
    }

    /// A path that is taken cannot be spelled in another way, nor lead elsewhere.
    #[test]
    fn a_path_is_below_its_folder(path in "(/srv/app/|/srv/app|/)?([a.]{0,3}/?){0,5}") {
        if let Ok(below) = clean("/srv/app", &path) {
            prop_assert!(below.split('/').all(|step| !step.is_empty() && step != "." && step != ".."));
            let absolute = format!("/srv/app/{below}");
            prop_assert!(path == below || path == absolute);
        }
    }

    /// A message is read as it was written, and nothing else is read as one.
    #[test]
    fn messages_survive_the_wire(
        command in any::<String>(),
        texts in proptest::collection::vec((any::<String>(), any::<String>()), 0..6),
        number in any::<i64>(), stdin in any::<Option<String>>(), token in any::<Vec<u8>>(),
        cut in any::<prop::sample::Index>(), more in 1_u8..,
    ) {
        let mut given: Vec<_> = texts.into_iter().map(|(name, text)| (name, Given::Text(text))).collect();
        given.push(("n".to_owned(), Given::Int(number)));
        let call = Call { command, given, stdin };
        for question in [Question::Prepare(call.clone()), Question::Run { call, token: token.clone() }, Question::Health] {
            let bytes = question.encode();
            prop_assert_eq!(Question::decode(&bytes), Ok(question));
            prop_assert!(Question::decode(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert!(Question::decode(&[bytes, vec![more]].concat()).is_err());
        }
        let ended = Ended { execution: "x".to_owned(), code: -1, signal: 9, timed_out: true, micros: 5, totals: [1, 2], digests: [[3; 32], [4; 32]] };
        for reply in [
            Reply::Ended(ended),
            Reply::Output { stream: Stream::Stderr, bytes: token },
            Reply::Prepared { digest: [1; 32], action: "{}".to_owned() },
            Reply::Refused { reason: "a".to_owned(), slot: String::new(), message: "b".to_owned() },
            Reply::Healthy { audience: "a".to_owned(), environment: "b".to_owned(), commands: 1, working: 2 },
        ] {
            let bytes = reply.encode();
            prop_assert_eq!(Reply::decode(&bytes), Ok(reply));
            prop_assert!(Reply::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn garbage_is_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..200), with_magic in any::<bool>()) {
        let bytes = if with_magic { [b"SGX1".to_vec(), bytes].concat() } else { bytes };
        // Neither may panic; one that is read is written as it was.
        if let Ok(question) = Question::decode(&bytes) {
            prop_assert_eq!(question.encode(), bytes.clone());
        }
        if let Ok(reply) = Reply::decode(&bytes) {
            prop_assert_eq!(reply.encode(), bytes);
        }
    }
}

fn mistakes(text: &str) -> Vec<String> {
    command(text)
        .unwrap_err()
        .into_iter()
        .map(|mistake| format!("{}: {}", mistake.at, mistake.message))
        .collect()
}

#[test]
fn every_mistake_is_told_at_once() {
    let found = mistakes(
        r#"
        name = "a b"
        executable = "bin/x"
        sha256 = "12"
        argv = ["{free}", "{gone}", "a}b", "{x", "{free}", "{one}{two}"]
        cwd = "/tmp/../etc"
        env = { LD_PRELOAD = "x", GIT_SSH_COMMAND = "x", lower = "x" }
        [slots]
        free = { type = "text", pattern = "a)|(b" }
        one = { type = "int", min = 5, max = 1, values = ["x"] }
        unused = { type = "enum" }
        "#,
    );
    for (at, message) in [
        ("/name", "cannot be the name"),
        ("/executable", "absolute"),
        ("/sha256", "no SHA-256"),
        ("/argv/1", "there is no slot \"gone\""),
        ("/argv/2", "} without a {"),
        ("/argv/3", "{ without a }"),
        ("/argv/5", "one slot at most"),
        ("/cwd", "simplest form"),
        ("/env/LD_PRELOAD", "changes what programs load"),
        ("/env/GIT_SSH_COMMAND", "changes what programs load"),
        ("/env/lower", "cannot be the name of a variable"),
        ("/slots/free/pattern", "no regular expression"),
        ("/slots/unused", "no token of argv"),
    ] {
        assert!(
            found.iter().any(|one| one.starts_with(&format!("{at}: ")) && one.contains(message)),
            "{at} {message}: {found:#?}"
        );
    }
}

#[test]
fn what_the_caller_chooses_freely_cannot_be_an_option() {
    let head = "name = \"x\"\nexecutable = \"/usr/bin/true\"\n";
    let text = "[slots]\na = { type = \"text\", pattern = \".*\" }";
    assert!(mistakes(&format!("{head}argv = [\"{{a}}\"]\n{text}"))[0].contains("taken for an option"));
    for argv in ["[\"--\", \"{a}\"]", "[\"--x={a}\"]", "[\"-x\", \"--\", \"a\", \"{a}\"]"] {
        good(&format!("{head}argv = {argv}\n{text}"));
    }
    let number = "[slots]\na = { type = \"int\", min = -1, max = 1 }";
    assert!(mistakes(&format!("{head}argv = [\"{{a}}\"]\n{number}"))[0].contains("negative"));
    // A launcher takes nothing that is chosen freely, pinned or not.
    let pin = "0".repeat(64);
    let sh = format!("name = \"x\"\nexecutable = \"/usr/bin/dash\"\nsha256 = \"{pin}\"\n");
    assert!(
        mistakes(&format!("{sh}argv = [\"-c\", \"--\", \"{{a}}\"]\n{text}"))[0].contains("chooses freely")
    );
    assert!(
        mistakes("name = \"x\"\nexecutable = \"/usr/bin/dash\"\n")[0].contains("dash runs other programs")
    );
    good(&sh);
}

#[test]
fn examples_are_tried() {
    let with = |examples: &str| {
        format!(
            "name = \"x\"\nexecutable = \"/usr/bin/true\"\nargv = [\"-u\", \"{{unit}}\"]\n\
             slots = {{ unit = {{ type = \"enum\", values = [\"web\"] }} }}\nexamples = {examples}"
        )
    };
    good(&with(
        "{ allow = [\"-u web\", [\"-u\", \"web\"]], refuse = [\"-u we\", \"-u web; id\", [\"-u\", \"web \"], \"\"] }",
    ));
    let found = mistakes(&with("{ allow = [\"-u web\", \"-u db\"], refuse = [\"-u db\", \"-u web\"] }"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("/examples/allow/1: it is refused: unit: it must be one of web"),
        "{found:?}"
    );
    assert_eq!(found[1], "/examples/refuse/1: it is accepted");
}

#[test]
fn a_command_is_a_tool_with_a_schema() {
    let tool = good(DEPLOY).tool();
    let schema = &tool["inputSchema"];
    assert_eq!(schema["required"], serde_json::json!(["env", "note"]));
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["env"]["enum"], serde_json::json!(["dev", "test"]));
    assert_eq!(schema["properties"]["count"]["maximum"], 99);
    assert_eq!(schema["properties"]["files"]["maxItems"], 3);
    assert_eq!(schema["properties"]["label"]["pattern"], "^(?:[a-z-]{0,8})$");
    jsonschema::validator_for(schema).unwrap();
}
