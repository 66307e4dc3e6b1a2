//! A web server on this machine.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
};

/// What a server does.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Serves {
    /// GET and HEAD
    Reading,
    /// PUT as well, as far as WebDAV is needed
    Writing,
}

/// Serves the files of a directory, each as a whole; gives the URL.
pub fn serve(dir: &Path, serves: Serves) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let dir = dir.clone();
            // Who hangs up in the middle is no concern of the others.
            std::thread::spawn(move || answer(stream, dir, serves).ok());
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, dir: PathBuf, serves: Serves) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let line = line.to_lowercase();
        length = line.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap_or(0));
    }
    let mut sent = Vec::new();
    reader.take(length).read_to_end(&mut sent)?;
    let mut parts = request.split(' ');
    let (method, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let path = dir.join(path.trim_start_matches('/'));
    let (status, body) = match (method, std::fs::read(&path)) {
        ("GET" | "HEAD", Ok(body)) => ("200 OK", body),
        ("GET" | "HEAD", Err(_)) => ("404 Not Found", Vec::new()),
        ("PUT", _) if serves == Serves::Writing => {
            std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
            std::fs::write(&path, sent)?;
            ("201 Created", Vec::new())
        }
        _ => ("405 Method Not Allowed", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    if method == "GET" { stream.write_all(&body) } else { Ok(()) }
}
