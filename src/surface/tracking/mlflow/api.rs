//! MLflow's REST API, version 2.0, as far as it's needed: experiments, runs, batches of metrics, artifacts.
//!
//! Calls block. What the server is, and who asks, comes from the environment under the names that MLflow's own client
//! knows.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::support::Hinted;

/// How long a connection may take to be made, and a request to be answered; `MLFLOW_HTTP_REQUEST_TIMEOUT` gives other
/// seconds for the second.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
/// Before a request is tried once more that failed on the server or the connection.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A reason longer than this is a web page rather than a sentence.
const LONGEST: usize = 300;

/// Where a server is, and who asks.
#[derive(Clone)]
pub(super) struct Access {
    url: Url,
    user: Option<(String, String)>,
    token: Option<String>,
    timeout: Duration,
}

impl Access {
    /// From the environment; `None` if it names no server.
    ///
    /// # Errors
    /// If what it names is no server.
    pub(super) fn from_env() -> Result<Option<Self>> {
        let Some(uri) = var("MLFLOW_TRACKING_URI") else { return Ok(None) };
        let mut url = Url::parse(&uri).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let Some(url) = url.as_mut() else {
            bail!("MLFLOW_TRACKING_URI names no server: it has to begin with http:// or https://");
        };
        // In messages, there is no place for a password.
        let given = (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
        let cleaned = url.set_username("").and_then(|()| url.set_password(None));
        url.set_query(None);
        url.set_fragment(None);
        ensure!(cleaned.is_ok(), "MLFLOW_TRACKING_URI can't be used");
        let user = var("MLFLOW_TRACKING_USERNAME").map(|name| (name, var("MLFLOW_TRACKING_PASSWORD")));
        let user = user.map(|(name, password)| (name, password.unwrap_or_default()));
        let timeout = var("MLFLOW_HTTP_REQUEST_TIMEOUT").and_then(|seconds| seconds.parse().ok());
        Ok(Some(Self {
            url: url.clone(),
            user: user.or_else(|| Some(given).filter(|(name, _)| !name.is_empty())),
            token: var("MLFLOW_TRACKING_TOKEN"),
            timeout: timeout.map_or(REQUEST, Duration::from_secs),
        }))
    }

    /// The server's URL, without secrets.
    pub(super) fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// A variable that isn't empty.
pub(super) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A server. Its runs are made in one experiment.
pub(super) struct Server {
    access: Access,
    http: reqwest::Client,
    runtime: Runtime,
    experiment: String,
}

/// A name and a text: a tag, or a setting.
pub(super) type Pair = (String, String);

/// A run that was made.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) id: String,
    /// Where its artifacts lie.
    pub(super) artifacts: String,
}

impl Server {
    /// The server with an experiment of this name, which is made if there is none.
    ///
    /// # Errors
    /// If the server can't be reached, or refuses.
    pub(super) fn open(access: Access, experiment: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT).timeout(access.timeout);
        let http = http.user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION"))).build()?;
        let mut server = Self { access, http, runtime, experiment: String::new() };
        server.experiment = match var("MLFLOW_EXPERIMENT_ID") {
            Some(id) => id,
            None => server.experiment(experiment)?,
        };
        Ok(server)
    }

    /// Its URL, without secrets.
    pub(super) fn url(&self) -> &str {
        self.access.url()
    }

    fn experiment(&self, name: &str) -> Result<String> {
        let find = || -> Result<Option<String>> {
            let request = self.request(Method::GET, "/api/2.0/mlflow/experiments/get-by-name");
            match self.answer(request.query(&[("experiment_name", name)]))? {
                (StatusCode::NOT_FOUND, body) if code(&body) == "RESOURCE_DOES_NOT_EXIST" => Ok(None),
                (status, body) => Ok(Some(text(&accepted(status, &body)?["experiment"]["experiment_id"])?)),
            }
        };
        if let Some(id) = find()? {
            return Ok(id);
        }
        let request = self.json(Method::POST, "experiments/create", &json!({ "name": name }));
        match self.answer(request)? {
            // Created concurrently.
            (_, body) if code(&body) == "RESOURCE_ALREADY_EXISTS" => {
                find()?.context("the experiment was removed concurrently")
            }
            (status, body) => text(&accepted(status, &body)?["experiment_id"]),
        }
    }

    /// Creates an open run.
    ///
    /// # Errors
    /// The server's, as of all that follows.
    pub(super) fn create(&self, name: &str, started: f64, tags: &[Pair]) -> Result<Run> {
        let tags = pairs(tags);
        let body =
            json!({ "experiment_id": self.experiment, "run_name": name, "start_time": millis(started), "tags": tags });
        let made = self.post("runs/create", &body)?;
        let info = &made["run"]["info"];
        Ok(Run { id: text(&info["run_id"])?, artifacts: text(&info["artifact_uri"])? })
    }

