//! What `kubectl get jobs,pods -o json` says of tasks.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use serde_json::Value as Json;

use super::manifest::CONTAINER;
use crate::{
    session::cluster::engine::{Job, State},
    support::Hinted,
};

/// The labels of a pod that name its Job and the number of its task.
pub(super) const JOB: &str = "batch.kubernetes.io/job-name";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Seconds for which a pod may be late in going; then its node is taken for lost, for only that node can say that it's gone.
const LATE: i64 = 300;

/// The tasks of the Jobs whose names begin so, at this moment in seconds since 1970.
pub(super) fn jobs(listed: &Json, beginning: &str, now: i64) -> Vec<Job> {
    let items = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_kind = |kind: &'static str| items.iter().filter(move |item| item["kind"] == kind);
    // Of each task the last pod.
    let mut pods: BTreeMap<(&str, usize), &Json> = BTreeMap::new();
    for pod in of_kind("Pod") {
        let mark = |key: &str| pod["metadata"]["labels"][key].as_str().or(pod["metadata"]["annotations"][key].as_str());
        let (Some(job), Some(index)) = (mark(JOB), mark(INDEX).and_then(|index| index.parse().ok())) else { continue };
        let born = |pod: &Json| pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        let last = pods.entry((job, index)).or_insert(pod);
        if born(last) < born(pod) {
            *last = pod;
        }
    }
    let mut all = Vec::new();
    for job in of_kind("Job") {
        let Some(name) = job["metadata"]["name"].as_str().filter(|name| name.starts_with(beginning)) else { continue };
        let status = &job["status"];
        let (done, failed) = (indexes(&status["completedIndexes"]), indexes(&status["failedIndexes"]));
        let is_over = condition(status, "Failed").is_some();
        let count = job["spec"]["completions"].as_u64().and_then(|count| usize::try_from(count).ok());
        for task in 0..count.unwrap_or(1) {
            let pod = pods.get(&(name, task)).copied();
            let state = if done.contains(&task) {
                State::Done
            } else if failed.contains(&task) || is_over {
                pod.map_or(State::Failed, ended)
            } else if let Some(pod) = pod {
                open(pod, now)
            } else if job["spec"]["suspend"] == true {
                State::Waiting("its Job is suspended, as queues do until there's room".to_owned())
            } else {
                State::Waiting("no pod of it is made yet".to_owned())
            };
            all.push(Job { batch: name.to_owned(), id: name.to_owned(), task, state });
        }
    }
    all
}

/// Numbers as a Job's status has them: `0,2-4`.
fn indexes(text: &Json) -> BTreeSet<usize> {
    let parts = text.as_str().unwrap_or_default().split(',');
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    parts.filter_map(range).flatten().collect()
}

/// A condition that holds.
fn condition<'a>(status: &'a Json, kind: &str) -> Option<&'a Json> {
    let mut conditions = status["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A reason with its message.
fn told(reason: &str, message: &str) -> String {
    if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") }
}

/// The state of the program's container: its kind, and what is in it.
fn container<'a>(pod: &'a Json, kind: &str) -> Option<&'a Json> {
    let mut containers = pod["status"]["containerStatuses"].as_array()?.iter();
    containers.find(|container| container["name"] == CONTAINER)?["state"].get(kind)
}

/// The state of a task whose pod may yet do it, or be followed by another one.
fn open(pod: &Json, now: i64) -> State {
    let status = &pod["status"];
    if let Some(until) = pod["metadata"]["deletionTimestamp"].as_str() {
        let until = DateTime::parse_from_rfc3339(until).map_or(now, |until| until.timestamp());
        return match now - until > LATE {
            true => State::NodeLost,
            false => State::Waiting("its pod is being deleted, and another one follows".to_owned()),
        };
    }
    match text(status, "phase") {
        "Running" => State::Running,
        "Succeeded" => State::Running, // The Job is about to note it.
        "Unknown" => State::Waiting("nothing is heard of its node".to_owned()),
        "Failed" => State::Waiting(match ended(pod) {
            State::Evicted(why) => format!("its pod was evicted, and another one follows: {why}"),
            State::Preempted => "its pod made room for another one, and is made anew".to_owned(),
            State::NodeLost => "its node was lost, and another pod follows".to_owned(),
            _ => "its pod has ended, and another one follows".to_owned(),
        }),
        _ => pending(pod),
    }
}

