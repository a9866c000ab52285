//! What waits for a server or a client that does not read is bounded in bytes, and costs only who caused it.
