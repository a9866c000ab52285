//! Whose name it is follows from the file; rules hold under every name a tool has.
