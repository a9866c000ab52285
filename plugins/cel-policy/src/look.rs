//! Looks at a rule before it is ever run: what of a call it reads, and what it could cost.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};

/// Most parts of one expression.
const NODES: usize = 400;
/// Most loops (`all`, `exists`, `map`, `filter`) within each other: each multiplies what the one around it costs.
const LOOPS: usize = 2;

/// What a rule can name, and the fields of each; none for those whose fields are the call's own.
pub(crate) const ROOTS: [(&str, Option<&[&str]>); 7] = [
    ("caller", Some(&["subject", "role"])),
    ("claims", None),
    ("target", Some(&["name", "backend", "upstream", "kind"])),
    ("call", Some(&["method", "door"])),
    ("args", None),
    ("params", None),
    ("annotations", None),
];

/// The functions of a rule. Regular expressions are not among them: compiling one for each call would cost more than all
/// the rest.
const FUNCTIONS: [&str; 7] = ["contains", "startsWith", "endsWith", "size", "has", "glob", "string"];
/// More of them, for numbers.
const CONVERSIONS: [&str; 4] = ["int", "uint", "double", "type"];

/// What was found in an expression.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The roots it names, with the claims that it names.
    pub(crate) roots: BTreeSet<String>,
    pub(crate) claims: BTreeSet<String>,
    /// What is wrong with it.
    pub(crate) wrong: Vec<String>,
    nodes: usize,
    /// The names that loops give to what they go through.
    bound: Vec<String>,
}

/// Looks at every part of an expression.
pub(crate) fn look(expression: &IdedExpr) -> Seen {
    let mut seen = Seen::default();
    seen.at(expression, 0);
    if seen.nodes > NODES {
        seen.wrong.push(format!("has {} parts, and may have {NODES}; split it", seen.nodes));
    }
    seen
}

impl Seen {
    fn at(&mut self, expression: &IdedExpr, loops: usize) {
        self.nodes += 1;
        // What is too long is not looked at to its end.
        if self.nodes > 4 * NODES {
            return;
        }
        match &expression.expr {
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && !self.bound.contains(root)
                {
                    self.nodes += 1;
                    self.field(root, &select.field);
                } else {
                    self.at(&select.operand, loops);
                }
            }
            Expr::Call(call) => self.call(call, loops),
            Expr::Comprehension(inner) => {
                if loops == LOOPS {
                    self.wrong.push(format!("has more than {LOOPS} loops within each other"));
                    return;
                }
                self.at(&inner.iter_range, loops);
                let before = self.bound.len();
                self.bound.push(inner.iter_var.clone());
                self.bound.extend(inner.iter_var2.clone());
                self.bound.push(inner.accu_var.clone());
                for part in [&inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result] {
                    self.at(part, loops + 1);
                }
                self.bound.truncate(before);
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.at(element, loops)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr, loops)),
            Expr::Struct(_) => self.wrong.push("makes a message, which is of no use here".to_owned()),
            Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn entry(&mut self, entry: &EntryExpr, loops: usize) {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.at(&entry.key, loops);
                self.at(&entry.value, loops);
            }
            EntryExpr::StructField(field) => self.at(&field.value, loops),
        }
    }

    fn call(&mut self, call: &cel::common::ast::CallExpr, loops: usize) {
        let name = call.func_name.as_str();
        let known = FUNCTIONS.contains(&name) || CONVERSIONS.contains(&name);
        // Operators have names of signs: `_==_`, `!_`, `_?_:_`, `@in`.
        if !known && name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let hint = if name == "matches" { "; use glob(text, \"a*\") or startsWith" } else { "" };
            self.wrong.push(format!("calls `{name}`, which is not there{hint}"));
        }
        // `claims["a.b"]`: the claim is named by a text.
        if let [root, index] = call.args.as_slice()
            && matches!(&root.expr, Expr::Ident(root) if root == "claims")
            && name == "_[_]"
        {
            match &index.expr {
                Expr::Literal(LiteralValue::String(claim)) => self.field("claims", claim.inner()),
                _ => self.wrong.push("names a claim by something other than a text".to_owned()),
            }
            return;
        }
        call.target.iter().for_each(|target| self.at(target, loops));
        call.args.iter().for_each(|argument| self.at(argument, loops));
    }

    /// A name without a field.
    fn name(&mut self, name: &str) {
        if self.bound.iter().any(|bound| bound == name) || CONVERSIONS.contains(&name) {
            return;
        }
        match ROOTS.iter().find(|(root, _)| *root == name) {
            Some(("claims", _)) => {
                self.wrong.push(
                    "asks for all claims; only one by its name can be read, such as claims.team".to_owned(),
                );
            }
            Some(_) => {
                self.roots.insert(name.to_owned());
            }
            None => self.unknown(name),
        }
    }

    fn field(&mut self, root: &str, field: &str) {
        match ROOTS.iter().find(|(known, _)| *known == root) {
            Some((_, Some(fields))) if !fields.contains(&field) => {
                self.wrong.push(format!("names {root}.{field}; {root} has {}", fields.join(", ")));
            }
            Some(_) => {
                self.roots.insert(root.to_owned());
                if root == "claims" {
                    self.claims.insert(field.to_owned());
                }
            }
            None => self.unknown(root),
        }
    }

    fn unknown(&mut self, name: &str) {
        let roots: Vec<&str> = ROOTS.iter().map(|(root, _)| *root).collect();
        self.wrong.push(format!("names `{name}`, which is not there; there are {}", roots.join(", ")));
    }
}
