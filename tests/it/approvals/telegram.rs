//! A Telegram bot before a server that says what Telegram would: what it shows, and whose buttons count for what.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{LEA, asking, list, pending, ran, ready, text, to, waits};
use crate::support::{Setup, eventually};

const TOKEN: &str = "123456789:AAcanary-of-the-bots-token-0001";
const CHAT: i64 = -100_777;
const LEAS: i64 = 42;

/// What the bot sent, and what it is told.
#[derive(Default)]
struct Talk {
    /// Method and params.
    calls: Vec<(String, Value)>,
    /// Updates that it has not asked for yet.
    updates: Vec<Value>,
    last: i64,
    messages: i64,
    /// So many requests are answered with a failure.
    failing: usize,
}

#[derive(Clone)]
struct Server {
    url: String,
    talk: Arc<(Mutex<Talk>, Condvar)>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { url: format!("http://{}", listener.local_addr().unwrap()), talk: Arc::default() };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        server
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let path = line.split(' ').nth(1)?.to_owned();
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let params: Value = serde_json::from_slice(&body).ok()?;
            let method = path.strip_prefix(&format!("/bot{TOKEN}/")).map(str::to_owned);
            let (status, said) = match method {
                Some(method) => self.said(&method, params),
                None => (401, json!({"ok": false, "description": "Unauthorized"})),
            };
            let said = said.to_string();
            let answer = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{said}",
                said.len()
            );
            stream.write_all(answer.as_bytes()).ok()?;
        }
    }

    fn said(&self, method: &str, params: Value) -> (u16, Value) {
        let (talk, pressed) = &*self.talk;
        let mut talk = talk.lock().unwrap();
        if talk.failing > 0 {
            talk.failing -= 1;
            return (502, json!({"ok": false, "description": "Bad Gateway"}));
        }
        if method == "getUpdates" {
            let offset = params["offset"].as_i64().unwrap();
            let until = Instant::now() + Duration::from_secs(5);
            loop {
                talk.updates.retain(|update| update["update_id"].as_i64().unwrap() >= offset);
                if !talk.updates.is_empty() || Instant::now() >= until {
                    return (200, json!({"ok": true, "result": talk.updates}));
                }
                talk = pressed.wait_timeout(talk, Duration::from_millis(50)).unwrap().0;
            }
        }
        talk.calls.push((method.to_owned(), params));
        if method == "sendMessage" {
            talk.messages += 1;
            return (200, json!({"ok": true, "result": {"message_id": talk.messages}}));
        }
        (200, json!({"ok": true, "result": true}))
    }

    /// The params of all calls of a method.
    fn calls(&self, method: &str) -> Vec<Value> {
        let talk = self.talk.0.lock().unwrap();
        talk.calls.iter().filter(|(known, _)| known == method).map(|(_, params)| params.clone()).collect()
    }

    /// The message about a request, as soon as it is there.
    fn shown(&self, id: &str) -> Value {
        eventually("a message about it", || {
            self.calls("sendMessage").into_iter().find(|sent| sent["text"].as_str().unwrap().contains(id))
        })
    }

    /// Somebody presses a button; what they are told.
    fn press(&self, user: i64, chat: i64, data: &str) -> String {
        let query = {
            let mut talk = self.talk.0.lock().unwrap();
            talk.last += 1;
            let (update, messages) = (talk.last, talk.messages);
            let query = format!("q{update}");
            talk.updates.push(json!({"update_id": update, "callback_query": {
                "id": query, "from": {"id": user}, "data": data,
                "message": {"message_id": messages, "chat": {"id": chat}},
            }}));
            self.talk.1.notify_all();
            query
        };
        eventually("an answer to who pressed", || {
            let answers = self.calls("answerCallbackQuery");
            let answer = answers.into_iter().find(|answer| answer["callback_query_id"] == query.as_str())?;
            Some(answer["text"].as_str().unwrap().to_owned())
        })
    }
}

/// What a button of a message carries.
fn button(message: &Value, name: &str) -> Option<String> {
    let row = message["reply_markup"]["inline_keyboard"].get(0)?.as_array()?;
    let found = row.iter().find(|button| button["text"] == name)?;
    Some(found["callback_data"].as_str().unwrap().to_owned())
}

fn bot(server: &Server, rules: &str) -> Setup {
    asking(rules).env("TELEGRAM_TOKEN", TOKEN).more(&format!(
        "[approvals]\nwait_secs = 0\n[approvals.telegram]\ntoken = \"${{TELEGRAM_TOKEN}}\"\nchat = {CHAT}\napi = {:?}\n\
         users = [{{ id = {LEAS}, subject = \"lea\", role = \"lead\" }}, {{ id = 43, subject = \"ann\", role = \"both\" }}, \
         {{ id = 44, subject = \"vic\", role = \"viewer\" }}]",
        server.url
    ))
}

const ASK: &str = "[[rbac.approvals]]\ntools = [\"deploy\"]\n";

