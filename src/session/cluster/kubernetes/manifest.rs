//! The manifest of a batch.

use serde_json::{Value as Json, json};

use crate::session::cluster::{engine::Batch, resources::seconds};

/// The label of all that `pipe` makes.
const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "pipe");
/// The label that tells runs apart, so that nobody has to be told of other runs' pods.
pub(super) const RUN: &str = "app.kubernetes.io/instance";
/// The container's name; others may be put beside it.
pub(super) const CONTAINER: &str = "pipe";
/// The image, unless the profile says another: the program comes out of the store, and needs glibc alone.
const IMAGE: &str = "debian:12-slim";
/// Seconds from a pod's being told to end until it's ended, in which a stage keeps its state.
const GRACE: u32 = 120;
/// Seconds after which a finished Job is cleared away.
const KEPT: u32 = 7 * 86_400;
/// The status of a job that goes on when it's run again.
const AGAIN: u8 = 75;

/// Where Jobs are made.
pub(super) struct Place {
    /// The claim of the volume that has the store; without one each pod has a store of its own.
    pub(super) claim: Option<String>,
    pub(super) namespace: Option<String>,
    /// Secrets whose keys become variables of the environment.
    pub(super) secrets: Vec<String>,
}

/// The Job of a batch.
pub(super) fn job(batch: &Batch<'_>, place: &Place) -> Json {
    let completions = batch.tasks.last().map_or(1, |last| last + 1);
    let labels = json!({ LABEL.0: LABEL.1, RUN: run(batch.run) });
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": batch.name, "labels": labels },
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": batch.throttle.unwrap_or(completions).min(completions),
            "backoffLimitPerIndex": 1,
            "podFailurePolicy": { "rules": [
                // Evicted, preempted, or its node was lost.
                { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
                { "action": "Ignore", "onExitCodes": on_exit("In") },
                { "action": "FailIndex", "onExitCodes": on_exit("NotIn") },
            ] },
            "ttlSecondsAfterFinished": KEPT,
            "template": { "metadata": { "labels": labels }, "spec": pod(batch, place) },
        },
    });
    if let Some(namespace) = &place.namespace {
        job["metadata"]["namespace"] = namespace.as_str().into();
    }
    job
}

/// The value of [`RUN`] by what the names of a run's batches begin with.
pub(super) fn run(beginning: &str) -> &str {
    beginning.trim_end_matches('-')
}

fn on_exit(operator: &str) -> Json {
    json!({ "containerName": CONTAINER, "operator": operator, "values": [AGAIN] })
}

fn pod(batch: &Batch<'_>, place: &Place) -> Json {
    let given = batch.resources;
    let mut container = json!({
        "name": CONTAINER,
        "image": given.container.as_deref().unwrap_or(IMAGE),
        "command": ["/bin/sh", "-c", script(batch)],
        "volumeMounts": [{ "name": "store", "mountPath": batch.store().display().to_string() }],
    });
    let mut requests = json!({});
    let mut limits = json!({});
    if let Some(cpus) = given.cpus {
        requests["cpu"] = cpus.to_string().into();
    }
    if let Some(bytes) = given.bytes(batch.estimate) {
        let memory = Json::from(format!("{}Mi", bytes.div_ceil(1 << 20)));
        (requests["memory"], limits["memory"]) = (memory.clone(), memory);
    }
    if let Some(gpus) = given.gpus.filter(|gpus| *gpus > 0) {
        limits["nvidia.com/gpu"] = gpus.to_string().into();
    }
    let mut resources = json!({});
    for (name, part) in [("requests", requests), ("limits", limits)] {
        if part.as_object().is_some_and(|part| !part.is_empty()) {
            resources[name] = part;
        }
    }
    if resources.as_object().is_some_and(|resources| !resources.is_empty()) {
        container["resources"] = resources;
    }
    if !place.secrets.is_empty() {
        let by_name = place.secrets.iter().map(|name| json!({ "secretRef": { "name": name } }));
        container["envFrom"] = by_name.collect();
    }
    let volume = match &place.claim {
        Some(claim) => json!({ "name": "store", "persistentVolumeClaim": { "claimName": claim } }),
        None => json!({ "name": "store", "emptyDir": {} }),
    };
    let mut pod = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        // It has no business with the cluster.
        "automountServiceAccountToken": false,
        "containers": [container],
        "volumes": [volume],
    });
    if let Some(seconds) = given.time.as_deref().and_then(seconds) {
        pod["activeDeadlineSeconds"] = (seconds * u64::from(batch.longer)).into();
    }
    let kind = given.gpu_type.iter().map(|kind| ("nvidia.com/gpu.product", kind.as_str()));
    let labels = given.node_selector.iter().flatten().map(|(label, value)| (label.as_str(), value.as_str()));
    let labels: serde_json::Map<_, _> =
        kind.chain(labels).map(|(label, value)| (label.to_owned(), value.into())).collect();
    if !labels.is_empty() {
        pod["nodeSelector"] = labels.into();
    }
    if let Some(extra) = &given.extra {
        extra.over(&mut pod);
    }
    pod
}

