//! A web server on this machine that can be read from and written to, and that answers some requests badly.

use std::{
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

/// A server for a directory, until it's dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    delay: Duration,
    trouble: Mutex<Option<Trouble>>,
    count: AtomicUsize,
    ends: AtomicBool,
}

struct Request {
    method: String,
    path: PathBuf,
    range: Option<(usize, usize)>,
    body: Vec<u8>,
}

impl Server {
    /// `delay` is how late a delayed answer is.
    pub fn start(dir: &Path, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (trouble, count, ends) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { dir: dir.to_owned(), delay, trouble, count, ends });
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

    /// From now on so many requests have been made, and these go wrong.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        *self.shared.trouble.lock().expect("a lock") = trouble;
        self.shared.count.store(0, Ordering::SeqCst);
    }

    /// How many requests have been made since then.
    pub fn requests(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // So that it's noticed.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let trouble = (*self.trouble.lock().expect("a lock"))?;
        let is_met = if trouble.stays { number >= trouble.first } else { number == trouble.first };
        is_met.then_some(trouble.fault)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = self.read(&stream)? else { return Ok(()) };
        let fault = self.fault();
        let writes = request.method == "PUT";
        match fault {
            Some(Fault::Cut) if request.method != "GET" => return Ok(()),
            Some(Fault::Refused) => return reply(&mut stream, "403 Forbidden", "", b"", true),
            Some(Fault::Overloaded) => return reply(&mut stream, "503 Service Unavailable", "", b"", true),
            Some(Fault::Lost) if writes => return reply(&mut stream, "201 Created", "", b"", true),
            Some(Fault::Lost) => return reply(&mut stream, "404 Not Found", "", b"", true),
            Some(Fault::Delayed) => std::thread::sleep(self.delay),
            _ => {}
        }
        if writes {
            let mut body = request.body;
            if fault == Some(Fault::Damaged) {
                flip(&mut body);
            }
            std::fs::create_dir_all(request.path.parent().unwrap_or(&self.dir))?;
            // As a whole, so that nobody sees half of it.
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(&body)?;
            file.persist(&request.path)?;
            if fault == Some(Fault::Unanswered) {
                return Ok(());
            }
            return reply(&mut stream, "201 Created", "", b"", true);
        }
        if !["GET", "HEAD"].contains(&request.method.as_str()) {
            return reply(&mut stream, "405 Method Not Allowed", "", b"", true);
        }
        let Ok(mut body) = std::fs::read(&request.path) else {
            return reply(&mut stream, "404 Not Found", "", b"", true);
        };
        if fault == Some(Fault::Unanswered) {
            return Ok(());
        }
        if request.method == "HEAD" {
            if fault == Some(Fault::Damaged) {
                body.push(0);
            }
            return reply(&mut stream, "200 OK", "", &body, false);
        }
        let whole = body.len();
        let (status, extra, mut part) = match request.range {
            Some((from, end)) if from < whole => {
                let end = end.min(whole);
                let range = format!("Content-Range: bytes {from}-{}/{whole}\r\n", end - 1);
                ("206 Partial Content", range, body[from..end].to_vec())
            }
            _ => ("200 OK", String::new(), body),
        };
        match fault {
            Some(Fault::Cut) => {
                let head = head(status, &extra, part.len());
                stream.write_all(head.as_bytes())?;
                stream.write_all(&part[..part.len() / 2])
            }
            Some(Fault::Damaged) => {
                flip(&mut part);
                reply(&mut stream, status, &extra, &part, true)
            }
            _ => reply(&mut stream, status, &extra, &part, true),
        }
    }

    fn read(&self, stream: &TcpStream) -> std::io::Result<Option<Request>> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut parts = line.split(' ');
        let (Some(method), Some(path)) = (parts.next(), parts.next()) else { return Ok(None) };
        let (method, path) = (method.to_owned(), self.dir.join(path.trim_start_matches('/')));
        let (mut length, mut range) = (0, None);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            let line = line.to_lowercase();
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
        Ok(Some(Request { method, path, range, body }))
    }
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
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
