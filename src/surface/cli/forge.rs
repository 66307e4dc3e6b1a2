//! What GitHub and GitLab tell the jobs that they run: what a job's commit is to be compared with, and whether it's from a fork,
//! which may not write to a cache that others use, for what a stranger's recipe computes would be served to everybody else.

use serde_json::Value;

use super::console;

/// What set off a job on GitHub, and the file that tells all about it.
const EVENT: &str = "GITHUB_EVENT_NAME";
const EVENT_FILE: &str = "GITHUB_EVENT_PATH";

/// The projects that a merge request on GitLab comes from and goes to.
const SOURCE: &str = "CI_MERGE_REQUEST_SOURCE_PROJECT_ID";
const TARGET: &str = "CI_MERGE_REQUEST_PROJECT_ID";

/// The branch that GitHub's pull request or GitLab's merge request is for, and the commit that GitLab's branch was at before.
const BRANCHES: [&str; 2] = ["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"];
const BEFORE: &str = "CI_COMMIT_BEFORE_SHA";

/// The commit that this one is compared with: the branch that it's to be merged into, or else where its own branch was before
/// it was pushed, or else `origin/main`.
pub(super) fn base() -> String {
    base_of(&|name| std::env::var(name).ok(), &|path| std::fs::read_to_string(path).ok())
}

fn base_of(variable: &dyn Fn(&str) -> Option<String>, read: &dyn Fn(&str) -> Option<String>) -> String {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(branch) = BRANCHES.iter().find_map(|name| variable(name)) {
        return format!("origin/{branch}");
    }
    let told = event(&variable, read).and_then(|event| Some(event.pointer("/before")?.as_str()?.to_owned()));
    // A branch that is new was at no commit, which is written as zeros.
    let before = told.or_else(|| variable(BEFORE)).filter(|commit| commit.bytes().any(|digit| digit != b'0'));
    before.unwrap_or_else(|| "origin/main".to_owned())
}

/// All about what set off a job on GitHub.
fn event(variable: &dyn Fn(&str) -> Option<String>, read: &dyn Fn(&str) -> Option<String>) -> Option<Value> {
    serde_json::from_str(&read(&variable(EVENT_FILE)?)?).ok()
}

/// Whether the remote is only read: as the command line says, or else if this is a fork's job, which is told then.
pub(super) fn is_only_read(said: Option<bool>) -> bool {
    said.unwrap_or_else(|| {
        let variable = |name: &str| std::env::var(name).ok();
        let is_fork = is_from_fork(&variable, &|path| std::fs::read_to_string(path).ok());
        if is_fork {
            console::eprint_line("note: this is a fork's pull request, so the remote is only read");
        }
        is_fork
    })
}

/// Whether the environment is that of a fork's job. One that is about a pull request and doesn't tell whose is taken for one.
fn is_from_fork(variable: &dyn Fn(&str) -> Option<String>, read: &dyn Fn(&str) -> Option<String>) -> bool {
    if let (Some(source), Some(target)) = (variable(SOURCE), variable(TARGET)) {
        return source != target;
    }
    let Some(name) = variable(EVENT) else { return false };
    let heads = ["/pull_request/head/repo/full_name", "/workflow_run/head_repository/full_name"];
    match event(variable, read) {
        Some(told) => {
            let base = told.pointer("/repository/full_name");
            let is_about =
                |head: &str| told.pointer(&format!("/{}", head.split('/').nth(1).unwrap_or_default())).is_some();
            heads.iter().any(|head| is_about(head) && (base.is_none() || told.pointer(head) != base))
        }
        None => name.starts_with("pull_request") || name == "workflow_run",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_fork(variables: &[(&str, &str)], event: Option<&Value>) -> bool {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        is_from_fork(&variable, &|path| event.filter(|_| path == "event.json").map(Value::to_string))
    }

    #[test]
    fn pull_requests_of_other_repositories_are_a_forks() {
        let of = |name: &str, event: &Value| is_fork(&[(EVENT, name), (EVENT_FILE, "event.json")], Some(event));
        // As GitHub's documentation of webhook events has them, cut down.
        let pull = |head: &Value| json!({ "repository": { "full_name": "a/b" }, "pull_request": { "head": { "repo": head } } });
        assert!(!of("pull_request", &pull(&json!({ "full_name": "a/b" }))));
        assert!(of("pull_request", &pull(&json!({ "full_name": "c/b" }))));
        assert!(of("pull_request_target", &pull(&json!({ "full_name": "c/b" }))));
        assert!(of("pull_request", &pull(&Value::Null)), "a fork that was deleted");
        let run = |head: &str| json!({ "repository": { "full_name": "a/b" }, "workflow_run": { "head_repository": { "full_name": head } } });
        assert!(of("workflow_run", &run("c/b")) && !of("workflow_run", &run("a/b")));
        assert!(!of("push", &json!({ "repository": { "full_name": "a/b" } })));
    }

    #[test]
    fn a_commit_is_compared_with_where_it_goes_or_what_was_there() {
        let of = |variables: &[(&str, &str)], event: Option<&Value>| {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            base_of(&variable, &|path| event.filter(|_| path == "event.json").map(Value::to_string))
        };
        let (pushed, new) = (json!({ "before": "6113728f" }), json!({ "before": "0000000000" }));
        let file = (EVENT_FILE, "event.json");
        assert_eq!(of(&[], None), "origin/main");
        assert_eq!(of(&[file, (BRANCHES[0], "")], Some(&pushed)), "6113728f");
        assert_eq!(of(&[file], Some(&new)), "origin/main");
        // A pull request's event has a commit before, too: that of its own branch.
        assert_eq!(of(&[file, (BRANCHES[0], "develop")], Some(&pushed)), "origin/develop");
        assert_eq!(of(&[(BRANCHES[1], "next"), (BEFORE, "0000000000")], None), "origin/next");
        assert_eq!(of(&[(BEFORE, "95790bf8")], None), "95790bf8");
    }

    #[test]
    fn what_does_not_tell_whose_it_is_is_taken_for_a_forks() {
        assert!(is_fork(&[(EVENT, "pull_request"), (EVENT_FILE, "elsewhere.json")], None));
        assert!(is_fork(&[(EVENT, "pull_request")], None) && !is_fork(&[(EVENT, "schedule")], None));
        assert!(is_fork(&[(SOURCE, "7"), (TARGET, "1")], None) && !is_fork(&[(SOURCE, "1"), (TARGET, "1")], None));
        assert!(!is_fork(&[], None));
    }
}
