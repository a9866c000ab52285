//! The message a guest is working on, and the edits it recorded.
//!
//! The resources of the contract's `view` interface are windows into it; there is never more than one of each, so their
//! handles carry no meaning.

use std::sync::Arc;

use bytes::Bytes;

use crate::call::{Call, Credential, TargetKind};
use crate::mcp::catalog::Offer;
use crate::mcp::splice::Edit;

/// Marker of a `request` handle.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct RequestView;
/// Marker of a `call` handle.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct CallView;
/// Marker of a `response` handle.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct ResponseView;
/// Marker of a `patch` handle.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct PatchView;
/// Marker of a `catalog` handle.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct CatalogView;

/// What a backend answered, as far as a rewriter may see it.
#[derive(Clone, Debug)]
pub struct BackendResponse {
    pub is_error: bool,
    pub error_code: Option<i64>,
    /// The result's JSON text; empty for an error.
    pub result: Bytes,
}

/// Edits a rewriter recorded; nothing of them has happened yet.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    pub body: Vec<Edit>,
    pub headers: Vec<(String, String)>,
    pub notes: Vec<(String, String)>,
}

/// Edits to one entry of a list.
#[derive(Clone, Debug)]
pub enum CatalogEdit {
    Hide(usize),
    Rename(usize, String),
    Item(usize, Edit),
}

/// The message the guest is working on. Set before a call, taken back after it.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) credential: Option<Arc<Credential>>,
    pub(super) call: Option<Arc<Call>>,
    pub(super) answer: Option<BackendResponse>,
    pub(super) edits: Edits,
    pub(super) catalog: Option<(Arc<str>, TargetKind, Arc<[Offer]>)>,
    pub(super) catalog_edits: Vec<CatalogEdit>,
}