fn script(batch: &Batch<'_>) -> String {
    let job = format!("\"kubernetes {}-$JOB_COMPLETION_INDEX\"", batch.name);
    batch.lines(&job, "\"$JOB_COMPLETION_INDEX\"") + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::session::cluster::resources::Resources;

    #[test]
    fn job_has_what_the_profile_says_and_nothing_else() {
        let command = ["/store/pipe", "stage", "--task"].map(str::to_owned);
        let nothing = Resources::default();
        let batch = Batch {
            name: "pipe-run-1",
            run: "pipe-run-",
            folder: Path::new("/my store/jobs/run"),
            is_apart: false,
            number: 1,
            tasks: &[0, 1, 2],
            resources: &nothing,
            estimate: None,
            longer: 2,
            throttle: Some(2),
            after: &[],
            command: &command,
        };
        let place = Place { claim: Some("disk".into()), namespace: None, secrets: Vec::new() };
        let plain = job(&batch, &place);
        let labels = json!({ "app.kubernetes.io/managed-by": "pipe", "app.kubernetes.io/instance": "pipe-run" });
        assert_eq!(plain["metadata"]["labels"], labels);
        assert_eq!(plain["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(plain["spec"]["completions"], 3);
        assert_eq!(plain["spec"]["parallelism"], 2);
        let pod = &plain["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "disk");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/my store");
        let script = "export PIPE_JOB=\"kubernetes pipe-run-1-$JOB_COMPLETION_INDEX\"\nexec /store/pipe stage --task \
                      \"$JOB_COMPLETION_INDEX\" >>'/my store/jobs/run/log'/1-\"$JOB_COMPLETION_INDEX\".log 2>&1\n";
        assert_eq!(pod["containers"][0]["command"][2], script);
        for key in ["nodeSelector", "activeDeadlineSeconds"] {
            assert_eq!(pod[key], Json::Null, "{key}");
        }
        assert_eq!(pod["containers"][0]["resources"], Json::Null);

        let resources = Resources {
            cpus: Some(8),
            memory: Some("64G".into()),
            gpus: Some(2),
            gpu_type: Some("NVIDIA-H200".into()),
            time: Some("1:00:00".into()),
            container: Some("registry/image:1".into()),
            node_selector: Some([("pool".to_owned(), "gpu".to_owned())].into()),
            extra: serde_json::from_value(json!({ "priorityClassName": "low", "terminationGracePeriodSeconds": 300 }))
                .unwrap(),
            ..Resources::default()
        };
        let place = Place { namespace: Some("team".into()), secrets: vec!["hub".into()], ..place };
        let full = job(&Batch { resources: &resources, ..batch }, &place);
        assert_eq!(full["metadata"]["namespace"], "team");
        let pod = &full["spec"]["template"]["spec"];
        assert_eq!(pod["nodeSelector"], json!({ "nvidia.com/gpu.product": "NVIDIA-H200", "pool": "gpu" }));
        assert_eq!(pod["activeDeadlineSeconds"], 7200);
        assert_eq!((&pod["priorityClassName"], &pod["terminationGracePeriodSeconds"]), (&json!("low"), &json!(300)));
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "registry/image:1");
        assert_eq!(container["envFrom"], json!([{ "secretRef": { "name": "hub" } }]));
        let limits = json!({ "memory": "65536Mi", "nvidia.com/gpu": "2" });
        assert_eq!(
            container["resources"],
            json!({ "requests": { "cpu": "8", "memory": "65536Mi" }, "limits": limits })
        );
    }
}
