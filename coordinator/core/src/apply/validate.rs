//! Checks of declarations.
