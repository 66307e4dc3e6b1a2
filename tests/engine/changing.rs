//! Files that others change while a run reads them: before they're hashed, after that, while the run waits for another
//! process, before, during and after they're read, before the result is stored; and files that come back. Whatever the
//! moment, what the store has under a key was made of the bytes that the key was made of.

use crate::common;
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::SystemTime,
};

use anyhow::{Result, bail};
use common::{Space, await_tick};
use indexmap::IndexMap;
use parking_lot::Mutex;
use pipe::{
    engine::{
        executor::{Computed, Ending, Event, Job, Local, Options, Outcome, Reporter, Runner, execute},
        plan::{Graph, Resolver},
        store::{Claim, DigestCache, Store},
    },
    recipe::{Document, Overrides},
    session::graph,
    stages::catalog,
};

const RECIPE: &str = "
stages:
  a: { tokenize: { tokenizer: { file: a.json } } }
  b: { tokenize: { tokenizer: { stage: a } } }
";

/// What a.json holds, and what others write over it.
const OWN: &str = "{\"own\": 1, \"more\": [1, 2, 3]}";
const OTHER: &str = "{\"not\": 1, \"more\": [1, 2, 4]}";

fn tasks(space: &Space) -> Graph {
    let document = Document::parse(&space.path().join("recipe.yaml"), RECIPE, catalog()).unwrap();
    graph(&document.check(&Overrides::default(), &|_, _| None).unwrap()).unwrap()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moment {
    BeforeHash,
    AfterHash,
    Waiting,
    BeforeRead,
    DuringRead,
    AfterRead,
    BeforeCommit,
}
use Moment::{AfterHash, AfterRead, BeforeCommit, BeforeHash, BeforeRead, DuringRead, Waiting};

const MOMENTS: [Moment; 7] = [BeforeHash, AfterHash, Waiting, BeforeRead, DuringRead, AfterRead, BeforeCommit];

/// What others do to the file.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Other bytes of the same length, with the old time of modification.
    Rewritten,
    /// Another file of its name.
    Replaced,
    Cut,
    Removed,
    /// The same bytes once more.
    Touched,
}
use Change::{Cut, Removed, Replaced, Rewritten, Touched};

const CHANGES: [Change; 5] = [Rewritten, Replaced, Cut, Removed, Touched];

impl Change {
    fn make(self, file: &Path) {
        let time = std::fs::metadata(file).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        await_tick(file.parent().unwrap());
        match self {
            Rewritten => {
                std::fs::write(file, OTHER).unwrap();
                std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
            }
            Replaced => {
                let aside = file.with_extension("aside");
                std::fs::write(&aside, OTHER).unwrap();
                std::fs::rename(aside, file).unwrap();
            }
            Cut => std::fs::write(file, &OWN[..20]).unwrap(),
            Removed => std::fs::remove_file(file).unwrap(),
            Touched => std::fs::write(file, OWN).unwrap(),
        }
    }
}

/// Reads the file of `a` in two parts, keeps what it read as a state, and writes it; for `b` it writes what `a` wrote. What a
/// state holds isn't read again.
struct Reader<'a> {
    at: &'a (dyn Fn(Moment) + Sync),
    /// Whether it says that it has read everything.
    says: bool,
    /// Whether it fails behind its state, as a process does that is killed.
    fails: bool,
    runs: AtomicUsize,
}

impl Runner for Reader<'_> {
    fn run(&self, job: &Job<'_>) -> Result<Computed> {
        if let Some(input) = job.artifacts.values().next() {
            std::fs::copy(input.file("out"), job.out.join("out"))?;
            return Ok(Computed::default());
        }
        self.runs.fetch_add(1, SeqCst);
        let text = match job.state.read::<()>()? {
            Some(()) => std::fs::read_to_string(job.state.dir().join("text"))?,
            None => self.read(job)?,
        };
        (self.at)(BeforeCommit);
        std::fs::write(job.out.join("out"), text)?;
        Ok(Computed::default())
    }
}

