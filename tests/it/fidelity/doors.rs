//! A client at either door in either era, which sends and keeps texts and never models of them.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::Runtime;

use super::corpus::{dressed, get, members, plain};
use crate::support::{Gateway, Setup, eventually};

/// A way to speak, of a client or of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    Handshake,
    Stateless,
}

/// A way to reach the gateway, or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Pipe,
    Web,
}

/// What the client says of itself, with everything in it that nobody knows.
pub(super) fn capabilities() -> String {
    dressed(
        r#"{"roots":{"listChanged":true},"sampling":{"x":"@odd"},"elicitation":{"form":{},"url":{}},"vendor.example/x":"@odd"}"#,
    )
}

/// What the client calls itself.
pub(super) fn info() -> String {
    dressed(r#"{"version":"1.0","name":"it\u0061","icons":[{"src":""}],"x":"@odd"}"#)
}

/// One client of one gateway.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) era: Era,
    gateway: Gateway,
    web: Option<Web>,
    last: u64,
}

#[derive(Debug)]
struct Web {
    runtime: Runtime,
    client: reqwest::Client,
    url: String,
    session: Option<String>,
}

/// What came of a request: its answer, and what came before.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The id of the request as it was spelled.
    pub(super) id: String,
    pub(super) before: Vec<String>,
    pub(super) answer: String,
}

