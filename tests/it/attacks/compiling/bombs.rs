//! Components that are small as files and dear to compile.

fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let (byte, more) = (u8::try_from(value & 127).unwrap(), value > 127);
        bytes.push(if more { byte | 128 } else { byte });
        value >>= 7;
        if !more {
            return bytes;
        }
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], &number(content.len())[..], content].concat()
}

fn component(content: &[u8]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", content].concat()
}

/// A component with one module of functions `() -> i32`.
fn of(bodies: &[&[u8]]) -> Vec<u8> {
    let mut code = number(bodies.len());
    for body in bodies {
        code.extend(number(body.len()));
        code.extend_from_slice(body);
    }
    let declared = [number(bodies.len()), vec![0; bodies.len()]].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, b"\x01\x60\x00\x01\x7f"),
        section(3, &declared),
        section(10, &code),
    ];
    component(&section(1, &module.concat()))
}

fn with_locals(count: usize, code: &[u8]) -> Vec<u8> {
    [b"\x01", &number(count)[..], b"\x7f", code, b"\x41\0\x0b"].concat()
}

pub(super) fn function(body: &[u8]) -> Vec<u8> {
    of(&[body])
}

pub(super) fn functions(count: usize) -> Vec<u8> {
    of(&vec![&b"\0\x41\0\x0b"[..]; count])
}

pub(super) fn nested_blocks(depth: usize) -> Vec<u8> {
    with_locals(1, &[b"\x02\x40".repeat(depth), b"\x0b".repeat(depth)].concat())
}

pub(super) fn ifs(count: usize, locals: usize) -> Vec<u8> {
    let one = |at: usize| {
        [b"\x20", &number(at % locals)[..], b"\x04\x40\x41\x01\x21", &number((at * 7) % locals), b"\x0b"]
            .concat()
    };
    with_locals(locals, &(0..count).flat_map(one).collect::<Vec<u8>>())
}

pub(super) fn additions(count: usize) -> Vec<u8> {
    [b"\0\x41\0", &b"\x41\x01\x6a".repeat(count)[..], b"\x0b"].concat()
}

pub(super) fn locals(count: usize) -> Vec<u8> {
    with_locals(count, b"")
}

pub(super) fn within_each_other(depth: usize) -> Vec<u8> {
    (1..depth).fold(component(b""), |inner, _| component(&section(4, &inner)))
}
