//! How large a component may be in each of its parts; a larger one is not compiled. The time to compile grows with the
//! square of some of these sizes, so that a file of a few hundred kilobytes can keep a processor busy for minutes.
//!
//! Real components are far below: the bounds are ten times the largest figures of interpreters of whole languages. A
//! component that passes is compiled under limits of time and memory.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Modules and components in all.
const PARTS: usize = 256;
/// Components within each other.
const DEPTH: usize = 16;
/// Functions of all modules.
const FUNCTIONS: usize = 100_000;
/// Bytes of one function.
const FUNCTION_BYTES: usize = 512 << 10;
/// Locals of one function.
const LOCALS: usize = 10_000;
/// Blocks, loops and ifs of one function.
const BLOCKS: usize = 16_384;
/// The same within each other.
const NESTING: usize = 4_096;
/// Blocks times locals of one function: what assigning registers and values takes, at worst.
const BLOCKS_TIMES_LOCALS: usize = 8_000_000;
/// Types, imports, exports, instances, aliases, globals, tables, segments: of one kind, in all parts together.
const ENTRIES: usize = 50_000;

/// Why it is not compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Beyond {
    #[error("{0}")]
    Malformed(String),
    #[error("it has {found} {what}; at most {most} are compiled")]
    Too { what: &'static str, found: usize, most: usize },
    #[error("its function {number} has {found} {what}; at most {most} are compiled")]
    Function { number: usize, what: &'static str, found: usize, most: usize },
}

impl From<wasmparser::BinaryReaderError> for Beyond {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    parts: usize,
    depth: usize,
    functions: usize,
    entries: [usize; KINDS.len()],
}

/// The kinds of entries, for people.
const KINDS: [&str; 6] =
    ["types", "imports", "exports", "instances and aliases", "globals and tables", "segments"];

/// Looks at every part once, in a time that grows with the size of the file alone.
///
/// # Errors
/// The first bound that is passed, or what cannot be read.
pub(super) fn check(wasm: &[u8]) -> Result<(), Beyond> {
    let mut seen = Seen::default();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { .. } => {
                seen.depth += 1;
                seen.parts += 1;
                within("modules and components", seen.parts, PARTS)?;
                within("modules and components within each other", seen.depth, DEPTH)?;
            }
            Payload::End(_) => seen.depth = seen.depth.saturating_sub(1),
            Payload::CodeSectionStart { count, .. } => {
                let declared = seen.functions.saturating_add(count as usize);
                within("functions", declared, FUNCTIONS)?;
            }
            Payload::CodeSectionEntry(body) => {
                function(&body, seen.functions)?;
                seen.functions += 1;
            }
            Payload::TypeSection(section) => seen.count(0, section.count())?,
            Payload::CoreTypeSection(section) => seen.count(0, section.count())?,
            Payload::ComponentTypeSection(section) => seen.count(0, section.count())?,
            Payload::ImportSection(section) => seen.count(1, section.count())?,
            Payload::ComponentImportSection(section) => seen.count(1, section.count())?,
            Payload::ExportSection(section) => seen.count(2, section.count())?,
            Payload::ComponentExportSection(section) => seen.count(2, section.count())?,
            Payload::InstanceSection(section) => seen.count(3, section.count())?,
            Payload::ComponentInstanceSection(section) => seen.count(3, section.count())?,
            Payload::ComponentAliasSection(section) => seen.count(3, section.count())?,
            Payload::ComponentCanonicalSection(section) => seen.count(3, section.count())?,
            Payload::GlobalSection(section) => seen.count(4, section.count())?,
            Payload::TableSection(section) => seen.count(4, section.count())?,
            Payload::MemorySection(section) => seen.count(4, section.count())?,
            Payload::DataSection(section) => seen.count(5, section.count())?,
            Payload::ElementSection(section) => seen.count(5, section.count())?,
            _ => {}
        }
    }
    Ok(())
}

impl Seen {
    fn count(&mut self, kind: usize, more: u32) -> Result<(), Beyond> {
        if let (Some(entries), Some(what)) = (self.entries.get_mut(kind), KINDS.get(kind)) {
            *entries = entries.saturating_add(more as usize);
            within(what, *entries, ENTRIES)?;
        }
        Ok(())
    }
}

