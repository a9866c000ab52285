//! An HTTP API behind the gateway, and a client in front of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http_door::client::Door;
use crate::support::{PATIENCE, Setup, mint};

/// An HTTP API that says what it was asked. `/status/N` answers so, `/hang` never answers, `/cut` breaks off, `/garbage` is no
/// HTTP, `/large` is 2 MB long, `/redirect` leads to `/elsewhere` of its own.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let (counter, own) = (asked.clone(), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counter, own) = (counter.clone(), own.clone());
                std::thread::spawn(move || serve(stream, &counter, &own));
            }
        });
        Self { url, asked }
    }

    /// How many requests have reached it.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// One request after the other on a connection, until it ends or an answer needs it to.
fn serve(stream: TcpStream, counter: &AtomicUsize, own: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = serde_json::Map::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().into());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length").and_then(Value::as_str) {
            body = vec![0; length.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
        } else if headers.get("transfer-encoding").is_some() {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size).ok()?;
                let size = usize::from_str_radix(size.trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                reader.read_exact(&mut chunk).ok()?;
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        counter.fetch_add(1, Ordering::SeqCst);
        let path = target.split('?').next()?.to_owned();
        let mut answer = |status: u16, kind: &str, more: &str, body: &[u8]| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{more}\r\n"
            );
            stream.write_all(head.as_bytes()).ok()?;
            if method != "HEAD" {
                stream.write_all(body).ok()?;
            }
            Some(())
        };
        if let Some(status) = path.strip_prefix("/status/") {
            answer(status.parse().ok()?, "application/json", "", b"{\"said\":\"so\"}")?;
        } else if path == "/slow" {
            std::thread::sleep(Duration::from_millis(700));
            answer(201, "application/json", "x-slow: yes\r\n", b"{\"done\":true}")?;
        } else if path == "/hang" {
            std::thread::sleep(PATIENCE);
        } else if path == "/cut" {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").ok()?;
            return None;
        } else if path == "/garbage" {
            stream.write_all(b"this is no HTTP\r\n\r\n").ok()?;
            return None;
        } else if path == "/large" {
            answer(200, "text/plain", "", &vec![b'x'; 2 << 20])?;
        } else if path == "/redirect" {
            answer(302, "text/plain", &format!("location: {own}/elsewhere?a=b\r\n"), b"")?;
        } else if path == "/hop" {
            answer(
                200,
                "text/plain",
                "connection: x-inner\r\nx-inner: 1\r\nx-outer: 2\r\nset-cookie: a=b\r\n",
                b"ok",
            )?;
        } else {
            let body = String::from_utf8_lossy(&body).into_owned();
            let said = json!({"method": method, "target": target, "headers": headers, "body": body});
            answer(200, "application/json", "", said.to_string().as_bytes())?;
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {self:?} {}", String::from_utf8_lossy(&self.body)))
    }

    /// The reason of a problem document, which every refusal is.
    pub(crate) fn reason(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{problem}");
        assert!(problem["title"].is_string() && problem["type"] == "about:blank", "{problem}");
        problem["reason"].as_str().unwrap_or_else(|| panic!("{problem}")).to_owned()
    }

    /// Status and reason of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.reason())
    }
}

/// Sends bytes and reads one answer, until the other side closes if it has no length.
pub(crate) fn raw(address: &str, bytes: &[u8]) -> Option<Reply> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // A server may answer before it has read all.
    let (mut writer, bytes) = (stream.try_clone().ok()?, bytes.to_owned());
    let sending = std::thread::spawn(move || drop(writer.write_all(&bytes)));
    let reply = read(&mut BufReader::new(&stream));
    drop(stream.shutdown(std::net::Shutdown::Both));
    drop(sending.join());
    reply
}

fn read(reader: &mut impl BufRead) -> Option<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let status = line.split_whitespace().nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    match reply.header("content-length").map(str::to_owned) {
        Some(length) => {
            reply.body = vec![0; length.parse().ok()?];
            // An answer to HEAD has a length and no body.
            if reader.read_exact(&mut reply.body).is_err() {
                reply.body.clear();
            }
        }
        None if reply.header("transfer-encoding").is_some() => loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            reply.body.extend_from_slice(&chunk[..size]);
        },
        None => drop(reader.read_to_end(&mut reply.body)),
    }
    Some(reply)
}

