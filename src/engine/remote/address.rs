//! Where a remote is: from a URL, and the environment, to an object store.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreScheme, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    http::HttpBuilder,
    local::LocalFileSystem,
    path::Path,
};
use url::{Position, Url};

use super::sound::Marking;
use crate::support::Hinted;

/// How long a connection may take to be made.
const CONNECT: &str = "5s";

const KNOWN: &str =
    "known are s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH, file:///DIR, http:// and https://";

/// How a remote is asked, and how long it's waited for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long one request may take to be answered in full, so that slow lines do, and a remote that has died is given up
    /// before long.
    pub request: String,
    /// How often a request that failed is made again.
    pub retries: usize,
    /// How long before that, at first; each time up to twice as long.
    pub pause: Duration,
    /// How many bytes are sent or fetched with one request, at most.
    pub chunk: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: "30s".to_owned(), retries: 3, pause: Duration::from_millis(100), chunk: 8 << 20 }
    }
}

impl Limits {
    /// With the time for a request that `PIPE_REMOTE_TIMEOUT` gives, if it does.
    pub fn from_environment() -> Self {
        let limits = Self::default();
        let request = std::env::var("PIPE_REMOTE_TIMEOUT").unwrap_or_else(|_| limits.request.clone());
        Self { request, ..limits }
    }
}

/// The place of a remote.
pub(super) struct Address {
    url: String,
    prefix: Path,
    marking: Marking,
}

impl Address {
    /// The URL as it was given: it holds no secrets.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How files there are marked.
    pub(super) fn marking(&self) -> Marking {
        self.marking
    }

    /// The mark of a file that's there.
    pub(super) fn mark(&self, found: &ObjectMeta) -> Option<String> {
        self.marking.of(found, |location| LocalFileSystem::new().path_to_filesystem(location).ok())
    }

    /// Identifies this remote: the URL, and the endpoints in the environment.
    pub(super) fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.url.as_bytes());
        let mut settings: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|start| name.starts_with(start)))
            .filter(|(name, _)| name.contains("ENDPOINT") || name.contains("ACCOUNT_NAME"))
            .collect();
        settings.sort();
        for (name, value) in settings {
            hasher.update(&[0]).update(name.as_bytes()).update(&[0]).update(value.as_encoded_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// Where a file's bytes are.
    pub(super) fn blob(&self, digest: &str) -> Path {
        self.prefix.clone().join("v1").join("blobs").join(digest)
    }

    /// Where an artifact's record is.
    pub(super) fn record(&self, key: &str) -> Path {
        self.records().join(key)
    }

    /// Where all records are.
    pub(super) fn records(&self) -> Path {
        self.prefix.clone().join("v1").join("records")
    }

    /// Where a file of a store is that is no artifact's.
    pub(super) fn file(&self, path: &str) -> Path {
        path.split('/').fold(self.prefix.clone().join("v1").join("files"), |place, part| place.join(part))
    }

    /// A place below the URL, for people.
    pub(super) fn shown(&self, location: &Path) -> PathBuf {
        let below = location.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(location.as_ref());
        PathBuf::from(format!("{}/{}", self.url.trim_end_matches('/'), below.trim_start_matches('/')))
    }
}

/// The object store at a URL.
///
/// # Errors
/// URLs that aren't understood, or with credentials, which aren't repeated then.
pub(super) fn open(url: &str, limits: &Limits) -> Result<(Address, Box<dyn ObjectStore>)> {
    let Ok(parsed) = Url::parse(url) else { bail!(Hinted::with("--remote takes a URL", KNOWN)) };
    let has_secrets = !parsed.username().is_empty()
        || [parsed.password(), parsed.query(), parsed.fragment()].iter().any(Option::is_some);
    ensure!(
        !has_secrets,
        Hinted::with(
            "the URL of the remote has a user, a password, a query or a fragment in it, where credentials may be seen",
            "give them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    );
    let Ok((scheme, prefix)) = ObjectStoreScheme::parse(&parsed) else {
        bail!(Hinted::with(format!("unsupported remote {url}"), KNOWN));
    };
    let objects = build(&scheme, &parsed, limits).with_context(|| format!("failed to set up the remote {url}"))?;
    let marking = match scheme {
        ObjectStoreScheme::Local => Marking::Files,
        ObjectStoreScheme::Http => Marking::Unsure,
        _ => Marking::Objects,
    };
    Ok((Address { url: url.to_owned(), prefix, marking }, objects))
}

fn build(scheme: &ObjectStoreScheme, url: &Url, limits: &Limits) -> Result<Box<dyn ObjectStore>> {
    let (init_backoff, max_backoff) = (limits.pause, limits.pause.max(Duration::from_secs(2)));
    let retry = RetryConfig {
        max_retries: limits.retries,
        retry_timeout: Duration::from_secs(10),
        backoff: BackoffConfig { init_backoff, max_backoff, ..BackoffConfig::default() },
    };
    let timeouts = [(ClientConfigKey::ConnectTimeout, CONNECT), (ClientConfigKey::Timeout, &limits.request)];
    Ok(match scheme {
        ObjectStoreScheme::Local => Box::new(LocalFileSystem::new()),
        ObjectStoreScheme::AmazonS3 => {
            let mut builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry);
            for (key, value) in timeouts {
                builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
            }
            // An endpoint without TLS is a deliberate choice.
            if builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|url| url.starts_with("http://")) {
                builder = builder.with_allow_http(true);
            }
            Box::new(builder.build()?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry);
            for (key, value) in timeouts {
                builder = builder.with_config(GoogleConfigKey::Client(key), value);
            }
            Box::new(builder.build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry);
            for (key, value) in timeouts {
                builder = builder.with_config(AzureConfigKey::Client(key), value);
            }
            Box::new(builder.build()?)
        }
        ObjectStoreScheme::Http => {
            let mut options = ClientOptions::new().with_allow_http(true);
            for (key, value) in timeouts {
                options = options.with_config(key, value);
            }
            let server = &url[..Position::BeforePath];
            Box::new(HttpBuilder::new().with_url(server).with_client_options(options).with_retry(retry).build()?)
        }
        _ => bail!(KNOWN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::explained;

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for url in
            ["https://anna:geheim@host/cache", "s3://geheim@bucket/x", "az://box/x?sig=geheim", "https://host/x#geheim"]
        {
            let error = explained(&open(url, &Limits::default()).err().unwrap());
            assert!(error.contains("environment") && !error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn urls_of_other_kinds_are_refused_with_those_that_are_known() {
        for url in ["cache", "ftp://host/x", "file://relative/x", "memory:///x"] {
            let error = explained(&open(url, &Limits::default()).err().unwrap());
            assert!(error.contains("s3://BUCKET/PATH"), "{error}");
        }
    }

    #[test]
    fn blobs_and_records_lie_below_the_path_of_the_url() {
        let (address, _) = open("https://host/a/b", &Limits::default()).unwrap();
        assert_eq!(address.blob("00ff").as_ref(), "a/b/v1/blobs/00ff");
        assert_eq!(address.record("00ff").as_ref(), "a/b/v1/records/00ff");
    }
}
