//! Compiling a plugin is bounded in time, memory and nesting, and happens in a process of its own.
