//! What people install and call from elsewhere: `action.yml`, whose steps are run here as GitHub runs them, and the name under
//! which the program is distributed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::common;
use common::{Output, Space, finish, run_in, tiny};
use serde_json::Value;

/// The program is called `pipe`; this is what's downloaded.
const NAME: &str = "lm-recipes";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(file: &str) -> Value {
    let text = std::fs::read_to_string(root().join(file)).expect("a file");
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The folder of a job: the repository, the runner's files, and programs of its own before the system's.
struct Job {
    space: Space,
    inputs: BTreeMap<String, String>,
    /// Values of expressions other than inputs.
    context: BTreeMap<String, String>,
}

impl Job {
    fn new(inputs: &[(&str, &str)]) -> Self {
        let space = tiny();
        for folder in ["runner", "bin"] {
            std::fs::create_dir(space.path().join(folder)).expect("a folder");
        }
        let action = yaml("action.yml");
        let declared = action["inputs"].as_object().expect("inputs").iter();
        let default = |input: &Value| input["default"].as_str().unwrap_or_default().to_owned();
        let mut all: BTreeMap<_, _> = declared.map(|(name, input)| (name.clone(), default(input))).collect();
        for (name, value) in inputs {
            assert!(all.insert((*name).to_owned(), (*value).to_owned()).is_some(), "there is no input {name}");
        }
        all.insert("token".into(), "secret".into());
        Self { space, inputs: all, context: BTreeMap::new() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.space.path().join("runner").join(name)
    }

    /// A value with its expressions filled in.
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some((before, rest)) = text.clone().split_once("${{") {
            let (expression, after) = rest.split_once("}}").expect("the end of an expression");
            let expression = expression.trim();
            let value = match expression.strip_prefix("inputs.") {
                Some(input) => self.inputs.get(input),
                None => self.context.get(expression),
            };
            let value = value.unwrap_or_else(|| panic!("nothing is known of {expression}"));
            text = format!("{before}{value}{after}");
        }
        text
    }

    /// Runs a step's script with nothing in its environment but what GitHub and the step put there.
    fn step(&self, name: &str) -> Output {
        let action = yaml("action.yml");
        let steps = action["runs"]["steps"].as_array().expect("steps");
        let step = steps.iter().find(|step| step["name"] == name).expect("the step");
        assert_eq!(step["shell"], "bash");
        let path = std::fs::read_to_string(self.file("path")).unwrap_or_default();
        let path: String = path.lines().map(|line| format!("{line}:")).collect();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"].as_str().expect("a script")]);
        command.env_clear().current_dir(self.space.path()).stdin(Stdio::null());
        command.env("PATH", format!("{path}{}:/usr/local/bin:/usr/bin:/bin", self.space.path().join("bin").display()));
        command.env("HOME", self.space.path()).env("RUNNER_TEMP", self.space.path().join("runner"));
        for (name, file) in [("GITHUB_PATH", "path"), ("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "step.md")] {
            command.env(name, self.file(file));
        }
        for (name, value) in [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_ACTION_REPOSITORY", "owner/action"),
            ("GITHUB_REPOSITORY", "owner/work"),
            ("GITHUB_WORKFLOW", "models"),
            ("GITHUB_JOB", "ci"),
            ("GITHUB_EVENT_NAME", "push"),
        ] {
            command.env(name, value);
        }
        command.env("GITHUB_SERVER_URL", format!("file://{}", self.space.path().join("server").display()));
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, self.filled(value.as_str().expect("a text")));
        }
        finish(command)
    }

    /// What the last step that ran wrote for later ones.
    fn output(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.file("output")).unwrap_or_default();
        let found = text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no output {name} in {text}")).to_owned()
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.space.path().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/bash\n{script}\n")).expect("a script");
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    }
}

