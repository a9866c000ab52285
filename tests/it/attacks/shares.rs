//! Connections, sessions and memory have a share for each caller; a stranger takes nobody's place.
