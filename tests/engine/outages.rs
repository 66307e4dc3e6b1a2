//! Every request to a remote goes wrong in every way: the run that meets it ends with the right results, and so does the
//! next one; nothing wrong is stored, and nothing is left that isn't known. A push mends the remote, or says that it failed.

use crate::common;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use common::{
    Random, Space,
    faulty::{Bucket, Fault, Server, Trouble},
};
use indexmap::IndexMap;
use pipe::{
    engine::{
        executor::{Computed, Job, Local, Options, Outcome, Reporter, Runner, execute},
        plan::{Graph, Resolver, Status},
        remote::{Delivery, Limits, Remote},
        store::{Metrics, Store},
    },
    recipe::{Document, Overrides},
    session::graph,
    stages::catalog,
};

const OURS: &str = "
stages:
  a: { tokenize: { tokenizer: { file: a.json } } }
  b: { tokenize: { tokenizer: { stage: a } } }
";

/// The same, and a stage for which files of another one have to come.
const THEIRS: &str = "
stages:
  a: { tokenize: { tokenizer: { file: a.json } } }
  b: { tokenize: { tokenizer: { stage: a } } }
  c: { tokenize: { tokenizer: { stage: b }, corpus: [{ path: mine.txt }] } }
";

/// What a chunk is here, so that files come in several.
const CHUNK: u64 = 1_000;

/// Writes what it has read (this one stage does so in other words), a file of three chunks, one that all stages have, and an
/// empty one.
struct Fake(&'static str);

impl Runner for Fake {
    fn run(&self, job: &Job<'_>) -> Result<Computed> {
        let read: Vec<_> =
            job.artifacts.values().map(|input| std::fs::read_to_string(input.file("out"))).collect::<Result<_, _>>()?;
        let other = if job.name == self.0 { "other " } else { "" };
        std::fs::write(job.out.join("out"), format!("{other}{}({})", job.name, read.join(" ")))?;
        let many = Random(u64::from(job.name.as_bytes()[0])).bytes(2_500);
        for (name, bytes) in [("many", many.as_slice()), ("same", b"of all"), ("none", b"")] {
            std::fs::write(job.out.join(name), bytes)?;
        }
        Ok(Metrics::new().into())
    }
}

/// Waits for no one.
fn hasty() -> Limits {
    Limits { request: "150ms".into(), retries: 0, pause: Duration::from_millis(1), chunk: CHUNK }
}

fn patient() -> Limits {
    Limits { pause: Duration::from_millis(10), chunk: CHUNK, ..Limits::default() }
}

/// Does something with a stage and the remote, and gives whether it went well.
type Does<'a> = &'a dyn Fn(&Remote, &Status) -> bool;

/// A remote, two recipes, and machines by the names of their stores.
struct World {
    space: Space,
    server: Arc<Bucket>,
    url: String,
    ours: Graph,
    theirs: Graph,
}

/// The port of a server that speaks S3's protocol, for tests that are run in a process of their own.
const PORT: &str = "TEST_S3_PORT";

/// Serves a directory, and gives its URL: one of S3's if the environment says so.
fn serve(dir: &Path) -> (Arc<Bucket>, String) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let port = std::env::var(PORT).ok().map(|port| port.parse().unwrap());
    let server = SERVER.get_or_init(|| Server::start(port.unwrap_or(0), Duration::from_millis(400)));
    let bucket = server.bucket(dir);
    let url = match port {
        Some(_) => format!("s3://{}/of/all", bucket.name()),
        None => format!("{}/{}", server.url(), bucket.name()),
    };
    (bucket, url)
}

impl World {
    fn new() -> Self {
        let space = Space::in_memory();
        space.write("a.json", "{}").write("mine.txt", "mine\n");
        let [ours, theirs] = [OURS, THEIRS].map(|recipe| {
            let document = Document::parse(&space.path().join("recipe.yaml"), recipe, catalog()).unwrap();
            graph(&document.check(&Overrides::default(), &|_, _| None).unwrap()).unwrap()
        });
        let remote = space.path().join("remote");
        std::fs::create_dir(&remote).unwrap();
        let (server, url) = serve(&remote);
        Self { space, server, url, ours, theirs }
    }