/// The state of a task whose pod doesn't run yet.
fn pending(pod: &Json) -> State {
    if let Some(waiting) = container(pod, "waiting") {
        let (reason, message) = (text(waiting, "reason"), text(waiting, "message"));
        return match reason {
            "InvalidImageName" | "ErrImageNeverPull" => State::Never(Hinted::with(
                format!("its image can't be had ({})", told(reason, message)),
                "`container` in the profile names it",
            )),
            "CreateContainerConfigError" => State::Never(Hinted::with(
                format!("its container can't be made ({})", told(reason, message)),
                "`secrets` in the profile have to be in the namespace",
            )),
            // A registry may come back.
            "ImagePullBackOff" | "ErrImagePull" => {
                State::Waiting(format!("its image can't be pulled ({})", told(reason, message)))
            }
            _ => State::Waiting(told(reason, message)),
        };
    }
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let refused = conditions.iter().find(|one| one["type"] == "PodScheduled" && one["status"] == "False");
    State::Waiting(match refused {
        Some(refused) => told(text(refused, "reason"), text(refused, "message")),
        None => "it's about to begin".to_owned(),
    })
}

/// Why a pod has ended that isn't followed by another one.
fn ended(pod: &Json) -> State {
    let status = &pod["status"];
    match text(status, "reason") {
        "DeadlineExceeded" => return State::TimeLimit,
        "Evicted" => return State::Evicted(text(status, "message").trim().to_owned()),
        "NodeLost" | "NodeShutdown" | "Terminated" => return State::NodeLost,
        "Preempting" => return State::Preempted,
        _ => {}
    }
    if let Some(disrupted) = condition(status, "DisruptionTarget") {
        let (reason, message) = (text(disrupted, "reason"), text(disrupted, "message"));
        return match reason {
            "PreemptionByScheduler" => State::Preempted,
            "DeletionByTaintManager" | "DeletionByPodGC" => State::NodeLost,
            // EvictionByEvictionAPI, TerminationByKubelet.
            _ => State::Evicted(told(reason, message)),
        };
    }
    match container(pod, "terminated") {
        Some(over) if over["reason"] == "OOMKilled" => State::OutOfMemory,
        Some(over) if ["StartError", "ContainerCannotRun"].contains(&text(over, "reason")) => {
            State::Never(Hinted::with(
                format!("its container can't be started ({})", told(text(over, "reason"), text(over, "message"))),
                "its image has to have /bin/sh, and glibc for the program",
            ))
        }
        Some(over) if over["exitCode"].as_i64().is_some_and(|code| (129..160).contains(&code)) => State::Killed,
        _ => State::Failed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// At 10:05 of the day of all pods.
    const NOW: i64 = 1_795_946_700;

    /// A pod of task 0, in the shapes that the API's documentation gives.
    fn pod(status: Json) -> Json {
        json!({
            "kind": "Pod",
            "metadata": {
                "name": "pipe-run-0-abcde",
                "creationTimestamp": "2026-11-29T10:00:00Z",
                "labels": { (JOB): "pipe-run-0", (INDEX): "0" },
            },
            "status": status,
        })
    }

    fn state(job: Json, pods: &[Json]) -> State {
        let job = json!({
            "kind": "Job", "metadata": { "name": "pipe-run-0" }, "spec": { "completions": 1 }, "status": job,
        });
        let items: Vec<Json> = [job].into_iter().chain(pods.iter().cloned()).collect();
        let found = jobs(&json!({ "kind": "List", "items": items }), "pipe-run-", NOW);
        assert_eq!(found.len(), 1);
        found[0].state.clone()
    }

    fn waiting(status: Json) -> String {
        match state(json!({ "active": 1 }), &[pod(status)]) {
            State::Waiting(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn failed(status: Json) -> State {
        state(json!({ "failed": 1, "failedIndexes": "0" }), &[pod(status)])
    }

    fn terminated(reason: &str, code: i32) -> Json {
        json!({
            "phase": "Failed",
            "containerStatuses": [{ "name": "pipe", "state": { "terminated": { "reason": reason, "exitCode": code } } }],
        })
    }

    #[test]
    fn pods_that_wait_say_why() {
        let message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.";
        let unschedulable = json!({
            "phase": "Pending",
            "conditions": [
                { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message },
            ],
        });
        assert_eq!(waiting(unschedulable), format!("Unschedulable: {message}"));
        let pulls = |reason: &str| {
            json!({
                "phase": "Pending",
                "conditions": [{ "type": "PodScheduled", "status": "True" }],
                "containerStatuses": [{ "name": "pipe", "state": { "waiting": { "reason": reason, "message": "no" } } }],
            })
        };
        assert_eq!(waiting(pulls("ImagePullBackOff")), "its image can't be pulled (ImagePullBackOff: no)");
        assert_eq!(waiting(pulls("ContainerCreating")), "ContainerCreating: no");
        for (reason, said) in [("InvalidImageName", "image"), ("CreateContainerConfigError", "container")] {
            match state(json!({ "active": 1 }), &[pod(pulls(reason))]) {
                State::Never(told) => assert!(told.message.contains(said), "{told:?}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(state(json!({}), &[]), State::Waiting("no pod of it is made yet".into()));
        assert_eq!(state(json!({ "active": 1 }), &[pod(json!({ "phase": "Running" }))]), State::Running);
        assert_eq!(waiting(json!({ "phase": "Unknown" })), "nothing is heard of its node");
        let suspended = json!({
            "kind": "Job", "metadata": { "name": "pipe-run-0" }, "spec": { "completions": 1, "suspend": true }, "status": {},
        });
        let found = jobs(&json!({ "items": [suspended] }), "pipe-run-", NOW);
        assert!(matches!(&found[0].state, State::Waiting(why) if why.contains("suspended")), "{found:?}");
    }

    #[test]
    fn pods_that_ended_are_told_apart() {
        assert_eq!(state(json!({ "completedIndexes": "0" }), &[]), State::Done);
        assert_eq!(failed(terminated("OOMKilled", 137)), State::OutOfMemory);
        assert_eq!(failed(terminated("Error", 137)), State::Killed);
        assert_eq!(failed(terminated("Error", 1)), State::Failed);
        assert!(matches!(failed(terminated("StartError", 128)), State::Never(_)));
        // Another container, which stands before ours, ended well.
        let mut beside = terminated("OOMKilled", 137);
        let proxy =
            json!({ "name": "istio-proxy", "state": { "terminated": { "reason": "Completed", "exitCode": 0 } } });
        beside["containerStatuses"].as_array_mut().unwrap().insert(0, proxy);
        assert_eq!(failed(beside), State::OutOfMemory);
        assert_eq!(failed(json!({ "phase": "Failed", "reason": "DeadlineExceeded" })), State::TimeLimit);
        let low = "The node was low on resource: memory. ";
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": low });
        assert_eq!(failed(evicted.clone()), State::Evicted(low.trim().into()));
        assert!(waiting(evicted).starts_with("its pod was evicted, and another one follows: The node was low"));
        let disrupted = |reason: &str| {
            let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m" });
            json!({ "phase": "Failed", "conditions": [condition] })
        };
        assert_eq!(failed(disrupted("PreemptionByScheduler")), State::Preempted);
        assert_eq!(failed(disrupted("DeletionByTaintManager")), State::NodeLost);
        assert_eq!(failed(disrupted("EvictionByEvictionAPI")), State::Evicted("EvictionByEvictionAPI: m".into()));
        // Deleted by somebody: the Job makes another one.
        let mut deleted = pod(json!({ "phase": "Running" }));
        deleted["metadata"]["deletionTimestamp"] = "2026-11-29T10:01:00Z".into();
        let told = State::Waiting("its pod is being deleted, and another one follows".into());
        assert_eq!(state(json!({ "active": 1 }), &[deleted.clone()]), told);
        // And what counts is that.
        let mut next = pod(json!({ "phase": "Running" }));
        next["metadata"]["creationTimestamp"] = "2026-11-29T10:02:00Z".into();
        assert_eq!(state(json!({ "active": 1 }), &[next, deleted.clone()]), State::Running);
        // One that should have gone long ago is on a node that nobody hears of.
        deleted["metadata"]["deletionTimestamp"] = "2026-11-29T09:59:59Z".into();
        assert_eq!(state(json!({ "active": 1 }), &[deleted]), State::NodeLost);
        let over = json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "FailedIndexes" }] });
        assert_eq!(state(over, &[]), State::Failed);
    }

    #[test]
    fn numbers_are_read_as_the_status_has_them() {
        assert_eq!(indexes(&json!("0,2-4,7")).into_iter().collect::<Vec<_>>(), [0, 2, 3, 4, 7]);
        assert!(indexes(&json!("")).is_empty() && indexes(&Json::Null).is_empty());
    }
}
