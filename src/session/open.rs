//! A session: the store, the remote and all that runs of recipes share in one process.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Result, bail};
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::{
    Check, Checks, LAUNCHERS, Launcher, Recipe, Upcoming,
    launch::{FITTING, Setup},
    reading::READING,
};
use crate::{
    engine::{
        executor::{self, Launch, Outcome, Reporter, execute},
        plan::{Graph, Plan, Resolver},
        remote::Remote,
        store::{DigestCache, Store},
    },
    network::device::DeviceChoices,
    recipe::Checked,
    stages::Stages,
    support::{Hinted, suggest},
};

/// Shows a message to the user, such as that the remote can't be reached.
pub type Notify = Arc<dyn Fn(&str) + Send + Sync>;

/// What a session is opened with.
#[derive(Clone)]
pub struct Options {
    /// The store's directory; it's made when something is first written to it.
    pub store: PathBuf,
    /// The URL of a cache that machines share, if there is one.
    pub remote: Option<String>,
    /// Whether nothing is written to it.
    pub remote_readonly: bool,
    /// Stages that run at the same time.
    pub jobs: usize,
    /// Whether to run what seems too large for the devices' memory.
    pub ignore_memory: bool,
    /// How stages are computed: one of [`LAUNCHERS`].
    pub launcher: String,
    /// Stop flag: what is running pauses as soon as it can be resumed, nothing else begins.
    pub stop: Arc<AtomicBool>,
    /// Receives messages for the user.
    pub notify: Notify,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: ".pipe".into(),
            remote: None,
            remote_readonly: false,
            jobs: 1,
            ignore_memory: false,
            launcher: FITTING.to_owned(),
            stop: Arc::default(),
            notify: Arc::new(|_| ()),
        }
    }
}

/// Which stages are to run.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// These and what they need; all of them if none is named.
    pub stages: Vec<String>,
    /// Those that are computed even if the store has them.
    pub force: Vec<String>,
}

/// A planned run. It's carried out as it is, and only once.
pub struct Prepared<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its stages that were asked for.
    pub graph: Graph,
    /// What will be done with each.
    pub plan: Plan,
    /// On what.
    pub devices: DeviceChoices,
}

/// A store and how to work with it.
pub struct Session {
    store: Store,
    remote: Option<Arc<Remote>>,
    digests: Mutex<DigestCache>,
    launcher: &'static dyn Launcher,
    options: Options,
}

impl Session {
    /// Opens a store, and a remote if there is to be one.
    ///
    /// # Errors
    /// If a store of another format is there, or the URL is not that of a remote.
    pub fn open(options: Options) -> Result<Self> {
        let launcher = LAUNCHERS.named(&options.launcher).ok_or_else(|| {
            let known = suggest::list(LAUNCHERS.all().iter().map(|launcher| launcher.name()));
            Hinted::with(format!("unknown launcher `{}`", options.launcher), format!("known are {known}"))
        })?;
        let store = Store::open(&options.store)?;
        let notify = Arc::clone(&options.notify);
        let remote = options.remote.as_deref().map(|url| Remote::open(url, &store, move |text: &str| notify(text)));
        let remote = remote.transpose()?.map(|remote| Arc::new(remote.read_only(options.remote_readonly)));
        let digests = Mutex::new(DigestCache::open(store.root()).with_reading(READING));
        Ok(Self { store, remote, digests, launcher, options })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The remote.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether a stop was requested.
    pub fn is_stopped(&self) -> bool {
        self.options.stop.load(Ordering::SeqCst)
    }

    /// Looks stages up in the store alone.
    pub fn in_store(&self) -> Resolver<'_> {
        Resolver::new(&self.store, &self.digests)
    }

    /// Looks stages up in the store, and then in the remote.
    pub fn everywhere(&self) -> Resolver<'_> {
        self.in_store().with_remote(self.remote.as_deref())
    }

    /// Remembers the digests of input files for other processes.
    pub fn save(&self) {
        self.digests.lock().save();
    }

    /// Plans a run of a recipe's stages on these devices.
    ///
    /// # Errors
    /// If a stage that's wanted isn't there, or an input, the store or a record can't be read.
    pub fn plan<'a>(&self, recipe: &'a Recipe, wanted: &Wanted, devices: DeviceChoices) -> Result<Prepared<'a>> {
        let graph = wanted.of(recipe.graph()?)?;
        let plan = self.everywhere().forcing(&wanted.force).explaining().plan(&graph)?;
        Ok(Prepared { recipe, graph, plan, devices })
    }

    /// Looks for what would keep a planned run from coming to its end.
    ///
    /// # Errors
    /// All mistakes of one kind.
    pub fn check(&self, prepared: &Prepared<'_>) -> Result<()> {
        let fits = !self.options.ignore_memory;
        Checks::all(&prepared.devices, fits, &self.options.notify).check(prepared.upcoming())
    }

    /// Carries out a planned run.
    pub fn execute(&self, prepared: Prepared<'_>, reporter: &dyn Reporter) -> IndexMap<String, Outcome> {
        let stages = Stages::new(prepared.devices);
        let launch = self.launch(&stages);
        let options = self.run_options(prepared.recipe, BTreeMap::new());
        execute(prepared.plan, &self.everywhere(), &*launch, reporter, &options)
    }

    /// Checks and carries out a planned run.
    ///
    /// # Errors
    /// As [`Self::check`]: nothing was run then. What becomes of the stages is in their outcomes.
    pub fn run(&self, prepared: Prepared<'_>, reporter: &dyn Reporter) -> Result<IndexMap<String, Outcome>> {
        self.check(&prepared)?;
        Ok(self.execute(prepared, reporter))
    }

    /// The way in which this session has stages computed.
    pub(super) fn launch<'a>(&'a self, stages: &'a Stages) -> Box<dyn Launch + 'a> {
        self.launcher.prepare(Setup { store: &self.store, stages })
    }

    pub(super) fn run_options(&self, recipe: &Recipe, until: BTreeMap<String, usize>) -> executor::Options {
        let (jobs, stop) = (self.options.jobs, Arc::clone(&self.options.stop));
        executor::Options { jobs, until, stop, provenance: recipe.provenance() }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("store", &self.store.root())
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl Prepared<'_> {
    /// As checks see it.
    pub fn upcoming(&self) -> Upcoming<'_> {
        Upcoming { checked: self.checked(), graph: &self.graph, plan: &self.plan }
    }

    /// The recipe.
    pub fn checked(&self) -> &Checked {
        &self.recipe.checked
    }
}

impl Wanted {
    /// Of a graph what is wanted.
    ///
    /// # Errors
    /// Names that aren't stages', and stages to force that wouldn't be run.
    pub fn of(&self, mut graph: Graph) -> Result<Graph> {
        for name in &self.force {
            if graph.get(name).is_none() {
                let Hinted { message, hint } = graph.no_such_stage(name);
                bail!(Hinted { message: format!("--force {name}: {message}"), hint });
            }
        }
        graph.select(self.stages.iter().map(String::as_str))?;
        if let Some(name) = self.force.iter().find(|name| graph.get(name).is_none()) {
            let chosen: Vec<_> = self.stages.iter().map(|stage| format!("--stage {stage}")).collect();
            let needed = suggest::list(graph.nodes().map(|node| node.name.as_str()));
            let message =
                format!("--force {name}: `{name}` isn't part of what {} runs, which is {needed}", chosen.join(" "));
            bail!(Hinted::with(message, format!("add `--stage {name}`")));
        }
        Ok(graph)
    }
}
