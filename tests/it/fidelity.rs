//! What passes through comes out byte for byte: unknown fields, order, spelling, whatever revision it is of.
//!
//! The corpus in `fixtures/corpus` has every kind of message with something unknown at every level. Each is sent
//! through the gateway, and compared with what comes out at the other end. What may differ is listed in
//! [`corpus`], and what the gateway says in its own words instead (`initialize`, `server/discover`, the wrapping of
//! lists, `list_changed`) is not compared.

mod cancel;
mod corpus;
mod doors;
mod foreign;
mod single;

use crate::support::{HttpServer, Setup, eventually};

use self::corpus::{
    REQUEST, REQUEST_META, RESULT, RESULT_META, bare, difference, get, lines, members, plain,
};
use self::doors::{Door, Era, Exchange, Way};

/// What did not come out as it went in.
#[derive(Debug, Default)]
struct Findings(Vec<String>);

impl Findings {
    fn same(&mut self, about: &str, wanted: &str, got: &str) {
        if wanted != got {
            self.0.push(format!("{about}: {}", difference(wanted, got)));
        }
    }
}

/// A client and a server with the gateway between them.
#[derive(Debug)]
struct Cell {
    door: Door,
    server: Era,
    found: Findings,
    /// Runs as long as the cell.
    _web: Option<HttpServer>,
}

/// The flags of the mirror of this era, whose files stand in the folder of the gateway.
fn flags(setup: &Setup, server: Era) -> Vec<String> {
    let greeting = match server {
        Era::Handshake => corpus::HANDSHAKE,
        Era::Stateless => corpus::STATELESS,
    };
    let mut flags: Vec<String> = ["--profile", "mirror", "--sse"].map(str::to_owned).into();
    for (name, file) in [("greeting", greeting), ("answers", corpus::ANSWERS), ("lists", corpus::LISTS)] {
        std::fs::write(setup.path(name), lines(file).join("\n")).unwrap();
        flags.extend(["--answers".to_owned(), setup.text(name)]);
    }
    flags
}

/// A gateway before one mirror, called as it calls itself.
fn mirror(setup: Setup, flags: &[String], keys: &str) -> Setup {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    setup.backend("mirror", &flags, keys)
}

impl Cell {
    fn new(client: (Way, Era), server: (Way, Era)) -> Self {
        Self::within(Setup::new(), client, server)
    }

    /// One whose gateway is set up like this.
    fn within(setup: Setup, client: (Way, Era), server: (Way, Era)) -> Self {
        let flags = flags(&setup, server.1);
        let (setup, web) = match server.0 {
            Way::Pipe => (mirror(setup, &flags, ""), None),
            Way::Web => {
                let web = HttpServer::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
                (setup.http("mirror", &web.url(), ""), Some(web))
            }
        };
        let door = Door::open(client.0, client.1, setup);
        door.await_log("backend is ready backend=mirror ");
        Self { door, server: server.1, found: Findings::default(), _web: web }
    }

    /// Whether client and server speak alike, so that nothing has to be translated.
    fn alike(&self) -> bool {
        self.door.era == self.server
    }

    /// The lines that this pair of eras has.
    fn lines(&self, file: &str) -> Vec<String> {
        let fits = |line: &String| match get(line, "era").map(plain).as_deref() {
            Some("handshake") => self.door.era == Era::Handshake && self.server == Era::Handshake,
            Some("stateless") => self.door.era == Era::Stateless && self.server == Era::Stateless,
            _ => true,
        };
        lines(file).into_iter().filter(fits).collect()
    }

