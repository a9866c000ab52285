//! A caller with a good token that was granted too little is told what to get (RFC 6750, section 3.1; MCP
//! "Authorization", scope challenge).

use serde_json::json;

use super::auth::{challenge, odd};
use super::client::{Answer, Door, NEWEST, request, tool};
use crate::support::{Setup, code, reason};

const OAUTH: &str = "[http.oauth]
resource = \"https://mcp.example.org/mcp\"
authorization_servers = [\"https://login.example.org\"]
scopes = [\"mcp:read\"]";

const METADATA: &str = "/.well-known/oauth-protected-resource/mcp";

/// 403 with everything a client needs to ask for more; the body is that of any other denial.
fn insufficient(answer: &Answer, rpc: i64, scope: &str) {
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(challenge(answer, "error").as_deref(), Some("insufficient_scope"));
    assert_eq!(challenge(answer, "scope").as_deref(), Some(scope), "{answer:?}");
    let place = challenge(answer, "resource_metadata");
    assert_eq!(place.as_deref(), Some(&*format!("https://mcp.example.org{METADATA}")));
    let body = answer.value();
    assert_eq!((code(&body), reason(&body)), (rpc, "insufficient_scope"), "{body}");
    assert_eq!(body["error"]["data"]["scope"], scope, "{body}");
}

fn granted(scope: &str) -> String {
    odd(json!({"scope": scope}))
}

#[test]
fn without_a_required_scope_nothing_is_done_in_either_era() {
    let door = Door::open(Setup::echo().auth("required_scopes = [\"mcp\", \"mcp:read\"]"), OAUTH);
    let hello = request("initialize", &json!({"protocolVersion": NEWEST}));
    for claims in [json!({}), json!({"scope": "mcp"}), json!({"scp": ["mcp:read"]}), json!({"scope": ""})] {
        let ann = door.anyone().bearer(&odd(claims));
        insufficient(&ann.post(&hello), -32003, "mcp mcp:read");
        insufficient(&ann.get(), -32003, "mcp mcp:read");
        insufficient(&ann.ask("tools/call", &tool("echo", json!({}))), -31003, "mcp mcp:read");
    }
    assert_eq!(door.sessions(), 0);
    for claims in [json!({"scope": "mcp:read mcp"}), json!({"scp": ["mcp", "mcp:read", "more"]})] {
        let ann = door.anyone().bearer(&odd(claims));
        assert_eq!(ann.hello(NEWEST).structured("echo")["name"], "echo");
    }
    let nobody = door.anyone().post(&hello);
    assert_eq!(nobody.status, 401, "{nobody:?}");
    let wanted = challenge(&nobody, "scope");
    assert_eq!(wanted.as_deref(), Some("mcp mcp:read"), "what to ask for to begin with");
}

#[test]
fn a_tool_that_needs_more_says_so_and_works_with_it() {
    let rules = "[[rbac.scopes]]\ntools = [\"ec*\"]\nscope = \"mcp:write\"\n\
                 [[rbac.scopes]]\ntools = [\"echo\"]\nscope = \"mcp:admin\"";
    let door = Door::open(Setup::echo().more(rules), OAUTH);
    let both = "mcp:write mcp:admin";
    let session = door.anyone().bearer(&granted("mcp:read")).hello(NEWEST);
    assert!(session.tools().contains(&"echo".to_owned()), "who sees it can ask for the scope");
    let call = tool("echo", json!({}));
    insufficient(&session.request("tools/call", &call), -32003, both);
    let partly = session.bearer(&granted("mcp:read mcp:admin"));
    insufficient(&partly.request("tools/call", &call), -32003, both);
    insufficient(&partly.ask("tools/call", &call), -31003, both);
    assert!(session.structured("calls")["echo"].is_null(), "nothing reached the backend");
    // A token with more is all it takes: the session is the same.
    let stepped_up = session.bearer(&granted("mcp:admin mcp:read mcp:write"));
    assert_eq!(stepped_up.structured("echo")["name"], "echo");
    let answer = stepped_up.ask("tools/call", &call);
    assert_eq!(answer.value()["result"]["structuredContent"]["name"], "echo", "{answer:?}");
    // Other denials are no matter of scopes.
    let unknown = session.request("tools/call", &tool("no such tool", json!({})));
    assert_eq!((unknown.status, unknown.header("www-authenticate")), (200, None), "{unknown:?}");
    let metadata = door.anyone().at(METADATA).get().value();
    assert_eq!(metadata["scopes_supported"], json!(["mcp:read", "mcp:write", "mcp:admin"]), "{metadata}");
    door.gateway.await_audit("three refusals", |rows| {
        (rows.iter().filter(|row| row["status"] == "denied").count() == 3).then_some(())
    });
}
