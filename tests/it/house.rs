//! What the house promises: it changes while it is lived in.

mod generations;
