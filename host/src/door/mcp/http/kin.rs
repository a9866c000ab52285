//! Whether the other end of a loopback connection is one of our own processes: the gateway, a server it started, or
//! what such a server started in its turn.
//!
//! The kernel tells of each TCP socket whose it is (`/proc/net/tcp`), and of each process which sockets it has open.
//! A process is somebody else's only if the socket is found with it; a socket that no process has open, as when the
//! sender has ended already, belongs to no process.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many processes are looked at, and how many open files of all of them together.
const MAX_PROCESSES: usize = 32_768;
const MAX_FILES: usize = 1_000_000;
/// Lines of one table of sockets.
const MAX_SOCKETS: usize = 1_000_000;

/// Where a socket was found last, and is looked for first. It decides nothing.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// Some other process of this machine.
    Other,
    /// This gateway's, by its id.
    Own(u32),
    /// It cannot be found out, for this reason.
    Unknown(&'static str),
}

/// Looks for the process whose end of the connection is `peer`; ours is `local`. Reads files, so not on a thread that
/// others wait for.
pub(super) fn look(peer: SocketAddr, local: SocketAddr) -> Kin {
    let Some(socket) = socket(peer, local) else {
        return Kin::Unknown("the system does not say whose connection it is");
    };
    let Some(parents) = parents() else {
        return Kin::Unknown("the processes of this machine cannot be listed");
    };
    let ours = descendants(std::process::id(), &parents);
    let mut left = MAX_FILES;
    if has_open("/proc/self/fd", socket.inode, &mut left) {
        return Kin::Own(std::process::id());
    }
    for pid in ours.iter().filter(|pid| **pid != std::process::id()) {
        // A thread can have files of its own; those of the gateway have not.
        let threads = numbers(&format!("/proc/{pid}/task"));
        let found = threads
            .iter()
            .any(|thread| has_open(&format!("/proc/{pid}/task/{thread}/fd"), socket.inode, &mut left));
        if found {
            return Kin::Own(*pid);
        }
    }
    // The process found last is looked at first: it usually opens the next connection, too.
    let last = LAST.load(Ordering::Relaxed);
    let others = parents.keys().copied().filter(|pid| *pid != last);
    for pid in parents.contains_key(&last).then_some(last).into_iter().chain(others) {
        if !ours.contains(&pid) && has_open(&format!("/proc/{pid}/fd"), socket.inode, &mut left) {
            LAST.store(pid, Ordering::Relaxed);
            return Kin::Other;
        }
    }
    if left == 0 {
        return Kin::Unknown("too many files are open on this machine to look for the process that sends it");
    }
    // Another user's files cannot be looked at. It is not ours if nothing of ours runs as that user.
    if socket.uid != rustix::process::getuid().as_raw()
        && ours.iter().all(|pid| users(*pid).is_some_and(|users| !users.contains(&socket.uid)))
    {
        return Kin::Other;
    }
    Kin::Unknown("the process that sends it was not found")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    uid: u32,
    inode: u64,
}

/// The peer's socket. An IPv4 connection may be made by a socket for IPv6, and stands in that table then.
fn socket(peer: SocketAddr, local: SocketAddr) -> Option<Socket> {
    let forms = [(peer.ip(), local.ip()), (peer.ip().to_canonical(), local.ip().to_canonical())];
    forms.into_iter().find_map(|(peer_ip, local_ip)| {
        let (here, there) = (place(peer_ip, peer.port(), false), place(local_ip, local.port(), false));
        let table = if peer_ip.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
        let mapped = || {
            let (here, there) = (place(peer_ip, peer.port(), true), place(local_ip, local.port(), true));
            find("/proc/net/tcp6", &here, &there)
        };
        find(table, &here, &there).or_else(mapped)
    })
}

/// An address as the kernel writes it: each 32 bits as a number in the order of the machine's own bytes.
fn place(ip: IpAddr, port: u16, mapped: bool) -> String {
    let word = |bytes: &[u8]| {
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        format!("{:08X}", u32::from_ne_bytes(word))
    };
    let address: String = match ip {
        IpAddr::V4(ip) if mapped => ip.to_ipv6_mapped().octets().chunks(4).map(word).collect(),
        IpAddr::V4(ip) => word(&ip.octets()),
        IpAddr::V6(ip) => ip.octets().chunks(4).map(word).collect(),
    };
    format!("{address}:{port:04X}")
}

