//! Two thousand calls a second, alone and while the configuration is changed: how long it takes to put a change in force,
//! and what that costs the calls.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::Options;
use super::turn::{Sum, settle};
use crate::contestant::ours::{self, Variant};
use crate::contestant::{Contestant, Place, Route, Running, Server};
use crate::load::{Load, Pace};
use crate::result::Reload;

/// Calls a second.
const CALLS: u32 = 2_000;
/// Servers behind the gateway.
const BACKENDS: usize = 20;
/// Roles besides the caller's; one of them is changed.
const ROLES: usize = 10;
/// From the beginning of one change to that of the next.
const EVERY: Duration = Duration::from_secs(1);
/// So many changes need more time than other loads.
const LONGER: u32 = 10;
/// How long the answer to one command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The rule of a role before and after a change.
const RULES: [&str; 2] = ["denied_tools = [\"write_*\"]", "denied_tools = [\"write_*\", \"delete_*\"]"];

/// Measures both in turns, on one gateway.
pub(super) async fn measure(options: &Options, place: &Place) -> anyhow::Result<Reload> {
    let load = Load { pace: Pace::Open(CALLS), payload: 100, lasts: options.lasts() * LONGER };
    let server = Server { tools: 10, delay_ms: 0 };
    let ours = Contestant::Ours(Variant::reloaded(BACKENDS, ROLES));
    let mut running = ours.start(place, Route::HttpStdio, &server).await?;
    let mut file = File::of(running.folder())?;
    let mut sums = [Sum::new(load), Sum::new(load)];
    // Once for the warmth, which does not count: calls, and a change.
    Sum::new(options.load(Pace::Closed(8), 100)).turn(&mut running).await;
    let servers = servers(&running).await?;
    let warm = file.change().await.map_err(|error| error.context(running.log()))?;
    let mut reload = Reload {
        about: options.about(place),
        backends: servers.len() as u64,
        first_ms: warm.as_secs_f64() * 1e3,
        ..Reload::default()
    };
    for _ in 0..options.rounds() {
        settle(&running).await;
        sums[0].drive(&mut running).await;
        settle(&running).await;
        let changing = changes(&mut file, load.lasts);
        let ((), took) = tokio::join!(sums[1].drive(&mut running), changing);
        match took {
            Ok(took) => reload.took_ms.extend(took.iter().map(|took| took.as_secs_f64() * 1e3)),
            Err(error) => reload.void = Some(format!("{error:#}")),
        }
    }
    if reload.void.is_none() && running.tree().backends != servers {
        reload.void = Some("a server that did not change was replaced".to_owned());
    }
    let [alone, during] = sums;
    (reload.alone, reload.during) = (Some(alone.cell()), Some(during.cell()));
    running.end().await?;
    Ok(reload)
}

