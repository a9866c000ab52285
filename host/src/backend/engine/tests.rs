//! Engines that answer, and engines that do not: real processes.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::config::Secret;
use crate::config::rest::{EngineInput, EngineMode};

const ASK: Ask<'static> = Ask {
    operation: "op",
    arguments: r#"{"path":{"id":"7"},"body":{"n":1}}"#,
    subject: "ann",
    request_id: "r",
};
const LONG: Duration = Duration::from_secs(20);

fn engine(mode: EngineMode, script: &str) -> Engine {
    let settings = rest::Engine {
        name: "engine".to_owned(),
        command: "python3".to_owned(),
        args: ["-c", script].map(Secret::new).to_vec(),
        env: Vec::new(),
        cwd: None,
        sandbox: None,
        mode,
        input: EngineInput::Json,
        timeout: LONG,
        max_in_flight: 8,
        pool_size: 2,
        max_uses: 3,
        max_output: 64 << 10,
        exits: vec![(3, 404)],
        errors: vec![("NO_DATA".to_owned(), 404)],
    };
    Engine::new(settings, Redaction::default())
}

async fn once(script: &str) -> Judged {
    engine(EngineMode::Call, script).ask(ASK, &[], None, LONG).await.unwrap()
}

fn garbage(judged: &Judged) -> &str {
    match judged {
        Judged::Garbage(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_process_answers_one_call() {
    let script = "import json,sys; d=json.load(sys.stdin); print(json.dumps({'got': d['body']['n'], 'op': d['operation']}))";
    assert_eq!(once(script).await, Judged::Done(Bytes::from_static(br#"{"got": 1, "op": "op"}"#)));
    // It need not read what it is given.
    assert_eq!(once("print('{}')").await, Judged::Done(Bytes::from_static(b"{}")));
    let failed =
        once("import sys; print('{\"error\":{\"code\":\"NO_DATA\",\"message\":\"none\"}}'); sys.exit(4)")
            .await;
    let Judged::Failed { status, reason, message } = failed else { panic!("{failed:?}") };
    assert_eq!((status.as_u16(), reason.as_str(), message.as_str()), (404, "no_data", "NO_DATA: none"));
    let failed = once("import sys; sys.exit(3)").await;
    assert!(matches!(failed, Judged::Failed { status, .. } if status.as_u16() == 404), "{failed:?}");
}

#[tokio::test]
async fn what_is_no_answer_is_named() {
    let why = once("import sys; sys.stderr.write('no such store\\n'); sys.exit(1)").await;
    assert!(
        garbage(&why).contains("exited with code 1") && garbage(&why).contains("no such store"),
        "{why:?}"
    );
    let why = once("import os; os.kill(os.getpid(), 9)").await;
    assert!(garbage(&why).contains("signal 9"), "{why:?}");
    let why = once("print('{\"half\": ')").await;
    assert!(garbage(&why).contains("not one JSON document"), "{why:?}");
    let why = once("while True: print('x' * 65536)").await;
    assert!(garbage(&why).contains("more than 65536 bytes"), "{why:?}");
    let nothing = engine(EngineMode::Call, "");
    let mut settings = nothing.settings().clone();
    settings.command = "/no/such/program".to_owned();
    let error = Engine::new(settings, Redaction::default()).ask(ASK, &[], None, LONG).await;
    assert!(matches!(error, Err(EngineError::Start(_))), "{error:?}");
}

/// The process and what it started are gone when the caller hears that it took too long.
#[tokio::test]
async fn one_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "import subprocess,time; p=subprocess.Popen(['sleep','1000']); open({:?},'w').write(str(p.pid)+' '); time.sleep(1000)",
        file.to_str().unwrap()
    );
    let engine = Arc::new(engine(EngineMode::Call, &script));
    let hangs = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ask(ASK, &[], None, Duration::from_secs(3)).await }
    });
    let error = hangs.await.unwrap();
    assert_eq!(error, Err(EngineError::Timeout(Duration::from_secs(3))));
    let pid = std::fs::read_to_string(&file).unwrap_or_default();
    let pid = pid.trim();
    assert!(!pid.is_empty(), "it had not begun after 3 s");
    let until = Instant::now() + LONG;
    let there = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z")
    };
    while there() {
        assert!(Instant::now() < until, "{pid} still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const SERVE: &str = r#"
import json, os, sys, time
for line in sys.stdin:
    call = json.loads(line)
    body = call.get("body")
    if body == "crash": sys.exit(1)
    if body == "hang": time.sleep(1000)
    if body == "half": print('{"id": 1, "bo', flush=True); continue
    if body == "other": print('{"id": 999, "body": 1}', flush=True); continue
    if body == "flood": print("x" * 200000, flush=True); continue
    if body == "twice": print(json.dumps({"id": call["id"], "body": 1}) + "\n" + json.dumps({"id": call["id"] + 1, "body": "stolen"}), flush=True); continue
    if body == "none": print(json.dumps({"id": call["id"], "error": {"code": "NO_DATA", "message": "m"}}), flush=True); continue
    print(json.dumps({"id": call["id"], "body": {"pid": os.getpid(), "n": body}}), flush=True)
"#;

async fn pooled(engine: &Engine, body: &str) -> Result<Judged, EngineError> {
    let arguments = format!(r#"{{"body":{body}}}"#);
    let timeout = if body == "\"hang\"" { Duration::from_millis(500) } else { LONG };
    engine.ask(Ask { arguments: &arguments, ..ASK }, &[], None, timeout).await
}

fn pid(judged: &Judged) -> u64 {
    let Judged::Done(body) = judged else { panic!("{judged:?}") };
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    value["pid"].as_u64().unwrap()
}

#[tokio::test]
async fn a_warm_process_answers_many_and_none_after_a_wrong_word() {
    let engine = engine(EngineMode::Pool, SERVE);
    let first = pid(&pooled(&engine, "1").await.unwrap());
    assert_eq!(pid(&pooled(&engine, "2").await.unwrap()), first, "it stays warm");
    assert_eq!(pid(&pooled(&engine, "3").await.unwrap()), first);
    let second = pid(&pooled(&engine, "4").await.unwrap());
    assert_ne!(second, first, "it answers max_uses calls");
    let none = pooled(&engine, "\"none\"").await.unwrap();
    assert!(matches!(&none, Judged::Failed { status, .. } if status.as_u16() == 404), "{none:?}");
    assert_eq!(pid(&pooled(&engine, "5").await.unwrap()), second, "an error is an answer");
    let mut last = 0;
    for bad in ["crash", "half", "other", "flood"] {
        let judged = pooled(&engine, &format!("{bad:?}")).await.unwrap();
        assert!(!garbage(&judged).is_empty(), "{bad}");
        let next = pid(&pooled(&engine, "6").await.unwrap());
        assert_ne!(next, last, "after {bad} another process answers");
        last = next;
    }
    assert!(matches!(pooled(&engine, "\"hang\"").await, Err(EngineError::Timeout(_))));
    assert_ne!(pid(&pooled(&engine, "7").await.unwrap()), last);
    // An answer that nobody asked for is nobody's.
    assert_eq!(pooled(&engine, "\"twice\"").await.unwrap(), Judged::Done(Bytes::from_static(b"1")));
    let next = pooled(&engine, "8").await.unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(match &next {
            Judged::Done(body) => body,
            other => panic!("{other:?}"),
        })
        .unwrap()["n"],
        8
    );
    engine.stop();
}

#[tokio::test]
async fn calls_wait_for_a_process_and_no_more_than_may() {
    let engine = Arc::new(engine(
        EngineMode::Pool,
        "import sys,json,time\nfor l in sys.stdin:\n time.sleep(0.3)\n print(json.dumps({'id':json.loads(l)['id'],'body':1}),flush=True)",
    ));
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { pooled(&engine, "1").await })
        })
        .collect();
    let all = futures_util::future::join_all(calls).await;
    let (done, busy): (Vec<_>, Vec<_>) = all.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert_eq!((done.len(), busy.len()), (8, 2), "{busy:?}");
    assert!(busy.iter().all(|busy| *busy == Err(EngineError::Busy)));
}
