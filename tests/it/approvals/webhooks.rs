//! Who hears of approvals by a webhook: signed, in order to be told of what matters, and never waited for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use super::{LEA, approve, done, pending, ready, text, to, waiting, waits};
use crate::support::{Gateway, Setup, eventually};

/// The key that the receiver checks with.
const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

/// A message as it came.
#[derive(Clone, Debug)]
struct Message {
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

impl Message {
    fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// As the specification says; the same over anything else does not fit.
    #[track_caller]
    fn is_signed(&self) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
        let signature = STANDARD.decode(self.signature.strip_prefix("v1,").unwrap()).unwrap();
        let signed = |body: &str| format!("{}.{}.{body}", self.id, self.timestamp);
        hmac::verify(&key, signed(&self.body).as_bytes(), &signature).unwrap();
        let other = self.body.replacen("appr_", "appr-", 1);
        assert!(hmac::verify(&key, signed(&other).as_bytes(), &signature).is_err());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(self.timestamp.parse().unwrap()) < 300, "{self:?}");
    }
}

/// A receiver that answers with these statuses in turn, and with 204 after that. 0 stands for no answer at all.
#[derive(Clone)]
struct Receiver {
    url: String,
    heard: Arc<Mutex<Vec<Message>>>,
    statuses: Arc<Mutex<Vec<u16>>>,
}

impl Receiver {
    fn answering(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let statuses = statuses.iter().rev().copied().collect();
        let receiver = Self { url, heard: Arc::default(), statuses: Arc::new(Mutex::new(statuses)) };
        let own = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        receiver
    }

    fn serve(&self, mut stream: std::net::TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let path = line.split(' ').nth(1)?.to_owned();
            let (mut headers, mut length) = (std::collections::HashMap::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.parse().ok()?;
                }
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
            assert_eq!(path, "/hook", "a redirect was followed");
            self.heard.lock().unwrap().push(Message {
                id: header("webhook-id"),
                timestamp: header("webhook-timestamp"),
                signature: header("webhook-signature"),
                body: String::from_utf8(body).ok()?,
            });
            let status = self.statuses.lock().unwrap().pop().unwrap_or(204);
            if status == 0 {
                std::thread::sleep(Duration::from_secs(60));
                return None;
            }
            let more = if status == 302 { "location: /elsewhere\r\n" } else { "" };
            let answer = format!("HTTP/1.1 {status} Said\r\n{more}content-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).ok()?;
        }
    }

    fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap().clone()
    }

    /// The first message of this kind.
    fn of(&self, kind: &str) -> Message {
        eventually(kind, || self.heard().into_iter().find(|message| message.value()["type"] == kind))
    }
}

fn hooked(setup: Setup, receiver: &Receiver) -> Setup {
    setup
        .more(&format!("webhooks = [{{ url = {:?}, secret = \"${{HOOK_KEY}}\" }}]", receiver.url))
        .env("HOOK_KEY", &format!("whsec_{}", STANDARD.encode(KEY)))
}

#[test]
fn each_step_is_told_signed_and_with_what_people_are_shown() {
    let receiver = Receiver::answering(&[]);
    let mut gateway = ready(hooked(waiting(0), &receiver));
    waits(&gateway.call("deploy", to("prod\u{202e}")));
    let request = pending(&gateway.setup);
    let told = receiver.of("approval.requested");
    told.is_signed();
    assert_eq!(told.id, format!("{}-requested", request.0));
    let data = told.value()["data"].clone();
    assert_eq!(
        (&data["approval_id"], &data["digest"], &data["state"]),
        (&json!(request.0), &json!(request.1), &json!("pending"))
    );
    let shown = data["text"].as_str().unwrap();
    assert!(shown.contains("/arguments/to = \"prod⟦U+202E⟧\""), "{shown}");
    let on_terminal = done(&gateway.setup, LEA, &["show", &request.0]);
    assert_eq!(shown.trim_end(), on_terminal.trim_end(), "the same text on every channel");
    approve(&gateway.setup, LEA, &request);
    let told = receiver.of("approval.decided");
    told.is_signed();
    assert_eq!(told.value()["data"]["approved_by"], json!(["lea"]));
    assert_eq!(text(&gateway.call("deploy", to("prod\u{202e}"))), "deployed");
    receiver.of("approval.consumed").is_signed();
    assert_eq!(receiver.heard().len(), 3, "{:?}", receiver.heard());
}