#[test]
fn a_button_of_a_person_who_may_decide_approves_once() {
    let server = Server::start();
    let mut gateway = ready(bot(&server, ASK));
    waits(&gateway.call("deploy", to("prod\u{202e}")));
    let (id, digest) = pending(&gateway.setup);
    let shown = server.shown(&id);
    assert_eq!(shown["chat_id"], CHAT);
    let words = shown["text"].as_str().unwrap();
    assert!(words.contains("/arguments/to = \"prod⟦U+202E⟧\"") && words.contains(&digest[..19]), "{words}");
    let approve = button(&shown, "Approve").unwrap();
    assert!(approve.len() <= 64, "{approve}");
    // Foreigners, the requester, people without the right, another chat, a made-up button.
    for (user, chat, data, told) in [
        (666, CHAT, approve.as_str(), "not known to the gateway"),
        (43, CHAT, approve.as_str(), "nobody decides on their own request"),
        (44, CHAT, approve.as_str(), "lacks the permission approvals.decide"),
        (LEAS, -5, approve.as_str(), "not in the chat"),
        (LEAS, CHAT, &approve.replacen('a', "r", 1), "not the gateway's"),
        (LEAS, CHAT, "a", "not the gateway's"),
    ] {
        let said = server.press(user, chat, data);
        assert!(said.contains(told), "{user} {chat}: {said}");
    }
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending");
    let said = server.press(LEAS, CHAT, &approve);
    assert!(said.contains("may run once"), "{said}");
    assert_eq!(text(&gateway.call("deploy", to("prod\u{202e}"))), "deployed");
    let said = server.press(LEAS, CHAT, &approve);
    assert_eq!(ran(&gateway.setup).len(), 1, "{said}");
    waits(&gateway.call("deploy", to("prod\u{202e}")));
    let next = pending(&gateway.setup);
    server.press(LEAS, CHAT, &approve);
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending", "an old button is for the old request");
    // The message tells how it stands, without buttons.
    let edits = eventually("the message is changed", || {
        let edits = server.calls("editMessageText");
        edits.iter().any(|edit| edit["text"].as_str().unwrap().contains("consumed by")).then_some(edits)
    });
    assert_eq!(edits.last().unwrap()["reply_markup"]["inline_keyboard"], json!([]), "{edits:?}");
    let reject = button(&server.shown(&next.0), "Reject").unwrap();
    server.press(LEAS, CHAT, &reject);
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "rejected");
    assert!(!gateway.log().contains(TOKEN), "the token is in the log");
    gateway.end();
    let rows = gateway.audit();
    let decided = rows.iter().find(|row| row["tool"] == "approvals.approve" && row["status"] == "success");
    assert_eq!(decided.unwrap()["subject"], "lea", "{rows:?}");
    let tried = rows.iter().filter(|row| row["tool"] == "approvals.approve" && row["status"] != "success");
    assert!(tried.count() >= 2, "who tried is on record: {rows:?}");
}

#[test]
fn what_has_a_high_risk_or_is_not_shown_whole_is_only_rejected_by_a_button() {
    let server = Server::start();
    let rules =
        "[[rbac.approvals]]\ntools = [\"deploy\"]\nrisk = \"high\"\n[[rbac.approvals]]\ntools = [\"look\"]\n";
    let mut gateway = ready(bot(&server, rules));
    waits(&gateway.call("deploy", to("prod")));
    let (id, _) = pending(&gateway.setup);
    let shown = server.shown(&id);
    assert_eq!(button(&shown, "Approve"), None);
    assert!(shown["text"].as_str().unwrap().contains("approvals approve appr_"), "{shown}");
    let reject = button(&shown, "Reject").unwrap();
    let said = server.press(LEAS, CHAT, &reject);
    assert!(said.contains("rejected"), "{said}");
    let many: Vec<String> = (0..200).map(|number| format!("a rather long word {number}")).collect();
    waits(&gateway.call("look", json!({ "list": many })));
    let (id, _) = pending(&gateway.setup);
    let shown = server.shown(&id);
    assert_eq!(button(&shown, "Approve"), None);
    assert!(shown["text"].as_str().unwrap().contains("[NOT ALL OF IT: "), "{shown}");
    assert!(button(&shown, "Reject").is_some());
    assert!(ran(&gateway.setup).is_empty());
}

#[test]
fn a_server_that_fails_is_asked_again_and_a_call_never_waits_for_it() {
    let server = Server::start();
    server.talk.0.lock().unwrap().failing = 2;
    let mut gateway = ready(bot(&server, ASK));
    gateway.await_log("telegram: what people press is not heard", 1);
    eventually("it works again", || (server.talk.0.lock().unwrap().failing == 0).then_some(()));
    waits(&gateway.call("deploy", to("prod")));
    let (id, _) = pending(&gateway.setup);
    assert!(button(&server.shown(&id), "Approve").is_some());
    gateway.end();
}

#[test]
fn a_bot_without_a_token_or_with_half_a_user_is_a_mistake() {
    let setup = asking(ASK)
        .more("[approvals.telegram]\nusers = [{ id = 1 }, { id = 2, subject = \"x\", role = \"gone\" }]");
    let (code, said) = setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "approvals.telegram.token",
        "approvals.telegram.chat",
        "approvals.telegram.users[0]",
        "there is no role \"gone\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
