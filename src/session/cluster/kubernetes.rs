//! Kubernetes, by `kubectl`. A batch is an indexed Job: its pods are the tasks, and take the store from a volume claim. What becomes of
//! a stage is for its run to decide, so a pod that failed by itself isn't tried again by the cluster; one that was evicted or
//! that kept its state is.

mod manifest;
mod states;
mod yaml;

use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value as Json;

use super::{
    commands,
    engine::{Batch, Cluster, Engine, Job, Refusal, Which},
    profile::Profile,
};
use crate::{
    engine::store::unix_time,
    support::{Hinted, Named},
};

/// The engine.
pub(super) struct Kubernetes;

/// The pods of a Job at most, by what its status can tell.
const MOST_TASKS: usize = 10_000;
/// Lines of what a pod printed that are shown.
const LINES: &str = "--tail=8";

impl Named for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }
}

impl Engine for Kubernetes {
    fn keys(&self) -> &'static [&'static str] {
        &["context", "namespace", "claim", "secrets", "throttle", "time", "container", "node_selector", "extra"]
    }

    fn open(&self, profile: &Profile) -> Result<Box<dyn Cluster>> {
        let claim = profile.claim.clone();
        if claim.is_none() && profile.remote.is_none() {
            let hint =
                "in the profile `claim` names the volume claim that has it, or `remote` what there is in place of one";
            bail!(Hinted::with("nothing says how pods come by the store", hint));
        }
        let place = manifest::Place {
            claim,
            namespace: profile.namespace.clone(),
            secrets: profile.secrets.clone().unwrap_or_default(),
        };
        Ok(Box::new(Kubectl { place, context: profile.context.clone() }))
    }
}

struct Kubectl {
    place: manifest::Place,
    context: Option<String>,
}

/// What `kubectl` said on stderr.
struct Unwell(String);

impl Kubectl {
    /// What `kubectl` prints, if it ends well.
    fn ask(&self, arguments: &[&str], input: &str) -> Result<String, Unwell> {
        let mut command = Command::new("kubectl");
        command.args(self.context.iter().map(|context| format!("--context={context}")));
        command.args(self.place.namespace.iter().map(|namespace| format!("--namespace={namespace}")));
        command.args(arguments);
        let said = commands::run(&mut command, input)
            .map_err(|error| Unwell(format!("kubectl can't be run here: {error}")))?;
        if said.is_well { Ok(said.out) } else { Err(Unwell(said.error)) }
    }
}

impl Cluster for Kubectl {
    fn most_tasks(&mut self) -> usize {
        MOST_TASKS
    }

    fn has_order(&self) -> bool {
        false
    }

    fn script(&self, batch: &Batch<'_>) -> String {
        format!("---\n{}", yaml::text(&manifest::job(batch, &self.place)))
    }

    fn submit(&mut self, script: &str) -> Result<String, Refusal> {
        // Whatever was applied already is left as it is.
        let said = self.ask(&["apply", "-f", "-", "-o", "name"], script).map_err(|Unwell(said)| refusal(said))?;
        let name = said.lines().last().and_then(|line| line.rsplit_once('/'));
        name.map(|(_, name)| name.to_owned()).ok_or(Refusal::Away(said))
    }

    fn test(&mut self, script: &str) -> Result<(), String> {
        match self.ask(&["apply", "--dry-run=server", "-f", "-", "-o", "name"], script) {
            Ok(_) => Ok(()),
            Err(Unwell(said)) => Err(said),
        }
    }

    fn jobs(&mut self, beginning: &str) -> Option<Vec<Job>> {
        let own = format!("--selector={}={}", manifest::RUN, manifest::run(beginning));
        let listed = self.ask(&["get", "jobs,pods", &own, "-o", "json"], "");
        let listed = listed.inspect_err(|Unwell(said)| tracing::warn!("kubectl get: {said}")).ok()?;
        let listed: Json = serde_json::from_str(&listed).ok()?;
        Some(states::jobs(&listed, beginning, unix_time() as i64))
    }

    fn last_words(&mut self, id: &str, task: usize) -> Option<String> {
        let pod = format!("--selector={}={id},{}={task}", states::JOB, states::INDEX);
        self.ask(&["logs", &pod, LINES, "--container", manifest::CONTAINER], "").ok().filter(|said| !said.is_empty())
    }

    fn cancel(&mut self, jobs: &[Which]) -> Result<()> {
        // All tasks of a Job ask for the same, so that where one can never run none can.
        let names = jobs.iter().map(|(Which::Batch(id) | Which::Task(id, _))| id.as_str());
        let arguments: Vec<&str> =
            ["delete", "job", "--ignore-not-found", "--wait=false"].into_iter().chain(names).collect();
        match self.ask(&arguments, "") {
            Ok(_) => Ok(()),
            Err(Unwell(said)) => bail!("kubectl delete: {said}"),
        }
    }
}

/// What `kubectl apply` means by what it says on stderr.
fn refusal(said: String) -> Refusal {
    const AWAY: [&str; 14] = [
        "The connection to the server",
        "connection refused",
        // Whoever follows the run may log in meanwhile.
        "You must be logged in",
        "etcdserver:",
        "the object has been modified",
        "Unable to connect to the server",
        "i/o timeout",
        "TLS handshake timeout",
        "context deadline exceeded",
        "request timed out",
        "Too many requests",
        "TooManyRequests",
        "ServiceUnavailable",
        "InternalError",
    ];
    Refusal::by_words(said, &["exceeded quota"], &AWAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_what_kubectl_says() {
        let full = "Error from server (Forbidden): error when creating \"STDIN\": jobs.batch \"x\" is forbidden: exceeded \
                    quota: team, requested: count/jobs.batch=1, used: count/jobs.batch=5, limited: count/jobs.batch=5";
        assert!(matches!(refusal(full.into()), Refusal::Full(_)));
        for away in [
            "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?",
            "Unable to connect to the server: EOF",
            "error: You must be logged in to the server (Unauthorized)",
            "Error from server: etcdserver: leader changed",
            "Error from server (InternalError): an error on the server (\"\") has prevented the request from succeeding",
        ] {
            assert!(matches!(refusal(away.into()), Refusal::Away(_)), "{away}");
        }
        for never in [
            "The Job \"x\" is invalid: spec.template.spec.containers[0].image: Required value",
            "Error from server (Forbidden): jobs.batch is forbidden: User \"me\" cannot create resource \"jobs\"",
        ] {
            assert!(matches!(refusal(never.into()), Refusal::Never(_)), "{never}");
        }
    }
}
