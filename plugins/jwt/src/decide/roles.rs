//! Which role a token gives its holder: rules of the operator, then claims that name a role, then a default.
//!
//! Identity providers agree on nothing here. Keycloak has `realm_access.roles`, Entra ID `roles`, Okta and others
//! `groups`, Auth0 a claim named after a web address, Cognito `cognito:groups`, and Google nothing but a domain.

use super::json::{Json, Object};
use super::{Fault, plain, scopes};

/// The longest list of a claim that is looked through.
const MAX_LIST: usize = 1_000;

/// Where roles come from.
#[derive(Debug, Default)]
pub struct Roles {
    /// Asked first, in their order.
    pub rules: Vec<Rule>,
    /// Pointers (RFC 6901) to claims that hold a role or a list of them; the first that is there counts.
    pub claims: Vec<String>,
    /// The role of callers who are given no other.
    pub default: Option<String>,
    /// The roles of the gateway's file. Of a list the first of these counts.
    pub known: Vec<String>,
}

/// Who is given a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The condition for the role.
    pub test: Test,
    /// The role that is given.
    pub role: String,
}

/// The property of a token that a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The claim at this pointer is this value, or a list with it.
    Claim(String, String),
    /// The token was granted this scope.
    Scope(String),
    /// Its holder is in this group.
    Group(String),
    /// Its holder is called so (`sub`).
    Subject(String),
    /// It was issued to this application.
    Client(String),
}

/// Claims that name the application, as providers call them; the first that is there counts.
const CLIENT: [&str; 4] = ["client_id", "azp", "cid", "appid"];
/// Claims that list groups.
const GROUPS: [&str; 2] = ["groups", "cognito:groups"];

impl Roles {
    /// The role that these claims give.
    ///
    /// # Errors
    /// They give none, or a claim that should name one names nothing a role could be called.
    pub(super) fn of(&self, claims: &Object) -> Result<String, Fault> {
        if let Some(rule) = self.rules.iter().find(|rule| rule.test.holds(claims)) {
            return Ok(rule.role.clone());
        }
        let mut unknown = None;
        if let Some((pointer, value)) = self.claims.iter().find_map(|at| Some((at, at_pointer(claims, at)?)))
        {
            match value {
                Json::Array(list) => {
                    let mut named = list.iter().take(MAX_LIST).filter_map(plain);
                    if let Some(role) = named.find(|role| self.knows(role)) {
                        return Ok(role.to_owned());
                    }
                }
                value => match plain(value) {
                    Some("") => {}
                    Some(role) if self.knows(role) => return Ok(role.to_owned()),
                    Some(role) => unknown = Some(role),
                    None => {
                        let words = format!(
                            "its `{}` names no role: it is neither a plain string nor a list of them",
                            shown(pointer)
                        );
                        return Err(Fault::Malformed(words));
                    }
                },
            }
        }
        // A role that the file does not have is handed on as it is, so that its record and its refusal name it.
        let other = self.default.as_deref().or(unknown);
        other.map(str::to_owned).ok_or_else(|| Fault::NoRole(self.looked_at(claims)))
    }

    fn knows(&self, role: &str) -> bool {
        self.known.iter().any(|known| known == role)
    }

    /// Where was looked, in words.
    fn looked_at(&self, claims: &Object) -> String {
        let places: Vec<String> = self.claims.iter().map(|at| format!("`{}`", shown(at))).collect();
        let there = self.claims.iter().find(|at| at_pointer(claims, at).is_some());
        let claims = match there {
            Some(at) => format!("its `{}` lists none that is defined here", shown(at)),
            None if places.is_empty() => "no claim is configured to name one".to_owned(),
            None => format!("it has no {}", places.join(" and no ")),
        };
        if self.rules.is_empty() { claims } else { format!("no rule fits it, and {claims}") }
    }
}

impl Test {
    fn holds(&self, claims: &Object) -> bool {
        match self {
            Self::Claim(pointer, wanted) => {
                at_pointer(claims, pointer).is_some_and(|value| has(value, wanted))
            }
            Self::Scope(wanted) => scopes(claims).contains(&wanted.as_str()),
            Self::Group(wanted) => {
                GROUPS.iter().filter_map(|name| claims.get(*name)).any(|value| has(value, wanted))
            }
            Self::Subject(wanted) => is(claims.get("sub"), wanted),
            Self::Client(wanted) => is(CLIENT.iter().find_map(|name| claims.get(*name)), wanted),
        }
    }
}

fn is(value: Option<&Json>, wanted: &str) -> bool {
    matches!(value, Some(Json::String(text)) if text == wanted)
}

/// Whether a claim is this value, or a list that holds it.
fn has(value: &Json, wanted: &str) -> bool {
    match value {
        Json::Array(list) => {
            list.iter().take(MAX_LIST).any(|item| item.scalar().is_some_and(|text| text == wanted))
        }
        value => value.scalar().is_some_and(|text| text == wanted),
    }
}

/// A pointer as its reader knows it: a claim at the top by its name alone.
fn shown(pointer: &str) -> &str {
    let name = pointer.strip_prefix('/').unwrap_or(pointer);
    if name.contains(['/', '~']) { pointer } else { name }
}

/// The value at a pointer (RFC 6901).
pub(super) fn at_pointer<'claims>(claims: &'claims Object, pointer: &str) -> Option<&'claims Json> {
    let mut steps = pointer.strip_prefix('/')?.split('/').map(unescaped);
    let mut value = claims.get(&steps.next()?)?;
    for step in steps {
        value = match value {
            Json::Object(members) => members.get(&step)?,
            Json::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// Whether a text is a pointer to something inside an object (RFC 6901, section 3).
#[must_use]
pub fn is_pointer(text: &str) -> bool {
    let tilde = |at: usize| matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1'));
    text.len() > 1 && text.starts_with('/') && text.match_indices('~').all(|(at, _)| tilde(at))
}

/// The pointer that a claim's bare name was meant for.
#[must_use]
pub fn pointer_to(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
