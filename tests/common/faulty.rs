//! A server on this machine that can be read from and written to, in the manner of WebDAV or of S3, and that answers some
//! requests badly.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The line breaks in the middle: of what is sent, or of the answer.
    Cut,
    /// It's done, and the line breaks before that's answered.
    Unanswered,
    /// The server says that this isn't allowed.
    Refused,
    /// The server says that it's overloaded.
    Overloaded,
    /// A byte changes on its way; of a question for a length, the length.
    Damaged,
    /// The server says that it has done it, or has nothing, and that isn't so.
    Lost,
    /// The answer takes longer than anybody waits.
    Delayed,
}

impl Fault {
    pub const ALL: [Self; 7] =
        [Self::Cut, Self::Unanswered, Self::Refused, Self::Overloaded, Self::Damaged, Self::Lost, Self::Delayed];

    /// Whether it matters if all later requests go wrong, too. After most faults there are none: a remote is given up.
    pub fn lasts(self) -> bool {
        matches!(self, Self::Cut | Self::Damaged | Self::Lost)
    }
}

/// Which requests go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub fault: Fault,
    /// The first one, counted from 0.
    pub first: usize,
    /// Whether all later ones do, too.
    pub stays: bool,
}

/// A server of several buckets, until it's dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A directory that is served below a name of its own, with troubles of its own.
pub struct Bucket {
    name: String,
    dir: PathBuf,
    trouble: Mutex<Option<Trouble>>,
    count: AtomicUsize,
}

struct Shared {
    delay: Duration,
    buckets: Mutex<BTreeMap<String, Arc<Bucket>>>,
    ends: AtomicBool,
}

struct Request {
    method: String,
    bucket: Arc<Bucket>,
    path: PathBuf,
    /// What follows the question mark.
    query: BTreeMap<String, String>,
    range: Option<(usize, usize)>,
    body: Vec<u8>,
    is_signed: bool,
}

impl Server {
    /// At this port, or at any if it's 0; `delay` is how late a delayed answer is.
    pub fn start(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { delay, buckets: Mutex::default(), ends: AtomicBool::new(false) });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ends.load(Ordering::SeqCst) {
                    break;
                }
                let serving = serving.clone();
                // Who hangs up in the middle is no concern of the others.
                std::thread::spawn(move || serving.answer(stream).ok());
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves a directory below a new name.
    pub fn bucket(&self, dir: &Path) -> Arc<Bucket> {
        let mut buckets = self.shared.buckets.lock().expect("a lock");
        let name = format!("bucket{}", buckets.len());
        let (trouble, count) = (Mutex::default(), AtomicUsize::new(0));
        let bucket = Arc::new(Bucket { name: name.clone(), dir: dir.to_owned(), trouble, count });
        buckets.insert(name, bucket.clone());
        bucket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // So that it's noticed.
        let _ = TcpStream::connect(self.address);
    }
}

impl Bucket {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on no request has been made, and these go wrong.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().expect("a lock") = trouble;
        self.count.store(0, Ordering::SeqCst);
    }

    /// How many requests have been made since then.
    pub fn requests(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn fault(&self) -> Option<Fault> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let trouble = (*self.trouble.lock().expect("a lock"))?;
        let is_met = if trouble.stays { number >= trouble.first } else { number == trouble.first };
        is_met.then_some(trouble.fault)
    }

    /// Writes a file as a whole, so that nobody sees half of it.
    fn write(&self, path: &Path, body: &[u8]) -> std::io::Result<()> {
        std::fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(body)?;
        file.persist(path)?;
        Ok(())
    }
}

impl Request {
    /// Where a part of an upload lies until that is complete.
    fn part(&self, number: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.bucket.dir.join("parts").join(format!("{name}.{number:0>4}"))
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = self.read(&stream)? else { return Ok(()) };
        let fault = request.bucket.fault();
        let is_read = ["GET", "HEAD"].contains(&request.method.as_str());
        match fault {
            Some(Fault::Cut) if request.method != "GET" => return Ok(()),
            Some(Fault::Refused) => return reply(&mut stream, "403 Forbidden", "", b"", true),
            Some(Fault::Overloaded) => return reply(&mut stream, "503 Service Unavailable", "", b"", true),
            Some(Fault::Lost) if request.method == "PUT" => {
                return reply(&mut stream, "201 Created", &tag(&request.body), b"", true);
            }
            Some(Fault::Lost) => return reply(&mut stream, "404 Not Found", "", b"", true),
            Some(Fault::Delayed) => std::thread::sleep(self.delay),
            _ => {}
        }
        match request.method.as_str() {
            _ if is_read => give(&mut stream, &request, fault),
            "PUT" | "POST" | "DELETE" => take(&mut stream, &request, fault),
            _ => reply(&mut stream, "405 Method Not Allowed", "", b"", true),
        }
    }