    /// Where the remote's files are.
    fn there(&self) -> PathBuf {
        let below = if self.url.starts_with("s3:") { "remote/of/all/v1" } else { "remote/v1" };
        self.space.path().join(below)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.space.path().join(name)).unwrap()
    }

    fn remote(&self, store: &Store, limits: &Limits) -> Remote {
        Remote::open_with(&self.url, store, limits, |_| ()).unwrap()
    }

    /// Runs a recipe on a machine, and gives the digest of each stage; a stage without an artifact is a failure.
    fn run(&self, name: &str, graph: &Graph, limits: Option<&Limits>) -> BTreeMap<String, String> {
        let (store, digests) = (self.store(name), Default::default());
        let remote = limits.map(|limits| self.remote(&store, limits));
        let resolver = Resolver::new(&store, &digests).with_remote(remote.as_ref());
        let plan = resolver.plan(graph).unwrap();
        let reporters: Vec<&dyn Reporter> = Vec::new();
        let outcomes: IndexMap<String, Outcome> =
            execute(plan, &resolver, &Local::new(&store, &Fake("")), &reporters, &Options::default());
        if let Some(remote) = &remote {
            remote.finish();
        }
        let digest = |(id, outcome): (String, Outcome)| {
            let artifact = outcome.artifact.unwrap_or_else(|| panic!("{id}: {:?}", outcome.error));
            (id, artifact.digest)
        };
        outcomes.into_iter().map(digest).collect()
    }

    /// As `pipe push`: whether the remote has all of a recipe now.
    fn push(&self, name: &str, graph: &Graph, limits: &Limits) -> bool {
        let delivered = |remote: &Remote, status: &Status| match status {
            Status::Hit(artifact) => remote.deliver(artifact) != Delivery::Failed,
            _ => true,
        };
        let is_there = |remote: &Remote, status: &Status| match status {
            Status::Hit(_) => true,
            Status::Remote(artifact) => remote.has_files(artifact).unwrap_or(false),
            Status::Miss { .. } | Status::Waits => false,
        };
        self.with_plan(name, graph, limits, &[&delivered, &is_there])
    }

    /// As `pipe pull`: whether the store has all of a recipe now.
    fn pull(&self, name: &str, graph: &Graph, limits: &Limits) -> bool {
        let comes = |remote: &Remote, status: &Status| match status {
            Status::Hit(_) => true,
            Status::Remote(artifact) => remote.materialise(artifact, &|| (), &|_, _| ()).is_ok(),
            Status::Miss { .. } | Status::Waits => false,
        };
        self.with_plan(name, graph, limits, &[&comes])
    }

    /// Does these things with all stages, one after the other; whether all of it was well.
    fn with_plan(&self, name: &str, graph: &Graph, limits: &Limits, does: &[Does<'_>]) -> bool {
        let (store, digests) = (self.store(name), Default::default());
        let remote = self.remote(&store, limits);
        remote.ask();
        let plan = Resolver::new(&store, &digests).with_remote(Some(&remote)).plan(graph).unwrap();
        let each = |does: &Does<'_>| plan.stages().filter(|(_, planned)| !does(&remote, &planned.status)).count();
        does.iter().map(each).sum::<usize>() == 0
    }

    /// The remote has these artifacts as their records say.
    fn assert_remote_is_whole(&self, name: &str, graph: &Graph) {
        let (store, digests) = (self.store(name), Default::default());
        let remote = self.remote(&store, &patient());
        let plan = Resolver::new(&store, &digests).with_remote(Some(&remote)).plan(graph).unwrap();
        let keys: Vec<_> = plan.stages().map(|(_, planned)| planned.key.known().unwrap().to_owned()).collect();
        let verified = remote.verify(&keys, &|_, _| ()).unwrap();
        assert!(verified.found.damage.is_empty() && verified.absent.is_empty(), "{verified:?}");
        assert_eq!(verified.found.artifacts, keys.len());
    }

    /// A store's artifacts are as their records say, and after `gc` there's nothing else but what is remembered.
    fn assert_sound(&self, name: &str) {
        let store = self.store(name);
        let keys = store.keys().unwrap();
        let damage = store.verify(&keys, &|_, _| ()).unwrap().damage;
        assert!(damage.is_empty(), "{damage:?}");
        let wanted = keys.into_iter().map(|key| (key, "wanted".to_owned())).collect();
        store.collect_garbage(&store.plan_gc(&wanted, Duration::ZERO).unwrap()).unwrap();
        let is_name = |name: &str, length: usize| name.len() == length && name.bytes().all(|b| b.is_ascii_hexdigit());
        for entry in walkdir::WalkDir::new(store.root()).into_iter().map(Result::unwrap) {
            let path = entry.path().strip_prefix(store.root()).unwrap();
            let parts: Vec<&str> = path.components().map(|part| part.as_os_str().to_str().unwrap()).collect();
            let is_known = match &parts[..] {
                [] | ["artifacts" | "leases" | "tmp" | "remote" | "format" | ".gitignore"] => true,
                ["sound.json" | "digests.json"] | ["remote", "parts"] => true,
                ["artifacts", key, ..] => is_name(key, 64),
                ["remote", place] => is_name(place, 16),
                ["remote", _, file] => is_name(file, 64) || *file == "sound.json",
                _ => false,
            };
            assert!(is_known, "{} is left", path.display());
        }
    }
}

