//! What runs did, to be looked up later: a file of events for each run of a process, in the store's folder `log`.
//!
//! A file is only ever appended to, a line of JSON at a time, so that many machines can write beside each other, and what was
//! written can be read while a run goes on and after it was killed. The events are those that progress is shown by.

mod event;
mod reader;
mod summary;
mod writer;

pub use event::{Begun, FORMAT, Found, Line, StageEvent, What};
pub use reader::{RunFile, last_of, runs};
pub use summary::{StageRun, Summary};
pub use writer::{RunLog, Scrub};
