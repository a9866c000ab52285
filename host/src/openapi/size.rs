//! What operations cost a model that has them as tools: a list of tools is read with every conversation.

use std::fmt;

use super::operation::Operation;
use super::schema::length;
use super::tool::tool;
use crate::text::line;

/// Bytes of JSON that make one token, about: measured lists of tools have between 3.5 and 4.5.
const BYTES_A_TOKEN: usize = 4;
/// Some clients drop what is beyond.
const FEW: usize = 40;
/// Others refuse more.
const MANY: usize = 128;
/// How many of the largest are named.
const NAMED: usize = 5;

/// The sizes of operations as tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub count: usize,
    pub bytes: usize,
    /// The largest first.
    pub largest: Vec<(String, usize)>,
}

impl Sizes {
    /// Measures each operation as the tool that it would be.
    #[must_use]
    pub fn of<'a>(operations: impl IntoIterator<Item = &'a Operation>) -> Self {
        let mut sizes: Vec<(String, usize)> = operations
            .into_iter()
            .map(|operation| (operation.id.clone(), length(&tool(operation))))
            .collect();
        let (count, bytes) = (sizes.len(), sizes.iter().map(|(_, bytes)| bytes).sum());
        sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        sizes.truncate(NAMED);
        Self { count, bytes, largest: sizes }
    }

    /// About how many tokens.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.bytes.div_ceil(BYTES_A_TOKEN)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "as MCP tools: {} tools, {} bytes, about {} tokens in each conversation",
            self.count,
            self.bytes,
            self.tokens()
        )?;
        if self.count > MANY {
            writeln!(
                f,
                "more than {MANY} tools: some clients refuse them; take fewer with --tag, --id or --method"
            )?;
        } else if self.count > FEW {
            writeln!(
                f,
                "more than {FEW} tools: some clients leave out the rest; take fewer with --tag, --id or --method"
            )?;
        }
        if self.count > 1 {
            let named: Vec<_> =
                self.largest.iter().map(|(id, bytes)| format!("{} {bytes}", line(id))).collect();
            writeln!(f, "largest: {}", named.join(", "))?;
        }
        Ok(())
    }
}