fn find(table: &str, here: &str, there: &str) -> Option<Socket> {
    let lines = BufReader::new(fs::File::open(table).ok()?).lines();
    lines.map_while(Result::ok).take(MAX_SOCKETS).find_map(|line| entry(&line, here, there))
}

/// The socket of a line, if it is the one with these ends. One that has no process any more has no number either.
fn entry(line: &str, here: &str, there: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace();
    if fields.nth(1) != Some(here) || fields.next() != Some(there) {
        return None;
    }
    // Its state, two queues, a timer and its retries; then its user, a timeout, and its number.
    let uid = fields.nth(4)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    (inode != 0).then_some(Socket { uid, inode })
}

/// All processes with their parents; none if there are too many.
fn parents() -> Option<HashMap<u32, u32>> {
    let pids = numbers("/proc");
    if pids.is_empty() || pids.len() > MAX_PROCESSES {
        return None;
    }
    Some(pids.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect())
}

fn parent(pid: u32) -> Option<u32> {
    // One read for each process of the machine: what is looked for stands at the beginning.
    let mut beginning = [0; 512];
    let read =
        fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut beginning)).ok()?;
    // The name comes first, in parentheses, and may hold anything, in 64 bytes at most; what follows has no parenthesis.
    let stat = beginning.get(..read)?;
    let rest = stat.get(memchr::memrchr(b')', stat)? + 1..)?;
    let parent = rest.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(1)?;
    std::str::from_utf8(parent).ok()?.parse().ok()
}

/// A process and all that came from it, at any depth.
fn descendants(root: u32, parents: &HashMap<u32, u32>) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, parent) in parents {
        children.entry(*parent).or_default().push(*pid);
    }
    let (mut found, mut next) = (HashSet::from([root]), vec![root]);
    while let Some(pid) = next.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                next.push(*child);
            }
        }
    }
    found
}

/// The numbers among the names in a folder of `/proc`.
fn numbers(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Whether one of the open files in a folder is this socket.
fn has_open(folder: &str, inode: u64, left: &mut usize) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(files) = fs::read_dir(folder) else { return false };
    for file in files.filter_map(Result::ok) {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        if fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()) {
            return true;
        }
    }
    false
}

/// The users a process runs as, or could again; none if it has ended or hides.
fn users(pid: u32) -> Option<Vec<u32>> {
    let status = match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => status,
        // It has ended, and with it what it had open.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(Vec::new()),
        Err(_) => return None,
    };
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().map(|uid| uid.parse().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn addresses_are_written_as_the_kernel_writes_them() {
        let of = |text: &str, mapped| {
            let address: SocketAddr = text.parse().unwrap();
            place(address.ip(), address.port(), mapped)
        };
        if cfg!(target_endian = "little") {
            assert_eq!(of("127.0.0.1:9200", false), "0100007F:23F0");
            assert_eq!(of("127.0.0.1:1", true), "0000000000000000FFFF00000100007F:0001");
            assert_eq!(of("[::1]:80", false), "00000000000000000000000001000000:0050");
        }
    }

    #[test]
    fn a_line_tells_user_and_number_and_a_left_socket_is_nobodys() {
        let line = |inode: u64| {
            format!(
                "   3: 0100007F:9C40 0100007F:23F0 01 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0 20"
            )
        };
        let (here, there) = ("0100007F:9C40", "0100007F:23F0");
        assert_eq!(entry(&line(77), here, there), Some(Socket { uid: 1000, inode: 77 }));
        assert_eq!(entry(&line(77), there, here), None);
        assert_eq!(entry(&line(0), here, there), None);
    }

    #[test]
    fn our_own_ends_are_found_over_every_family() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_accepted, peer) = listener.accept().unwrap();
            assert_eq!(look(peer, listener.local_addr().unwrap()), Kin::Own(std::process::id()), "{address}");
            drop(stream);
        }
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert!(matches!(look(nobody, nobody), Kin::Unknown(_)));
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let parents = HashMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 5)]);
        assert_eq!(descendants(2, &parents), HashSet::from([2, 3, 4]));
        assert_eq!(descendants(6, &parents), HashSet::from([6]));
    }
}
