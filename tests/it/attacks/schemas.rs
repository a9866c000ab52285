//! Judging arguments is bounded: a schema that is too costly costs its own tool and nobody else.
