//! The task tree.
#![forbid(unsafe_code)]
