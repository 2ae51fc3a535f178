//! The pool: what balancers say, what stands in files, and whole drains.

mod answers;
mod files;
mod flows;
