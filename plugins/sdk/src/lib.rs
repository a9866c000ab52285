//! The library for authors of Sentinel Gateway plugins.
//!
//! A plugin implements [`Lifecycle`] and the traits of the roles it wants to play, then names them:
//!
//! ```ignore
//! use sentinel_plugin_sdk::{Admission, Call, ConfigError, Lifecycle, Outcome, Refusal, Verdict};
//!
//! struct OfficeHours;
//!
//! impl Lifecycle for OfficeHours {
//!     fn configure(_json: String) -> Result<(), Vec<ConfigError>> { Ok(()) }
//! }
//! impl Admission for OfficeHours {
//!     fn check(call: &Call) -> Result<Verdict, Refusal> {
//!         if call.role() == "night-watch" { return Err(Refusal::new("office_hours", "The office is closed.")) }
//!         Ok(Verdict::ALLOW)
//!     }
//!     fn settle(_: &Call, _: u64, _: Outcome, _: u64) {}
//! }
//! sentinel_plugin_sdk::export!(OfficeHours: admission);
//! ```
//!
//! What `configure` makes of the configuration has its place in a [`Configured`].
//!
//! Built for `wasm32-unknown-unknown` such a plugin imports nothing but the gateway's own interfaces.

mod configured;
pub mod fields;
#[cfg(feature = "http")]
pub mod http;

/// The bindings; authors use the names re-exported at the root of the crate.
#[allow(unsafe_code, unreachable_pub, missing_debug_implementations, clippy::all, reason = "generated")]
pub mod bindings {
    /// The imports, shared by all roles.
    pub mod imports {
        wit_bindgen::generate!({
            path: "../../wit/0.1",
            world: "sentinel:plugin/imports@0.1.0",
            generate_all,
            additional_derives: [PartialEq],
        });
    }
    macro_rules! role {
        ($module:ident, $inline:literal, $world:literal, [$($with:tt)*]) => {
            pub mod $module {
                wit_bindgen::generate!({
                    path: "../../wit/0.1",
                    inline: $inline,
                    world: $world,
                    with: { $($with)* },
                    pub_export_macro: true,
                    default_bindings_module: "sentinel_plugin_sdk::bindings",
                });
            }
        };
    }
    role!(
        lifecycle,
        "package sdk:lifecycle; world with-lifecycle { export sentinel:plugin/lifecycle@0.1.0; }",
        "sdk:lifecycle/with-lifecycle",
        ["sentinel:plugin/types@0.1.0": crate::bindings::imports::sentinel::plugin::types]
    );
    role!(
        authentication,
        "package sdk:authentication; world with-authentication { export sentinel:plugin/authentication@0.1.0; }",
        "sdk:authentication/with-authentication",
        [
            "sentinel:plugin/types@0.1.0": crate::bindings::imports::sentinel::plugin::types,
            "sentinel:plugin/view@0.1.0": crate::bindings::imports::sentinel::plugin::view
        ]
    );
    role!(
        admission,
        "package sdk:admission; world with-admission { export sentinel:plugin/admission@0.1.0; }",
        "sdk:admission/with-admission",
        [
            "sentinel:plugin/types@0.1.0": crate::bindings::imports::sentinel::plugin::types,
            "sentinel:plugin/view@0.1.0": crate::bindings::imports::sentinel::plugin::view
        ]
    );
    role!(
        visibility,
        "package sdk:visibility; world with-visibility { export sentinel:plugin/visibility@0.1.0; }",
        "sdk:visibility/with-visibility",
        [
            "sentinel:plugin/types@0.1.0": crate::bindings::imports::sentinel::plugin::types,
            "sentinel:plugin/view@0.1.0": crate::bindings::imports::sentinel::plugin::view
        ]
    );
    role!(
        rewriting,
        "package sdk:rewriting; world with-rewriting { export sentinel:plugin/rewriting@0.1.0; }",
        "sdk:rewriting/with-rewriting",
        [
            "sentinel:plugin/types@0.1.0": crate::bindings::imports::sentinel::plugin::types,
            "sentinel:plugin/view@0.1.0": crate::bindings::imports::sentinel::plugin::view
        ]
    );
    role!(
        sieving,
        "package sdk:sieving; world with-sieving { export sentinel:plugin/sieving@0.1.0; }",
        "sdk:sieving/with-sieving",
        [
            "sentinel:plugin/types@0.1.0": crate::bindings::imports::sentinel::plugin::types,
            "sentinel:plugin/view@0.1.0": crate::bindings::imports::sentinel::plugin::view
        ]
    );
    role!(
        interest,
        "package sdk:interest; world with-interest { export sentinel:plugin/interest@0.1.0; }",
        "sdk:interest/with-interest",
        []
    );
    role!(
        reuse,
        "package sdk:reuse; world with-reuse { export sentinel:plugin/reuse@0.1.0; }",
        "sdk:reuse/with-reuse",
        []
    );
}

