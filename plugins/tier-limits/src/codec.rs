//! Usage as bytes: fixed fields, little-endian, behind a version.

use crate::decide::{COUNTED, Counts, Usage};

/// Changes with every change of the layout.
const VERSION: u8 = 1;
/// Bytes of one window.
const WINDOW: usize = 8 + 8 + 4 * COUNTED;
/// Bytes of one lease.
const LEASE: usize = 16;

/// Writes what a caller has used.
pub(crate) fn encode(usage: &Usage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + usage.windows.len() * WINDOW + usage.leases.len() * LEASE);
    bytes.push(VERSION);
    bytes.push(u8::try_from(usage.windows.len()).unwrap_or(u8::MAX));
    bytes.extend(usage.next.to_le_bytes());
    for counts in usage.windows.iter().take(usize::from(u8::MAX)) {
        bytes.extend(counts.width_ms.to_le_bytes());
        bytes.extend(counts.head.to_le_bytes());
        bytes.extend(counts.parts.iter().flat_map(|part| part.to_le_bytes()));
    }
    for (number, began) in &usage.leases {
        bytes.extend(number.to_le_bytes());
        bytes.extend(began.to_le_bytes());
    }
    bytes
}

/// Reads what [`encode`] wrote; none if it was written by another version, or is nothing of the kind.
pub(crate) fn decode(bytes: &[u8]) -> Option<Usage> {
    let (&[version, windows], rest) = bytes.split_first_chunk()?;
    let (next, mut rest) = rest.split_first_chunk()?;
    if version != VERSION {
        return None;
    }
    let mut usage = Usage { next: u64::from_le_bytes(*next), ..Usage::default() };
    for _ in 0..windows {
        let (width, after) = rest.split_first_chunk()?;
        let (head, after) = after.split_first_chunk()?;
        let (parts, after) = after.split_at_checked(4 * COUNTED)?;
        let mut counts = Counts {
            width_ms: u64::from_le_bytes(*width),
            head: u64::from_le_bytes(*head),
            parts: [0; COUNTED],
        };
        for (part, bytes) in counts.parts.iter_mut().zip(parts.as_chunks::<4>().0) {
            *part = u32::from_le_bytes(*bytes);
        }
        if counts.width_ms == 0 {
            return None;
        }
        usage.windows.push(counts);
        rest = after;
    }
    let (leases, over) = rest.as_chunks::<LEASE>();
    if !over.is_empty() {
        return None;
    }
    for lease in leases {
        let (number, began) = lease.split_at(8);
        usage
            .leases
            .push((u64::from_le_bytes(number.try_into().ok()?), u64::from_le_bytes(began.try_into().ok()?)));
    }
    Some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No bytes make it panic, and whatever it accepts is exactly what would be written.
        #[test]
        fn bytes_are_usage_or_nothing(mut bytes in prop::collection::vec(any::<u8>(), 0..600), windows in 0u8..4) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Some(second) = bytes.get_mut(1) {
                *second = windows;
            }
            if let Some(usage) = decode(&bytes) {
                prop_assert_eq!(encode(&usage), bytes);
            }
        }
    }
}
