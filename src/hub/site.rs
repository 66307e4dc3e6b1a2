//! The server: where it is, who asks, and what it's asked for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::RANGE};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::{
    environment::{home, var},
    listing::{self, Listing},
    problems,
};

/// Where models are, unless `HF_ENDPOINT` says it.
const ENDPOINT: &str = "https://huggingface.co";
/// How long a connection may take to be made, and how long nothing may arrive.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);

/// A hub.
pub(super) struct Site {
    endpoint: Url,
    token: Option<String>,
    /// Whether nothing may be asked of it.
    pub(super) is_offline: bool,
}

impl Site {
    /// As Hugging Face's own client has it: `HF_ENDPOINT`, `HF_TOKEN` or the token that logging in left, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// If what is named is no server.
    pub(super) fn from_environment() -> Result<Self> {
        let named = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let url = Url::parse(&named).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let endpoint = url.context("HF_ENDPOINT names no server: it has to begin with http:// or https://")?;
        ensure!(
            endpoint.username().is_empty() && endpoint.password().is_none(),
            "HF_ENDPOINT has a password in it; HF_TOKEN is what tells who you are"
        );
        let is_set =
            |name: &str| var(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&&*value.to_lowercase()));
        let left = || std::fs::read_to_string(home()?.join("token")).ok();
        let token = var("HF_TOKEN").or_else(left).map(|token| token.trim().to_owned());
        Ok(Self {
            endpoint,
            token: token.filter(|token| !token.is_empty()),
            is_offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
        })
    }

    /// What there is of a model at a revision.
    ///
    /// # Errors
    /// What [`problems`] tells apart.
    pub(super) fn list(&self, name: &str, revision: &str) -> Result<Listing> {
        let connection = Connection::open()?;
        let url = self.url(&["api", "models", name, "revision", revision])?;
        let body = connection.runtime.block_on(async {
            let request = self.authorized(connection.client.get(url).query(&[("blobs", "true")]));
            let answer = self.accepted(send(request).await?, name, revision, None)?;
            answer.bytes().await.map_err(problems::outage)
        })?;
        listing::parse(&body).with_context(|| format!("{} doesn't tell the files of {name}", self.endpoint))
    }

    /// Asks for a file, from its byte `from` on.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) async fn get(
        &self,
        client: &Client,
        name: &str,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Response> {
        let url = self.url(&[&[name, "resolve", commit][..], &file.split('/').collect::<Vec<_>>()[..]].concat())?;
        let request = self.authorized(client.get(url));
        let request = if from > 0 { request.header(RANGE, format!("bytes={from}-")) } else { request };
        let answer = send(request).await?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        self.accepted(answer, name, commit, Some(file))
    }

    fn url(&self, parts: &[&str]) -> Result<Url> {
        let mut url = self.endpoint.clone();
        // A name has a slash in it that is one; a revision's isn't.
        let parts = parts.iter().enumerate().flat_map(|(at, part)| match parts.get(at + 1) {
            Some(&("revision" | "resolve")) => part.split('/').collect(),
            _ => vec![*part],
        });
        let mut path = url.path_segments_mut().ok().context("HF_ENDPOINT can't be used")?;
        path.pop_if_empty().extend(parts);
        drop(path);
        Ok(url)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            // It isn't sent on to where the hub leads for large files.
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn accepted(&self, answer: Response, name: &str, revision: &str, file: Option<&str>) -> Result<Response> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(problems::refusal(&self.endpoint, self.token.is_some(), &answer, name, revision, file))
    }
}

/// What requests are sent with, by one thread.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) runtime: Runtime,
}

impl Connection {
    pub(super) fn open() -> Result<Self> {
        let client = Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE);
        let client = client.user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION"))).build()?;
        Ok(Self { client, runtime: Builder::new_current_thread().enable_all().build()? })
    }
}

async fn send(request: RequestBuilder) -> Result<Response> {
    request.send().await.map_err(problems::outage)
}