/// A release on a server, with the digest of its archive.
fn release(job: &Job) -> String {
    let machine = run_in(job.space.path(), "uname", &["-m"]);
    let folder = format!("{NAME}-1.2.3-{}-unknown-linux-gnu", machine.trim());
    let place = job.space.path().join("server/owner/action/releases/download/v1.2.3");
    std::fs::create_dir_all(place.join(&folder)).expect("folders");
    // A link in the archive to the program that's tested, which is large.
    #[cfg(unix)]
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pipe"), place.join(&folder).join("pipe")).expect("a link");
    let archive = format!("{folder}.tar.gz");
    run_in(&place, "tar", &["-czf", &archive, &folder]);
    let digest = run_in(&place, "sha256sum", &[&archive]);
    digest.split(' ').next().expect("a digest").to_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn the_action_installs_runs_comments_once_and_ends_with_the_status() {
    let mut job = Job::new(&[("recipes", "recipe.yaml"), ("base", "HEAD"), ("version", "1.2.3"), ("sha256", "00")]);
    let digest = release(&job);
    let output = job.step("Install pipe");
    assert!(output.status != 0 && output.stderr.contains("checksum"), "another digest: {}", output.stderr);
    job.inputs.insert("sha256".into(), String::new());
    assert_eq!(job.step("Install pipe").status, 2, "no digest");
    job.inputs.insert("sha256".into(), digest);
    let output = job.step("Install pipe");
    assert_eq!(output.status, 0, "{}", output.stderr);

    run_in(job.space.path(), "git", &["init", "--quiet", "--initial-branch", "main"]);
    job.space.write(".gitignore", "runner/\nbin/\nserver/\n.pipe/\n");
    run_in(job.space.path(), "git", &["add", "--all"]);
    run_in(job.space.path(), "git", &["commit", "--quiet", "--message", "begin"]);
    let output = job.step("Run pipe ci");
    assert_eq!((output.status, job.output("status").as_str()), (0, "0"), "{}", output.stderr);
    let summary = job.output("summary");
    assert_eq!(std::fs::read_to_string(job.file("step.md")).ok(), std::fs::read_to_string(&summary).ok());

    // A worse run is told, too: its status comes later.
    let text = job
        .space
        .read("recipe.yaml")
        .replace("path: test.tsv }", "path: test.tsv }, expect: { rows: { at_least: 99 } }");
    job.space.write("recipe.yaml", text);
    assert_eq!((job.step("Run pipe ci").status, job.output("status").as_str()), (0, "3"));

    // `gh` as far as it's called: comments are kept in a file each.
    job.program(
        "gh",
        r#"cd "$RUNNER_TEMP"; echo "$*" >> calls
case "$*" in
*PATCH*|*POST*) for argument; do case "$argument" in body=@*) cp "${argument#body=@}" comment ;; esac; done ;;
*) if [ -e comment ] && [[ "$(head -n 1 comment)" == "$MARK" ]]; then echo 17; fi ;;
esac"#,
    );
    job.context.insert("github.event.pull_request.number".into(), "5".into());
    job.context.insert("steps.run.outputs.summary".into(), summary);
    job.context.insert("steps.run.outputs.status".into(), "3".into());
    for _ in 0..2 {
        let output = job.step("Comment on the pull request");
        assert_eq!((output.status, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    }
    let calls = std::fs::read_to_string(job.file("calls")).expect("calls");
    let written: Vec<_> = calls.lines().filter(|call| call.contains("--method")).collect();
    assert_eq!(written.len(), 2, "{calls}");
    assert!(written[0].contains("POST repos/owner/work/issues/5/comments"), "{calls}");
    assert!(written[1].contains("PATCH repos/owner/work/issues/comments/17"), "{calls}");
    let comment = std::fs::read_to_string(job.file("comment")).expect("a comment");
    assert!(
        comment.starts_with("<!-- pipe ci models ci -->\n## `recipe.yaml`: 1 expectation is broken\n"),
        "{comment}"
    );

    // A token that can't write holds nothing up.
    job.program("gh", "exit 1");
    let output = job.step("Comment on the pull request");
    assert!(output.status == 0 && output.stdout.starts_with("::notice::"), "{}", output.stderr);
    assert_eq!(job.step("End with the status").status, 3);
}

#[test]
fn one_name_is_distributed_everywhere() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect("a file");
    let quoted = format!("name = \"{NAME}\"");
    let manifest = read("Cargo.toml");
    let archive = format!("/{NAME}-{{ version }}-{{ target }}{{ archive-suffix }}");
    assert!(manifest.contains(&archive), "{archive}");
    assert!(read("pyproject.toml").contains(&quoted));
    assert!(read(".ci/dist").contains(&format!("\nname={NAME}\n")));
    assert!(read("action.yml").contains(&format!("name=\"{NAME}-$VERSION-$(uname -m)-unknown-linux-gnu\"")));
}
