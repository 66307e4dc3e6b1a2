//! The shared cache on a real S3 server: `moto_server` in a process of its own, which `PIPE_MOTO_SERVER` or the path
//! names.

use crate::common;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    Space, finish, need,
    needs::{Need, Needed},
    tiny,
};
use serde_json::Value;

const URL: &str = "s3://cache/of/all";

/// An S3 server with one empty bucket; it ends with this.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// `settings` are moto's own, in its environment.
    fn start(settings: &[(&str, &str)]) -> Needed<Self> {
        let program = std::env::var("PIPE_MOTO_SERVER").unwrap_or_else(|_| "moto_server".into());
        let address = free_address();
        let mut command = Command::new(&program);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        command.envs(settings.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().map_err(|error| Need::S3.unmet(format!("{program} can't be started: {error}")))?;
        let server = Self { process, address };
        common::await_that("the server answers", || TcpStream::connect(address).is_ok());
        if settings.is_empty() {
            assert!(server.request("PUT /cache").starts_with("HTTP/1.1 200"));
        }
        Ok(server)
    }

    /// A request without a body. Moto wants to see a signature, and doesn't check it.
    fn request(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let scope = "Credential=ASIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request";
        let signature = format!("Authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=00");
        let head = "Host: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "{request} HTTP/1.1\r\n{head}\r\n{signature}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The names below `of/all/v1/`.
    fn names(&self, part: &str) -> Vec<String> {
        let list = self.request(&format!("GET /cache?list-type=2&prefix=of/all/v1/{part}/"));
        let keys = list.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.rsplit('/').next().unwrap().to_owned()).collect()
    }

    fn record(&self, key: &str) -> Value {
        let answer = self.request(&format!("GET /cache/of/all/v1/records/{key}"));
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command with credentials for a server at this address.
fn command(space: &Space, address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = space.command(arguments);
    command.args(["--remote", URL]).env("AWS_ENDPOINT_URL", format!("http://{address}"));
    command.env("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "geheimgeheim");
    command.env("AWS_REGION", "us-east-1");
    command
}

fn json(space: &Space, address: SocketAddr, arguments: &[&str]) -> (Value, String) {
    let output = finish(command(space, address, &[arguments, &["--json"]].concat()));
    assert_eq!(output.status, 0, "{}", output.stderr);
    (serde_json::from_str(&output.stdout).unwrap(), output.stderr)
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], common::free_port()))
}

/// Passes everything on to the server, until a number of bytes has gone there: then it's as if the server had stopped.
fn line_that_breaks(server: SocketAddr, after: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicU64::new(after));
    let pass = |mut from: TcpStream, mut to: TcpStream, left: Option<Arc<AtomicU64>>| {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let spend = |left: u64| left.checked_sub(length as u64);
            let dry = left.as_ref().is_some_and(|left| {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
                    .inspect_err(|_| left.store(0, Ordering::Relaxed))
                    .is_err()
            });
            if dry || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    };
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            if left.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let upstream = TcpStream::connect(server).unwrap();
            let (client2, upstream2, left) = (client.try_clone().unwrap(), upstream.try_clone().unwrap(), left.clone());
            std::thread::spawn(move || pass(client, upstream, Some(left)));
            std::thread::spawn(move || pass(upstream2, client2, None));
        }
    });
    address
}

#[test]
fn another_machine_computes_nothing_with_an_s3_server() {
    let server = need!(Server::start(&[]));
    let (first, _) = json(&tiny(), server.address, &["run", "recipe.yaml"]);
    assert_eq!((&first["remote"]["pushed"], &first["remote"]["unpushed"]), (&5.into(), &0.into()));
    let other = tiny();
    let (second, _) = json(&other, server.address, &["run", "recipe.yaml"]);
    for (name, stage) in second["stages"].as_object().unwrap() {
        assert_eq!(stage["status"], "fetched", "{name}");
        assert_eq!(stage["digest"], first["stages"][name]["digest"]);
    }
    assert_eq!((&second["remote"]["records"], &second["remote"]["files"]), (&5.into(), &0.into()));
    let (pulled, _) = json(&other, server.address, &["pull", "recipe.yaml"]);
    assert_eq!(pulled["remote"]["files"], server.names("blobs").len());
    let (third, _) = json(&other, server.address, &["run", "recipe.yaml"]);
    assert!(third["stages"].as_object().unwrap().values().all(|stage| stage["status"] == "hit"), "{third}");
    // Credentials are nowhere in the stores.
    for file in walkdir::WalkDir::new(other.path()).into_iter().map(Result::unwrap) {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("geheim"), "{}", file.path().display());
    }
}

#[test]
fn a_server_that_stops_in_mid_push_loses_nothing_and_the_next_run_pushes_the_rest() {
    let server = need!(Server::start(&[]));
    let space = tiny();
    let line = line_that_breaks(server.address, 60_000);
    let (first, told) = json(&space, line, &["run", "recipe.yaml"]);
    let ran = |stage: &Value| stage["status"] == "ran";
    assert!(first["stages"].as_object().unwrap().values().all(ran), "{first}");
    assert_eq!(told.matches("warning").count(), 1, "{told}");
    assert!(first["remote"]["unpushed"].as_u64().unwrap() > 0, "{first}");
    // Whatever record is there has its files.
    let blobs = server.names("blobs");
    assert!(!blobs.is_empty(), "the line broke too early to prove anything");
    for key in server.names("records") {
        for file in server.record(&key)["files"].as_array().unwrap() {
            assert!(blobs.iter().any(|blob| file["digest"] == blob.as_str()), "{file}");
        }
    }
    let (second, told) = json(&space, server.address, &["run", "recipe.yaml"]);
    assert!(second["stages"].as_object().unwrap().values().all(|stage| stage["status"] == "hit"), "{second}");
    assert_eq!(second["remote"]["pushed"], first["remote"]["unpushed"], "{told}");
    assert_eq!(server.names("records").len(), 5);
    let (other, _) = json(&tiny(), server.address, &["pull", "recipe.yaml"]);
    assert!(other["stages"].as_object().unwrap().values().all(|stage| stage == "fetched"), "{other}");
}

#[test]
fn a_server_that_is_gone_leaves_the_run_to_the_local_store() {
    let server = need!(Server::start(&[]));
    let address = server.address;
    drop(server);
    let space = tiny();
    let (result, told) = json(&space, address, &["run", "recipe.yaml"]);
    assert_eq!((told.matches("warning").count(), &result["remote"]["reachable"]), (1, &false.into()), "{told}");
    assert!(told.contains("Connection refused"), "{told}");
}

#[test]
fn wrong_credentials_are_told_with_where_they_come_from() {
    let server = need!(Server::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]));
    let output = finish(command(&tiny(), server.address, &["plan", "recipe.yaml"]));
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("InvalidAccessKeyId"), "{}", output.stderr);
    assert!(output.stderr.contains("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{}", output.stderr);
    assert!(!output.stderr.contains("geheim"), "{}", output.stderr);
}
