//! Finds the time at which the clock of the store goes on after a restart.
//!
//! What is kept bears a [`Mark`]: one moment as three clocks show it. A gateway that starts reads the marks of all that is
//! kept and goes on from the latest: by the time since the machine was started, if that is the same start, because nobody can
//! set that clock; else by the calendar. A calendar that was set back while the machine was off makes time stand still for
//! as long as it was off, so that nothing that was spent comes back; one that was set forward makes what is kept expire
//! sooner, which only root can do. While a gateway runs, nothing that is done to the calendar matters.

use super::clock::{boot_ns, unix_ns};
use super::record::Reader;

/// Where Linux says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The times of all clocks of the machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Which start of the machine; 0 if that is not known, and then no two of them are the same.
    pub(super) boot: u128,
    /// Nanoseconds since that start.
    pub(super) boot_ns: u64,
    /// Nanoseconds since 1970, by the calendar.
    pub(super) unix_ns: u64,
}

impl Machine {
    pub(super) fn look() -> Self {
        let id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().replace('-', "");
        let boot = u128::from_str_radix(id.trim(), 16).unwrap_or(0);
        Self { boot, boot_ns: boot_ns(), unix_ns: unix_ns() }
    }
}

/// A moment on the store's clock, and what the machine showed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) now_ns: u64,
    pub(super) machine: Machine,
}

impl Mark {
    /// Bytes of a mark.
    pub(super) const LENGTH: usize = 8 + 16 + 8 + 8;

    pub(super) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.now_ns.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.machine.boot.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.machine.boot_ns.to_le_bytes());
        bytes[32..].copy_from_slice(&self.machine.unix_ns.to_le_bytes());
        bytes
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let now_ns = from.u64()?;
        let machine = Machine { boot: from.u128()?, boot_ns: from.u64()?, unix_ns: from.u64()? };
        Some(Self { now_ns, machine })
    }

    /// The time of the store's clock at a later moment of the same boot; `None` after another boot.
    fn same_start(self, here: Machine) -> Option<u64> {
        let there = self.machine;
        let same = here.boot != 0 && here.boot == there.boot;
        let passed = here.boot_ns.checked_sub(there.boot_ns).filter(|_| same)?;
        Some(self.now_ns.saturating_add(passed))
    }

    /// The same by the calendar.
    fn by_calendar(self, here: Machine) -> u64 {
        self.now_ns.saturating_add(here.unix_ns.saturating_sub(self.machine.unix_ns))
    }
}

/// The time of the store's clock now, if these marks were kept; without any it begins with the calendar. It is never
/// before any of the marks.
pub(super) fn resume(marks: &[Mark], here: Machine) -> u64 {
    let Some(latest) = marks.iter().max_by_key(|mark| mark.now_ns) else {
        return here.unix_ns;
    };
    // Gateways that were started since the machine was all agree on the time.
    let agreed = marks.iter().filter_map(|mark| mark.same_start(here)).max();
    agreed.unwrap_or_else(|| latest.by_calendar(here)).max(latest.now_ns)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000_000_000;
    const START: Machine = Machine { boot: 1, boot_ns: 50 * HOUR, unix_ns: 400_000 * HOUR };

    fn mark(now_ns: u64) -> Mark {
        Mark { now_ns, machine: START }
    }

    proptest! {
        /// Whatever happens to the calendar and to the machine: time never goes back, and without another start of the
        /// machine it is exact.
        #[test]
        fn time_never_goes_back(
            steps in proptest::collection::vec((0u64..HOUR, any::<bool>(), 0u64..900_000 * HOUR), 1..40),
        ) {
            let (mut machine, mut now) = (START, START.unix_ns);
            let mut marks = vec![mark(now)];
            for (passes, restarts, calendar) in steps {
                machine.boot_ns += passes;
                if restarts {
                    machine.boot += 1;
                    machine.boot_ns = passes;
                }
                machine.unix_ns = calendar;
                let next = resume(&marks, machine);
                if restarts {
                    prop_assert!(next >= now);
                } else {
                    prop_assert_eq!(next, now + passes);
                }
                now = next;
                // What is kept last may be older than what was kept before: the latest counts.
                marks.insert(0, Mark { now_ns: now, machine });
                marks.truncate(3);
            }
        }

        #[test]
        fn a_mark_is_read_as_it_was_written(now_ns: u64, boot: u128, boot_ns: u64, unix_ns: u64) {
            let mark = Mark { now_ns, machine: Machine { boot, boot_ns, unix_ns } };
            let bytes = mark.to_bytes();
            prop_assert_eq!(Mark::read(&mut Reader::new(&bytes)), Some(mark));
            prop_assert_eq!(Mark::read(&mut Reader::new(&bytes[1..])), None);
        }
    }

    #[test]
    fn the_first_start_begins_with_the_calendar() {
        assert_eq!(resume(&[], START), START.unix_ns);
    }

    #[test]
    fn the_time_that_the_gateway_was_down_counts() {
        let kept = mark(700);
        // The calendar is set back by a day: on the same start of the machine that is nothing.
        let later = Machine { boot: 1, boot_ns: 51 * HOUR, unix_ns: START.unix_ns - 24 * HOUR };
        assert_eq!(resume(&[kept], later), 700 + HOUR);
        // After another start it is the calendar that tells; set back, time stands still meanwhile.
        let restarted = Machine { boot: 2, boot_ns: 1, unix_ns: START.unix_ns + 2 * HOUR };
        assert_eq!(resume(&[kept], restarted), 700 + 2 * HOUR);
        assert_eq!(resume(&[kept], Machine { unix_ns: START.unix_ns - HOUR, ..restarted }), 700);
        // Without a name every start is another one.
        let nameless = Mark { machine: Machine { boot: 0, ..START }, ..kept };
        assert_eq!(resume(&[nameless], Machine { boot: 0, ..restarted }), 700 + 2 * HOUR);
    }

    #[test]
    fn the_machine_says_which_start_it_is() {
        let (one, other) = (Machine::look(), Machine::look());
        assert_eq!(one.boot, other.boot);
        assert!(one.boot != 0 && other.boot_ns >= one.boot_ns && one.unix_ns > 400_000 * HOUR);
    }
}
