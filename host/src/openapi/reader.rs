//! What the parts of one document are read with.

use serde_json::Value;

use super::notes::Notes;
use super::schema::{self, SchemaError, Source, Way};

/// Reads the parts of one document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) root: &'a Value,
    pub(super) schemas: Source<'a>,
}

impl Reader<'_> {
    /// A schema with all it refers to.
    ///
    /// # Errors
    /// See [`SchemaError`].
    pub(super) fn schema(
        &self,
        schema: &Value,
        way: Way,
        place: &str,
        notes: &mut Notes,
    ) -> Result<Value, SchemaError> {
        schema::whole(self.schemas, schema, way, place, notes)
    }
}
