//! A client of the HTTP door that can be made to say every header wrong.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Gateway, PATIENCE, Setup, eventually, mint};

/// The revision without sessions.
pub(crate) const STATELESS: &str = "2026-07-28";
/// The newest revision with them.
pub(crate) const NEWEST: &str = "2025-11-25";

/// A gateway whose HTTP door is open.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) gateway: Gateway,
    /// `127.0.0.1` and the port that the system chose.
    pub(crate) address: String,
}

impl Door {
    /// `keys` are those of `[http]`; tables of it may follow.
    pub(crate) fn open(setup: Setup, keys: &str) -> Self {
        Self::of(Gateway::spawn(setup.gateway("listen = \"127.0.0.1:0\"").more(&format!("[http]\n{keys}"))))
    }

    /// Ends it in order, and opens another one with the same file.
    pub(crate) fn again(self) -> Self {
        let mut gateway = self.gateway;
        gateway.signal(rustix::process::Signal::TERM);
        assert!(gateway.wait_exit().success(), "{}", gateway.log());
        Self::of(Gateway::spawn(gateway.into_setup()))
    }

    /// Opens one with the file of another that has ended.
    pub(crate) fn restart(setup: Setup) -> Self {
        Self::of(Gateway::spawn(setup))
    }

    fn of(gateway: Gateway) -> Self {
        let address = eventually("the HTTP door", || {
            let log = gateway.log();
            let (_, rest) = log.split_once("listening on http://")?;
            Some(rest.split_once("/mcp")?.0.to_owned())
        });
        for backend in gateway.setup.prompt() {
            gateway.await_log(&format!("backend is ready backend={backend} "), 1);
        }
        Self { gateway, address }
    }

    /// One stdio backend called `echo`, with all the tools.
    pub(crate) fn echo() -> Self {
        Self::open(Setup::echo(), "")
    }

    /// Somebody without a token.
    pub(crate) fn anyone(&self) -> Client {
        Client::of(&self.address)
    }

    /// This person, with the role `admin`.
    pub(crate) fn client(&self, subject: &str) -> Client {
        self.anyone().bearer(&mint(subject, "admin", 3600))
    }

    /// How many sessions are open, as the door's own health says; asking uses none of them.
    pub(crate) fn sessions(&self) -> u64 {
        let health = self.anyone().at("/mcp/health").get();
        health.value()["sessions"].as_u64().unwrap_or_else(|| panic!("{health:?}"))
    }
}

/// The runtime under all clients; the tests themselves are plain threads.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

fn http() -> &'static reqwest::Client {
    static HTTP: OnceLock<reqwest::Client> = OnceLock::new();
    HTTP.get_or_init(|| {
        // An error means that a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().build().unwrap()
    })
}

fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        let answer = tokio::time::timeout(PATIENCE, future).await;
        answer.unwrap_or_else(|_| panic!("{what}: not within {} s", PATIENCE.as_secs()))
    })
}

/// An id that no other request of the tests has.
pub(crate) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A request as it stands in a body.
pub(crate) fn request(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": fresh(), "method": method, "params": params})
}

