//! Fills `${…}` variables in.
