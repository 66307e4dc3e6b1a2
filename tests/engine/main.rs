//! The store, the executor and remotes: what is computed, kept, shared and resumed.

#[path = "../common/mod.rs"]
mod common;

mod clearing;
mod executor;
mod faults;
mod golden;
mod key_fields;
mod keys;
mod moved_defaults;
mod outages;
mod remote;
mod remote_state;
mod resume;
mod s3;
mod sharing;
mod store;
mod transfers;