impl Reader<'_> {
    fn read(&self, job: &Job<'_>) -> Result<String> {
        let file = &job.files["tokenizer.file"][0];
        (self.at)(BeforeRead);
        let mut text: String = std::fs::read_to_string(file)?.chars().take(10).collect();
        (self.at)(DuringRead);
        text.extend(std::fs::read_to_string(file)?.chars().skip(10));
        (self.at)(AfterRead);
        if self.says {
            job.has_read()?;
        }
        std::fs::write(job.state.place("text")?, &text)?;
        job.state.keep(vec![job.state.seal("text")?], &())?;
        if self.fails {
            bail!("the power went");
        }
        Ok(text)
    }
}

/// Does something once, when it's told of a moment.
struct Once<'a> {
    moment: Moment,
    act: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
}

impl<'a> Once<'a> {
    fn new(moment: Moment, act: impl FnOnce() + Send + 'a) -> Self {
        Self { moment, act: Mutex::new(Some(Box::new(act))) }
    }

    fn at(&self, moment: Moment) {
        let act = if moment == self.moment { self.act.lock().take() } else { None };
        if let Some(act) = act {
            act();
        }
    }
}

/// Tells of waiting.
struct Waits<'a>(&'a (dyn Fn(Moment) + Sync));

impl Reporter for Waits<'_> {
    fn event(&self, _stage: &str, event: Event<'_>) {
        if matches!(event, Event::Waiting) {
            (self.0)(Waiting);
        }
    }
}

/// Everything that is stored was made of what its key says.
fn hold_true(store: &Store, what: &str) {
    for key in store.keys().unwrap() {
        let artifact = store.find(&key).unwrap().unwrap();
        let out = std::fs::read(artifact.file("out")).unwrap();
        if let Some(digest) = artifact.manifest.inputs.get("tokenizer.file") {
            let made_of = blake3::hash(&out).to_hex();
            assert_eq!(*digest, format!("json:{made_of}"), "{what}: {}", String::from_utf8_lossy(&out));
        }
    }
}

/// Plans and runs, while others do what they do; waiting ends once they have.
fn run(space: &Space, reader: &Reader<'_>, waits: bool) -> Result<IndexMap<String, Outcome>> {
    let store = Store::open(&space.path().join("store"))?;
    let digests = Mutex::new(DigestCache::open(store.root()));
    let resolver = Resolver::new(&store, &digests);
    let graph = tasks(space);
    (reader.at)(BeforeHash);
    let plan = resolver.plan(&graph)?;
    (reader.at)(AfterHash);
    let other = Mutex::new(None);
    if waits && let Some(key) = plan.get("a").and_then(|stage| stage.key.known()) {
        let manifest = plan.get("a").unwrap().manifest(&|_| None).unwrap();
        assert_eq!(manifest.key(), key);
        // Another process has it, until it's waited for.
        if let Claim::Miss(slot) = store.claim(manifest, false, &|| {})? {
            *other.lock() = Some(slot);
        }
    }
    let at = |moment: Moment| {
        (reader.at)(moment);
        if moment == Waiting {
            drop(other.lock().take());
        }
    };
    let local = Local::new(&store, reader);
    Ok(execute(plan, &resolver, &local, &Waits(&at), &Options::default()))
}

fn reader<'a>(at: &'a (dyn Fn(Moment) + Sync), says: bool, fails: bool) -> Reader<'a> {
    Reader { at, says, fails, runs: AtomicUsize::new(0) }
}

fn ending(outcomes: &IndexMap<String, Outcome>) -> Ending {
    outcomes["a"].ending
}

fn space() -> (Space, PathBuf) {
    let space = Space::new();
    space.write("a.json", OWN);
    await_tick(space.path());
    let file = space.path().join("a.json");
    (space, file)
}

#[test]
fn whatever_changes_when_every_result_is_of_its_key() {
    // Nearly all of it is waiting for the clock that stamps files.
    std::thread::scope(|scope| {
        for moment in MOMENTS {
            for change in CHANGES {
                scope.spawn(move || {
                    for (says, fails) in [(true, false), (false, false), (true, true), (false, true)] {
                        every_result_is_of_its_key(moment, change, says, fails);
                    }
                });
            }
        }
    });
}

