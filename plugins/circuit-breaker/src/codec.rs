//! The circuit as bytes: fixed fields, little-endian, behind a version.

use crate::decide::{BUCKETS, Circuit, Recent, State};

/// Changes with every change of the layout.
const VERSION: u8 = 1;

/// Writes a circuit.
pub(crate) fn encode(circuit: &Circuit) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + 8 + 4 + 8 + 8 + BUCKETS * 8);
    bytes.push(VERSION);
    let tag = match circuit.state {
        State::Closed { .. } => 0,
        State::Open { .. } => 1,
        State::HalfOpen { .. } => 2,
    };
    bytes.push(tag);
    bytes.extend(circuit.generation.to_le_bytes());
    match &circuit.state {
        State::Closed { consecutive, recent } => {
            bytes.extend(consecutive.to_le_bytes());
            bytes.extend(recent.width_ms.to_le_bytes());
            bytes.extend(recent.head.to_le_bytes());
            for (ok, failed) in recent.buckets {
                bytes.extend(ok.to_le_bytes());
                bytes.extend(failed.to_le_bytes());
            }
        }
        State::Open { until: time, trips } | State::HalfOpen { since: time, trips } => {
            bytes.extend(time.to_le_bytes());
            bytes.extend(trips.to_le_bytes());
        }
    }
    bytes
}

/// Reads what [`encode`] wrote; none if it was written by another version, or is no circuit at all.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Circuit> {
    let [version, tag] = array(&mut bytes)?;
    if version != VERSION {
        return None;
    }
    let generation = u64::from_le_bytes(array(&mut bytes)?);
    let state = if tag == 0 {
        let consecutive = u32::from_le_bytes(array(&mut bytes)?);
        let width_ms = u64::from_le_bytes(array(&mut bytes)?);
        let head = u64::from_le_bytes(array(&mut bytes)?);
        let mut buckets = [(0, 0); BUCKETS];
        for bucket in &mut buckets {
            *bucket = (u32::from_le_bytes(array(&mut bytes)?), u32::from_le_bytes(array(&mut bytes)?));
        }
        State::Closed { consecutive, recent: Recent { width_ms, head, buckets } }
    } else {
        let time = u64::from_le_bytes(array(&mut bytes)?);
        let trips = u32::from_le_bytes(array(&mut bytes)?);
        match tag {
            1 => State::Open { until: time, trips },
            2 => State::HalfOpen { since: time, trips },
            _ => return None,
        }
    };
    bytes.is_empty().then_some(Circuit { generation, state })
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No bytes make it panic, and whatever it accepts is exactly what would be written.
        #[test]
        fn bytes_are_a_circuit_or_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), tag in 0u8..4) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Some(second) = bytes.get_mut(1) {
                *second = tag;
            }
            for length in [bytes.len(), 22.min(bytes.len()), 110.min(bytes.len())] {
                if let Some(circuit) = decode(&bytes[..length]) {
                    prop_assert_eq!(encode(&circuit), &bytes[..length]);
                }
            }
        }
    }

    #[test]
    fn another_version_is_not_guessed_at() {
        let mut bytes = encode(&Circuit::default());
        assert_eq!(decode(&bytes), Some(Circuit::default()));
        bytes[0] += 1;
        assert_eq!(decode(&bytes), None);
    }
}