/// Receivers that fail, lead elsewhere or hang: the call is answered at once, and the message comes again with the same id.
#[test]
fn a_receiver_that_fails_is_tried_again_and_nobody_waits_for_one_that_hangs() {
    let (failing, leading, hanging) =
        (Receiver::answering(&[500]), Receiver::answering(&[302]), Receiver::answering(&[0, 0, 0]));
    let mut setup = waiting(0).env("HOOK_KEY", &format!("whsec_{}", STANDARD.encode(KEY)));
    let hooks: Vec<String> = [&failing, &leading, &hanging]
        .iter()
        .map(|receiver| format!("{{ url = {:?}, secret = \"${{HOOK_KEY}}\" }}", receiver.url))
        .collect();
    setup = setup.more(&format!("webhooks = [{}]", hooks.join(", ")));
    let mut gateway = ready(setup);
    waits(&gateway.call("deploy", to("prod")));
    eventually("the one that hangs was asked", || (!hanging.heard().is_empty()).then_some(()));
    let request = pending(&gateway.setup);
    approve(&gateway.setup, LEA, &request);
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed", "nobody waits for a receiver");
    // The request was decided before the second attempt, and who is asked too late is not asked.
    for receiver in [&failing, &leading] {
        receiver.of("approval.consumed").is_signed();
    }
    waits(&gateway.call("deploy", to("test")));
    let second = pending(&gateway.setup);
    let told = |receiver: &Receiver| {
        let wanted = format!("{}-requested", second.0);
        receiver.heard().into_iter().filter(|message| message.id == wanted).collect::<Vec<_>>()
    };
    failing.statuses.lock().unwrap().push(503);
    for receiver in [&failing, &leading] {
        eventually("it is told", || (!told(receiver).is_empty()).then_some(()));
    }
    // The gateway ends in order although one of them hangs.
    gateway.end();
}

#[test]
fn a_message_that_was_not_taken_comes_again_with_the_same_id() {
    let receiver = Receiver::answering(&[500]);
    let mut gateway = ready(hooked(waiting(0), &receiver));
    waits(&gateway.call("deploy", to("prod")));
    let heard = eventually("a second attempt", || Some(receiver.heard()).filter(|heard| heard.len() >= 2));
    assert_eq!(heard[0].id, heard[1].id, "so that a receiver knows it");
    heard.iter().for_each(Message::is_signed);
    // So it does after a restart, for what waits still.
    let gateway = Gateway::start({
        gateway.end();
        gateway.into_setup()
    });
    let heard = eventually("told once more", || Some(receiver.heard()).filter(|heard| heard.len() >= 3));
    assert_eq!(heard[0].id, heard[2].id);
    drop(gateway);
}

#[test]
fn who_says_gone_is_not_told_any_more() {
    let receiver = Receiver::answering(&[410]);
    let mut gateway = ready(hooked(waiting(0), &receiver));
    waits(&gateway.call("deploy", to("one")));
    gateway.await_log("wants no notifications any more (410)", 1);
    waits(&gateway.call("deploy", to("two")));
    let request = pending(&gateway.setup);
    approve(&gateway.setup, LEA, &request);
    gateway.end();
    assert_eq!(receiver.heard().len(), 1, "{:?}", receiver.heard());
}

/// A secret of the gateway's own configuration that comes in the arguments of a call does not leave it by a webhook.
#[test]
fn no_secret_of_the_configuration_is_in_a_message() {
    const CANARY: &str = "canary-7f3a9d21c4";
    let receiver = Receiver::answering(&[]);
    let setup = hooked(waiting(0), &receiver).env("CANARY", CANARY).backend(
        "other",
        &[],
        "env = { OTHER_KEY = \"${CANARY}\" }",
    );
    let mut gateway = ready(setup);
    waits(&gateway.call("deploy", to(&format!("prod {CANARY}"))));
    let told = receiver.of("approval.requested");
    assert!(!told.body.contains(CANARY), "{}", told.body);
    assert!(told.body.contains("[redacted]"), "{}", told.body);
    let key = STANDARD.encode(KEY);
    assert!(!told.body.contains(&key) && !gateway.log().contains(&key) && !gateway.log().contains(CANARY));
}

#[test]
fn a_webhook_without_a_key_or_with_a_wrong_one_is_a_mistake() {
    let setup = waiting(0).more(
        "webhooks = [{ url = \"http://127.0.0.1:1/\" }, { url = \"ftp://x\", secret = \"whsec_AAAA\" }]",
    );
    let (code, said) = setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    for part in ["approvals.webhooks[0].secret", "approvals.webhooks[1].url"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
