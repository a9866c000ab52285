//! The circuit as bytes: fixed fields, little-endian, behind a version.

use crate::decide::{BUCKETS, Circuit, Recent, State};

/// Changes with every change of the layout.
const VERSION: u8 = 1;

/// Version, tag and generation.
const HEAD: usize = 2 + 8;
/// A circuit with a time.
const TIMED: usize = HEAD + 8 + 4;
/// A closed one with its counts, the longest.
const CLOSED: usize = HEAD + 4 + 8 + 8 + BUCKETS * 8;

/// A circuit as bytes. It is written for every call of a healthy backend, so it takes no memory of its own.
#[derive(Debug)]
pub(crate) struct Encoded {
    bytes: [u8; CLOSED],
    length: usize,
}

impl std::ops::Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes a circuit.
pub(crate) fn encode(circuit: &Circuit) -> Encoded {
    let mut bytes = [0; CLOSED];
    bytes[0] = VERSION;
    bytes[2..HEAD].copy_from_slice(&circuit.generation.to_le_bytes());
    let length = match &circuit.state {
        State::Closed { consecutive, recent } => {
            bytes[10..14].copy_from_slice(&consecutive.to_le_bytes());
            bytes[14..22].copy_from_slice(&recent.width_ms.to_le_bytes());
            bytes[22..30].copy_from_slice(&recent.head.to_le_bytes());
            let (places, _) = bytes[30..].as_chunks_mut::<8>();
            for (place, (ok, failed)) in places.iter_mut().zip(recent.buckets) {
                *place = (u64::from(ok) | u64::from(failed) << 32).to_le_bytes();
            }
            CLOSED
        }
        State::Open { until: time, trips } | State::HalfOpen { since: time, trips } => {
            bytes[1] = if matches!(circuit.state, State::Open { .. }) { 1 } else { 2 };
            bytes[10..18].copy_from_slice(&time.to_le_bytes());
            bytes[18..TIMED].copy_from_slice(&trips.to_le_bytes());
            TIMED
        }
    };
    Encoded { bytes, length }
}

/// Reads what [`encode`] wrote; none if it was written by another version, or is no circuit at all.
pub(crate) fn decode(bytes: &[u8]) -> Option<Circuit> {
    let (&[version, tag], rest) = bytes.split_first_chunk()?;
    if version != VERSION {
        return None;
    }
    let (generation, rest) = rest.split_first_chunk()?;
    let state = match tag {
        0 => closed(rest.try_into().ok()?),
        1 | 2 => {
            let (time, rest) = rest.split_first_chunk()?;
            let (time, trips) = (u64::from_le_bytes(*time), u32::from_le_bytes(rest.try_into().ok()?));
            if tag == 1 { State::Open { until: time, trips } } else { State::HalfOpen { since: time, trips } }
        }
        _ => return None,
    };
    Some(Circuit { generation: u64::from_le_bytes(*generation), state })
}

/// The rest of a closed circuit, whose length is known: nothing in here can fail.
fn closed(bytes: &[u8; CLOSED - HEAD]) -> State {
    let (words, _) = bytes[4..].as_chunks::<8>();
    let word = |at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
    let mut buckets = [(0, 0); BUCKETS];
    for (at, bucket) in buckets.iter_mut().enumerate() {
        let both = word(2 + at);
        #[expect(clippy::cast_possible_truncation, reason = "the lower and the upper half")]
        let halves = (both as u32, (both >> 32) as u32);
        *bucket = halves;
    }
    let consecutive = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    State::Closed { consecutive, recent: Recent { width_ms: word(0), head: word(1), buckets } }
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
                    prop_assert_eq!(&*encode(&circuit), &bytes[..length]);
                }
            }
        }
    }

    #[test]
    fn another_version_is_not_guessed_at() {
        let mut bytes = encode(&Circuit::default()).to_vec();
        assert_eq!(decode(&bytes), Some(Circuit::default()));
        bytes[0] += 1;
        assert_eq!(decode(&bytes), None);
    }
}
