//! libFuzzer with one of the targets, which the variable `FUZZ_TARGET` names. Built by `cargo xtask fuzz`.
#![cfg_attr(feature = "guided", no_main)]

#[cfg(feature = "guided")]
mod guided {
    use std::sync::OnceLock;

    use libfuzzer_sys::fuzz_target;

    fuzz_target!(|data: &[u8]| {
        static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
        let target = TARGET.get_or_init(|| {
            let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
            sentinel_fuzz::target(&name)
                .unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}, which is no target"))
        });
        target(data);
    });
}

#[cfg(not(feature = "guided"))]
fn main() -> std::process::ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "built without coverage: use `cargo xtask fuzz`");
    std::process::ExitCode::FAILURE
}
