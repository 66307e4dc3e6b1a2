//! MLflow servers that aren't there, or want to know who asks: told once, and the run goes on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use super::mlflow::stdout;
use crate::common::{finish, tiny};

/// Answers every request in the same way, and remembers what it was asked.
fn stub(status: &'static str, body: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remembered = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).unwrap_or_default();
            remembered.lock().expect("a list").push(String::from_utf8_lossy(&head[..length]).into_owned());
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    (address, asked)
}

/// Runs the tiny recipe with a server that is of no use, and gives what was said.
fn without(settings: &[(&str, &str)]) -> String {
    let space = tiny();
    let mut command = space.command(&["run", "recipe.yaml", "--json"]);
    command.envs(settings.iter().copied());
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let result = stdout(&output);
    assert!(result["stages"].as_object().expect("stages").values().all(|stage| stage["status"] == "ran"), "{result}");
    assert_eq!(output.stderr.matches("warning").count(), 1, "{}", output.stderr);
    output.stderr
}

#[test]
fn a_server_that_is_not_there_is_told_once_and_the_run_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let told = without(&[("MLFLOW_TRACKING_URI", &format!("http://anna:geheim@{address}"))]);
    let expected =
        format!("the MLflow server http://{address} can't be used, so this run is not logged there: Connection");
    assert!(told.contains(&expected), "{told}");
    assert!(!told.contains("geheim"), "{told}");
}

#[test]
fn a_server_that_wants_to_know_who_asks_is_told_from_the_environment() {
    let (address, asked) = stub("401 Unauthorized", "{}");
    let url = format!("http://{address}");
    let user = [("MLFLOW_TRACKING_USERNAME", "anna"), ("MLFLOW_TRACKING_PASSWORD", "geheim")];
    let told = without(&[&[("MLFLOW_TRACKING_URI", &*url)], &user[..]].concat());
    assert!(told.contains("401 Unauthorized") && told.contains("hint: MLFLOW_TRACKING_USERNAME"), "{told}");
    let token = ("MLFLOW_TRACKING_TOKEN", "geheimnis");
    without(&[("MLFLOW_TRACKING_URI", &url), token]);
    let asked = asked.lock().expect("a list").clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    // The Base64 of "anna:geheim".
    assert!(asked[0].to_lowercase().contains("authorization: basic yw5uytpnzwhlaw0="), "{}", asked[0]);
    assert!(asked[1].to_lowercase().contains("authorization: bearer geheimnis"), "{}", asked[1]);
    assert!(!told.contains("geheim"), "{told}");
}

#[test]
fn what_names_no_server_or_answers_like_none_is_told_once() {
    let told = without(&[("MLFLOW_TRACKING_URI", "sqlite:///runs.db")]);
    assert!(told.contains("MLFLOW_TRACKING_URI names no server"), "{told}");
    let (address, _) = stub("200 OK", "<html>hello</html>");
    let told = without(&[("MLFLOW_TRACKING_URI", &format!("http://{address}"))]);
    assert!(told.contains("unexpected answer from MLflow"), "{told}");
}
