//! The command line of the MCP Inspector: one request for each run.
