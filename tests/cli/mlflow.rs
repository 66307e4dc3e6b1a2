//! Runs as an MLflow server sees them: a real one, on loopback, which `PIPE_MLFLOW` (the path of `mlflow`) starts.
use crate::common;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use common::{
    Output, Space, TINY, finish, need,
    needs::{Need, Needed},
    tiny,
};
use serde_json::{Value, json};

/// A server; it ends with the last test that asks it.
struct Server {
    process: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Server {
    /// The one that all tests share, each in an experiment of its own.
    fn shared() -> Needed<Arc<Self>> {
        static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = running.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start()?);
        *running = Arc::downgrade(&server);
        Ok(server)
    }

    fn start() -> Needed<Self> {
        let program = Need::Mlflow.variable("PIPE_MLFLOW")?;
        let data = tempfile::tempdir().expect("a folder");
        // Not one of the ports that the system gives to clients, nor that of a server that is still being stopped: its
        // answers would be taken for those of the new one.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let started = STARTED.fetch_add(1, Ordering::Relaxed);
        let port = (20_000 + (std::process::id() + 1_009 * started) % 10_000) as u16;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let at = |name: &str| data.path().join(name).display().to_string();
        let mut command = Command::new(program);
        command.args(["server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()]);
        command.args(["--backend-store-uri", &format!("sqlite:///{}", at("runs.sqlite"))]);
        command.args(["--artifacts-destination", &at("artifacts")]).current_dir(data.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its workers end with it if they're of one group.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().expect("mlflow");
        let server = Self { process, address, _data: data };
        common::await_that("the server answers", || {
            TcpStream::connect(address).is_ok() && server.get("/health").0.contains("200")
        });
        Ok(server)
    }

    /// The status line, and the body.
    fn request(&self, request: &str, body: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let head = format!("Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        write!(stream, "{request} HTTP/1.0\r\n{head}\r\n\r\n{body}").expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len().saturating_sub(4));
        let status = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        (status, answer[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (String, Vec<u8>) {
        self.request(&format!("GET {path}"), "")
    }

    fn json(&self, request: &str, body: &Value) -> Value {
        let (status, answer) = self.request(request, &body.to_string());
        assert!(status.contains("200"), "{status}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).expect("json")
    }

    /// The runs of an experiment by their names, the latest first.
    fn runs(&self, experiment: &str) -> Vec<(String, Value)> {
        let path = format!("GET /api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}");
        let id = self.json(&path, &json!({}))["experiment"]["experiment_id"].clone();
        let body = json!({ "experiment_ids": [id], "max_results": 1000 });
        let found = self.json("POST /api/2.0/mlflow/runs/search", &body);
        let runs = found["runs"].as_array().cloned().unwrap_or_default();
        runs.into_iter().map(|run| (run["info"]["run_name"].as_str().unwrap_or_default().to_owned(), run)).collect()
    }

    /// Steps and values of a metric, with the times in milliseconds.
    fn history(&self, run: &Value, metric: &str) -> Vec<(u64, f64, u64)> {
        let id = run["info"]["run_id"].as_str().expect("an id");
        let path = format!("GET /api/2.0/mlflow/metrics/get-history?run_id={id}&metric_key={metric}&max_results=20000");
        let found = self.json(&path, &json!({}));
        let metrics = found["metrics"].as_array().cloned().unwrap_or_default();
        let mut steps: Vec<_> = metrics
            .iter()
            .map(|metric| {
                let whole = |name: &str| metric[name].as_u64().unwrap_or_default();
                (whole("step"), metric["value"].as_f64().unwrap_or(f64::NAN), whole("timestamp"))
            })
            .collect();
        steps.sort_by_key(|(step, ..)| *step);
        steps
    }

    /// An artifact of a run, as the server gives it.
    fn artifact(&self, run: &Value, name: &str) -> Vec<u8> {
        let place = run["info"]["artifact_uri"].as_str().and_then(|uri| uri.strip_prefix("mlflow-artifacts:/"));
        let place = place.expect("a place for artifacts by way of the server");
        let (status, bytes) = self.get(&format!("/api/2.0/mlflow-artifacts/artifacts/{place}/{name}"));
        assert!(status.contains("200"), "{name}: {status}");
        bytes
    }

    fn command(&self, space: &Space, experiment: &str, arguments: &[&str]) -> Command {
        let mut command = space.command(arguments);
        command.env("MLFLOW_TRACKING_URI", format!("http://{}", self.address));
        command.env("MLFLOW_EXPERIMENT_NAME", experiment);
        command
    }

    fn pipe(&self, space: &Space, experiment: &str, arguments: &[&str]) -> Output {
        let output = finish(self.command(space, experiment, arguments));
        assert!(!output.stderr.contains("warning"), "{}", output.stderr);
        output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// Tags, settings or figures of a run by name.
fn pairs(run: &Value, what: &str) -> BTreeMap<String, Value> {
    let list = run["data"][what].as_array().cloned().unwrap_or_default();
    list.iter().map(|pair| (pair["key"].as_str().unwrap_or_default().to_owned(), pair["value"].clone())).collect()
}

fn names(runs: &[(String, Value)]) -> Vec<&str> {
    let mut names: Vec<_> = runs.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

fn run<'a>(runs: &'a [(String, Value)], name: &str) -> &'a Value {
    runs.iter().find(|(found, _)| found == name).map(|(_, run)| run).unwrap_or_else(|| panic!("no run {name}"))
}

pub(super) fn stdout(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stderr))
}

/// The optimiser steps in a stage's curve: step and loss.
fn losses(space: &Space, stage: &Value) -> Vec<(u64, f64)> {
    let path = space.path().join(stage["path"].as_str().expect("a path")).join("curve.jsonl");
    let text = std::fs::read_to_string(path).expect("a curve");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    lines.filter_map(|line| Some((line["step"].as_u64()?, line["loss"].as_f64()?))).collect()
}

fn of_steps(history: &[(u64, f64, u64)]) -> Vec<(u64, f64)> {
    // Losses are f32, which the curve has with as few digits as tell it from others.
    history.iter().map(|(step, value, _)| (*step, f64::from(*value as f32))).collect()
}

fn singles(losses: &[(u64, f64)]) -> Vec<(u64, f64)> {
    losses.iter().map(|(step, loss)| (*step, f64::from(*loss as f32))).collect()
}

#[test]
fn a_server_shows_stages_with_settings_figures_and_the_report() {
    let server = need!(Server::shared());
    let space = tiny();
    let output = server.pipe(&space, "whole", &["run", "recipe.yaml", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let result = stdout(&output);
    let runs = server.runs("whole");
    assert_eq!(names(&runs), ["base", "recipe", "test", "topics"]);
    let parent = run(&runs, "recipe");
    for (name, one) in &runs {
        assert_eq!(one["info"]["status"], "FINISHED", "{name}");
        let tags = pairs(one, "tags");
        assert_eq!((&tags["pipe.recipe"], &tags["mlflow.source.name"]), (&json!("recipe"), &json!("recipe.yaml")));
        if name != "recipe" {
            assert_eq!(tags["mlflow.parentRunId"], parent["info"]["run_id"]);
            assert_eq!((&tags["pipe.stage"], &tags["pipe.key"]), (&json!(name), &result["stages"][name]["key"]));
            assert_eq!(
                (&tags["pipe.digest"], &tags["pipe.device"]),
                (&result["stages"][name]["digest"], &json!("cpu"))
            );
        }
    }

    let base = run(&runs, "base");
    let params = pairs(base, "params");
    assert_eq!((&params["train.lr"], &params["model.glm.hidden"]), (&json!("0.001"), &json!("16")));
    assert_eq!(pairs(parent, "params")["stages.topics.train.epochs"], "2.0");
    let expected = losses(&space, &result["stages"]["base"]);
    let history = server.history(base, "loss");
    assert_eq!(of_steps(&history), singles(&expected));
    let times = |name: &str| base["info"][name].as_u64().expect("a time");
    assert!(history.iter().all(|(_, _, at)| (times("start_time")..=times("end_time")).contains(at)), "{history:?}");
    for metric in ["lr", "grad_norm"] {
        assert_eq!(server.history(base, metric).len(), expected.len(), "{metric}");
    }
    assert!(!server.history(base, "tokens_per_second").is_empty());
    assert_eq!(pairs(base, "metrics")["final_loss"], result["stages"]["base"]["metrics"]["loss"]);
    let topics = run(&runs, "topics");
    assert_eq!(server.history(topics, "dev/accuracy").len(), 2);
    let accuracy = &result["stages"]["test"]["metrics"]["accuracy"];
    assert_eq!(&pairs(run(&runs, "test"), "metrics")["accuracy"], accuracy);
    assert_eq!(&pairs(parent, "metrics")["test.accuracy"], accuracy);

    let page = String::from_utf8(server.artifact(parent, "report.html")).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("Evaluation: test"), "{page}");
    assert_eq!(String::from_utf8(server.artifact(parent, "recipe.yaml")).as_deref(), Ok(TINY));

    // What the server knows isn't told again; what changed is.
    assert_eq!(server.pipe(&space, "whole", &["run", "recipe.yaml"]).status, 0);
    assert_eq!(server.runs("whole").len(), 4);
    let changed = ["run", "recipe.yaml", "--set", "stages.topics.train.lr=2e-3"];
    assert_eq!(server.pipe(&space, "whole", &changed).status, 0);
    let runs = server.runs("whole");
    assert_eq!(names(&runs), ["base", "recipe", "recipe", "test", "test", "topics", "topics"]);
    assert_eq!(pairs(run(&runs, "topics"), "params")["train.lr"], "0.002");
    assert_eq!(pairs(run(&runs, "recipe"), "tags")["pipe.overrides"], "--set stages.topics.train.lr=2e-3");
}

#[test]
fn what_was_computed_before_is_told_with_its_curve_and_its_time() {
    let server = need!(Server::shared());
    let space = tiny();
    let result = space.json(&["run", "recipe.yaml"]);
    assert_eq!(server.pipe(&space, "stored", &["run", "recipe.yaml"]).status, 0);
    let runs = server.runs("stored");
    assert_eq!(names(&runs), ["base", "recipe", "test", "topics"]);
    let base = run(&runs, "base");
    assert_eq!(of_steps(&server.history(base, "loss")), singles(&losses(&space, &result["stages"]["base"])));
    let record = space.path().join(result["stages"]["base"]["path"].as_str().expect("a path")).join("artifact.json");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(record).expect("a record")).expect("json");
    let started = record["provenance"]["started"].as_f64().expect("a time");
    assert_eq!(base["info"]["start_time"], (started * 1000.0).round() as u64);
}

#[test]
fn a_training_that_was_killed_is_closed_and_its_successor_has_every_step_once() {
    let server = need!(Server::shared());
    let space = tiny();
    space.write("recipe.yaml", TINY.replace("steps: 8,", "steps: 1200, checkpoint_every: 20, log_every: 5,"));
    let arguments = ["run", "recipe.yaml", "--stage", "base", "--json"];
    let mut command = server.command(&space, "killed", &arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    let tmp = space.path().join(".pipe/tmp");
    let state = || walkdir::WalkDir::new(&tmp).into_iter().flatten().any(|entry| entry.file_name() == "state.json");
    let path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=killed";
    let is_told = || server.get(path).0.contains("200") && server.runs("killed").len() >= 2;
    common::await_that("the server is told", || state() && is_told());
    assert_eq!(child.try_wait().expect("a process"), None, "the server is told while the training runs");
    child.kill().expect("a process to kill");
    let _ = child.wait();

    let output = server.pipe(&space, "killed", &arguments);
    assert!(output.stderr.contains("resumes from the last checkpoint"), "{}", output.stderr);
    let runs = server.runs("killed");
    assert_eq!(names(&runs), ["base", "base", "recipe", "recipe"]);
    let of = |status: &str| -> Vec<_> { runs.iter().filter(|(_, run)| run["info"]["status"] == status).collect() };
    assert_eq!((of("KILLED").len(), of("FINISHED").len()), (2, 2));
    let base = &of("FINISHED").into_iter().find(|(name, _)| name == "base").expect("a run").1;
    let expected = losses(&space, &stdout(&output)["stages"]["base"]);
    assert_eq!(of_steps(&server.history(base, "loss")), singles(&expected));
}

#[test]
fn a_sweep_has_a_run_for_each_cell_and_each_distinct_stage() {
    let server = need!(Server::shared());
    let space = tiny();
    let sweep = "
sweep:
  grid:
    stages.topics.train.lr: [1.0e-3, 1.0e30]
    stages.topics.train.epochs: [1, 2]
  maximize: stages.test.metrics.macro_f1
";
    space.write("recipe.yaml", format!("{TINY}{sweep}"));
    let output = server.pipe(&space, "sweep", &["sweep", "recipe.yaml", "--jobs", "2", "--json"]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    let runs = server.runs("sweep");
    let of = |kind: &str| -> Vec<_> {
        runs.iter().filter(|(_, run)| pairs(run, "tags")["pipe.type"] == kind).map(|(_, run)| run).collect()
    };
    // A base, four finetunings of which two fail, and two evaluations.
    assert_eq!((of("recipe").len(), of("stage").len(), of("cell").len()), (1, 7, 4), "{:?}", names(&runs));
    let failed = |runs: &[&Value]| runs.iter().filter(|run| run["info"]["status"] == "FAILED").count();
    assert_eq!((failed(&of("recipe")), failed(&of("stage")), failed(&of("cell"))), (1, 2, 2));
    let good: Vec<_> = of("cell").into_iter().filter(|run| run["info"]["status"] == "FINISHED").collect();
    assert!(good.iter().all(|run| pairs(run, "params")["stages.topics.train.lr"] == "0.001"));
    let figure = |run: &Value| pairs(run, "metrics")["test.macro_f1"].as_f64().expect("a figure");
    assert_eq!(figure(of("recipe")[0]), good.iter().map(|run| figure(run)).fold(0.0, f64::max), "that of the best");
    let page = String::from_utf8(server.artifact(of("recipe")[0], "report.html")).expect("a page");
    assert!(page.contains("id=\"parallel\""), "the sweep is in the report");
    // Failed ones are tried again; the server knows the others.
    assert_eq!(server.pipe(&space, "sweep", &["sweep", "recipe.yaml"]).status, 1);
    let again = server.runs("sweep");
    let finished =
        |runs: &[(String, Value)]| runs.iter().filter(|(_, run)| run["info"]["status"] == "FINISHED").count();
    assert_eq!(finished(&again), finished(&runs));
}

#[test]
fn a_cell_that_halving_goes_on_with_keeps_its_run() {
    let server = need!(Server::shared());
    let space = tiny();
    let trained = "train: { steps: 8, evaluate_every: 1, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }";
    let recipe = TINY.replace("train: { epochs: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }", trained);
    let sweep = "
sweep:
  grid: { stages.topics.train.lr: [1.0e-4, 1.0e-3, 1.0e-2, 1.0e-1] }
  maximize: stages.test.metrics.accuracy
  asha: { reduction: 2, rungs: 2, metric: loss }
";
    space.write("recipe.yaml", format!("{recipe}{sweep}"));
    assert_eq!(server.pipe(&space, "halving", &["sweep", "recipe.yaml"]).status, 0);
    let runs = server.runs("halving");
    let of = |kind: &str| -> Vec<_> {
        let is = |run: &Value| {
            pairs(run, "tags").get("pipe.kind").or(pairs(run, "tags").get("pipe.type")) == Some(&json!(kind))
        };
        runs.iter().filter(|(_, run)| is(run)).map(|(_, run)| run).collect()
    };
    let ended = |runs: &[&Value], status: &str| runs.iter().filter(|run| run["info"]["status"] == status).count();
    let (trained, cells) = (of("finetune"), of("cell"));
    // Of four cells two are stopped at the first rung, and one at the second.
    assert_eq!(
        (trained.len(), ended(&trained, "FINISHED"), ended(&trained, "KILLED")),
        (4, 1, 3),
        "{:?}",
        names(&runs)
    );
    assert_eq!((cells.len(), ended(&cells, "FINISHED"), ended(&cells, "KILLED")), (4, 1, 3), "{:?}", names(&runs));
    let mut lengths: Vec<_> = trained.iter().map(|run| server.history(run, "loss").len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [2, 2, 4, 8], "each step once");
    assert_eq!(server.pipe(&space, "halving", &["sweep", "recipe.yaml"]).status, 0);
    assert_eq!(server.runs("halving").len(), runs.len(), "nothing was new");
}