    fn read(&self, stream: &TcpStream) -> std::io::Result<Option<Request>> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut parts = line.split(' ');
        let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return Ok(None) };
        let (path, query) =
            target.trim_start_matches('/').split_once('?').unwrap_or((target.trim_start_matches('/'), ""));
        let (name, path) = path.split_once('/').unwrap_or((path, ""));
        let Some(bucket) = self.buckets.lock().expect("a lock").get(name).cloned() else { return Ok(None) };
        let query = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (method, path) = (method.to_owned(), bucket.dir.join(path));
        let (mut length, mut range, mut is_signed) = (0, None, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            let line = line.to_lowercase();
            is_signed |= line.starts_with("x-amz-content-sha256:");
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if let Some((from, last)) =
                line.strip_prefix("range: bytes=").and_then(|range| range.trim().split_once('-'))
            {
                range = from.parse().ok().zip(last.parse::<usize>().ok().map(|last| last + 1));
            }
        }
        let mut body = Vec::new();
        reader.take(length).read_to_end(&mut body)?;
        Ok(Some(Request { method, bucket, path, query, range, body, is_signed }))
    }
}

/// What S3 says of an object: a tag of its bytes, and a time.
fn tag(bytes: &[u8]) -> String {
    let tag = &blake3::hash(bytes).to_hex()[..32];
    format!("ETag: \"{tag}\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
}

/// Answers GET and HEAD.
fn give(stream: &mut TcpStream, request: &Request, fault: Option<Fault>) -> std::io::Result<()> {
    let Ok(mut body) = std::fs::read(&request.path) else {
        return reply(stream, "404 Not Found", "", b"", true);
    };
    if fault == Some(Fault::Unanswered) {
        return Ok(());
    }
    if request.method == "HEAD" {
        if fault == Some(Fault::Damaged) {
            body.push(0);
        }
        return reply(stream, "200 OK", &tag(&body), &body, false);
    }
    let (whole, tag) = (body.len(), tag(&body));
    let (status, extra, mut part) = match request.range {
        Some((from, end)) if from < whole => {
            let end = end.min(whole);
            let range = format!("{tag}Content-Range: bytes {from}-{}/{whole}\r\n", end - 1);
            ("206 Partial Content", range, body[from..end].to_vec())
        }
        _ => ("200 OK", tag, body),
    };
    match fault {
        Some(Fault::Cut) => {
            stream.write_all(head(status, &extra, part.len()).as_bytes())?;
            stream.write_all(&part[..part.len() / 2])
        }
        Some(Fault::Damaged) => {
            // Another byte than on the way there, so that it doesn't become the right one again.
            flip(&mut part, 0);
            reply(stream, status, &extra, &part, true)
        }
        _ => reply(stream, status, &extra, &part, true),
    }
}

/// Takes a file, as a whole or, as S3 does, in parts.
fn take(stream: &mut TcpStream, request: &Request, fault: Option<Fault>) -> std::io::Result<()> {
    let mut body = request.body.clone();
    if fault == Some(Fault::Damaged) {
        // S3 holds what comes against the signature.
        if request.is_signed {
            let answer = b"<Error><Code>XAmzContentSHA256Mismatch</Code></Error>";
            return reply(stream, "400 Bad Request", "", answer, true);
        }
        let middle = body.len() / 2;
        flip(&mut body, middle);
    }
    let answer = match (request.method.as_str(), request.query.get("partNumber")) {
        ("PUT", Some(number)) => {
            request.bucket.write(&request.part(number), &body)?;
            String::new()
        }
        ("PUT", None) => {
            request.bucket.write(&request.path, &body)?;
            String::new()
        }
        ("POST", _) if request.query.contains_key("uploads") => {
            let names = "<Bucket>b</Bucket><Key>k</Key><UploadId>upload</UploadId>";
            format!("<InitiateMultipartUploadResult>{names}</InitiateMultipartUploadResult>")
        }
        ("POST", _) => {
            let parts = (1..).map(|number| request.part(&number.to_string())).take_while(|part| part.exists());
            let whole: Vec<u8> = parts.flat_map(|part| std::fs::read(part).unwrap_or_default()).collect();
            request.bucket.write(&request.path, &whole)?;
            "<CompleteMultipartUploadResult><ETag>\"tag\"</ETag></CompleteMultipartUploadResult>".to_owned()
        }
        // An upload is given up.
        _ => String::new(),
    };
    match fault {
        Some(Fault::Unanswered) => Ok(()),
        _ => reply(stream, "200 OK", &tag(&body), answer.as_bytes(), true),
    }
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

fn head(status: &str, extra: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n\r\n")
}

/// Answers with a body, or only with what its length would be.
fn reply(stream: &mut TcpStream, status: &str, extra: &str, body: &[u8], sends: bool) -> std::io::Result<()> {
    stream.write_all(head(status, extra, body.len()).as_bytes())?;
    if sends { stream.write_all(body) } else { Ok(()) }
}