/// The params of `tools/call`.
#[allow(clippy::needless_pass_by_value, reason = "it is called with json!(…) in place")]
pub(crate) fn tool(name: &str, arguments: Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

/// One way of asking: the headers that every request of it has.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Client {
    /// Somebody without a token, at this address.
    pub(crate) fn of(address: &str) -> Self {
        let headers =
            [("accept", "application/json, text/event-stream"), ("content-type", "application/json")];
        Self {
            http: http().clone(),
            url: format!("http://{address}/mcp"),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }

    /// The same with this header, in place of one that was there.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut changed = self.without(name);
        changed.headers.push((name.to_owned(), value.to_owned()));
        changed
    }

    /// The same with this header once more.
    pub(crate) fn twice(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.push((name.to_owned(), value.to_owned()));
        changed
    }

    pub(crate) fn without(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.retain(|(held, _)| held != name);
        changed
    }

    pub(crate) fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// The same at another path, with a query if it has one.
    pub(crate) fn at(&self, path: &str) -> Self {
        let origin = self.url.strip_suffix("/mcp").unwrap();
        Self { url: format!("{origin}{path}"), ..self.clone() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(held, _)| held == name);
        &found.unwrap_or_else(|| panic!("no header {name}")).1
    }

    /// A request whose answer is not read yet.
    pub(crate) fn begin(&self, method: Method, body: Option<String>) -> Response {
        let mut request = self.http.request(method, &self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        wait("the head of an answer", request.send()).unwrap()
    }

    fn exchange(&self, method: Method, body: Option<String>) -> Answer {
        let response = self.begin(method, body);
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8(wait("an answer", response.bytes()).unwrap().to_vec()).unwrap();
        Answer { status, headers, text }
    }

    pub(crate) fn get(&self) -> Answer {
        self.exchange(Method::GET, None)
    }

    pub(crate) fn delete(&self) -> Answer {
        self.exchange(Method::DELETE, None)
    }

    pub(crate) fn options(&self) -> Answer {
        self.exchange(Method::OPTIONS, None)
    }

    pub(crate) fn post(&self, body: &Value) -> Answer {
        self.post_text(body.to_string())
    }

    pub(crate) fn post_text(&self, body: String) -> Answer {
        self.exchange(Method::POST, Some(body))
    }

    /// A session's standing stream.
    pub(crate) fn listen(&self) -> Stream {
        Stream::of(self.with("accept", "text/event-stream").begin(Method::GET, None))
    }

    /// A POST whose answer is read as it comes.
    pub(crate) fn follow(&self, body: &Value) -> Stream {
        Stream::of(self.begin(Method::POST, Some(body.to_string())))
    }

    /// A POST whose answer nobody has read yet; it goes on its own.
    pub(crate) fn begin_post(&self, body: &Value) -> tokio::task::JoinHandle<()> {
        let (this, body) = (self.clone(), body.to_string());
        runtime().spawn(async move {
            let mut request = this.http.post(&this.url);
            for (name, value) in &this.headers {
                request = request.header(name, value);
            }
            // What comes of it is somebody else's question.
            let _ = request.body(body).send().await;
        })
    }

    /// Opens a session; the client that is in it.
    pub(crate) fn hello(&self, revision: &str) -> Self {
        self.greeting(revision, &json!({}))
    }

    /// The same, of a client with these capabilities.
    pub(crate) fn greeting(&self, revision: &str, capabilities: &Value) -> Self {
        let info = json!({"name": "it", "version": "1"});
        let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": info});
        let opened = self.post(&request("initialize", &params));
        assert_eq!(opened.status, 200, "{opened:?}");
        assert_eq!(opened.value()["result"]["protocolVersion"], revision, "{opened:?}");
        let session = opened.header("mcp-session-id").unwrap_or_else(|| panic!("no session: {opened:?}"));
        let inside = self.with("mcp-session-id", session).with("mcp-protocol-version", revision);
        let notified = inside.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        assert_eq!(notified.status, 202, "{notified:?}");
        inside
    }

    /// A request of the handshake era.
    pub(crate) fn request(&self, method: &str, params: &Value) -> Answer {
        self.post(&request(method, params))
    }

    /// Calls a tool in a session; the whole response.
    pub(crate) fn call(&self, name: &str, arguments: Value) -> Value {
        let answer = self.request("tools/call", &tool(name, arguments));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.value()
    }

    /// The structured result of a tool without arguments.
    pub(crate) fn structured(&self, name: &str) -> Value {
        self.call(name, json!({}))["result"]["structuredContent"].clone()
    }

    /// The names of the tools, in a session.
    pub(crate) fn tools(&self) -> Vec<String> {
        names(&self.request("tools/list", &json!({})).value())
    }

    /// A correct stateless request: the headers it needs, and its body.
    pub(crate) fn modern(&self, method: &str, params: &Value) -> (Self, Value) {
        self.declaring(&json!({}), method, params)
    }

    /// The same, of a client with these capabilities.
    pub(crate) fn declaring(&self, capabilities: &Value, method: &str, params: &Value) -> (Self, Value) {
        let mut body = request(method, params);
        body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = STATELESS.into();
        body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
        let mut client = self.with("mcp-protocol-version", STATELESS).with("mcp-method", method);
        if let Some(name) = params["name"].as_str().or(params["uri"].as_str()) {
            client = client.with("mcp-name", name);
        }
        (client, body)
    }

    /// Asks without a session.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Answer {
        let (client, body) = self.modern(method, params);
        client.post(&body)
    }
}

/// The names in an answer to `tools/list`.
pub(crate) fn names(list: &Value) -> Vec<String> {
    let tools = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Every message: the one of a JSON body, or those of an event stream.
    pub(crate) fn messages(&self) -> Vec<Value> {
        if self.header("content-type").is_some_and(|media| media.starts_with("text/event-stream")) {
            return self.text.split("\n\n").filter_map(message).collect();
        }
        let parsed = serde_json::from_str(&self.text);
        vec![parsed.unwrap_or_else(|error| panic!("no message ({error}): {self:?}"))]
    }

    /// The last message, which answers the request.
    pub(crate) fn value(&self) -> Value {
        self.messages().pop().unwrap_or_else(|| panic!("no message: {self:?}"))
    }

    /// The status and the code of an error.
    pub(crate) fn refusal(&self) -> (u16, i64) {
        (self.status, crate::support::code(&self.value()))
    }
}

/// The message of one event; none in a comment.
fn message(event: &str) -> Option<Value> {
    let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
    (!data.is_empty()).then(|| serde_json::from_str(&data.join("\n")).unwrap())
}

/// An event stream as it comes. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    fn of(response: Response) -> Self {
        let media = response.headers()["content-type"].to_str().unwrap();
        assert_eq!((response.status().as_u16(), media), (200, "text/event-stream"), "{response:?}");
        Self { response, text: String::new() }
    }

    /// The next message; none if the stream has ended.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                if let Some(message) = message(&event) {
                    return Some(message);
                }
            }
            // A connection that is cut is an end too; what has to be heard before it is asserted by who asks.
            let chunk = wait("the next event", self.response.chunk()).ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}
