//! What is approved: the call as the backend would get it, in one canonical spelling.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Refusal;
use crate::call::{Call, Target};
use crate::mcp::splice::{self, Edit};

/// The longest action. Nobody can read more than that before deciding, and all that wait are kept.
pub const MAX_ACTION: usize = 256 << 10;
/// The member of `_meta` by which a caller names the approval that it continues.
pub(crate) const NAMED: &str = "sentinel-gateway/approval";
/// Members of `_meta` that differ from one request to the next although the same is wanted: they are not approved, and the
/// call that runs brings its own.
const OF_ONE_REQUEST: [&str; 5] = ["progressToken", "traceparent", "tracestate", "baggage", NAMED];
/// What the protocol itself puts into `_meta` (2026-07-28): who the client is and what it can do.
const OF_PROTOCOL: &str = "io.modelcontextprotocol/";
/// Beyond 2^53 two different whole numbers can be one number of JSON (RFC 8785, section 3.2.2.3).
const EXACT: u64 = 1 << 53;

/// The parts of an action.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The path of the endpoint; empty for the main one.
    pub endpoint: &'a str,
    /// Who calls what.
    pub call: &'a Call,
    /// Further targets that the call names.
    pub also: &'a [Target],
    /// The params after all rewriters.
    pub params: &'a str,
    /// Headers that rewriters added.
    pub headers: &'a [(String, String)],
    /// A body that is sent beside the params.
    pub body: Option<&'a [u8]>,
    /// What the backend found out about the call before it is done, such as the digests of the files that a command reads:
    /// a JSON text.
    pub resolved: Option<&'a str>,
}

/// A call in its canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// RFC 8785.
    canonical: String,
    /// The params that are sent when it runs: as they were spelled, without what belongs to one request.
    params: String,
    /// `sha256:` and 64 hexadecimal digits, of the canonical text.
    digest: String,
}

impl Action {
    /// Puts a call into its canonical spelling.
    ///
    /// # Errors
    /// `not_exact`: it holds a number that two readers may read differently, or is no JSON; `too_large`.
    pub fn new(draft: &Draft<'_>) -> Result<Self, Refusal> {
        if draft.params.len() + draft.resolved.map_or(0, str::len) > MAX_ACTION {
            return Err(too_large());
        }
        let params = without_passing(draft.params)?;
        let value = read(&params)?;
        let resolved = draft.resolved.map(read).transpose()?;
        let mut exact = Map::new();
        exactly("/params", &value, &mut exact)?;
        exactly("/resolved", resolved.as_ref().unwrap_or(&Value::Null), &mut exact)?;
        let Call { method, target: own, principal, .. } = draft.call;
        let also: Vec<Value> = draft.also.iter().map(target).collect();
        let body = draft.body.map(|body| json!({ "bytes": body.len(), "digest": digest(body) }));
        let action = json!({
            "version": 1,
            "endpoint": draft.endpoint,
            "method": method,
            "target": target(own),
            "also": also,
            "params": value,
            "headers": draft.headers,
            "body": body,
            "resolved": resolved,
            "caller": { "identity": principal.identity(), "subject": principal.subject, "role": principal.role },
            "exact": exact,
        });
        let canonical = serde_json_canonicalizer::to_string(&action).map_err(|error| unreadable(&error))?;
        if canonical.len() > MAX_ACTION + 4096 {
            return Err(too_large());
        }
        let digest = digest(canonical.as_bytes());
        Ok(Self { canonical, params, digest })
    }

    /// The canonical text.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The params that are sent when it runs.
    #[must_use]
    pub fn params(&self) -> &str {
        &self.params
    }
}

/// The params that are sent: what is stored, with what belongs to the present request.
///
/// # Errors
/// `not_exact`: one of them is no JSON object.
pub(super) fn joined(stored: &str, present: &str) -> Result<String, Refusal> {
    let mut edits = Vec::new();
    for name in passing(present)? {
        let pointer = pointer(&name);
        if name != NAMED
            && let Some(json) = splice::get(present, &pointer)
        {
            edits.push(Edit::Set { pointer, json: json.to_owned() });
        }
    }
    if edits.is_empty() {
        return Ok(stored.to_owned());
    }
    splice::apply(stored, &edits).map_err(|error| unreadable(&error))
}

/// The approval that a request names in `_meta`.
#[must_use]
pub fn named(params: &str) -> Option<String> {
    serde_json::from_str(splice::get(params, &pointer(NAMED))?).ok()
}

fn target(target: &Target) -> Value {
    json!({
        "kind": target.kind.as_str(),
        "name": *target.name,
        "backend": *target.backend,
        "upstream": *target.upstream,
    })
}

/// `sha256:` and 64 hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn read(text: &str) -> Result<Value, Refusal> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

fn pointer(name: &str) -> String {
    format!("/_meta/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The members of `_meta` that belong to one request.
fn passing(params: &str) -> Result<Vec<String>, Refusal> {
    let Some(meta) = splice::get(params, "/_meta") else { return Ok(Vec::new()) };
    let meta: Map<String, Value> = serde_json::from_str(meta).map_err(|error| unreadable(&error))?;
    let passing = |name: &str| OF_ONE_REQUEST.contains(&name) || name.starts_with(OF_PROTOCOL);
    Ok(meta.into_iter().map(|(name, _)| name).filter(|name| passing(name)).collect())
}

/// The params without these members, and without an empty `_meta`, so that a request with a progress token and one without
/// are the same.
fn without_passing(params: &str) -> Result<String, Refusal> {
    let edits: Vec<Edit> =
        passing(params)?.iter().map(|name| Edit::Remove { pointer: pointer(name) }).collect();
    if edits.is_empty() {
        return Ok(params.to_owned());
    }
    let kept = splice::apply(params, &edits).map_err(|error| unreadable(&error))?;
    let empty = splice::get(&kept, "/_meta")
        .and_then(|meta| serde_json::from_str::<Map<String, Value>>(meta).ok())
        .is_some_and(|meta| meta.is_empty());
    if !empty {
        return Ok(kept);
    }
    let edit = Edit::Remove { pointer: "/_meta".to_owned() };
    splice::apply(&kept, &[edit]).map_err(|error| unreadable(&error))
}

/// Notes every whole number that the canonical spelling would round, by where it stands.
fn exactly(at: &str, value: &Value, exact: &mut Map<String, Value>) -> Result<(), Refusal> {
    match value {
        Value::Number(number) => {
            let large = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match large {
                Some(whole) if whole > EXACT => {
                    exact.insert(at.to_owned(), number.to_string().into());
                }
                Some(_) => {}
                // A whole number of more than 64 bits is read as this, too.
                None if number.as_f64().is_some_and(|float| float.abs() >= EXACT as f64) => {
                    return Err(Refusal::new(
                        "not_exact",
                        format!(
                            "a person cannot approve this call, because the number at {at} is too large to be read by everybody \
                             alike: send it as text"
                        ),
                    ));
                }
                None => {}
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                exactly(&format!("{at}/{index}"), item, exact)?;
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                exactly(&format!("{at}/{name}"), member, exact)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
    Ok(())
}

fn unreadable(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        "not_exact",
        format!("a person cannot approve this call, because its params cannot be read: {error}"),
    )
}

fn too_large() -> Refusal {
    Refusal::new(
        "too_large",
        format!("a person cannot approve this call: its params are longer than {} KiB", MAX_ACTION >> 10),
    )
}