pub use bindings::admission::exports::sentinel::plugin::admission::{Guest as Admission, Permit, Verdict};
pub use bindings::authentication::exports::sentinel::plugin::authentication::Guest as Authentication;
pub use bindings::imports::sentinel::plugin::types::{
    ApprovalRequest, Auth, ConfigError, Entry, Field, Identity, Outcome, Principal, Refusal, Risk,
    TargetKind, Threshold,
};
pub use bindings::imports::sentinel::plugin::view::{Call, Catalog, Patch, Request, Response};
pub use bindings::imports::sentinel::plugin::{cells, clock, counters, log, secrets};
pub use bindings::interest::exports::sentinel::plugin::interest::{Guest as Interest, Hooks};
pub use bindings::lifecycle::exports::sentinel::plugin::lifecycle::Guest as Lifecycle;
pub use bindings::reuse::exports::sentinel::plugin::reuse::{Facts, Guest as Reuse};
pub use bindings::rewriting::exports::sentinel::plugin::rewriting::Guest as Rewriting;
pub use bindings::sieving::exports::sentinel::plugin::sieving::Guest as Sieving;
pub use bindings::visibility::exports::sentinel::plugin::visibility::Guest as Visibility;
pub use configured::Configured;

/// The names of tools and the patterns that rules name them by: one language for all plugins and for the gateway itself.
pub use sentinel_names as names;

/// Makes a type the plugin: `export!(MyType: admission, visibility)`.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($role:ident),+ $(,)?) => {
        // On other targets nothing can use the exports, and linkers refuse their names.
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, unreachable_pub, clippy::all, reason = "generated")]
        mod sentinel_plugin_export {
            use super::$plugin;
            $crate::bindings::lifecycle::export!($plugin with_types_in $crate::bindings::lifecycle);
            $($crate::bindings::$role::export!($plugin with_types_in $crate::bindings::$role);)+
        }
    };
}

impl Verdict {
    /// The call may go on, and the guard need not hear how it ended.
    pub const ALLOW: Self = Self::Allow(None);
}

impl TargetKind {
    /// The contract's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Route => "route",
            Self::Command => "command",
            Self::Control => "control",
            Self::Other => "other",
        }
    }
}

impl ApprovalRequest {
    /// A request with the operator's approvers and times. `reason` is a stable machine word, `summary` one sentence for the
    /// person who decides.
    #[must_use]
    pub fn new(reason: &str, summary: impl Into<String>, risk: Risk) -> Self {
        Self {
            reason: reason.to_owned(),
            summary: summary.into(),
            risk,
            thresholds: Vec::new(),
            decide_within_ms: None,
            run_within_ms: None,
            details: Vec::new(),
        }
    }
}

impl Refusal {
    /// A refusal without a time to retry at.
    #[must_use]
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), retry_after_ms: None, details: Vec::new() }
    }
}

impl ConfigError {
    /// A mistake at a JSON pointer of the plugin's configuration.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// The same, with what to type instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Reads the JSON that `configure` was given, and makes panics readable from then on: the gateway sees
/// only a trap, so the message and the line go to its log first.
///
/// # Errors
/// One error naming what serde could not read.
pub fn read_config<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Vec<ConfigError>> {
    std::panic::set_hook(Box::new(|info| log::emit(log::Level::Error, &info.to_string())));
    serde_json::from_str(json).map_err(|error| vec![ConfigError::new("", error.to_string())])
}
