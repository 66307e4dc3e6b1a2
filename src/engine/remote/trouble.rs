//! What a remote's failures mean, and how they're told: once, for a run goes on without its remote.

use std::{error::Error, sync::atomic::Ordering};

use super::Shared;
use crate::support::Hinted;

/// A reason longer than this is a web page rather than a sentence.
const LONGEST: usize = 200;

impl Shared {
    /// The remote isn't asked any more, which is told the first time.
    pub(super) fn unreachable(&self, error: &object_store::Error) {
        if !self.offline.swap(true, Ordering::Relaxed) {
            let Hinted { message, hint } = reason(error);
            let url = self.place.url();
            let message = format!("warning: the remote {url} can't be used, so only the local store is: {message}");
            (self.tell)(&Hinted { message, hint }.lines());
        }
    }

    /// Nothing more is pushed, which is told the first time, unless it's known that the remote is away.
    pub(super) fn refused(&self, error: &object_store::Error) {
        let told = self.refuses.swap(true, Ordering::Relaxed) || self.offline.load(Ordering::Relaxed);
        if !told {
            let Hinted { message, hint } = reason(error);
            let url = self.place.url();
            let message = format!("warning: pushing to the remote {url} failed, the next run tries again: {message}");
            (self.tell)(&Hinted { message, hint }.lines());
        }
    }
}

/// What lies at the bottom of an error, in a line; and where credentials are the matter, where they come from.
fn reason(error: &object_store::Error) -> Hinted {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    let tag = |name: &str| Some(text.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>"))?.0);
    let mut reason = match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.lines().next().unwrap_or_default().to_owned(),
    };
    if reason.chars().count() > LONGEST {
        reason = reason.chars().take(LONGEST).chain(['…']).collect();
    }
    use object_store::Error::{PermissionDenied, Unauthenticated};
    let hint = matches!(error, PermissionDenied { .. } | Unauthenticated { .. }).then(|| {
        "credentials are taken from the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
         GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY, …); they must allow to read, list and write"
            .to_owned()
    });
    Hinted { message: reason, hint }
}
