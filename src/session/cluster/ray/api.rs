//! Requests to Ray's Jobs API. Calls block.

use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::{Client, Method};
use serde_json::Value as Json;
use tokio::runtime::{Builder, Runtime};

/// How long a connection may take to be made, and a request to be answered.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
/// What holds the token of a cluster that wants one, as for Ray's own commands.
const TOKEN: &str = "RAY_AUTH_TOKEN";

/// Where the API is.
pub(super) struct Api {
    url: String,
    http: Client,
    runtime: Runtime,
}

/// Why there's no answer.
pub(super) enum Problem {
    /// It can't be reached, or isn't able to answer at the moment.
    Away(String),
    /// It doesn't do it.
    Refused { status: u16, said: String },
}

impl Api {
    /// The API at an address.
    ///
    /// # Errors
    /// If that is none.
    pub(super) fn open(address: &str) -> Result<Self> {
        let is_web = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
        ensure!(is_web, "`{address}` is no address of Ray's Jobs API: it has to begin with http:// or https://");
        let http = Client::builder().connect_timeout(CONNECT).timeout(REQUEST).build()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { url: address.trim_end_matches('/').to_owned(), http, runtime })
    }

    pub(super) fn get(&self, path: &str) -> Result<Json, Problem> {
        self.request(Method::GET, path, None)
    }

    pub(super) fn post(&self, path: &str, body: Option<&Json>) -> Result<Json, Problem> {
        self.request(Method::POST, path, body)
    }

    fn request(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, Problem> {
        let away = |error: reqwest::Error| Problem::Away(format!("{} doesn't answer: {error}", self.url));
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        if let Ok(token) = std::env::var(TOKEN) {
            request = request.bearer_auth(token);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(away)?;
            let status = answer.status();
            let bytes = answer.bytes().await.map_err(away)?;
            if status.is_success() {
                return serde_json::from_slice(&bytes)
                    .map_err(|error| Problem::Away(format!("{} answers no JSON: {error}", self.url)));
            }
            let said = last_line(&String::from_utf8_lossy(&bytes));
            Err(match status.as_u16() {
                // What stands between may be tired; Ray's own failures are 500.
                429 | 502 | 503 | 504 => Problem::Away(format!("{status}: {said}")),
                status => Problem::Refused { status, said },
            })
        })
    }
}

/// What is said in the last line of a traceback.
fn last_line(text: &str) -> String {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason is given").to_owned()
}
