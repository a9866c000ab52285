//! The rules, with small scripts in the place of the gateway.

use super::*;

const PLENTY: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits { memory_bytes: 256 << 20, answer_bytes: 1 << 20, processor: None };

/// A worker that is this piece of Python. `question()` and `answer(tag, bytes)` are there.
fn worker(code: &str, limits: &Limits) -> Worker {
    let script = format!(
        "import os, struct, sys, time\n\
         def exactly(n):\n    return sys.stdin.buffer.read(n)\n\
         def question():\n    head = exactly(4)\n    return exactly(struct.unpack('<I', head)[0]) if head else None\n\
         def answer(tag, words):\n    sys.stdout.buffer.write(bytes([tag]) + struct.pack('<I', len(words)) + words)\n    sys.stdout.buffer.flush()\n\
         {code}\n"
    );
    let python = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("python3")).find(|file| file.exists())
    });
    Worker::of(&python.unwrap(), &["-c", &script], "test", limits).unwrap()
}

#[test]
fn questions_of_any_length_are_answered_one_after_the_other() {
    let mut echo = worker("while (q := question()) is not None: answer(len(q) % 2, q)", &LIMITS);
    // Longer than a pipe holds, in both directions.
    for length in [0, 2, 1 << 20, 300_002] {
        assert_eq!(echo.ask(&vec![7; length], PLENTY).unwrap(), vec![7; length]);
    }
    assert!(matches!(echo.ask(b"odd", PLENTY), Err(ConfinedError::Refused(reason)) if reason == "odd"));
    assert_eq!(echo.ask(b"even", PLENTY).unwrap(), b"even");
}

/// Whether somebody of a process group lives. One that is dead and waits to be reaped does not.
fn lives(group: rustix::process::Pid) -> bool {
    let group = group.as_raw_nonzero().get().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, parent, group.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let mut fields = fields.split(' ');
        !matches!(fields.next(), None | Some("" | "Z" | "X")) && fields.nth(1) == Some(&group)
    })
}

#[test]
fn whoever_does_not_answer_in_time_is_killed_with_all_it_started() {
    // One that does not even read its question, and one that has a child of its own.
    for code in ["time.sleep(1000)", "question()\nif os.fork(): pass\ntime.sleep(1000)"] {
        let mut slow = worker(code, &LIMITS);
        let group = i32::try_from(slow.child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        let error = slow.ask(&vec![0; 300_000], Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, ConfinedError::Time(_)), "{error}");
        assert!(slow.pipes.is_none());
        assert!(matches!(slow.ask(b"", PLENTY), Err(ConfinedError::Crash(_))));
        let until = Instant::now() + PLENTY;
        while lives(group) {
            assert!(Instant::now() < until, "somebody of its group lives");
            std::thread::yield_now();
        }
    }
}

#[test]
fn an_answer_is_bounded_before_it_is_read() {
    let small = Limits { answer_bytes: 1000, ..LIMITS };
    for code in [
        "question(); answer(0, bytes(1001))",
        "question(); sys.stdout.buffer.write(b'\\0\\xff\\xff\\xff\\xff'); sys.stdout.flush(); time.sleep(1000)",
    ] {
        let error = worker(code, &small).ask(b"", PLENTY).unwrap_err();
        assert!(matches!(error, ConfinedError::Answer(1000)), "{error}");
    }
    assert_eq!(worker("question(); answer(0, bytes(1000))", &small).ask(b"", PLENTY).unwrap().len(), 1000);
}

#[test]
fn how_it_ended_is_told() {
    let cases = [
        ("sys.stderr.write('oh\\n  no\\n'); sys.exit(3)", "exit code 3; oh no"),
        ("os.abort()", "signal 6"),
        ("sys.stdout.buffer.write(b'\\5\\0\\0\\0\\0')", "frames"),
        ("question(); sys.stdout.buffer.write(b'\\0\\1\\0\\0\\0a' * 2)", "more than it was asked"),
        // More than a pipe holds, which would make it wait.
        ("sys.stderr.write('x' * 300000 + 'end'); sys.exit(1)", "xend"),
    ];
    for (code, words) in cases {
        let error = worker(code, &LIMITS).ask(b"?", PLENTY).unwrap_err();
        assert!(matches!(&error, ConfinedError::Crash(said) if said.contains(words)), "{code}: {error}");
    }
}

#[test]
fn memory_and_processor_are_the_kernels_to_count() {
    let error = worker(
        "question()\ntry:\n    bytearray(300 << 20)\nexcept MemoryError:\n    os.write(2, b'memory allocation of 300 MiB failed')\n    os.abort()",
        &LIMITS,
    )
    .ask(b"", PLENTY)
    .unwrap_err();
    assert!(matches!(error, ConfinedError::Memory(_)), "{error}");
    let limits = Limits { processor: Some(Duration::from_secs(1)), ..LIMITS };
    let error = worker("question()\nwhile True: pass", &limits).ask(b"", PLENTY).unwrap_err();
    assert!(matches!(error, ConfinedError::Time(limit) if limit < PLENTY), "{error}");
}

#[test]
fn it_has_no_environment_and_no_descriptors_of_ours() {
    let left_open = std::fs::File::open("/dev/null").unwrap();
    // Python's own starter may add variables, so the test asks for two that we have.
    assert!(["HOME", "CARGO_MANIFEST_DIR"].iter().all(|name| std::env::var_os(name).is_some()));
    rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty()).unwrap();
    let code = "question()\n\
        names = [n for n in os.environ if n in ('HOME', 'CARGO_MANIFEST_DIR')]\n\
        fds = [f for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)]\n\
        answer(0, repr((names, sorted(fds), os.getpgid(0) == os.getpid())).encode())";
    let said = String::from_utf8(worker(code, &LIMITS).ask(b"", PLENTY).unwrap()).unwrap();
    assert_eq!(said, "([], ['0', '1', '2'], True)");
}

#[test]
fn a_thread_that_ends_does_not_take_its_worker_along() {
    let mut echo =
        std::thread::spawn(|| worker("while (q := question()) is not None: answer(0, q)", &LIMITS))
            .join()
            .unwrap();
    assert_eq!(echo.ask(b"still here", PLENTY).unwrap(), b"still here");
}
