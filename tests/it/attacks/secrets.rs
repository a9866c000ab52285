//! Secrets stay: in the log, in the record, in answers and on the health port.