    /// Asks for this target, and has the server do as `words` say.
    fn told(&mut self, method: &str, words: &str, reply: &str) -> Exchange {
        let target = match method {
            "prompts/get" => r#""name":"greet""#,
            "resources/read" => r#""uri":"mirror://a""#,
            "completion/complete" => {
                r#""ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"a","value":""}"#
            }
            _ => r#""name":"mirror""#,
        };
        let params = format!(r#"{{{target},{words},"_meta":{{"progressToken":"t\u006f","@meta":0}}}}"#);
        let params = self.door.meta(&params);
        self.door.ask(method, &params, reply)
    }

    /// What the server has received since the last time.
    fn received(&mut self) -> Vec<String> {
        let params = self.door.meta(r#"{"name":"received","_meta":{"@meta":0}}"#);
        let answer = self.door.ask("tools/call", &params, "").answer;
        let content = get(&answer, "result").and_then(|result| get(result, "structuredContent"));
        let content = content.unwrap_or_else(|| panic!("nothing was received: {answer}"));
        serde_json::from_str(get(content, "messages").unwrap()).unwrap()
    }

    /// From the client to the server.
    fn requests(&mut self) {
        for line in self.lines(corpus::REQUESTS) {
            let [about, method] = ["about", "method"].map(|key| plain(get(&line, key).unwrap()));
            let params = self.door.meta(get(&line, "params").unwrap());
            self.received();
            let sent = params.replace("\"@mine\"", "\"t\\u006f ken\"");
            let answer = self.door.ask(&method, &sent, "").answer;
            if get(&answer, "result").is_none() {
                self.found.0.push(format!("{about}: refused: {answer}"));
            }
            let heard = self.received();
            let is_it = |message: &&String| {
                let params = get(message, "params").unwrap_or("{}");
                get(message, "method").map(plain).as_deref() == Some(&method)
                    && get(params, "name").map(plain).as_deref() != Some("received")
            };
            let Some(message) = heard.iter().find(is_it) else {
                self.found.0.push(format!("{about}: it never came"));
                continue;
            };
            let id = get(message, "id").unwrap();
            let wanted = params.replace("\"@mine\"", id);
            if self.alike() {
                let wanted =
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{wanted}}}"#);
                self.found.same(&about, &wanted, message);
                continue;
            }
            let got = get(message, "params").unwrap();
            let [wanted, bared] =
                [&wanted, got].map(|params| bare(params, &REQUEST, &REQUEST_META).join("\n"));
            self.found.same(&about, &wanted, &bared);
            let meta = get(got, "_meta").map(members).unwrap_or_default();
            let said =
                |key: &str| meta.iter().find(|(name, _)| plain(name).ends_with(key)).map(|(_, value)| *value);
            let wanted = (self.server == Era::Stateless).then(|| (doors::capabilities(), doors::info()));
            let wanted = wanted.as_ref().map(|(capabilities, info)| (&**capabilities, &**info));
            let got =
                said("modelcontextprotocol/clientCapabilities").zip(said("modelcontextprotocol/clientInfo"));
            self.found.same(
                &format!("{about}, what the client is"),
                &format!("{wanted:?}"),
                &format!("{got:?}"),
            );
        }
    }

