//! How a session speaks to the user.

use std::sync::Arc;

/// Shows a message to the user, such as that the remote can't be reached.
pub type Notify = Arc<dyn Fn(&str) + Send + Sync>;