/// The digests of a recipe's stages as a machine alone computes them.
fn right(of: fn(&World) -> &Graph) -> BTreeMap<String, String> {
    let world = World::new();
    world.run("alone", of(&world), None)
}

/// Tries what is done with each of its requests going wrong, in each way, alone and with all later ones. `tries` gets to know what
/// goes wrong and gives how many requests were made.
fn with_every_fault(tries: impl Fn(Option<Trouble>) -> usize + Sync) {
    let count = tries(None);
    assert!(count > 0, "nothing was asked");
    let each = |fault: Fault| {
        let stays = if fault.lasts() { [false, true].as_slice() } else { &[false] };
        (0..count).flat_map(move |first| stays.iter().map(move |&stays| Trouble { fault, first, stays }))
    };
    let troubles: Vec<Trouble> = Fault::ALL.into_iter().flat_map(each).collect();
    let next = AtomicUsize::new(0);
    // Most of the time they wait.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(trouble) = troubles.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tries(Some(*trouble))));
                    assert!(tried.is_ok(), "with {trouble:?}");
                }
            });
        }
    });
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_request_of_a_run_that_pushes_goes_wrong() {
    let (ours, theirs) = (right(|world| &world.ours), right(|world| &world.theirs));
    with_every_fault(|trouble| {
        let world = World::new();
        world.server.trouble(trouble);
        assert_eq!(world.run("first", &world.ours, Some(&hasty())), ours);
        let requests = world.server.requests();
        world.server.trouble(None);
        assert_eq!(world.run("first", &world.ours, Some(&patient())), ours);
        assert_eq!(world.run("second", &world.theirs, Some(&patient())), theirs);
        assert!(world.push("first", &world.ours, &patient()) && world.push("second", &world.theirs, &patient()));
        world.assert_remote_is_whole("second", &world.theirs);
        world.assert_sound("first");
        world.assert_sound("second");
        requests
    });
}

#[test]
fn every_request_of_a_run_that_fetches_goes_wrong() {
    let theirs = right(|world| &world.theirs);
    with_every_fault(|trouble| {
        let world = World::new();
        world.run("first", &world.ours, Some(&patient()));
        world.server.trouble(trouble);
        assert_eq!(world.run("second", &world.theirs, Some(&hasty())), theirs);
        let requests = world.server.requests();
        world.server.trouble(None);
        assert_eq!(world.run("second", &world.theirs, Some(&patient())), theirs);
        assert!(world.push("second", &world.theirs, &patient()));
        world.assert_remote_is_whole("second", &world.theirs);
        world.assert_sound("second");
        requests
    });
}

