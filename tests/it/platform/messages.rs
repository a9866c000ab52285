//! The messages that an author meets say what happened and what to do (section 5 of the walk).

use super::made::{built, run};

#[test]
fn what_is_no_component_is_named_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(built("rewriter")).unwrap();
    for (bytes, words) in [
        (&b""[..], "it is empty"),
        (b"some text", "it is no WebAssembly"),
        (b"\0asm\x01\0\0\0", "it is a core module; `sentinel-gateway plugin build` makes a component"),
        (&whole[..whole.len() / 2], "it is damaged or cut off ("),
    ] {
        std::fs::write(folder.path().join("x.wasm"), bytes).unwrap();
        let (fine, said) = run(folder.path(), &["plugin", "inspect", "x.wasm"]);
        assert!(!fine && said.contains(words), "{words}: {said}");
    }
}
