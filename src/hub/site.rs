//! The server: where it is, who asks, and what it's asked for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{COOKIE, RANGE},
};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::{
    environment::{home, var},
    listing::{self, Listing},
    problems,
    reference::{Host, Kind, Reference},
};

/// How long a connection may take to be made, and how long nothing may arrive.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);

/// A hub.
pub(super) struct Site {
    host: Host,
    endpoint: Url,
    token: Option<String>,
    /// Whether nothing may be asked of it.
    pub(super) is_offline: bool,
}

impl Site {
    /// As the hub's own client has it: `HF_ENDPOINT`, `HF_TOKEN` or the token that logging in left, and `HF_HUB_OFFLINE`;
    /// `MODELSCOPE_DOMAIN` and `MODELSCOPE_API_TOKEN`.
    ///
    /// # Errors
    /// If what is named is no server.
    pub(super) fn from_environment(host: Host) -> Result<Self> {
        let (variable, named) = match host {
            Host::HuggingFace => {
                ("HF_ENDPOINT", var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()))
            }
            Host::ModelScope => {
                let domain = var("MODELSCOPE_DOMAIN").unwrap_or_else(|| "www.modelscope.cn".to_owned());
                ("MODELSCOPE_DOMAIN", if domain.contains("://") { domain } else { format!("https://{domain}") })
            }
        };
        let url = Url::parse(&named).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let endpoint = url.with_context(|| format!("{variable} names no server, such as https://example.org"))?;
        let is_set =
            |name: &str| var(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&&*value.to_lowercase()));
        let left = || std::fs::read_to_string(home()?.join("token")).ok();
        let token = match host {
            Host::HuggingFace => var("HF_TOKEN").or_else(left),
            Host::ModelScope => var("MODELSCOPE_API_TOKEN"),
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let site =
            Self { host, endpoint, token, is_offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE") };
        ensure!(
            site.endpoint.username().is_empty() && site.endpoint.password().is_none(),
            "{variable} has a password in it; {} is what tells who you are",
            site.token_variable()
        );
        Ok(site)
    }

    /// The variable that says who asks.
    const fn token_variable(&self) -> &'static str {
        match self.host {
            Host::HuggingFace => "HF_TOKEN",
            Host::ModelScope => "MODELSCOPE_API_TOKEN",
        }
    }

    /// What there is of a model or a data set at a commit, or else at the revision that is meant.
    ///
    /// # Errors
    /// What [`problems`] tells apart.
    pub(super) fn list(&self, reference: &Reference, commit: Option<&str>) -> Result<Listing> {
        let Reference { host, kind, name, revision } = reference;
        let revision = commit.filter(|_| *host == Host::HuggingFace).unwrap_or(revision);
        let (url, query) = match host {
            Host::HuggingFace => {
                (self.url(&["api", kind.plural()], name, &["revision", revision])?, vec![("blobs", "true")])
            }
            Host::ModelScope => (
                self.url(&["api", "v1", kind.plural()], name, &["repo", "files"])?,
                vec![("Revision", revision), ("Recursive", "true")],
            ),
        };
        let connection = Connection::open()?;
        let body = connection.runtime.block_on(async {
            let request = self.authorized(connection.client.get(url).query(&query));
            let answer = self.accepted(send(request).await?, reference, None)?;
            answer.bytes().await.map_err(problems::outage)
        })?;
        let listing = match host {
            Host::HuggingFace => listing::of_hugging_face(&body),
            Host::ModelScope => listing::of_model_scope(&body),
        };
        listing.with_context(|| format!("{} doesn't tell the files of {name}", self.endpoint))
    }

    /// Asks for a file, from its byte `from` on.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) async fn get(
        &self,
        client: &Client,
        reference: &Reference,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Response> {
        let Reference { host, kind, name, revision } = reference;
        let request = match host {
            Host::HuggingFace => {
                let before: &[&str] = if *kind == Kind::DataSet { &[kind.plural()] } else { &[] };
                let after: Vec<&str> = ["resolve", commit].into_iter().chain(file.split('/')).collect();
                client.get(self.url(before, name, &after)?)
            }
            // It has no name for a commit; the digest tells if the file is another by now.
            Host::ModelScope => {
                let url = self.url(&["api", "v1", kind.plural()], name, &["repo"])?;
                client.get(url).query(&[("Revision", revision.as_str()), ("FilePath", file)])
            }
        };
        let request = self.authorized(request);
        let request = if from > 0 { request.header(RANGE, format!("bytes={from}-")) } else { request };
        let answer = send(request).await?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        self.accepted(answer, reference, Some(file))
    }

    /// An address: the slash in a name is one, that in a revision isn't.
    fn url(&self, before: &[&str], name: &str, after: &[&str]) -> Result<Url> {
        let mut url = self.endpoint.clone();
        let mut path = url.path_segments_mut().ok().context("the hub's address can't be used")?;
        path.pop_if_empty().extend(before).extend(name.split('/')).extend(after);
        drop(path);
        Ok(url)
    }

    /// Says who asks. It isn't sent on to where the hub leads for large files.
    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.token, self.host) {
            (None, _) => request,
            (Some(token), Host::HuggingFace) => request.bearer_auth(token),
            (Some(token), Host::ModelScope) => request.header(COOKIE, format!("m_session_id={token}")),
        }
    }

    fn accepted(&self, answer: Response, reference: &Reference, file: Option<&str>) -> Result<Response> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (token_variable, has_token) = (self.token_variable(), self.token.is_some());
        let request = problems::Request { endpoint: &self.endpoint, token_variable, has_token, reference, file };
        Err(problems::refusal(request, &answer))
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