#[test]
fn every_request_of_a_pull_goes_wrong() {
    let ours = right(|world| &world.ours);
    with_every_fault(|trouble| {
        let world = World::new();
        world.run("first", &world.ours, Some(&patient()));
        world.server.trouble(trouble);
        let is_whole = world.pull("second", &world.ours, &hasty());
        let requests = world.server.requests();
        world.server.trouble(None);
        if is_whole {
            assert_eq!(world.run("second", &world.ours, None), ours);
        }
        assert!(world.pull("second", &world.ours, &patient()));
        assert_eq!(world.run("second", &world.ours, None), ours);
        world.assert_sound("second");
        requests
    });
}

#[test]
fn every_request_of_a_push_that_mends_goes_wrong() {
    let ours = right(|world| &world.ours);
    with_every_fault(|trouble| {
        let world = World::new();
        world.run("first", &world.ours, Some(&patient()));
        // A file is lost, one is cut, in one a byte is another one, and so in a record.
        let there = world.there();
        let (blobs, records) = (files(&there.join("blobs")), files(&there.join("records")));
        let full: Vec<_> = blobs.iter().filter(|blob| blob.metadata().unwrap().len() > 0).collect();
        std::fs::remove_file(full[0]).unwrap();
        let cut = std::fs::read(full[1]).unwrap();
        std::fs::write(full[1], &cut[..cut.len() / 2]).unwrap();
        for damaged in [full[2], &records[0]] {
            let mut bytes = std::fs::read(damaged).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(damaged, bytes).unwrap();
        }
        world.server.trouble(trouble);
        let is_mended = world.push("first", &world.ours, &hasty());
        let requests = world.server.requests();
        world.server.trouble(None);
        if is_mended {
            world.assert_remote_is_whole("first", &world.ours);
        }
        assert!(world.push("first", &world.ours, &patient()));
        world.assert_remote_is_whole("first", &world.ours);
        assert!(world.pull("second", &world.ours, &patient()));
        assert_eq!(world.run("second", &world.ours, None), ours);
        world.assert_sound("first");
        world.assert_sound("second");
        requests
    });
}

/// What is sent goes otherwise by S3's protocol: large files in parts.
#[test]
fn every_request_to_an_s3_server_goes_wrong() {
    let port = common::free_port().to_string();
    let endpoint = format!("http://127.0.0.1:{port}");
    let environment = [
        (PORT, port.as_str()),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ];
    let environment = environment.map(|(name, value)| (name, OsStr::new(value)));
    common::run_alone("outages::with_s3", &environment);
}

#[test]
#[ignore = "run by another test, with an environment that names the server"]
fn with_s3() {
    assert!(std::env::var(PORT).is_ok());
    every_request_of_a_run_that_pushes_goes_wrong();
    every_request_of_a_push_that_mends_goes_wrong();
}

#[test]
fn a_stage_is_stored_under_the_key_of_what_it_has_read() {
    let world = World::new();
    world.run("first", &world.ours, Some(&patient()));
    let (store, digests) = (world.store("second"), Default::default());
    let remote = world.remote(&store, &patient());
    let resolver = Resolver::new(&store, &digests).with_remote(Some(&remote));
    let plan = resolver.plan(&world.theirs).unwrap();
    assert!(matches!(plan.get("b").unwrap().status, Status::Remote(_)));
    // Meanwhile another process computes all that is in the remote, and comes to other bytes.
    let run = |plan, resolver: &Resolver<'_>, fake: Fake| {
        execute(plan, resolver, &Local::new(&store, &fake), &Vec::<&dyn Reporter>::new(), &Options::default())
    };
    let alone = Resolver::new(&store, &digests);
    let others = run(alone.plan(&world.ours).unwrap(), &alone, Fake("b"));
    let outcomes = run(plan, &resolver, Fake(""));
    let read = &others["b"].artifact.as_ref().unwrap().digest;
    let stored = outcomes["c"].artifact.as_ref().unwrap();
    assert_eq!(stored.manifest.inputs["tokenizer.stage"], *read, "{:?}", stored.manifest.inputs);
    assert!(std::fs::read_to_string(stored.file("out")).unwrap().contains("other b"));
}
