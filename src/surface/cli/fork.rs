//! Whether this program runs for somebody who may not write to a cache that others use: a pull request from a fork. What a
//! stranger's recipe computes would be served to everybody else.

use serde_json::Value;

use super::console;

/// What set off a job on GitHub, and the file that tells all about it.
const EVENT: &str = "GITHUB_EVENT_NAME";
const EVENT_FILE: &str = "GITHUB_EVENT_PATH";

/// The projects that a merge request on GitLab comes from and goes to.
const SOURCE: &str = "CI_MERGE_REQUEST_SOURCE_PROJECT_ID";
const TARGET: &str = "CI_MERGE_REQUEST_PROJECT_ID";

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
    let Some(event) = variable(EVENT) else { return false };
    let told =
        variable(EVENT_FILE).and_then(|path| read(&path)).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let heads = ["/pull_request/head/repo/full_name", "/workflow_run/head_repository/full_name"];
    match told {
        Some(told) => {
            let base = told.pointer("/repository/full_name");
            let is_about =
                |head: &str| told.pointer(&format!("/{}", head.split('/').nth(1).unwrap_or_default())).is_some();
            heads.iter().any(|head| is_about(head) && (base.is_none() || told.pointer(head) != base))
        }
        None => event.starts_with("pull_request") || event == "workflow_run",
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
    fn what_does_not_tell_whose_it_is_is_taken_for_a_forks() {
        assert!(is_fork(&[(EVENT, "pull_request"), (EVENT_FILE, "elsewhere.json")], None));
        assert!(is_fork(&[(EVENT, "pull_request")], None) && !is_fork(&[(EVENT, "schedule")], None));
        assert!(is_fork(&[(SOURCE, "7"), (TARGET, "1")], None) && !is_fork(&[(SOURCE, "1"), (TARGET, "1")], None));
        assert!(!is_fork(&[], None));
    }
}
