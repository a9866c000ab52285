//! Lines and arguments of attackers, each with what has to come of it.

use sentinel_gateway::command::{Commands, RawCommand, check};
use serde_json::Value;

pub(crate) const CORPUS: &str = include_str!("corpus.jsonl");

pub(crate) fn commands() -> Commands {
    #[derive(serde::Deserialize)]
    struct File {
        commands: Vec<RawCommand>,
    }
    let file: File = toml::from_str(include_str!("corpus.toml")).unwrap();
    Commands::new(file.commands.iter().map(|raw| check(raw, "exec").unwrap()).collect())
}

#[test]
fn no_line_of_the_corpus_gets_by() {
    let (commands, mut wrong, mut seen, mut accepted) = (commands(), Vec::new(), 0, 0);
    for line in CORPUS.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let expected = case["expect"].as_str().map(str::to_owned);
        let got = if let Some(text) = case["line"].as_str() {
            commands.recognise(text).ok().map(|(command, _)| command.name.clone())
        } else if let Some(program) = case["executable"].as_str() {
            let raw = RawCommand {
                name: Some("x".to_owned()),
                executable: Some(program.to_owned()),
                ..RawCommand::default()
            };
            check(&raw, "exec").ok().map(|command| command.name)
        } else {
            let command = commands.find(case["command"].as_str().unwrap());
            let arguments = case["arguments"].to_string();
            command.and_then(|command| {
                command.fill_arguments(Some(&arguments)).ok().map(|_| command.name.clone())
            })
        };
        seen += 1;
        accepted += usize::from(got.is_some());
        if got != expected {
            wrong.push(format!("{got:?} instead of {expected:?}: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen >= 500 && accepted >= 15, "{seen} cases, {accepted} accepted");
}