    /// From the server to the client: results.
    fn results(&mut self) {
        for line in self.lines(corpus::RESULTS) {
            let [about, method] = ["about", "method"].map(|key| plain(get(&line, key).unwrap()));
            let result = get(&line, "result").unwrap();
            let got = self.told(&method, &format!(r#""reply":{result}"#), "");
            if self.alike() {
                let wanted = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, got.id);
                self.found.same(&about, &wanted, &got.answer);
                continue;
            }
            let Some(answer) = get(&got.answer, "result") else {
                self.found.0.push(format!("{about}: refused: {}", got.answer));
                continue;
            };
            let [wanted, bared] = [result, answer].map(|text| bare(text, &RESULT, &RESULT_META).join("\n"));
            self.found.same(&about, &wanted, &bared);
        }
    }

    /// From the server to the client: errors. Between the eras some codes mean something else.
    fn errors(&mut self) {
        for line in self.lines(corpus::ERRORS) {
            let [about, method] = ["about", "method"].map(|key| plain(get(&line, key).unwrap()));
            let error = get(&line, "error").unwrap();
            let got = self.told(&method, &format!(r#""error":{error}"#), "");
            let code = match (get(error, "code").unwrap(), self.door.era, self.server) {
                ("-32002", Era::Stateless, Era::Handshake) => "-32602",
                ("-32020" | "-32022", Era::Handshake, Era::Stateless) => "-32603",
                ("-32021", Era::Handshake, Era::Stateless) => "-32600",
                (code, ..) => code,
            };
            let error = error.replace(get(error, "code").unwrap(), code);
            let wanted = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, got.id);
            self.found.same(&about, &wanted, &got.answer);
        }
    }

    /// From the server to the client: notifications.
    fn notifications(&mut self) {
        for line in self.lines(corpus::NOTIFICATIONS) {
            let [about, method] = ["about", "method"].map(|key| plain(get(&line, key).unwrap()));
            let params = get(&line, "params").unwrap();
            let message = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
            let got = self.told("tools/call", &format!(r#""before":[{message}],"reply":{{}}"#), "");
            let wanted = message.replace("\"@token\"", "\"t\\u006f\"");
            self.found.same(&about, &wanted, got.before.first().map_or("", String::as_str));
        }
    }

    /// From the server to the client and back: questions and their answers.
    fn questions(&mut self) {
        for line in self.lines(corpus::QUESTIONS) {
            let [about, method] = ["about", "method"].map(|key| plain(get(&line, key).unwrap()));
            let params = get(&line, "params").unwrap();
            let kind = if get(&line, "error").is_some() { "error" } else { "result" };
            let answer = get(&line, kind).unwrap();
            let reply = format!("\"{kind}\":{answer}");
            self.received();
            match (self.door.era, self.server) {
                (_, Era::Handshake) => {
                    let ask =
                        format!(r#"{{"jsonrpc":"2.0","id":"m-1","method":"{method}","params":{params}}}"#);
                    let words = format!(r#""ask":{ask},"reply":{{}}"#);
                    let got = self.told("tools/call", &words, &reply);
                    self.asked(&about, &method, params, &words, &reply, &got);
                    let wanted = format!(r#"{{"jsonrpc":"2.0","id":"m-1",{reply}}}"#);
                    let heard = self.received();
                    let heard = heard.iter().find(|message| get(message, "method").is_none());
                    self.found.same(
                        &format!("{about}, the answer"),
                        &wanted,
                        heard.map_or("", |heard| heard),
                    );
                }
                (Era::Handshake, Era::Stateless) => {
                    let round = format!(
                        r#"{{"resultType":"input_required","inputRequests":{{"k\u0065y":{{"method":"{method}","params":{params}}}}},"requestState":"st\u0061te"}}"#
                    );
                    let words = format!(r#""reply":{round},"then":{{"resultType":"complete"}}"#);
                    let got = self.told("tools/call", &words, &reply);
                    self.asked(&about, &method, params, &words, &reply, &got);
                    let heard = self.received();
                    let again = heard.iter().filter_map(|message| get(message, "params"));
                    let mut again = again.rev().filter_map(|params| {
                        Some((get(get(params, "inputResponses")?, "key")?, get(params, "requestState")?))
                    });
                    let got = again.next().unwrap_or(("", ""));
                    self.found.same(&format!("{about}, the answer"), answer, got.0);
                    self.found.same(&format!("{about}, the state"), r#""st\u0061te""#, got.1);
                }
                // Nothing but a result and a request.
                (Era::Stateless, Era::Stateless) => {}
            }
        }
    }

    /// How the client heard a question; one that shook hands hears it in the middle of the call, another with its end.
    fn asked(&mut self, about: &str, method: &str, params: &str, words: &str, reply: &str, got: &Exchange) {
        if self.door.era == Era::Handshake {
            let question = got.before.first().map_or("{}", String::as_str);
            let id = get(question, "id").unwrap_or("");
            let wanted = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
            self.found.same(about, &wanted, question);
            return;
        }
        let result = get(&got.answer, "result").unwrap_or("{}");
        let asked = get(result, "inputRequests").map(members).unwrap_or_default();
        let Some((key, request)) = asked.first() else {
            return self.found.0.push(format!("{about}: not asked: {}", got.answer));
        };
        self.found.same(about, params, get(request, "params").unwrap_or(""));
        let state = get(result, "requestState").unwrap();
        let answer = reply.split_once(':').unwrap().1;
        let words = format!(r#"{words},"inputResponses":{{{key}:{answer}}},"requestState":{state}"#);
        let done = self.told("tools/call", &words, "");
        if get(&done.answer, "result").is_none() {
            self.found.0.push(format!("{about}: the answer was refused: {}", done.answer));
        }
    }

    /// From the client to the server: what it may say of its own accord. The stateless era has nothing of the kind.
    fn told_by_client(&mut self) {
        if (self.door.era, self.server) != (Era::Handshake, Era::Handshake) {
            return;
        }
        // A client that can be asked may have a connection of its own, and that is where it must be heard.
        self.received();
        for line in self.lines(corpus::TOLD) {
            let [about, method] = ["about", "method"].map(|key| plain(get(&line, key).unwrap()));
            let params = get(&line, "params").unwrap();
            match get(&line, "question") {
                // A notification about a server's question is for that server, and over a pipe it can be sent in the middle.
                Some(question) if self.door.is_pipe() => {
                    self.told_of_a_question(question, get(&line, "answer"), &method, params);
                }
                Some(_) => continue,
                None => self.door.tell(&method, params),
            }
            let wanted = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
            // Over HTTP it may come after the call that asks for it.
            let got = eventually(&about, || {
                // Others of the same method may be the gateway's own; only if there is no better one it is compared with them.
                let heard = self.received().into_iter().filter(|message| corpus::is(message, &method));
                let heard: Vec<String> = heard.collect();
                heard.iter().find(|message| **message == wanted).or_else(|| heard.first()).cloned()
            });
            self.found.same(&about, &wanted, &got);
        }
    }

    /// Has the server ask, and tells it something of its question: after the answer if there is one, or before it.
    fn told_of_a_question(&mut self, question: &str, answer: Option<&str>, method: &str, params: &str) {
        self.door.begin("tools/call", &format!(r#"{{"name":"mirror","ask":{question},"reply":{{}}}}"#));
        let asked = self.door.next();
        let id = get(&asked, "id").unwrap().to_owned();
        if let Some(answer) = answer {
            self.door.reply(&id, answer);
        }
        // The client knows the question by the gateway's id, and so is its token.
        let token = get(get(&asked, "params").unwrap(), "_meta").and_then(|meta| get(meta, "progressToken"));
        assert_eq!(token.unwrap_or(&id), id, "{asked}");
        self.door.tell(method, &params.replace(r#""m\u0031""#, &id));
        if answer.is_none() {
            self.door.reply(&id, r#"{"roots":[]}"#);
        }
        let done = self.door.next();
        assert!(get(&done, "result").is_some(), "{done}");
    }

    /// From the server to the client: what it offers. The lists are merged, so their order is the gateway's.
    fn lists(&mut self) {
        for line in self.lines(corpus::LISTS) {
            let method = plain(get(&line, "method").unwrap());
            let key = match &*method {
                "resources/templates/list" => "resourceTemplates",
                _ => method.split('/').next().unwrap(),
            };
            let params = self.door.meta(r#"{"_meta":{"@meta":0}}"#);
            let answer = self.door.ask(&method, &params, "").answer;
            let items = |result: &str| {
                let items = corpus::elements(get(result, key).unwrap());
                let mut items: Vec<String> = items.into_iter().map(str::to_owned).collect();
                items.sort();
                items.join("\n")
            };
            let wanted = items(get(&line, "result").unwrap());
            let Some(result) = get(&answer, "result") else {
                self.found.0.push(format!("{method}: refused: {answer}"));
                continue;
            };
            self.found.same(&method, &wanted, &items(result));
        }
    }

    fn run(mut self) {
        self.lists();
        self.requests();
        self.results();
        self.errors();
        self.notifications();
        self.questions();
        self.told_by_client();
        let found = self.found.0;
        assert!(found.is_empty(), "{} messages came out changed:\n{}", found.len(), found.join("\n"));
    }
}

macro_rules! cells {
    ($($name:ident: $client_way:ident $client:ident, $server_way:ident $server:ident;)*) => {$(
        #[test]
        fn $name() {
            Cell::new((Way::$client_way, Era::$client), (Way::$server_way, Era::$server)).run();
        }
    )*};
}

cells! {
    pipe_handshake_pipe_handshake: Pipe Handshake, Pipe Handshake;
    pipe_handshake_web_handshake: Pipe Handshake, Web Handshake;
    pipe_handshake_pipe_stateless: Pipe Handshake, Pipe Stateless;
    pipe_handshake_web_stateless: Pipe Handshake, Web Stateless;
    pipe_stateless_pipe_handshake: Pipe Stateless, Pipe Handshake;
    pipe_stateless_pipe_stateless: Pipe Stateless, Pipe Stateless;
    web_handshake_pipe_handshake: Web Handshake, Pipe Handshake;
    web_handshake_web_handshake: Web Handshake, Web Handshake;
    web_handshake_pipe_stateless: Web Handshake, Pipe Stateless;
    web_handshake_web_stateless: Web Handshake, Web Stateless;
    web_stateless_pipe_handshake: Web Stateless, Pipe Handshake;
    web_stateless_web_handshake: Web Stateless, Web Handshake;
    web_stateless_pipe_stateless: Web Stateless, Pipe Stateless;
    web_stateless_web_stateless: Web Stateless, Web Stateless;
}
