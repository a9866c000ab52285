//! System calls that a server in a sandbox does not have.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::config::sandbox::Network;

/// Ways around the walls, and what administers the machine, of which a server that runs as root has all.
const NEVER: [libc::c_long; 30] = [
    // Its operations reach files and sockets without a system call that a filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Keys of the user's other programs.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // Files by number instead of by path.
    libc::SYS_open_by_handle_at,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // The kernel and the machine.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
];

/// On x86-64 every call has a second number, for programs with short pointers.
const SECOND_NUMBERS: Option<libc::c_long> =
    if cfg!(target_arch = "x86_64") { Some(0x4000_0000) } else { None };

pub(super) fn filter(network: Network) -> Result<BpfProgram, String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut deny = |call: libc::c_long, rule: Option<SeccompRule>| {
        for number in [Some(call), SECOND_NUMBERS.map(|second| call | second)].into_iter().flatten() {
            rules.insert(number, rule.iter().cloned().collect());
        }
    };
    NEVER.into_iter().for_each(|call| deny(call, None));
    if network == Network::None {
        // No family at all: through a Unix socket a server could reach a process that has the network.
        deny(libc::SYS_socket, None);
        let family = u64::from(libc::AF_UNIX.unsigned_abs());
        let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family);
        let other = other.and_then(|condition| SeccompRule::new(vec![condition])).map_err(failed)?;
        deny(libc::SYS_socketpair, Some(other));
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    // A call in the manner of another processor (32 bits) ends the process: its numbers mean other things.
    let denied = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(failed)?;
    BpfProgram::try_from(filter).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("the filter of system calls cannot be built: {error}")
}
