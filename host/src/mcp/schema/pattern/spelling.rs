//! Reads a pattern of ECMA-262 (with Annex B, as browsers do) and writes the same for the `regex` engine.

use super::class::{self, Member};

pub(super) const LOOK: &str = "it looks ahead or behind, which takes more than linear time";
pub(super) const BACK: &str = "it refers back to a group, which takes more than linear time";

/// The translation, and whether the pattern is one with Annex B only.
pub(super) fn translate(pattern: &str) -> Result<(String, bool), String> {
    let out = String::with_capacity(pattern.len() + 16);
    let mut reader = Reader { rest: pattern, out, atom: false, loose: false };
    while let Some(c) = reader.next() {
        reader.step(c)?;
    }
    Ok((reader.out, reader.loose))
}

struct Reader<'p> {
    rest: &'p str,
    out: String,
    /// Whether a quantifier may follow.
    atom: bool,
    /// Something in it is read as Annex B says.
    loose: bool,
}

/// What an escape stands for outside of a class.
enum Escape {
    Member(Member),
    Boundary(char),
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.atom = true;
    }

    fn step(&mut self, c: char) -> Result<(), String> {
        match c {
            '\\' => match self.escape(false)? {
                Escape::Boundary(letter) => {
                    self.out.push_str(if letter == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
                    self.atom = false;
                }
                Escape::Member(Member::One(c)) => {
                    let literal = regex_syntax::escape(c.encode_utf8(&mut [0; 4]));
                    self.atom(&literal);
                }
                Escape::Member(member) => {
                    let class = class::class(false, &[member]);
                    self.atom(&class);
                }
            },
            '[' => {
                let class = self.class()?;
                self.atom(&class);
            }
            '(' => return self.group(),
            ')' => self.atom(")"),
            '.' => self.atom(&class::dot()),
            '{' => return self.braces(),
            '*' | '+' | '?' => return self.quantifier(&c.to_string()),
            '|' | '^' | '$' => {
                self.out.push(c);
                self.atom = false;
            }
            '}' | ']' => {
                self.loose = true;
                self.atom(&format!("\\{c}"));
            }
            c => self.atom(c.encode_utf8(&mut [0; 4])),
        }
        Ok(())
    }

    /// A quantifier, and the question mark after it, which changes what is found but not whether.
    fn quantifier(&mut self, text: &str) -> Result<(), String> {
        if !self.atom {
            return Err(format!("there is nothing that `{text}` could repeat"));
        }
        self.out.push_str(text);
        if self.take("?") {
            self.out.push('?');
        }
        self.atom = false;
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        self.atom = false;
        if !self.rest.starts_with('?') {
            self.out.push_str("(?:");
            return Ok(());
        }
        let looks = ["?=", "?!", "?<=", "?<!"];
        if looks.iter().any(|look| self.rest.starts_with(look)) {
            return Err(LOOK.to_owned());
        }
        if self.take("?<") {
            let (_, rest) = self.rest.split_once('>').ok_or("the name of a group does not end")?;
            self.rest = rest;
            self.out.push_str("(?:");
            return Ok(());
        }
        // `(?:` and, since 2025, `(?i-s:`.
        let (flags, rest) = self.rest[1..].split_once(':').ok_or("a group begins in an unknown way")?;
        if !flags.chars().all(|c| matches!(c, 'i' | 'm' | 's' | '-')) {
            return Err("a group begins in an unknown way".to_owned());
        }
        self.out.push_str(&format!("(?{flags}:"));
        self.rest = rest;
        Ok(())
    }

    /// `{2,3}` repeats; any other brace is a character.
    fn braces(&mut self) -> Result<(), String> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if let Some((inside, rest)) = self.rest.split_once('}') {
            let (min, max) = inside.split_once(',').map_or((inside, None), |(min, max)| (min, Some(max)));
            if digits(min) && max.is_none_or(|max| max.is_empty() || digits(max)) {
                self.rest = rest;
                return self.quantifier(&format!("{{{inside}}}"));
            }
        }
        self.loose = true;
        self.atom(r"\{");
        Ok(())
    }

    fn class(&mut self) -> Result<String, String> {
        let negated = self.take("^");
        let mut members: Vec<Member> = Vec::new();
        loop {
            let member = match self.next().ok_or("a class does not end")? {
                ']' => return Ok(class::class(negated, &members)),
                c => self.member(c)?,
            };
            if !self.rest.starts_with('-') || self.rest.starts_with("-]") {
                members.push(member);
                continue;
            }
            self.take("-");
            let c = self.next().ok_or("a class does not end")?;
            match (member, self.member(c)?) {
                (Member::One(first), Member::One(last)) if first <= last => {
                    members.push(Member::Ranges(vec![(first, last)]));
                }
                (Member::One(_), Member::One(_)) => {
                    return Err("a range in a class is upside down".to_owned());
                }
                // `[\w-x]`: with a class at either end the sign is a character.
                (first, last) => {
                    self.loose = true;
                    members.extend([first, Member::One('-'), last]);
                }
            }
        }
    }

    fn member(&mut self, c: char) -> Result<Member, String> {
        if c != '\\' {
            return Ok(Member::One(c));
        }
        match self.escape(true)? {
            Escape::Member(member) => Ok(member),
            Escape::Boundary('b') => Ok(Member::One('\u{8}')),
            Escape::Boundary(c) => Ok(Member::One(c)),
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<Escape, String> {
        let c = self.next().ok_or("it ends with a backslash")?;
        if let Some(ranges) = class::of_letter(c) {
            return Ok(Escape::Member(Member::Ranges(ranges)));
        }
        let one = match c {
            'b' | 'B' => return Ok(Escape::Boundary(c)),
            'p' | 'P' if self.rest.starts_with('{') => {
                let (inside, rest) =
                    self.rest.split_once('}').ok_or("the name of a property does not end")?;
                self.rest = rest;
                return Ok(Escape::Member(Member::Property(format!("\\{c}{inside}}}"))));
            }
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'f' => '\x0c',
            'v' => '\x0b',
            '0' if !self.rest.starts_with(|c: char| c.is_ascii_digit()) => '\0',
            '0'..='9' if !in_class => return Err(BACK.to_owned()),
            'k' if self.rest.starts_with('<') => return Err(BACK.to_owned()),
            'c' => match self.rest.chars().next().filter(char::is_ascii_alphabetic) {
                Some(letter) => {
                    self.next();
                    char::from(letter as u8 % 32)
                }
                None => return Err("\\c is not followed by a letter".to_owned()),
            },
            'x' => {
                let read = self.hex(2).and_then(char::from_u32);
                self.loose |= read.is_none();
                read.unwrap_or('x')
            }
            'u' => return self.unicode().map(|c| Escape::Member(Member::One(c))),
            c => {
                self.loose |= !(r"^$\.*+?()[]{}|/".contains(c) || (in_class && c == '-'));
                c
            }
        };
        Ok(Escape::Member(Member::One(one)))
    }

    /// So many digits, or nothing taken.
    fn hex(&mut self, digits: usize) -> Option<u32> {
        let (number, rest) = self.rest.split_at_checked(digits)?;
        let number = number.bytes().all(|b| b.is_ascii_hexdigit()).then_some(number)?;
        self.rest = rest;
        u32::from_str_radix(number, 16).ok()
    }

    fn unicode(&mut self) -> Result<char, String> {
        if let Some((inside, rest)) = self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
            && let Some(c) = u32::from_str_radix(inside, 16).ok().and_then(char::from_u32)
        {
            self.rest = rest;
            return Ok(c);
        }
        let Some(unit) = self.hex(4) else {
            self.loose = true;
            return Ok('u');
        };
        if let Some(c) = char::from_u32(unit) {
            return Ok(c);
        }
        let low = if self.take("\\u") { self.hex(4) } else { None };
        let pair =
            [Some(unit), low].map(|unit| unit.and_then(|unit| u16::try_from(unit).ok()).unwrap_or(0xd800));
        match char::decode_utf16(pair).next() {
            Some(Ok(c)) => Ok(c),
            _ => Err("half a surrogate pair stands in it".to_owned()),
        }
    }
}
