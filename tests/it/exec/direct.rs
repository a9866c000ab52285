//! The executor alone, asked over its socket: what it takes for a permission, and what it does not.

use std::os::unix::fs::PermissionsExt as _;

use sentinel_gateway::capability::{Key, Token};
use sentinel_gateway::command::frames::{FRAME, Question, Reply};

use super::scene::{Scene, answers, ask, call, connected, now, purpose};
use crate::support::eventually;

const ECHO: &str = r#"
[[commands]]
name = "echo"
executable = "/usr/bin/echo"
argv = ["said:", "--", "{words}"]
slots = { words = { type = "text", pattern = "[ -~]{1,80}" } }
"#;

#[test]
fn a_token_is_good_for_one_run_whatever_comes_between() {
    let scene = Scene::new(ECHO);
    let executor = scene.start();
    let echo = call("echo", &[("words", "hello; id $(id)")]);
    let (action, digest) = scene.prepare(&echo).unwrap();
    let action: serde_json::Value = serde_json::from_str(&action).unwrap();
    assert_eq!(action["argv"], serde_json::json!(["said:", "--", "hello; id $(id)"]));
    assert_eq!(action["executable"]["path"], "/usr/bin/echo");
    let token = scene.token("echo", digest);
    let ran = scene.run_with(&echo, &token);
    assert_eq!(ran.out, "said: -- hello; id $(id)\n");
    assert_eq!(ran.end.unwrap().code, 0);
    assert_eq!(scene.run_with(&echo, &token).refused(), "consumed");
    // What is asked again needs a token of its own.
    assert_eq!(scene.output(&echo), "said: -- hello; id $(id)\n");
    drop(executor);
    let executor = scene.start();
    assert_eq!(scene.run_with(&echo, &token).refused(), "consumed", "after a restart");
    drop(executor);
    let events: Vec<String> =
        scene.record().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["intent", "outcome", "refused", "intent", "outcome", "refused"]);
    let first = &scene.record()[0];
    assert_eq!((&first["subject"], &first["call"]), (&"ann".into(), &"call-1".into()));
    assert_eq!(first["action"]["argv"][2], "hello; id $(id)");
    let (code, said) = scene.verify();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("6 lines are as they were written"), "{said}");
    // A record that somebody changed is not in order.
    let path = scene.setup.path("run/state/record.jsonl");
    let text = std::fs::read_to_string(&path).unwrap().replacen("\"ann\"", "\"bob\"", 1);
    std::fs::write(&path, text).unwrap();
    let (code, said) = scene.verify();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("BROKEN: line 2") || said.contains("BROKEN: line 1"), "{said}");
}

#[test]
fn among_racers_with_one_token_one_runs() {
    let scene = Scene::new(&ECHO.replace("[[commands]]", "[[commands]]\nread_only = true"));
    let executor = scene.start();
    let echo = call("echo", &[("words", "once")]);
    for _ in 0..5 {
        let (_, digest) = scene.prepare(&echo).unwrap();
        let token = scene.token("echo", digest);
        let runs: usize = std::thread::scope(|scope| {
            let racers: Vec<_> =
                (0..12).map(|_| scope.spawn(|| scene.run_with(&echo, &token).end.is_ok())).collect();
            racers.into_iter().map(|racer| usize::from(racer.join().unwrap())).sum()
        });
        assert_eq!(runs, 1);
    }
    assert_eq!(scene.record().iter().filter(|line| line["event"] == "intent").count(), 5);
    drop(executor);
}