fn every_result_is_of_its_key(moment: Moment, change: Change, says: bool, fails: bool) {
    let what = format!("{change:?} {moment:?}, says {says}, fails {fails}");
    let (space, file) = space();
    let once = Once::new(moment, || change.make(&file));
    let at = |moment: Moment| once.at(moment);
    let outcomes = run(&space, &reader(&at, says, fails), moment == Waiting);
    let store = Store::open(&space.path().join("store")).unwrap();
    hold_true(&store, &what);
    if let Ok(outcomes) = &outcomes {
        let error = outcomes["a"].error.clone().unwrap_or_default();
        let is_read = says && moment == BeforeCommit;
        let is_so_still = matches!(change, Touched) || moment == BeforeHash || is_read;
        assert_eq!(ending(outcomes) == Ending::Ran, is_so_still && !fails, "{what}: {error}");
        assert!(!error.contains("remove"), "{what}: {error}");
    } else {
        assert!(matches!((moment, change), (BeforeHash, Removed)), "{what}");
    }
    // It comes back, and what was kept by then is gone on from.
    std::fs::write(&file, OWN).unwrap();
    await_tick(space.path());
    let outcomes = run(&space, &reader(&|_| (), says, false), false).unwrap();
    assert!(outcomes.values().all(Outcome::is_good), "{what}: {:?}", outcomes["a"].error);
    hold_true(&store, &what);
    let out = outcomes["b"].artifact.as_ref().unwrap().file("out");
    assert_eq!(std::fs::read_to_string(out).unwrap(), OWN, "{what}");
}

#[test]
fn file_that_changes_and_comes_back_while_it_is_read_is_read_again() {
    for says in [true, false] {
        for back in [DuringRead, AfterRead] {
            for change in CHANGES {
                let what = format!("{change:?} until {back:?}, says {says}");
                let (space, file) = space();
                let first =
                    Once::new(BeforeRead, || if matches!(change, Removed) { Touched } else { change }.make(&file));
                let then = Once::new(back, || Touched.make(&file));
                let at = |moment: Moment| {
                    first.at(moment);
                    then.at(moment);
                };
                let reader = reader(&at, says, false);
                let outcomes = run(&space, &reader, false).unwrap();
                assert_eq!(ending(&outcomes), Ending::Ran, "{what}: {:?}", outcomes["a"].error);
                assert_eq!(reader.runs.load(SeqCst), 2, "{what}");
                hold_true(&Store::open(&space.path().join("store")).unwrap(), &what);
                let out = outcomes["a"].artifact.as_ref().unwrap().file("out");
                assert_eq!(std::fs::read_to_string(out).unwrap(), OWN, "{what}");
            }
        }
    }
}

#[test]
fn file_that_is_never_left_alone_fails_the_stage_in_plain_words() {
    let (space, file) = space();
    let at = |moment: Moment| {
        if moment == DuringRead {
            Touched.make(&file);
        }
    };
    let reader = reader(&at, true, false);
    let outcomes = run(&space, &reader, false).unwrap();
    assert_eq!((ending(&outcomes), reader.runs.load(SeqCst)), (Ending::Failed, 3));
    let error = outcomes["a"].error.clone().unwrap();
    assert!(error.contains("a.json changes again and again while it's read"), "{error}");
}

#[test]
fn what_becomes_of_a_file_once_it_was_read_changes_nothing() {
    for change in CHANGES {
        let (space, file) = space();
        let once = Once::new(BeforeCommit, || change.make(&file));
        let at = |moment: Moment| once.at(moment);
        let reader = reader(&at, true, false);
        let outcomes = run(&space, &reader, false).unwrap();
        assert_eq!((ending(&outcomes), reader.runs.load(SeqCst)), (Ending::Ran, 1), "{change:?}");
        hold_true(&Store::open(&space.path().join("store")).unwrap(), "read");
    }
}
