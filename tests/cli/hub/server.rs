//! A hub on this machine: the part of Hugging Face's protocol, and of ModelScope's, by which models and data sets are fetched.
//! Large files are a redirection to another address, as theirs are.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::json;

/// Files from this size on are large.
const LARGE: usize = 20_000;
/// The bytes that are sent at a time where it's slow, and before it hangs up.
const PART: usize = 2_000;
const BREAK: usize = 5_000;

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Status, headers and body of an answer.
type Response = (&'static str, String, Vec<u8>);

/// What a server has, and what it was asked for.
#[derive(Default)]
pub(super) struct Hub {
    /// The files of the model or the data set, by commit.
    pub(super) commits: Mutex<BTreeMap<String, Files>>,
    /// The commit that `main` is.
    pub(super) main: Mutex<String>,
    /// Where large files are: the same server under another name.
    other: Mutex<String>,
    /// Method, path and range of each request.
    pub(super) requests: Mutex<Vec<String>>,
    /// Whether it takes its time with large files.
    pub(super) is_slow: AtomicBool,
    /// Whether it hangs up in the middle of large files, again and again.
    pub(super) is_breaking: AtomicBool,
    /// Whether it sends other bytes than it should.
    pub(super) is_damaged: AtomicBool,
}

impl Hub {
    /// Serves the model `org/tiny` and the data set `data/rows`; gives the URL.
    pub(super) fn serve(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        *self.other.lock() = format!("http://localhost:{}", address.port());
        let hub = Arc::clone(self);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = Arc::clone(&hub);
                // Who hangs up in the middle is no concern of the others.
                std::thread::spawn(move || hub.answer(stream).ok());
            }
        });
        format!("http://{address}")
    }

    /// What was asked for since the last call.
    pub(super) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock())
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut request, mut from, mut token, mut session) = (String::new(), None, None, None);
        reader.read_line(&mut request)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            let line = line.trim().to_owned();
            if let Some((name, value)) = line.split_once(':') {
                match &*name.to_lowercase() {
                    "range" => {
                        from =
                            value.trim().trim_start_matches("bytes=").split('-').next().and_then(|at| at.parse().ok())
                    }
                    "authorization" => token = Some(value.trim().to_owned()),
                    "cookie" => session = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let range = from.map(|from: usize| format!(" from {from}")).unwrap_or_default();
        self.requests.lock().push(format!("{method} {path}{range}"));
        let (status, headers, body) = match path.strip_prefix("/api/v1/models/") {
            Some(path) => self.respond_as_model_scope(path, query, session.as_deref()),
            None => self.respond(path, token.as_deref(), session.as_deref()),
        };
        let from = from.unwrap_or(0).min(body.len());
        let (status, range) = match (status, from) {
            ("200 OK", 1..) => {
                ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len()))
            }
            _ => (status, String::new()),
        };
        let body = &body[from..];
        let head =
            format!("HTTP/1.1 {status}\r\n{headers}{range}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        if self.is_breaking.load(SeqCst) && path.starts_with("/cdn/") {
            return stream.write_all(&body[..body.len().min(BREAK)]);
        }
        let is_slow = self.is_slow.load(SeqCst) && path.starts_with("/cdn/");
        for part in body.chunks(if is_slow { PART } else { body.len().max(1) }) {
            stream.write_all(part)?;
            if is_slow {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        Ok(())
    }

    fn respond(&self, path: &str, token: Option<&str>, session: Option<&str>) -> Response {
        let error = |status, code: &str| (status, format!("X-Error-Code: {code}\r\n"), Vec::new());
        let commits = self.commits.lock();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        if let ["cdn", blob] = parts[..] {
            // The token is for the hub alone.
            assert_eq!((token, session), (None, None), "the token went to another server");
            let mut files = commits.values().flat_map(BTreeMap::values);
            return match files.find(|bytes| sha256(bytes) == blob) {
                Some(bytes) if self.is_damaged.load(SeqCst) => ("200 OK", String::new(), vec![0; bytes.len()]),
                Some(bytes) => ("200 OK", String::new(), bytes.clone()),
                None => error("404 Not Found", "EntryNotFound"),
            };
        }
        let parts = match &parts[..] {
            ["datasets", rest @ ..] => rest,
            parts => parts,
        };
        let (name, revision, file) = match parts {
            ["api", "datasets", org, name, "revision", revision] if *org == "data" => {
                (format!("{org}/{name}"), *revision, None)
            }
            ["api", "models", org, name, "revision", revision] => (format!("{org}/{name}"), *revision, None),
            ["api", "models", org, name] => (format!("{org}/{name}"), "main", None),
            [org, name, "resolve", revision, file @ ..] => (format!("{org}/{name}"), *revision, Some(file.join("/"))),
            _ => return error("404 Not Found", "RepoNotFound"),
        };
        match &*name {
            "org/gated" if token != Some("Bearer accepted") => return error("403 Forbidden", "GatedRepo"),
            "org/tiny" | "org/gated" | "data/rows" => {}
            _ => return error("401 Unauthorized", "RepoNotFound"),
        }
        let main = self.main.lock().clone();
        let commit = if revision == "main" { &main } else { revision };
        let Some(files) = commits.get(commit) else { return error("404 Not Found", "RevisionNotFound") };
        let Some(file) = file else {
            let siblings = files.iter().map(|(path, bytes)| {
                let lfs = is_large(bytes)
                    .then(|| json!({ "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 130 }));
                json!({ "rfilename": path, "size": bytes.len(), "blobId": git(bytes), "lfs": lfs })
            });
            let body = json!({ "id": name, "sha": commit, "siblings": siblings.collect::<Vec<_>>() });
            return ("200 OK", "Content-Type: application/json\r\n".to_owned(), body.to_string().into_bytes());
        };
        let Some(bytes) = files.get(&file) else { return error("404 Not Found", "EntryNotFound") };
        let head = format!("X-Repo-Commit: {commit}\r\n");
        if !is_large(bytes) {
            return ("200 OK", format!("{head}ETag: \"{}\"\r\n", git(bytes)), bytes.clone());
        }
        let (sha, size) = (sha256(bytes), bytes.len());
        let head = format!("{head}X-Linked-Etag: \"{sha}\"\r\nX-Linked-Size: {size}\r\n");
        ("302 Found", format!("{head}{}", self.elsewhere(bytes)), Vec::new())
    }

    /// What ModelScope answers, to whom its cookie tells.
    fn respond_as_model_scope(&self, path: &str, query: &str, session: Option<&str>) -> Response {
        let refused = |message: &str| {
            let body = json!({ "Code": 10010205001_u64, "Message": message, "Success": false });
            ("404 Not Found", String::new(), body.to_string().into_bytes())
        };
        let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let asked = |key: &str| query.get(key).map(String::as_str);
        let commits = self.commits.lock();
        let files = match (path, session) {
            ("org/tiny/repo" | "org/tiny/repo/files", Some("m_session_id=known"))
                if asked("Revision") == Some("master") =>
            {
                &commits[&*self.main.lock()]
            }
            _ => return refused("获取模型信息失败，信息不存在"),
        };
        let Some(file) = asked("FilePath") else {
            let blobs = files.iter().map(|(path, bytes)| {
                let name = path.rsplit('/').next();
                json!({ "Path": path, "Name": name, "Size": bytes.len(), "Type": "blob", "Sha256": sha256(bytes) })
            });
            let folder = json!({ "Path": "onnx", "Name": "onnx", "Size": 0, "Type": "tree", "Sha256": "" });
            let files: Vec<_> = blobs.chain([folder]).collect();
            let body = json!({ "Code": 200, "Data": { "Files": files }, "Success": true });
            return ("200 OK", "Content-Type: application/json\r\n".to_owned(), body.to_string().into_bytes());
        };
        match files.get(file) {
            Some(bytes) if is_large(bytes) => ("302 Found", self.elsewhere(bytes), Vec::new()),
            Some(bytes) => ("200 OK", String::new(), bytes.clone()),
            None => refused("no such file"),
        }
    }

    /// Where a large file is.
    fn elsewhere(&self, bytes: &[u8]) -> String {
        format!("Location: {}/cdn/{}\r\n", self.other.lock(), sha256(bytes))
    }
}

fn is_large(bytes: &[u8]) -> bool {
    bytes.len() >= LARGE
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// Git's digest of a file.
fn git(bytes: &[u8]) -> String {
    let whole = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref())
}
