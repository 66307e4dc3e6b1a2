//! Stages whose lease another process has, or takes.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use pipe::engine::{
    executor::{Computed, Event, Job, Options, Paused, Reporter, Runner},
    store::{Lost, Store},
};

use super::executor::{Fake, Told, endings, run, run_with, space, tasks};
use crate::common::hurry::Hurry;

/// A stage from which another machine takes the lease away, and which the executor asks to stop.
struct Suspended {
    store: PathBuf,
    runs: AtomicUsize,
}

/// A lease as another machine has it.
const FOREIGN: &str = "00000000000000000007\n{\"token\":\"theirs\",\"host\":\"elsewhere\",\"pid\":1}\n";

impl Runner for Suspended {
    fn run(&self, job: &Job<'_>) -> Result<Computed> {
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            let leases = std::fs::read_dir(self.store.join("leases"))?.collect::<Result<Vec<_>, _>>()?;
            std::fs::write(leases[0].path(), FOREIGN)?;
            let began = Instant::now();
            while !job.is_stopped() {
                assert!(began.elapsed() < Duration::from_secs(20), "it's never asked to stop");
                std::thread::sleep(Duration::from_millis(20));
            }
            bail!(Paused::at("stopped"));
        }
        std::fs::write(job.out.join("out"), "done")?;
        Ok(Computed::default())
    }
}

#[test]
fn stage_whose_lease_was_taken_over_stops_within_seconds_and_is_asked_for_again() {
    let space = space();
    let root = space.path().join("store");
    let tasks = tasks(&space, "stages:\n  a: { tokenize: { tokenizer: { file: a.json } } }\n");
    // Nobody is there to compute it, so it falls to this process once more.
    let hurry = Hurry::new();
    let store = Store::open(&root).unwrap().with_clock(hurry.clock.clone());
    let (runner, told) = (Suspended { store: root, runs: AtomicUsize::new(0) }, Told::default());
    let outcomes = run_with(&tasks, &store, &[], &runner, &told, &Options::default());
    assert_eq!(endings(&outcomes), "a=ran");
    assert_eq!(runner.runs.into_inner(), 2);
    let lost = format!("a: note {}", Lost);
    let told = told.0.into_inner().unwrap();
    assert_eq!(told, ["a: started tokenize", &lost, "a: waiting", "a: started tokenize", "a: finished"]);
    assert_eq!(std::fs::read_dir(space.path().join("store/tmp")).unwrap().count(), 0);
}

/// Stops the run as soon as something waits.
struct Impatient<'a>(&'a AtomicBool);

impl Reporter for Impatient<'_> {
    fn event(&self, _stage: &str, event: Event<'_>) {
        self.0.fetch_or(matches!(event, Event::Waiting), Ordering::SeqCst);
    }
}

#[test]
fn run_that_waits_for_another_process_can_be_stopped() {
    let space = space();
    let recipe = "stages:\n  a: { tokenize: { tokenizer: { file: a.json } } }\n";
    let tasks = tasks(&space, recipe);
    // So that the key is known.
    let key = run(&space, &tasks, &Fake::default(), 1, &[])["a"].key.clone().unwrap();
    std::fs::remove_dir_all(space.path().join("store/artifacts").join(&key)).unwrap();
    space.write(&format!("store/leases/{key}"), FOREIGN);
    let store = Store::open(&space.path().join("store")).unwrap();
    let options = Options::default();
    let outcomes = run_with(&tasks, &store, &[], &Fake::default(), &Impatient(&options.stop), &options);
    assert_eq!(endings(&outcomes), "a=paused");
    assert_eq!(outcomes["a"].error.as_deref(), Some("stopped while it waited for another process"));
}
