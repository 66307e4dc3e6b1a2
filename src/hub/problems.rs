//! Why a hub didn't give what it was asked for, in plain words.

use std::{error::Error, fmt};

use reqwest::{Response, StatusCode};
use url::Url;

use super::reference::{Kind, Reference};
use crate::support::Hinted;

/// That a hub couldn't be reached, or not for long; it may be another time.
#[derive(Debug)]
struct Outage(String);

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Outage {}

/// What a failed connection says.
pub(super) fn outage(error: reqwest::Error) -> anyhow::Error {
    let host = error.url().and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_else(|| "the hub".to_owned());
    // The innermost cause is what a person can do something about; the URL may be signed, and so secret.
    let error = error.without_url();
    let mut reason: &dyn Error = &error;
    while let Some(cause) = reason.source() {
        reason = cause;
    }
    Outage(format!("{host} can't be reached: {reason}")).into()
}

/// Whether it's worth another try.
pub(super) fn is_outage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Outage>())
}

/// What was asked for, of whom, and whether they know who asks.
pub(super) struct Request<'a> {
    pub(super) endpoint: &'a Url,
    /// The variable that tells them.
    pub(super) token_variable: &'static str,
    pub(super) has_token: bool,
    pub(super) reference: &'a Reference,
    pub(super) file: Option<&'a str>,
}

/// What an answer that isn't what was asked for says.
pub(super) fn refusal(request: Request<'_>, answer: &Response) -> anyhow::Error {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Request { endpoint, token_variable: token, has_token, reference, file } = request;
    let (status, hub) = (answer.status(), endpoint.host_str().unwrap_or("the hub"));
    let Reference { kind, name, revision, .. } = reference;
    let folder = if *kind == Kind::DataSet { "datasets/" } else { "" };
    let page = format!("{}/{folder}{name}", endpoint.as_str().trim_end_matches('/'));
    let noun = kind.noun();
    let who = match has_token {
        true => "the token that is set isn't one of an account that may have it".to_owned(),
        false => format!("set {token} to a token of an account that may have it"),
    };
    match (header("x-error-code"), status) {
        ("GatedRepo", _) => Hinted::with(
            format!("{name} is given only to those who have accepted its licence"),
            format!("accept it on {page}; then {who}"),
        )
        .into(),
        ("RevisionNotFound", _) => Hinted::with(
            format!("{name} has no revision `{revision}`"),
            format!("{page}/tree/main lists branches, tags and commits"),
        )
        .into(),
        ("EntryNotFound", _) => {
            Hinted::new(format!("{name} has no file {} at {revision}", file.unwrap_or_default()), None).into()
        }
        ("RepoNotFound", _) | (_, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => Hinted::with(
            format!("{hub} has no {noun} `{name}`, or not for everybody"),
            format!("look how it's spelt; if it's private, {who}"),
        )
        .into(),
        (_, StatusCode::FORBIDDEN) => {
            Hinted::with(format!("{hub} doesn't give out {name}: {}", header("x-error-message")), who).into()
        }
        (_, status) if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            Outage(format!("{hub} is overloaded ({status})")).into()
        }
        (_, status) => Hinted::new(format!("{hub} answers {status} when asked for {name}"), None).into(),
    }
}
