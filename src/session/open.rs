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
    Check, Checks, LAUNCHERS, Launcher, Notify, Recipe, Upcoming,
    cluster::{ENGINES, On, Preview, Start, carry_out, previewed},
    launch::{FITTING, Setup},
    reading::READING,
};
use crate::{
    engine::{
        executor::{self, Ending, Event, Launch, Outcome, Reporter, execute},
        plan::{Graph, Plan, Resolver, Status},
        remote::Remote,
        store::{DigestCache, Store},
    },
    network::device::DeviceChoices,
    recipe::Checked,
    stages::{DataCheck, Stages},
    support::{Hinted, suggest},
};

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
    /// The cluster that they're computed on, if it isn't this machine.
    pub on: Option<On>,
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
            on: None,
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
        self.checks(&prepared.devices).check(prepared.upcoming())
    }

    /// All that is looked at before a run on these devices. A cluster's machines look at their devices and memory
    /// themselves.
    pub(super) fn checks(&self, devices: &DeviceChoices) -> Checks {
        match self.options.on {
            Some(_) => Checks::of_data_telling(DataCheck::telling(Arc::clone(&self.options.notify))),
            None => Checks::all(devices, !self.options.ignore_memory, &self.options.notify),
        }
    }

    /// Carries out a planned run.
    ///
    /// # Errors
    /// If it can't be submitted to the cluster that it's to be computed on.
    pub fn execute(&self, prepared: Prepared<'_>, reporter: &dyn Reporter) -> Result<IndexMap<String, Outcome>> {
        let stages = Stages::new(prepared.devices);
        let launch = self.launch(&stages);
        let options = self.run_options(prepared.recipe, BTreeMap::new());
        self.carry_out(prepared.recipe, prepared.plan, &stages, &*launch, reporter, &options)
    }

    /// Has a plan's stages computed: here, or on a cluster.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(super) fn carry_out(
        &self,
        recipe: &Recipe,
        plan: Plan,
        stages: &Stages,
        launch: &dyn Launch,
        reporter: &dyn Reporter,
        options: &executor::Options,
    ) -> Result<IndexMap<String, Outcome>> {
        match &self.options.on {
            Some(on) if plan.missing().next().is_some() => {
                let is_apart = on.profile.remote.is_some();
                if !is_apart {
                    self.fetch(&plan, reporter)?;
                }
                let start = self.start(recipe, plan, stages.choices(), options);
                let outcomes = carry_out(&start, on, &ENGINES, reporter, &self.options.stop)?;
                if let Some(remote) = self.remote.as_ref().filter(|_| !is_apart) {
                    let ran = outcomes.values().filter(|outcome| outcome.ending == Ending::Ran);
                    ran.filter_map(|outcome| outcome.artifact.as_ref())
                        .for_each(|artifact| remote.push(artifact, true));
                }
                Ok(outcomes)
            }
            _ => Ok(execute(plan, &self.everywhere(), launch, reporter, options)),
        }
    }

    /// Brings what only the remote has of a plan into the store, where jobs look for it.
    fn fetch(&self, plan: &Plan, reporter: &dyn Reporter) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        for (id, planned) in plan.stages() {
            let Status::Remote(artifact) = &planned.status else { continue };
            reporter.event(id, Event::Fetching);
            let progress = |done, total| {
                reporter.event(id, Event::Progress { done, total, note: "bytes fetched", remaining: None });
            };
            let fetched = remote.materialise(artifact, &|| reporter.event(id, Event::Waiting), &progress);
            reporter.event(id, Event::Fetched);
            fetched?;
        }
        Ok(())
    }

    fn start<'a>(
        &'a self,
        recipe: &'a Recipe,
        plan: Plan,
        devices: &'a DeviceChoices,
        options: &'a executor::Options,
    ) -> Start<'a> {
        Start {
            plan,
            recipe: &recipe.checked.path,
            devices,
            ignore_memory: self.options.ignore_memory,
            options,
            store: &self.store,
            remote: self.remote.as_ref(),
            digests: &self.digests,
            notify: &self.options.notify,
        }
    }

    /// What would be submitted to a cluster for a planned run: the scripts, each with the stages that it's for.
    ///
    /// # Errors
    /// If the store can't be read, or there's no such engine.
    pub fn preview(&self, prepared: Prepared<'_>, on: &On) -> Result<Preview> {
        let options = self.run_options(prepared.recipe, BTreeMap::new());
        previewed(&self.start(prepared.recipe, prepared.plan, &prepared.devices, &options), on, &ENGINES)
    }

    /// Checks and carries out a planned run.
    ///
    /// # Errors
    /// As [`Self::check`]: nothing was run then. What becomes of the stages is in their outcomes.
    pub fn run(&self, prepared: Prepared<'_>, reporter: &dyn Reporter) -> Result<IndexMap<String, Outcome>> {
        self.check(&prepared)?;
        self.execute(prepared, reporter)
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
