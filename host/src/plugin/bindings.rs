//! The Rust face of `wit/0.1`, generated. The imports are shared; each role has its own exports.
#![allow(unreachable_pub, missing_debug_implementations, clippy::all, reason = "generated")]

/// What the host offers to every plugin.
pub mod imports {
    wasmtime::component::bindgen!({
        path: "../wit/0.1",
        world: "sentinel:plugin/imports",
        imports: { default: trappable },
        with: {
            "sentinel:plugin/view.request": crate::plugin::views::RequestView,
            "sentinel:plugin/view.call": crate::plugin::views::CallView,
            "sentinel:plugin/view.response": crate::plugin::views::ResponseView,
            "sentinel:plugin/view.patch": crate::plugin::views::PatchView,
            "sentinel:plugin/view.catalog": crate::plugin::views::CatalogView,
        },
    });
}

macro_rules! role {
    ($module:ident, $world:literal) => {
        pub mod $module {
            wasmtime::component::bindgen!({
                path: "../wit/0.1",
                world: $world,
                with: { "sentinel:plugin": crate::plugin::bindings::imports::sentinel::plugin },
            });
        }
    };
}

role!(authenticator, "sentinel:plugin/authenticator");
role!(guard, "sentinel:plugin/guard");
role!(list_filter, "sentinel:plugin/list-filter");
role!(rewriter, "sentinel:plugin/rewriter");
role!(selective, "sentinel:plugin/selective-rewriter");
role!(reusable, "sentinel:plugin/reusable");

pub use imports::sentinel::plugin::{cells, clock, counters, log, secrets, types, view};