fn function(body: &FunctionBody<'_>, number: usize) -> Result<(), Beyond> {
    let within = |what, found, most| {
        if found > most { Err(Beyond::Function { number, what, found, most }) } else { Ok(()) }
    };
    within("bytes", body.as_bytes().len(), FUNCTION_BYTES)?;
    let mut locals = 0_usize;
    for group in body.get_locals_reader()? {
        locals = locals.saturating_add(group?.0 as usize);
    }
    within("locals", locals, LOCALS)?;
    let (mut blocks, mut nesting, mut deepest) = (0_usize, 0_usize, 0);
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. } => {
                blocks += 1;
                nesting += 1;
                deepest = deepest.max(nesting);
            }
            Operator::End => nesting = nesting.saturating_sub(1),
            _ => {}
        }
    }
    within("blocks within each other", deepest, NESTING)?;
    within("blocks", blocks, BLOCKS)?;
    within("blocks times locals", blocks.saturating_mul(locals), BLOCKS_TIMES_LOCALS)
}

fn within(what: &'static str, found: usize, most: usize) -> Result<(), Beyond> {
    if found > most { Err(Beyond::Too { what, found, most }) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn number(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let (byte, more) = ((value & 127) as u8, value > 127);
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

    /// A module of functions `() -> i32` with these bodies.
    fn module(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut code = number(bodies.len());
        for body in bodies {
            code.extend([&number(body.len())[..], body].concat());
        }
        let functions = [number(bodies.len()), vec![0; bodies.len()]].concat();
        [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, b"\x01\x60\x00\x01\x7f"),
            section(3, &functions),
            section(10, &code),
        ]
        .concat()
    }

    /// A function with so many locals, and this before its constant.
    fn body(locals: usize, code: &[u8]) -> Vec<u8> {
        [b"\x01", &number(locals)[..], b"\x7f", code, b"\x41\0\x0b"].concat()
    }

    fn of(bodies: &[Vec<u8>]) -> Result<(), Beyond> {
        check(&component(&section(1, &module(bodies))))
    }

    fn exceeded(result: Result<(), Beyond>) -> (&'static str, usize, usize) {
        match result.unwrap_err() {
            Beyond::Too { what, found, most } | Beyond::Function { what, found, most, .. } => {
                (what, found, most)
            }
            Beyond::Malformed(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn each_bound_has_its_name_and_its_figure() {
        let nested = |count: usize| [b"\x02\x40".repeat(count), b"\x0b".repeat(count)].concat();
        let flat = |count: usize| b"\x41\0\x04\x40\x0b".repeat(count);
        assert_eq!(of(&[body(1, &nested(NESTING))]), Ok(()));
        assert_eq!(
            exceeded(of(&[body(1, &nested(NESTING + 1))])),
            ("blocks within each other", NESTING + 1, NESTING)
        );
        assert_eq!(of(&[body(1, &flat(BLOCKS))]), Ok(()));
        assert_eq!(exceeded(of(&[body(1, &flat(BLOCKS + 1))])), ("blocks", BLOCKS + 1, BLOCKS));
        assert_eq!(exceeded(of(&[body(LOCALS + 1, b"")])), ("locals", LOCALS + 1, LOCALS));
        assert_eq!(exceeded(of(&[body(LOCALS, &flat(801))])).0, "blocks times locals");
        assert_eq!(exceeded(of(&[body(1, &vec![1; FUNCTION_BYTES])])).0, "bytes");
        assert_eq!(exceeded(of(&vec![body(0, b""); FUNCTIONS + 1])), ("functions", FUNCTIONS + 1, FUNCTIONS));
    }

    #[test]
    fn what_is_within_each_other_is_counted_and_so_is_what_is_beside() {
        let within =
            |count: usize| (1..count).fold(component(b""), |inner, _| component(&section(4, &inner)));
        assert_eq!(check(&within(DEPTH)), Ok(()));
        assert_eq!(
            exceeded(check(&within(5_000))),
            ("modules and components within each other", DEPTH + 1, DEPTH)
        );
        let beside = |count: usize| component(&section(1, &module(&[])).repeat(count));
        assert_eq!(check(&beside(PARTS - 1)), Ok(()));
        assert_eq!(exceeded(check(&beside(PARTS))), ("modules and components", PARTS + 1, PARTS));
    }

    #[test]
    fn entries_are_counted_over_all_parts() {
        // Types of functions without anything, in two modules.
        let types = [number(ENTRIES / 2 + 1), b"\x60\0\0".repeat(ENTRIES / 2 + 1)].concat();
        let half = section(1, &[b"\0asm\x01\0\0\0".to_vec(), section(1, &types)].concat());
        assert_eq!(check(&component(&half)), Ok(()));
        assert_eq!(exceeded(check(&component(&half.repeat(2)))), ("types", ENTRIES + 2, ENTRIES));
    }

    #[test]
    fn a_lie_about_a_count_costs_nothing() {
        let code = section(10, &number(usize::try_from(u32::MAX).unwrap()));
        let lying = [b"\0asm\x01\0\0\0".to_vec(), code].concat();
        assert!(check(&component(&section(1, &lying))).is_err());
        assert!(matches!(check(b"not wasm"), Err(Beyond::Malformed(_))));
    }
}