impl Door {
    /// Starts a gateway and comes in.
    pub(super) fn open(way: Way, era: Era, setup: Setup) -> Self {
        let gateway = match way {
            Way::Pipe => Gateway::spawn(setup),
            Way::Web => Gateway::spawn(
                setup
                    .gateway("listen = \"127.0.0.1:0\"")
                    .auth("mode = \"local\"\nrole = \"admin\"")
                    .more("[http]\nallow_local = true"),
            ),
        };
        let mut door = Self { era, gateway, web: None, last: 0 };
        if way == Way::Web {
            door.web = Some(Web::open(&door.gateway));
        }
        if era == Era::Handshake {
            let params = format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{}}}"#,
                capabilities(),
                info()
            );
            let hello = door.ask("initialize", &params, "");
            assert!(get(&hello.answer, "result").is_some(), "initialize was refused: {}", hello.answer);
            door.tell("notifications/initialized", "{}");
        } else if way == Way::Pipe {
            // The first words of such a client. Servers that shake hands are greeted when it is known who comes.
            let discovered = door.ask("server/discover", &door.meta(r#"{"_meta":{"@meta":0}}"#), "");
            assert!(get(&discovered.answer, "result").is_some(), "not discovered: {}", discovered.answer);
        }
        for backend in door.gateway.setup.prompt().to_vec() {
            door.gateway.await_log(&format!("backend is ready backend={backend} "), 1);
        }
        door
    }

    /// Waits until the gateway has logged this.
    pub(super) fn await_log(&self, text: &str) {
        self.gateway.await_log(text, 1);
    }

    /// What stands for `"@meta":0` in the params of this client's requests.
    pub(super) fn meta(&self, params: &str) -> String {
        match self.era {
            Era::Handshake => params
                .replace("\"@meta\":0,", "")
                .replace(",\"@meta\":0", "")
                .replace("\"_meta\":{\"@meta\":0}", "\"_meta\":{}"),
            Era::Stateless => params.replace(
                "\"@meta\":0",
                &format!(
                    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"debug","io.modelcontextprotocol/clientInfo":{}"#,
                    capabilities(),
                    info()
                ),
            ),
        }
    }

    /// An id that few would expect.
    fn id(&mut self) -> String {
        self.last += 1;
        let last = self.last;
        match last % 4 {
            0 => format!("\"\\u0061-{last}\""),
            1 => format!("18446744073709551616{last}"),
            2 => format!("-{last}"),
            _ => format!("\"é {last}\""),
        }
    }

    /// Makes a request, answers what is asked meanwhile with `reply` (`"result":…` or `"error":…`, or else not at
    /// all), and waits.
    pub(super) fn ask(&mut self, method: &str, params: &str, reply: &str) -> Exchange {
        let id = self.id();
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let mut before = Vec::new();
        if let Some(web) = &mut self.web {
            let answer = web.exchange(&request, reply, &mut before);
            return Exchange { id, before, answer };
        }
        self.gateway.send_raw(&request);
        loop {
            let message = self.next();
            match kind(&message) {
                Kind::Answer if get(&message, "id") == Some(&id) => {
                    return Exchange { id, before, answer: message };
                }
                Kind::Question(asked) => {
                    if !reply.is_empty() {
                        self.gateway.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":{asked},{reply}}}"#));
                    }
                    before.push(message);
                }
                Kind::Answer | Kind::Notification => before.push(message),
            }
        }
    }

    /// Sends a request over a pipe and does not wait; the id.
    pub(super) fn begin(&mut self, method: &str, params: &str) -> String {
        let id = self.id();
        self.gateway
            .send_raw(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#));
        id
    }

    /// Whether it speaks over a pipe.
    pub(super) fn is_pipe(&self) -> bool {
        self.web.is_none()
    }

    /// Answers a question over a pipe.
    pub(super) fn reply(&mut self, id: &str, result: &str) {
        self.gateway.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    }

    /// The next message that came through a pipe, but for what the gateway says of its lists by itself.
    pub(super) fn next(&mut self) -> String {
        loop {
            let message = self.gateway.next().raw;
            let method = get(&message, "method").map(plain).unwrap_or_default();
            if !(method.ends_with("/list_changed") && get(&message, "params").is_none()) {
                return message;
            }
        }
    }

    /// Ends the gateway: what it has on record.
    pub(super) fn into_audit(mut self) -> Vec<serde_json::Value> {
        self.gateway.end();
        self.gateway.audit()
    }

    /// Sends a notification.
    pub(super) fn tell(&mut self, method: &str, params: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        match &self.web {
            Some(web) => assert_eq!(web.tell(&text), 202, "{method}"),
            None => self.gateway.send_raw(&text),
        }
    }
}

/// What a message is.
enum Kind {
    Answer,
    /// With its id.
    Question(String),
    Notification,
}

fn kind(message: &str) -> Kind {
    match (get(message, "method"), get(message, "id")) {
        (Some(_), Some(id)) => Kind::Question(id.to_owned()),
        (Some(_), None) => Kind::Notification,
        (None, _) => Kind::Answer,
    }
}

impl Web {
    fn open(gateway: &Gateway) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = eventually("the address of the door", || {
            let log = gateway.log();
            let at = log.find("listening on http://")? + "listening on ".len();
            Some(log[at..].split_whitespace().next()?.to_owned())
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // The session is known with the first answer.
        Self { runtime, client: reqwest::Client::builder().no_proxy().build().unwrap(), url, session: None }
    }

    fn headers(&self, text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        };
        set("content-type", "application/json");
        set("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            set("mcp-session-id", session);
        }
        let params = get(text, "params").unwrap_or("{}");
        let stateless = get(params, "_meta")
            .is_some_and(|meta| members(meta).iter().any(|(key, _)| key.contains("/protocolVersion")));
        if stateless {
            set("mcp-protocol-version", "2026-07-28");
            let method = plain(get(text, "method").unwrap());
            let name = match &*method {
                "tools/call" | "prompts/get" => get(params, "name"),
                "resources/read" => get(params, "uri"),
                _ => None,
            };
            set("mcp-method", &method);
            if let Some(name) = name {
                set("mcp-name", &plain(name));
            }
        }
        headers
    }

    async fn post(&self, text: &str) -> reqwest::Response {
        let request = self.client.post(&self.url).headers(self.headers(text)).body(text.to_owned());
        request.send().await.unwrap()
    }

    fn tell(&self, text: &str) -> u16 {
        self.runtime.block_on(async { self.post(text).await.status().as_u16() })
    }
}

impl Web {
    /// Posts a request and reads its answer to the end, be it one message or a stream of them.
    fn exchange(&mut self, request: &str, reply: &str, before: &mut Vec<String>) -> String {
        let (session, answer) = self.runtime.block_on(async {
            let mut response = self.post(request).await;
            let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
            let session = header("mcp-session-id");
            if header("content-type").as_deref() != Some("text/event-stream") {
                return (session, response.text().await.unwrap());
            }
            let mut read = String::new();
            let mut rest = Vec::new();
            loop {
                while let Some((event, after)) = read.split_once("\n\n") {
                    let message = event.lines().filter_map(|line| line.strip_prefix("data: "));
                    let message = message.collect::<Vec<_>>().join("\n");
                    read = after.to_owned();
                    match kind(if message.is_empty() { continue } else { &message }) {
                        Kind::Answer => return (session, message),
                        Kind::Notification => before.push(message),
                        Kind::Question(asked) => {
                            let reply = format!(r#"{{"jsonrpc":"2.0","id":{asked},{reply}}}"#);
                            assert_eq!(self.post(&reply).await.status().as_u16(), 202, "{reply}");
                            before.push(message);
                        }
                    }
                }
                let chunk = response.chunk().await.unwrap().unwrap_or_else(|| panic!("no answer: {read}"));
                // A chunk may end within a character.
                rest.extend_from_slice(&chunk);
                let whole = match std::str::from_utf8(&rest) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                read.push_str(std::str::from_utf8(&rest[..whole]).unwrap());
                rest.drain(..whole);
            }
        });
        self.session = self.session.take().or(session);
        answer
    }
}
