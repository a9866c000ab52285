//! Nothing of a client reaches a server but through the pipeline, or as one of the few things a client may say of its own accord.
