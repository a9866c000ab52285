//! The users of this machine, as its own table has them. The environment is not asked: it can say anything.

use std::io;

/// Where the table is.
pub const TABLE: &str = "/etc/passwd";

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// The group that is theirs.
    pub gid: u32,
}

/// The first user of the table that is the wanted one.
///
/// # Errors
/// The table cannot be read.
pub fn find(is_wanted: impl Fn(&User) -> bool) -> io::Result<Option<User>> {
    Ok(std::fs::read_to_string(TABLE)?.lines().filter_map(read).find(is_wanted))
}

/// A line of the table: `name:password:uid:gid:…`.
fn read(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
    Some(User { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user_or_nothing() {
        let ann = User { name: "ann".to_owned(), uid: 1000, gid: 100 };
        assert_eq!(read("ann:x:1000:100:Ann:/home/ann:/bin/sh"), Some(ann));
        for none in ["", "ann", "ann:x:1000", "ann:x:many:100:", "+::::::"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn root_is_in_the_table() {
        let root = find(|user| user.uid == 0).ok().flatten();
        assert_eq!(root.map(|user| user.name).as_deref(), Some("root"));
    }
}
