//! Values that may be used but never shown.

use std::fmt;

/// A value that `Debug` does not print. It has no `Display` and is not serialisable.
///
/// It also knows which parts of it are secret: of `Bearer ${TOKEN}` the token, of a literal nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    hidden: Vec<String>,
}

impl Secret {
    /// A value that is secret as a whole.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { hidden: vec![value.clone()], value }
    }

    /// A value with secret parts; without any it is public, such as `en_GB` for `LANG`.
    pub(super) fn with_hidden(value: String, hidden: Vec<String>) -> Self {
        Self { value, hidden }
    }

    /// The value itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The parts that must not appear in a record.
    pub(super) fn hidden(&self) -> &[String] {
        &self.hidden
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}
