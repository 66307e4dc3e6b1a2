//! Ray, by the REST interface of its Jobs API. It has no arrays and no order among jobs, so each task is submitted by itself, under
//! the name of its batch, as soon as it can run.

mod api;

use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};

use self::api::{Api, Problem};
use super::{
    ends::last_of,
    engine::{Batch, Cluster, Engine, Job, Refusal, State, Which},
    profile::Profile,
};
use crate::support::{Hinted, Named};

/// The engine.
pub(super) struct Ray;

impl Named for Ray {
    fn name(&self) -> &'static str {
        "ray"
    }
}

/// What names the Jobs API, as for Ray's own commands.
const ADDRESS: &str = "RAY_API_SERVER_ADDRESS";
/// What a resource of Ray is called that stands for a type of GPUs; a node that has them has one of it.
const TYPE: &str = "accelerator_type:";

impl Engine for Ray {
    fn keys(&self) -> &'static [&'static str] {
        &["address", "environment", "extra"]
    }

    fn open(&self, profile: &Profile) -> Result<Box<dyn Cluster>> {
        let address = profile.address.clone().or_else(|| std::env::var(ADDRESS).ok());
        let address = address.ok_or_else(|| {
            let hint = format!("`address = \"http://HOST:8265\"` in the profile, or {ADDRESS}");
            Hinted::with("nothing says where Ray's Jobs API is", hint)
        })?;
        Ok(Box::new(Jobs { api: Api::open(&address)? }))
    }
}

struct Jobs {
    api: Api,
}

impl Cluster for Jobs {
    fn most_tasks(&mut self) -> usize {
        1
    }

    fn has_order(&self) -> bool {
        false
    }

    fn script(&self, batch: &Batch<'_>) -> String {
        format!("{:#}\n", submission(batch))
    }

    fn submit(&mut self, script: &str) -> Result<String, Refusal> {
        let mut body: Json = serde_json::from_str(script).map_err(|error| Refusal::Never(error.to_string()))?;
        fill_in(&mut body, &|name| std::env::var(name).ok());
        let id = body["submission_id"].as_str().unwrap_or_default().to_owned();
        match self.api.post("/api/jobs/", Some(&body)) {
            Ok(_) => Ok(id),
            // It was taken in a moment when the answer was lost.
            Err(Problem::Refused { said, .. }) if said.contains("already exists") => Ok(id),
            Err(Problem::Away(said)) => Err(Refusal::Away(said)),
            Err(Problem::Refused { status, said }) => Err(refusal(status, said)),
        }
    }

    fn test(&mut self, _script: &str) -> Result<(), String> {
        match self.api.get("/api/version") {
            Ok(_) => Ok(()),
            Err(Problem::Away(said) | Problem::Refused { said, .. }) => Err(said),
        }
    }

    fn jobs(&mut self, beginning: &str) -> Option<Vec<Job>> {
        let answer = self.api.get("/api/jobs/").ok()?;
        Some(answer.as_array()?.iter().filter_map(job).filter(|job| job.batch.starts_with(beginning)).collect())
    }

    fn last_words(&mut self, id: &str, _task: usize) -> Option<String> {
        let said = |path: &str, key: &str| last_of(self.api.get(path).ok()?[key].as_str()?);
        // Where its surroundings couldn't be made, it printed nothing, and Ray says why.
        said(&format!("/api/jobs/{id}/logs"), "logs").or_else(|| said(&format!("/api/jobs/{id}"), "message"))
    }

    fn cancel(&mut self, jobs: &[Which]) -> Result<()> {
        for which in jobs {
            let (Which::Batch(id) | Which::Task(id, _)) = which;
            match self.api.post(&format!("/api/jobs/{id}/stop"), None) {
                // One that Ray has forgotten runs no more.
                Ok(_) | Err(Problem::Refused { status: 404, .. }) => {}
                Err(Problem::Away(said) | Problem::Refused { said, .. }) => {
                    return Err(anyhow::anyhow!(said)).with_context(|| format!("can't stop {id}"));
                }
            }
        }
        Ok(())
    }
}

/// What it means that a job isn't taken. All failures of Ray itself have status 500, also when its other processes are away.
fn refusal(status: u16, said: String) -> Refusal {
    const AWAY: [&str; 7] = [
        "No available agent",
        "try again later",
        "RpcError",
        "GetTimeoutError",
        "failed to connect to all addresses",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
    ];
    if status == 500 { Refusal::by_words(said, &[], &AWAY) } else { Refusal::Never(said) }
}

/// What the Jobs API is sent. The values of variables of the environment aren't in it yet, for it's shown to people.
fn submission(batch: &Batch<'_>) -> Json {
    let task = batch.tasks.first().copied().unwrap_or(0).to_string();
    let given = batch.resources;
    let mut body = json!({
        "submission_id": batch.name,
        "entrypoint": batch.lines(&format!("'ray {}'", batch.name), &task),
        "metadata": { "pipe.folder": batch.folder.display().to_string() },
    });
    if let Some(cpus) = given.cpus {
        body["entrypoint_num_cpus"] = cpus.into();
    }
    if let Some(gpus) = given.gpus.filter(|gpus| *gpus > 0) {
        body["entrypoint_num_gpus"] = gpus.into();
    }
    if let Some(bytes) = given.bytes(batch.estimate) {
        body["entrypoint_memory"] = bytes.into();
    }
    if let Some(kind) = &given.gpu_type {
        body["entrypoint_resources"] = json!({ format!("{TYPE}{kind}"): 0.001 });
    }
    if let Some(names) = &given.environment {
        let variables: Map<String, Json> = names.iter().map(|name| (name.clone(), Json::Null)).collect();
        body["runtime_env"] = json!({ "env_vars": variables });
    }
    if let Some(extra) = &given.extra {
        extra.over(&mut body);
    }
    body
}

