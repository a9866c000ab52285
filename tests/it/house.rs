//! The house itself: what watches over it, and what changes while it serves.

mod telemetry;