#[test]
fn only_the_very_token_counts() {
    let scene = Scene::new(ECHO);
    let _executor = scene.start();
    let echo = call("echo", &[("words", "x")]);
    let (_, digest) = scene.prepare(&echo).unwrap();
    let other = Key::from_pem(&Key::generate().unwrap().0).unwrap();
    let usual = purpose("echo", digest);
    let mint = |key: &Key, purpose, from| key.mint(&purpose, from, 30).unwrap();
    let good = mint(&scene.key, usual, now());
    let mut bent = good.bytes().to_vec();
    bent[20] ^= 1;
    let mut longer = good.bytes().to_vec();
    longer.push(0);
    let (_, another) = scene.prepare(&call("echo", &[("words", "y")])).unwrap();
    let cases = [
        (Token::from_bytes(Vec::new()), "token_refused"),
        (Token::from_bytes(bent), "token_refused"),
        (Token::from_bytes(longer), "token_refused"),
        (mint(&other, usual, now()), "token_refused"),
        (
            mint(&scene.key, sentinel_gateway::capability::Purpose { audience: "other", ..usual }, now()),
            "token_refused",
        ),
        (
            mint(&scene.key, sentinel_gateway::capability::Purpose { command: "list", ..usual }, now()),
            "token_refused",
        ),
        (
            mint(&scene.key, sentinel_gateway::capability::Purpose { environment: "prd", ..usual }, now()),
            "wrong_environment",
        ),
        (mint(&scene.key, usual, now() - 31), "expired"),
        (mint(&scene.key, usual, now() + 60), "expired"),
        (mint(&scene.key, purpose("echo", another), now()), "changed"),
        (mint(&scene.key, purpose("echo", [0; 32]), now()), "changed"),
    ];
    for (number, (token, reason)) in cases.into_iter().enumerate() {
        assert_eq!(scene.run_with(&echo, &token).refused(), reason, "{number}");
    }
    // None of that has used it up.
    assert_eq!(scene.run_with(&echo, &good).out, "said: -- x\n");
}

#[test]
fn garbage_is_refused_and_changes_nothing() {
    let scene = Scene::new(ECHO);
    let _executor = scene.start();
    let good = Question::Prepare(call("echo", &[("words", "x")])).encode();
    let mut messages: Vec<Vec<u8>> = vec![
        b"x".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"{\"command\":\"echo\"}".to_vec(),
        b"SGX1".to_vec(),
        b"SGX2\x03".to_vec(),
        b"SGX1\x03x".to_vec(),
        b"SGX1\x01\xff\xff\xff\xff".to_vec(),
        b"SGX1\x01\0\0\0\x04echo\xff\xff\xff\xff".to_vec(),
        vec![0; FRAME],
        vec![0; FRAME + 1],
    ];
    messages.extend((1..good.len()).map(|end| good[..end].to_vec()));
    messages.extend((0..good.len()).map(|at| {
        let mut bent = good.clone();
        bent[at] ^= 0x80;
        bent
    }));
    for message in &messages {
        let Ok(replies) = ask(&scene.socket(), message) else { continue };
        match replies.as_slice() {
            [Reply::Refused { .. }] => {}
            // One bent letter of the command or the slot is another name, and refused as such.
            other => panic!("{message:?}: {other:?}"),
        }
    }
    // One who says nothing holds up nobody.
    let silent: Vec<_> = (0..4).map(|_| connected(&scene.socket()).unwrap()).collect();
    assert_eq!(scene.output(&call("echo", &[("words", "well")])), "said: -- well\n");
    drop(silent);
}

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(ECHO);
    let executor = scene.start();
    assert_eq!(scene.socket().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let path = scene.socket();
    let as_another = move |path: std::path::PathBuf| {
        // Only this thread becomes another user.
        std::thread::spawn(move || {
            let uid = rustix::process::Uid::from_raw(12_345);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            ask(&path, &Question::Health.encode())
        })
        .join()
        .unwrap()
    };
    assert!(as_another(path.clone()).is_err(), "the mode of the socket lets it in");
    // Even where the mode would let it in, the kernel tells who it is.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let replies = as_another(path).unwrap();
    assert!(
        matches!(replies.as_slice(), [Reply::Refused { reason, .. }] if reason == "not_the_gateway"),
        "{replies:?}"
    );
    eventually("the log tells it", || {
        executor.log().contains("another user than the gateway's was refused").then_some(())
    });
}

