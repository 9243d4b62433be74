//! Real launches, as root and as an ordinary user, with stand-ins for the sentry and the stub.
mod common;
mod limits;
mod sandbox;