/// The processes of all servers, once they run.
async fn servers(running: &Running) -> anyhow::Result<Vec<u32>> {
    let since = Instant::now();
    loop {
        let servers = running.tree().backends;
        if servers.len() == BACKENDS {
            settle(running).await;
            return Ok(servers);
        }
        if since.elapsed() > PATIENCE {
            bail!("{} servers run instead of {BACKENDS}", servers.len());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Changes the file again and again for as long as a load lasts; says how long each change took to be in force.
async fn changes(file: &mut File, lasts: Duration) -> anyhow::Result<Vec<Duration>> {
    let (begun, every) = (Instant::now(), EVERY.min(lasts / 4));
    let mut took = Vec::new();
    let mut next = begun + every / 2;
    while next < begun + lasts {
        tokio::time::sleep_until(next.into()).await;
        took.push(file.change().await?);
        next = Instant::now().max(next + every);
    }
    Ok(took)
}

/// The configuration of a gateway that runs, and where it takes commands.
struct File {
    path: PathBuf,
    socket: PathBuf,
    /// Which of the two rules is in the file.
    rule: usize,
}

impl File {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let socket = socket(folder).context("the gateway takes no commands")?;
        Ok(Self { path: folder.join("sentinel.toml"), socket, rule: 0 })
    }

    /// Writes the other rule into one role, and has the gateway apply it. From the command to its answer.
    async fn change(&mut self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(&self.path)?;
        let next = 1 - self.rule;
        if !text.contains(RULES[self.rule]) {
            bail!("{} is not in the file", RULES[self.rule]);
        }
        // Taken for a whole one only when all of it is there, as an editor does it.
        let whole = self.path.with_extension("next");
        ours::write_private(&whole, &text.replacen(RULES[self.rule], RULES[next], 1))?;
        std::fs::rename(&whole, &self.path)?;
        self.rule = next;
        let since = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, apply(&self.socket)).await;
        let answer = answer.context("no answer to `config apply` in time")??;
        let took = since.elapsed();
        judge(&answer)?;
        Ok(took)
    }
}

/// `config apply`, as the command line sends it.
async fn apply(socket: &Path) -> anyhow::Result<Value> {
    let mut stream = UnixStream::connect(socket).await.context("the control socket")?;
    let request = json!({"version": 1, "command": "config_apply", "reason": "a measurement"});
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    serde_json::from_slice(&answer).with_context(|| String::from_utf8_lossy(&answer).into_owned())
}

/// Whether an answer says that one role was changed and nothing else.
fn judge(answer: &Value) -> anyhow::Result<()> {
    let changes = &answer["ok"]["changes"];
    let keys: Vec<&str> = changes["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|change| (change["effect"] == "live").then(|| change["key"].as_str()).flatten())
        .collect();
    if changes["applied"] != true || !matches!(keys[..], [key] if key.starts_with("rbac.roles.other_")) {
        bail!("the change of one role was answered with {answer}");
    }
    Ok(())
}

/// The only socket of the gateway whose state is in this folder.
fn socket(folder: &Path) -> Option<PathBuf> {
    let all = std::fs::read_dir(folder.join("sentinel-gateway/control")).ok()?;
    let of_files = all.flatten().filter_map(|of_file| std::fs::read_dir(of_file.path()).ok());
    let mut sockets = of_files.flat_map(|inner| inner.flatten()).map(|entry| entry.path());
    sockets.find(|path| path.extension().is_some_and(|ending| ending == "sock"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn answer(applied: bool, keys: &[(&str, &str)]) -> Value {
        let changes: Vec<Value> =
            keys.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
        json!({"ok": {"changes": {"applied": applied, "generation": 2, "changes": changes}}})
    }

    #[test]
    fn only_the_change_that_was_meant_counts() {
        let role = ("rbac.roles.other_0.denied_tools", "live");
        judge(&answer(true, &[role])).unwrap();
        for wrong in [
            answer(false, &[role]),
            answer(true, &[]),
            answer(true, &[role, ("gateway.listen", "live")]),
            answer(true, &[("rbac.roles.other_0.denied_tools", "restart")]),
            answer(true, &[("backends \"b0\".args", "live")]),
            json!({"error": {"reason": "busy", "message": "somebody is at it"}}),
        ] {
            assert!(judge(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_socket_is_found_below_the_folder_of_the_state() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(socket(folder.path()), None);
        let inner = folder.path().join("sentinel-gateway/control/0123456789abcdef");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("sockets.lock"), "").unwrap();
        assert_eq!(socket(folder.path()), None);
        std::fs::write(inner.join("42.sock"), "").unwrap();
        assert_eq!(socket(folder.path()), Some(inner.join("42.sock")));
    }

    #[test]
    fn each_change_is_one_of_the_same_role() {
        let text = format!("[rbac.roles.other_0]\n{}\n[rbac.roles.other_1]\n{}\n", RULES[0], RULES[0]);
        let changed = text.replacen(RULES[0], RULES[1], 1);
        assert_ne!(changed, text);
        assert_eq!(changed.replacen(RULES[1], RULES[0], 1), text);
    }

    #[test]
    fn a_gateway_that_refuses_and_one_that_applies_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sentinel.toml");
        ours::write_private(&path, &format!("[rbac.roles.other_0]\n{}\n", RULES[0])).unwrap();
        let socket = folder.path().join("s");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::bind(&socket).unwrap();
            let mut file = File { path: path.clone(), socket, rule: 0 };
            let role = ("rbac.roles.other_0.denied_tools", "live");
            let answers = [answer(true, &[role]), json!({"error": {"reason": "refused", "message": "no"}})];
            let gateway = async {
                let mut asked = Vec::new();
                for answer in answers {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut request = vec![0; 1024];
                    let read = stream.read(&mut request).await.unwrap();
                    asked.push(serde_json::from_slice::<Value>(&request[..read]).unwrap());
                    stream.write_all(answer.to_string().as_bytes()).await.unwrap();
                }
                asked
            };
            let changing = async {
                file.change().await.unwrap();
                assert!(std::fs::read_to_string(&path).unwrap().contains(RULES[1]));
                let refused = file.change().await.unwrap_err();
                assert!(refused.to_string().contains("refused"), "{refused}");
                assert!(std::fs::read_to_string(&path).unwrap().contains(RULES[0]));
            };
            let (asked, ()) = tokio::join!(gateway, changing);
            assert!(asked.iter().all(|asked| asked["command"] == "config_apply"), "{asked:?}");
        });
    }
}
