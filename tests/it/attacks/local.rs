//! Local means a person on this machine, not whoever a proxy or a child brings.
