//! Error hints: the cause of a remote's failure in one line, with what to do about it.

use std::error::Error;

use crate::support::Hinted;

/// A reason longer than this is a web page rather than a sentence.
const LONGEST: usize = 200;

/// How an error begins that a server has answered with.
const STATUS: &str = "Server returned non-2xx status code: ";

/// The root cause of an error in one line, with a hint where credentials are missing or refused.
pub(super) fn reason(error: &object_store::Error) -> Hinted {
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

/// Whether an error says that the remote can't be reached at all, rather than that it doesn't do what it was asked.
pub(super) fn is_outage(error: &object_store::Error) -> bool {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        let text = cause.to_string();
        let status = text.strip_prefix(STATUS).and_then(|rest| rest.get(..3));
        if status.is_some_and(|status| matches!(status, "500" | "502" | "503" | "504"))
            || cause.is::<object_store::client::HttpError>()
        {
            return true;
        }
        match cause.source() {
            Some(next) => cause = next,
            None => return false,
        }
    }
}