/// One way of asking.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) address: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Caller {
    pub(crate) fn of(door: &Door) -> Self {
        Self { address: door.address.clone(), headers: Vec::new() }
    }

    pub(crate) fn token(door: &Door, subject: &str, role: &str) -> Self {
        Self::of(door).with("Authorization", &format!("Bearer {}", mint(subject, role, 3600)))
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// The request as it is sent.
    pub(crate) fn text(&self, method: &str, target: &str, body: Option<&[u8]>) -> Vec<u8> {
        let has = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        if !has("host") {
            text += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body
            && !has("content-length")
            && !has("transfer-encoding")
        {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "Connection: close\r\n\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        bytes
    }

    pub(crate) fn ask(&self, method: &str, target: &str) -> Reply {
        raw(&self.address, &self.text(method, target, None))
            .unwrap_or_else(|| panic!("{method} {target}: no answer"))
    }

    pub(crate) fn send(&self, method: &str, target: &str, kind: &str, body: &[u8]) -> Reply {
        let caller = self.clone().with("Content-Type", kind);
        raw(&self.address, &caller.text(method, target, Some(body)))
            .unwrap_or_else(|| panic!("{method} {target}: no answer"))
    }

    pub(crate) fn json(&self, method: &str, target: &str, body: &str) -> Reply {
        self.send(method, target, "application/json", body.as_bytes())
    }
}

/// Routes before an upstream, one of each kind.
pub(crate) fn routes(upstream: &str) -> String {
    format!(
        r##"
[[upstreams]]
name = "api"
url = "{upstream}"
headers = {{ X-Key = "of-the-gateway" }}
timeout_secs = 20
max_answer_bytes = 1048576

[[routes]]
id = "getPet"
method = "GET"
path = "/pets/{{petId}}"
target = {{ upstream = "api", path = "/v1/pets/{{petId}}" }}
[[routes.parameters]]
name = "petId"
in = "path"
schema = '{{"type":"integer","minimum":1}}'
[[routes.parameters]]
name = "tags"
in = "query"
explode = false
schema = '{{"type":"array","items":{{"type":"string"}}}}'
[[routes.parameters]]
name = "X-Tenant"
in = "header"
schema = '{{"type":"string","maxLength":8}}'

[[routes]]
id = "addPet"
method = "POST"
path = "/pets"
target = {{ upstream = "api" }}
max_body_bytes = 10000
[routes.body]
content = ["application/json"]
schema = '{{"type":"object","required":["name"],"properties":{{"name":{{"type":"string"}},"kin":{{"$ref":"#/$defs/pet"}}}},"$defs":{{"pet":{{"type":"object","properties":{{"name":{{"type":"string"}},"kin":{{"$ref":"#/$defs/pet"}}}}}}}}}}'
[routes.responses.200]
content = "application/json"

[[routes]]
id = "upload"
method = "PUT"
path = "/files/{{*path}}"
target = {{ upstream = "api" }}
[routes.body]
content = ["text/csv", "image/*"]

[[routes]]
id = "open"
method = "GET"
path = "/open/{{name}}"
auth = "none"
target = {{ upstream = "api" }}

[[routes]]
id = "keyed"
method = "GET"
path = "/keyed"
auth = "api_key"
target = {{ upstream = "api" }}

[[routes]]
id = "scoped"
method = "GET"
path = "/scoped"
scopes = ["pets:read"]
target = {{ upstream = "api" }}

[[routes]]
id = "any"
method = "GET"
path = "/any/{{*path}}"
target = {{ upstream = "api", path = "/{{*path}}" }}
timeout_secs = 2

[[routes]]
id = "pay"
method = "POST"
path = "/pay/{{*path}}"
target = {{ upstream = "api", path = "/{{*path}}" }}
idempotency = "required"
[routes.body]
content = ["application/json"]

[[routes]]
id = "flow"
method = "POST"
path = "/flow/{{*path}}"
target = {{ upstream = "api", path = "/{{*path}}" }}
stream = true
max_body_bytes = 20000000
[routes.body]
content = ["*/*"]
"##
    )
}

/// Ends a gateway in order, so that its record is complete.
pub(crate) fn stop(door: &mut Door) {
    door.gateway.signal(rustix::process::Signal::TERM);
    assert!(door.gateway.wait_exit().success(), "{}", door.gateway.log());
}

/// A gateway with these routes beside one MCP server.
pub(crate) fn gateway(upstream: &Upstream, setup: Setup, http: &str) -> Door {
    Door::open(setup, &format!("{http}\n{}", routes(&upstream.url)))
}
