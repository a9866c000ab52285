//! The Rust face of `wit/0.1`. What the host offers is generated in one piece; what plugins export is bound one interface at
//! a time, so an artifact may have any of them, and an interface that differs is told by its name.
//!
//! A new exported interface is added here and nowhere else: to the world, and to the list at the end.

use std::collections::BTreeSet;

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

#[allow(unreachable_pub, missing_debug_implementations, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit/0.1",
        inline: "
            package sentinel:host;
            world every-interface {
                include sentinel:plugin/imports@0.1.0;
                export sentinel:plugin/lifecycle@0.1.0;
                export sentinel:plugin/authentication@0.1.0;
                export sentinel:plugin/admission@0.1.0;
                export sentinel:plugin/visibility@0.1.0;
                export sentinel:plugin/rewriting@0.1.0;
                export sentinel:plugin/sieving@0.1.0;
                export sentinel:plugin/interest@0.1.0;
                export sentinel:plugin/reuse@0.1.0;
            }
        ",
        world: "sentinel:host/every-interface",
        imports: { default: trappable },
        with: {
            "sentinel:plugin/view.request": crate::plugin::subject::RequestView,
            "sentinel:plugin/view.call": crate::plugin::subject::CallView,
            "sentinel:plugin/view.response": crate::plugin::subject::ResponseView,
            "sentinel:plugin/view.patch": crate::plugin::subject::PatchView,
            "sentinel:plugin/view.catalog": crate::plugin::subject::CatalogView,
        },
    });
}

pub(super) use generated::EveryInterface as Contract;
pub(super) use generated::exports::sentinel::plugin::{
    admission, authentication, interest, lifecycle, reuse, rewriting, sieving, visibility,
};
pub(super) use generated::sentinel::plugin::{cells, clock, counters, log, secrets, types, view};

/// An exported interface that is not the one of this gateway, though it has its name and version.
#[derive(Clone, Debug, thiserror::Error)]
#[error("its `{interface}` is not that of this gateway: {reason}; rebuild it with the SDK of track 0.1")]
pub struct Mismatch {
    pub interface: &'static str,
    pub reason: String,
}

fn mismatch(interface: &'static str) -> impl Fn(wasmtime::Error) -> Mismatch {
    move |error| Mismatch { interface, reason: format!("{error:#}") }
}

macro_rules! exports {
    (roles: $($role:ident),+; promises: $($promise:ident),+;) => {
        /// The interfaces that a plugin may be used for.
        pub(super) const ROLES: &[&str] = &[$(stringify!($role)),+];

        exports!(@each $($role,)+ $($promise,)+);
    };
    (@each $($name:ident,)+) => {
        /// Which parts of the contract a plugin fills: what it exports.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Roles {
            $(pub $name: bool,)+
        }

        impl Roles {
            /// Those among the exports of an artifact.
            pub(super) fn among(exports: &BTreeSet<String>) -> Self {
                Self { $($name: exports.contains(stringify!($name)),)+ }
            }

            /// Whether the contract has an interface of this name that plugins export.
            pub(super) fn know(interface: &str) -> bool {
                interface == "lifecycle" $(|| interface == stringify!($name))+
            }
        }

        /// Where the interfaces of an artifact are: looked up once, for all its instances.
        pub(super) struct Places {
            lifecycle: lifecycle::GuestIndices,
            $($name: Option<$name::GuestIndices>,)+
        }

        impl Places {
            /// Finds every interface that the artifact has, with all its functions.
            ///
            /// # Errors
            /// The first that lacks a function, or `lifecycle` if there is none.
            pub(super) fn find<T>(pre: &InstancePre<T>, roles: Roles) -> Result<Self, Mismatch> {
                Ok(Self {
                    lifecycle: lifecycle::GuestIndices::new(pre).map_err(mismatch("lifecycle"))?,
                    $($name: roles
                        .$name
                        .then(|| $name::GuestIndices::new(pre))
                        .transpose()
                        .map_err(mismatch(stringify!($name)))?,)+
                })
            }

            /// The same interfaces of one instance.
            ///
            /// # Errors
            /// The first of which a function has another type.
            pub(super) fn load<T: 'static>(
                &self,
                store: &mut Store<T>,
                instance: &Instance,
            ) -> Result<Exports, Mismatch> {
                let lifecycle =
                    self.lifecycle.load(&mut *store, instance).map_err(mismatch("lifecycle"))?;
                Ok(Exports {
                    lifecycle,
                    $($name: self
                        .$name
                        .as_ref()
                        .map(|place| place.load(&mut *store, instance))
                        .transpose()
                        .map_err(mismatch(stringify!($name)))?,)+
                })
            }
        }

        /// What one instance can be asked.
        pub(super) struct Exports {
            lifecycle: lifecycle::Guest,
            $($name: Option<$name::Guest>,)+
        }

        impl Exports {
            /// Every plugin has it.
            pub(super) fn lifecycle(&self) -> &lifecycle::Guest {
                &self.lifecycle
            }

            $(
                /// The interface of this name.
                ///
                /// # Errors
                /// The plugin has none. A caller that asks it all the same gets no answer, and must let nothing pass.
                pub(super) fn $name(&self) -> wasmtime::Result<&$name::Guest> {
                    self.$name.as_ref().ok_or_else(|| {
                        wasmtime::format_err!("it does not export `{}`", stringify!($name))
                    })
                }
            )+
        }
    };
}

exports! {
    roles: authentication, admission, visibility, rewriting;
    promises: sieving, interest, reuse;
}
