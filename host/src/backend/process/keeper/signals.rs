//! Signals of a keeper: it takes none, and the server it starts takes those that the gateway's children always did.

use std::io;
use std::mem::MaybeUninit;

/// Which signals a process does not take.
#[derive(Clone, Copy)]
pub(super) struct Mask(libc::sigset_t);

/// Blocks all signals, for this thread and those it starts, and returns what was blocked before. Those that kill
/// or stop in any case cannot be blocked.
pub(super) fn block() -> io::Result<Mask> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    #[expect(unsafe_code, reason = "rustix leaves signal masks to the C library")]
    // SAFETY: both calls get pointers to memory of the right type that lives through the call. `sigfillset` fills all of
    // `all`; `before` is only taken to be filled if the second call, which does that, succeeded.
    let before = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => before.assume_init(),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    };
    Ok(Mask(before))
}

impl Mask {
    /// Sets this mask. May be called between fork and exec.
    pub(super) fn restore(self) -> io::Result<()> {
        #[expect(unsafe_code, reason = "rustix leaves signal masks to the C library")]
        // SAFETY: the first pointer is to a mask that lives through the call; the second may be null.
        let errno =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
        if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
    }
}
