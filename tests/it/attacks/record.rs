//! Refused calls are limited before they are recorded, and the record may not grow without end.