    /// Adds metrics, settings and tags to a run: 1000 at most, and of the latter two 100.
    pub(super) fn log(&self, run: &str, metrics: &[Value], params: &[Pair], tags: &[Pair]) -> Result<()> {
        let body = json!({ "run_id": run, "metrics": metrics, "params": pairs(params), "tags": pairs(tags) });
        self.post("runs/log-batch", &body).map(drop)
    }

    /// Closes a run with a status: `FINISHED`, `FAILED` or `KILLED`.
    pub(super) fn end(&self, run: &str, status: &str, ended: f64) -> Result<()> {
        let body = json!({ "run_id": run, "status": status, "end_time": millis(ended) });
        self.post("runs/update", &body).map(drop)
    }

    /// Reopens a run that has ended.
    pub(super) fn reopen(&self, run: &str) -> Result<()> {
        self.post("runs/update", &json!({ "run_id": run, "status": "RUNNING" })).map(drop)
    }

    /// Runs of the experiment, the latest first, each with its tags.
    pub(super) fn search(&self, filter: &str) -> Result<Vec<(String, Vec<Pair>)>> {
        let body = json!({ "experiment_ids": [self.experiment], "filter": filter, "max_results": 100 });
        let found = self.post("runs/search", &body)?;
        let runs = found["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let tag = |tag: &Value| Some((tag["key"].as_str()?.to_owned(), tag["value"].as_str()?.to_owned()));
        runs.iter()
            .map(|run| {
                let tags = run["data"]["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
                Ok((text(&run["info"]["run_id"])?, tags.iter().filter_map(tag).collect()))
            })
            .collect()
    }

    /// Puts a file among a run's artifacts, by way of the server.
    pub(super) fn upload(&self, run: &Run, name: &str, kind: &str, bytes: Vec<u8>) -> Result<()> {
        let Some(place) = run.artifacts.strip_prefix("mlflow-artifacts:") else {
            bail!("its artifacts lie at {}, which only MLflow's own client can write to", run.artifacts);
        };
        // `mlflow-artifacts://HOST/PATH` and `mlflow-artifacts:/PATH` both mean this server.
        let place = match place.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
            None => place.trim_start_matches('/'),
        };
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{place}/{name}");
        let (status, body) = self.answer(self.request(Method::PUT, &path).header("Content-Type", kind).body(bytes))?;
        accepted(status, &body).map(drop)
    }

    fn post(&self, endpoint: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.answer(self.json(Method::POST, endpoint, body))?;
        accepted(status, &answer).with_context(|| format!("{endpoint} failed"))
    }

    fn json(&self, method: Method, endpoint: &str, body: &Value) -> RequestBuilder {
        let request = self.request(method, &format!("/api/2.0/mlflow/{endpoint}"));
        request.header("Content-Type", "application/json").body(body.to_string())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url()));
        match (&self.access.user, &self.access.token) {
            (Some((name, password)), _) => request.basic_auth(name, Some(password)),
            (None, Some(token)) => request.bearer_auth(token),
            (None, None) => request,
        }
    }

    /// Sends a request, again where that may help. A request that wasn't answered in time isn't.
    fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, Value)> {
        let send = |request: RequestBuilder| {
            self.runtime.block_on(async {
                let answer = request.send().await?;
                Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
            })
        };
        let mut pauses = PAUSES.iter();
        loop {
            let again = request.try_clone().context("a request can be sent again")?;
            let answer = send(again);
            let helps = match &answer {
                Ok((status, _)) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
                Err(error) => !error.is_timeout(),
            };
            if let Some(pause) = pauses.next().filter(|_| helps) {
                std::thread::sleep(*pause);
                continue;
            }
            // For a body that isn't JSON, the status is enough.
            let (status, body) = answer.map_err(|error| anyhow!("{}", bottom(&error)))?;
            return Ok((status, serde_json::from_slice(&body).unwrap_or_default()));
        }
    }
}

/// What a server has answered, unless it's a refusal.
fn accepted(status: StatusCode, body: &Value) -> Result<Value> {
    if status.is_success() {
        return Ok(body.clone());
    }
    let message: String = body["message"].as_str().unwrap_or_default().chars().take(LONGEST).collect();
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Some("MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, set the credentials")
        }
        _ => None,
    };
    let message = format!("{status}{}{message}", if message.is_empty() { "" } else { ": " });
    bail!(Hinted::new(message, hint.map(str::to_owned)));
}

fn code(body: &Value) -> &str {
    body["error_code"].as_str().unwrap_or_default()
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("unexpected answer from MLflow")
}

/// What lies at the bottom of an error.
fn bottom(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Pairs as MLflow has tags and settings.
fn pairs(pairs: &[Pair]) -> Vec<Value> {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// Seconds as MLflow has times.
pub(super) fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}