#[test]
fn there_is_a_bound_on_calls_at_once() {
    let scene = Scene::new(ECHO);
    let file = scene.setup.path("executor.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("max_calls = 2\n{text}")).unwrap();
    let _executor = scene.start();
    let held: Vec<_> = (0..2).map(|_| connected(&scene.socket()).unwrap()).collect();
    eventually("the third is refused", || {
        let third = connected(&scene.socket()).unwrap();
        let replies = answers_soon(&third)?;
        matches!(replies.as_slice(), [Reply::Refused { reason, .. }] if reason == "busy").then_some(())
    });
    drop(held);
    eventually("there is room again", || {
        let replies = ask(&scene.socket(), &Question::Health.encode()).ok()?;
        matches!(replies.as_slice(), [Reply::Healthy { .. }]).then_some(())
    });
}

/// What comes without a question, if it comes before the executor loses patience.
fn answers_soon(socket: &std::os::fd::OwnedFd) -> Option<Vec<Reply>> {
    let replies = answers(socket);
    (!replies.is_empty()).then_some(replies)
}

#[test]
fn it_does_not_start_with_less_than_it_promises() {
    let launcher = "[[commands]]\nname = \"x\"\nexecutable = \"{dir}/harmless\"\n";
    let scene = Scene::new(launcher);
    std::fs::copy("/usr/bin/dash", scene.data("harmless")).unwrap();
    let (code, said) = scene.spawn().ends();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("under another name"), "{said}");
    std::fs::write(scene.data("harmless"), "#!/bin/sh\nid\n").unwrap();
    let (code, said) = scene.spawn().ends();
    assert_eq!(code, Some(1));
    assert!(said.contains("is a script, which an interpreter runs"), "{said}");
    std::fs::remove_file(scene.data("harmless")).unwrap();
    std::os::unix::fs::symlink("/usr/bin/echo", scene.data("harmless")).unwrap();
    let (code, said) = scene.spawn().ends();
    assert_eq!(code, Some(1));
    assert!(said.contains("there is a link on the way to it; write /usr/bin/echo"), "{said}");
    if rustix::process::geteuid().is_root() {
        let scene = Scene::new(ECHO);
        let file = scene.setup.path("executor.toml");
        let text = std::fs::read_to_string(&file).unwrap().replace("user = \"nobody\"\n", "");
        std::fs::write(&file, text).unwrap();
        let (code, said) = scene.spawn().ends();
        assert_eq!(code, Some(1));
        assert!(said.contains("would run as root"), "{said}");
    }
    // Two at one socket are one too many.
    let scene = Scene::new(ECHO);
    let _first = scene.start();
    let (code, said) = scene.spawn().ends();
    assert_eq!(code, Some(1));
    assert!(said.contains("another executor listens"), "{said}");
}

#[test]
fn what_the_executor_guards_is_reached_by_nothing_of_the_gateway() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(ECHO);
    let guarded = scene.data("guarded");
    std::fs::write(&guarded, "").unwrap();
    let file = scene.setup.path("executor.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("guards = [{guarded:?}]\n{}", text.replace("nobody", "daemon"))).unwrap();
    let _executor = scene.start();
    let mode = |mode: u32| std::fs::set_permissions(&guarded, std::fs::Permissions::from_mode(mode)).unwrap();
    let look = || scene.setup.bare(&["executor", "check", "executor.toml", "--privileges"]);
    // A gateway of an ordinary user, with a server.
    let mut gateway = crate::support::Gateway::start(crate::support::Setup::echo().ordinary_user());
    gateway.await_tool("echo");
    mode(0o600);
    let (_, said, _) = look();
    assert!(!said.contains(&format!("process {},", gateway.pid())), "{said}");
    mode(0o606);
    let (code, said, _) = look();
    assert_eq!(code, Some(1), "{said}");
    let reached: Vec<&str> =
        said.lines().filter(|line| line.contains("REACHED") && line.contains("user 65534")).collect();
    assert!(reached.iter().any(|line| line.contains(&format!("process {},", gateway.pid()))), "{said}");
    assert!(
        reached.iter().any(|line| line.contains("fixture-backend")),
        "its server is of the deployment: {said}"
    );
    assert!(reached[0].contains("its user or a group of it may write to it (mode 0606)"), "{said}");
}

#[test]
fn mistakes_of_its_file_are_told_together() {
    let scene = Scene::new(
        "[[commands]]\nname = \"a b\"\nexecutable = \"sh\"\n[[commands]]\nname = \"c\"\nexecutable = \"/bin/sh\"\n",
    );
    std::fs::write(
        scene.setup.path("executor.toml"),
        "name = \"e x\"\nenvironment = \"dev\"\nsocket = \"s\"\ndir = \"d\"\npublic_keys = [\"sentinel.toml\"]\ncommands_from = \"sentinel.toml\"\nmax_calls = 0\n",
    )
    .unwrap();
    let (code, out, err) = scene.setup.bare(&["executor", "check", "executor.toml"]);
    assert_eq!(code, Some(1), "{out}");
    for text in [
        "\"e x\" is no name",
        "no Ed25519 key",
        "max_calls",
        "\"a b\" cannot be the name",
        "\"sh\" is not an absolute path",
    ] {
        assert!(err.contains(text), "{text}: {err}");
    }
}
