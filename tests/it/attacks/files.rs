//! Files that decide or record are private and are what they seem, or nothing starts.
