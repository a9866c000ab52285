//! A keeper is a large program that does one small thing for as long as its server lives. So it gives back the pages
//! that only its start needed: with many servers they would be most of the memory that the gateway seems to use.

use std::ffi::c_void;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Lets go of all pages of this program that are as they stand in its file. Those that are needed are read again.
pub(super) fn forget_the_start() {
    // Without a list nothing is let go, and all is well.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for place in maps.lines().filter_map(unchanged) {
        let start = std::ptr::without_provenance_mut::<c_void>(place.start);
        #[expect(unsafe_code, reason = "the pages are in use")]
        // SAFETY: these pages can be read or executed only, and were never written to: what is read again from the file is what
        // was there. Nobody but the owner of the file can change it, and then pages that are not read yet would be others, too.
        let done = unsafe { madvise(start, place.len(), Advice::LinuxDontNeed) };
        // A kernel that keeps them does no harm.
        let _ = done;
    }
}

/// Where a line of `/proc/self/maps` says that pages of a file are which the loader does not write to: code, and what stands
/// before it at the beginning of the file. What the loader writes to and then closes stands behind the code.
fn unchanged(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let file = fields.nth(2)?;
    let first = offset.bytes().all(|byte| byte == b'0');
    if !file.starts_with('/') || !(rights == "r-xp" || (rights == "r--p" && first)) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_loader_does_not_write_to_is_let_go() {
        let line =
            |rights: &str, offset: &str, file: &str| format!("7f00-9f00 {rights} {offset} fe:00 123 {file}");
        assert_eq!(unchanged(&line("r-xp", "0001a000", "/bin/x")), Some(0x7f00..0x9f00));
        assert_eq!(unchanged(&line("r--p", "00000000", "/bin/x")), Some(0x7f00..0x9f00));
        for (rights, offset, file) in [
            ("r--p", "0001a000", "/bin/x"),
            ("rw-p", "00000000", "/bin/x"),
            ("r-xp", "00000000", "[vdso]"),
            ("r-xp", "00000000", ""),
            ("rwxp", "00000000", "/bin/x"),
        ] {
            assert_eq!(unchanged(&line(rights, offset, file)), None, "{rights} {offset} {file}");
        }
    }

    #[test]
    fn the_program_goes_on_after_it() {
        forget_the_start();
        let text: String = (0..1_000).map(|number| number.to_string()).collect();
        assert_eq!(text.len(), 2_890);
    }
}
