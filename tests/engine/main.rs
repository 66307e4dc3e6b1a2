//! The store, the executor and remotes: what is computed, kept, shared and resumed.

#[path = "../common/mod.rs"]
mod common;

mod changing;
mod clearing;
mod cut;
mod durable;
mod edits;
mod executor;
mod faults;
mod golden;
mod injected;
mod key_fields;
mod keys;
mod leases;
mod moved_defaults;
mod outages;
mod remote;
mod remote_state;
mod resume;
mod room;
mod s3;
mod sent_states;
mod sharing;
mod store;
mod taken_away;
mod transfers;
