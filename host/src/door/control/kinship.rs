//! Finds out whether a process was started by this gateway: then it is a server, or was started by one.
//!
//! The keepers adopt what loses its parent below them, and the gateway what loses its keeper, so whatever a server starts
//! has this process among its ancestors for as long as it lives.

/// How many ancestors are looked at; no process has more.
const MOST: usize = 256;

/// Looks at the ancestors of a process.
///
/// # Errors
/// They cannot be seen: it has ended, or is of another PID namespace.
pub(super) fn descends_from_us(pid: Option<i32>) -> Result<bool, &'static str> {
    let own = i32::try_from(std::process::id()).map_err(|_| "this process has a strange number")?;
    descends(pid, own, parent)
}

fn descends(pid: Option<i32>, own: i32, parent: impl Fn(i32) -> Option<i32>) -> Result<bool, &'static str> {
    let mut pid = match pid {
        // What a process of another namespace looks like from here.
        None | Some(0) => return Err("it is of another container"),
        Some(pid) => pid,
    };
    for _ in 0..MOST {
        if pid == own {
            return Ok(true);
        }
        if pid <= 1 {
            return Ok(false);
        }
        pid = parent(pid).ok_or("it has ended")?;
    }
    Err("it has no end of ancestors")
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state and the parent follow the name, which may hold anything, in parentheses.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_looked_at_to_their_end() {
        let family = |pid: i32| match pid {
            30 => Some(20),
            20 => Some(10),
            10 | 5 => Some(1),
            40 => Some(0),
            50 => Some(50),
            _ => None,
        };
        for (pid, descends_from_ten) in
            [(30, true), (20, true), (10, true), (5, false), (40, false), (1, false)]
        {
            assert_eq!(descends(Some(pid), 10, family), Ok(descends_from_ten), "{pid}");
        }
        for unknown in [None, Some(0), Some(50), Some(99)] {
            assert!(descends(unknown, 10, family).is_err(), "{unknown:?}");
        }
    }

    #[test]
    fn the_system_is_asked() {
        let own = i32::try_from(std::process::id()).ok();
        assert_eq!(descends_from_us(own), Ok(true));
        assert_eq!(descends_from_us(own.and_then(parent)), Ok(false));
    }
}
