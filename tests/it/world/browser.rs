//! A page of another origin, in a real browser (Debian's Chromium), with the official SDK.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::http_door::client::Door;
use crate::support::{Setup, eventually, free_address, mint};

const CHROMIUM: &str = "/usr/bin/chromium";

/// `echo` answers at once, `slow` after longer than a client may hear nothing.
const SERVER: &str = r#"
tools = [{"name": "echo", "inputSchema": {"type": "object"}}, {"name": "slow", "inputSchema": {"type": "object"}}]

def call(id, params):
    if params["name"] == "slow":
        time.sleep(1)
    text(id, "called " + params["name"])
"#;

#[test]
#[allow(clippy::print_stderr, reason = "a test that was not tried says so")]
fn a_page_of_another_origin_calls_a_tool() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/browser");
    if !Path::new(CHROMIUM).exists() {
        eprintln!("NOT TRIED: there is no browser at {CHROMIUM}; `apt-get install chromium` puts one there");
        return;
    }
    assert!(folder.join("node_modules").exists(), "nothing drives the browser: run `cargo xtask fixtures`");
    let pages = free_address();
    let port = pages.rsplit_once(':').unwrap().1;
    let keys = format!("allowed_origins = [\"http://app.example.org:{port}\"]\nkeep_alive_secs = 0.2");
    let door = Door::open(Setup::new().scripted("srv", SERVER, ""), &keys);
    let profile = tempfile::tempdir().unwrap();
    let mut driver = Command::new("node");
    driver.arg(folder.join("drive.mjs")).arg(CHROMIUM).arg(profile.path()).arg(port);
    driver.arg(format!("http://{}/mcp", door.address)).arg(mint("ada", "admin", 3600));
    let mut driver =
        driver.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the end of the browser", || driver.try_wait().unwrap());
    let output = driver.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));

    let page = &seen["app"];
    assert_eq!(page["conversation"]["tools"], json!(["echo", "slow"]), "{seen}");
    assert_eq!(page["conversation"]["quick"], "called echo", "{seen}");
    assert_eq!(page["conversation"]["slow"], "called slow", "{seen}");
    assert!(page["conversation"]["session"].is_string(), "the page may read the header: {seen}");
    assert_eq!(page["refusal"]["status"], 401, "{seen}");
    assert!(page["refusal"]["challenge"].as_str().unwrap().starts_with("Bearer "), "{seen}");
    assert!(page["refusal"]["said"].as_str().unwrap().contains("token"), "{seen}");
    // The other page reads nothing, not even why.
    for what in ["conversation", "refusal"] {
        assert!(seen["evil"][what]["failed"].as_str().is_some_and(|why| why.contains("TypeError")), "{seen}");
    }
    assert_eq!(door.sessions(), 0, "its session was ended by the page");
}
