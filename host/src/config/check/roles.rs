//! Checks the roles that callers are given: the holder of a role that the file does not define gets in and may do
//! nothing.

use super::super::raw::{RawAuth, RawRbac};
use super::Checker;
use crate::config::problem::nearest;

impl Checker<'_> {
    /// The roles of programs' keys. An empty one is the plugin's to refuse.
    pub(super) fn roles_of_keys(&mut self, auth: &RawAuth, rbac: &RawRbac) {
        // That there is no role at all is said elsewhere.
        if rbac.roles.is_empty() || self.gone("/rbac/roles") {
            return;
        }
        let known: Vec<&str> = rbac.roles.keys().map(String::as_str).collect();
        for (index, key) in auth.api_keys.iter().enumerate() {
            if key.role.is_empty() || rbac.roles.contains_key(&key.role) {
                continue;
            }
            let near = nearest(&key.role, known.iter().copied()).map(|near| format!("did you mean {near}?"));
            let hint = near.unwrap_or_else(|| format!("the roles are: {}", known.join(", ")));
            let message = format!("there is no role {:?} in [rbac.roles]", key.role);
            self.problem(&format!("/auth/api_keys/{index}/role"), message, hint);
        }
    }
}