/// Puts the values of variables of the environment where their names stand; those that aren't set are left out.
fn fill_in(body: &mut Json, value: &dyn Fn(&str) -> Option<String>) {
    let Some(variables) = body.pointer_mut("/runtime_env/env_vars").and_then(Json::as_object_mut) else { return };
    variables.retain(|name, known| {
        if known.is_null() {
            *known = value(name).map_or(Json::Null, Json::String);
        }
        !known.is_null()
    });
}

/// A job as the API tells of it.
fn job(told: &Json) -> Option<Job> {
    let id = told["submission_id"].as_str()?.to_owned();
    let text = |key: &str| told[key].as_str().unwrap_or_default();
    let state = match text("status") {
        "PENDING" => State::Waiting(text("message").lines().next().unwrap_or_default().to_owned()),
        "RUNNING" => State::Running,
        "SUCCEEDED" => State::Done,
        "STOPPED" => State::Cancelled,
        "FAILED" => match (text("error_type"), told["driver_exit_code"].as_i64()) {
            // The process beside it that watches it is gone, as is its machine most often.
            ("JOB_SUPERVISOR_ACTOR_DIED", _) => State::NodeLost,
            ("JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE" | "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", _) => {
                State::Never(Hinted::with("no machine has what it asks for", "`ray status` tells what there is"))
            }
            // Ended by a signal, as Python counts it or as shells do.
            (_, Some(code)) if code < 0 || (129..160).contains(&code) => State::Killed,
            _ => State::Failed,
        },
        _ => return None,
    };
    Some(Job { batch: id.clone(), id, task: 0, state })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::session::cluster::resources::Resources;

    #[test]
    fn submission_has_what_the_profile_says_and_no_value_of_the_environment() {
        let resources = Resources {
            cpus: Some(4),
            gpus: Some(1),
            gpu_type: Some("A100".into()),
            environment: Some(vec!["TOKEN".into(), "NONE".into()]),
            before: Some(vec!["ulimit -n 4096".into()]),
            extra: serde_json::from_value(json!({ "runtime_env": { "working_dir": "s3://code" } })).unwrap(),
            ..Resources::default()
        };
        let command = ["/it's/pipe", "stage", "--task"].map(str::to_owned);
        let mut body = submission(&Batch {
            name: "pipe-run-3-0123abcd",
            run: "pipe-run-",
            folder: Path::new("/store/jobs/run"),
            is_apart: false,
            number: 3,
            tasks: &[0],
            resources: &resources,
            estimate: Some(1 << 30),
            longer: 1,
            throttle: None,
            after: &[],
            command: &command,
        });
        assert_eq!(
            body,
            json!({
                "submission_id": "pipe-run-3-0123abcd",
                "entrypoint": "export PIPE_JOB='ray pipe-run-3-0123abcd'\nexport RAYON_NUM_THREADS=4\nulimit -n 4096\n\
                               exec '/it'\\''s/pipe' stage --task 0 >>/store/jobs/run/log/3-0.log 2>&1",
                "entrypoint_num_cpus": 4,
                "entrypoint_num_gpus": 1,
                "entrypoint_memory": 1 << 30,
                "entrypoint_resources": { "accelerator_type:A100": 0.001 },
                "runtime_env": { "env_vars": { "TOKEN": null, "NONE": null }, "working_dir": "s3://code" },
                "metadata": { "pipe.folder": "/store/jobs/run" },
            })
        );
        fill_in(&mut body, &|name| (name == "TOKEN").then(|| "secret".to_owned()));
        assert_eq!(body["runtime_env"]["env_vars"], json!({ "TOKEN": "secret" }));
    }

    #[test]
    fn ray_that_is_about_to_come_up_is_waited_for() {
        let agent = "Exception: No available agent to submit job, please try again later.";
        assert!(matches!(refusal(500, agent.into()), Refusal::Away(_)));
        let wrong = "ValueError: entrypoint_num_cpus must be a number";
        assert!(matches!(refusal(500, wrong.into()), Refusal::Never(_)));
        assert!(matches!(refusal(403, "try again later".into()), Refusal::Never(_)));
    }

    #[test]
    fn states_are_told_apart() {
        let state = |told: Json| job(&told).map(|job| job.state);
        // As Ray 2.60 answers.
        let waiting =
            json!({ "submission_id": "a", "status": "PENDING", "message": "Job has not started yet.\nIt may be" });
        assert_eq!(state(waiting), Some(State::Waiting("Job has not started yet.".into())));
        for (code, kind, expected) in [
            (json!(3), "JOB_ENTRYPOINT_COMMAND_ERROR", State::Failed),
            (json!(-9), "JOB_ENTRYPOINT_COMMAND_ERROR", State::Killed),
            (json!(137), "JOB_ENTRYPOINT_COMMAND_ERROR", State::Killed),
            (json!(null), "JOB_SUPERVISOR_ACTOR_DIED", State::NodeLost),
        ] {
            let told =
                json!({ "submission_id": "a", "status": "FAILED", "driver_exit_code": code, "error_type": kind });
            assert_eq!(state(told), Some(expected), "{code} {kind}");
        }
        assert_eq!(state(json!({ "submission_id": "a", "status": "STOPPED" })), Some(State::Cancelled));
        // One that was started by a program of its own has no submission's id.
        assert_eq!(state(json!({ "submission_id": null, "job_id": "01", "status": "RUNNING" })), None);
    }
}
