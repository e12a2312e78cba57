//! The bundle of services.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_distribution::Client;
use berth_network::{NetworkOptions, Networks};
use berth_runtime::cgroup::{Cgroups, Layout};
use berth_runtime::launcher::Launcher;
use berth_runtime::task::RuntimeProgram;
use berth_spec::docker::config::{LogConfig, Ulimit};
use berth_store::tree::Extractor;
use berth_store::{Budget, Store, StoreOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::container::plan::{Defaults, Machine, default_limit};
use crate::container::registry::Containers;
use crate::container::users;
use crate::crossing::blocking;
use crate::db::{Db, Kind};
use crate::event::Events;
use crate::exec::registry::Execs;
use crate::ids::{IdMaps, IdRange, Ranges};
use crate::image::UnusedImages;
use crate::reserve::Reserve;
use crate::task::Tasks;
use crate::volume::registry::{Volumes, make_dir};
use crate::{Result, random, recovery};

/// The least time between one sync of the records behind the scenes and the next: what changes in
/// between goes together.
const SYNC_PAUSE: Duration = Duration::from_millis(50);
/// The log of the records is cut short no more often than this.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at the budgets; a pull looks too.
const BUDGET_EVERY: Duration = Duration::from_secs(3600);

/// How an engine is set up. Nothing is read from the environment: the daemon passes it in.
pub struct EngineOptions {
    /// What must survive a restart of the machine (`--data-root`).
    pub root: PathBuf,
    /// What need not: sockets, sandboxes, shims (`--exec-root`).
    pub run_dir: PathBuf,
    /// The networks' settings.
    pub network: NetworkOptions,
    /// How registries are reached.
    pub client: Client,
    /// What starts containers; forked before this process had threads.
    pub launcher: Launcher,
    /// What makes files out of archives; forked before this process had threads.
    pub extractor: Extractor,
    /// How much room compressed layers may take that are here as layers too.
    pub blobs: Budget,
    /// How much room images may take that no container uses and that could be had again.
    pub images: UnusedImages,
    /// `--cgroup-parent`; `/docker` of Docker is `/berth` here where it is empty.
    pub cgroup_parent: String,
    /// Log options of containers that name none: `max-size`, `max-file` …
    pub log_opts: BTreeMap<String, String>,
    /// Log driver of containers that name none; `json-file` where it is empty.
    pub log_driver: String,
    /// `--dns`, `--dns-search`, `--dns-opt`.
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `--label`, shown by `info`.
    pub labels: Vec<String>,
    /// `--default-ulimit name=soft[:hard]`, parsed.
    pub ulimits: Vec<Ulimit>,
    /// Processes and threads of a container that asks for no limit: 0 for one that fits the machine,
    /// -1 for none.
    pub pids_limit: i64,
    /// Bytes of `/dev/shm` where a container asks for none; 0 for 64 MiB.
    pub shm_size: u64,
    /// `--init`: every container that does not say otherwise has an init.
    pub init: bool,
    /// `--init-path`: a program of the host that is that init, instead of the runtime's own.
    pub init_path: Option<PathBuf>,
    /// Further OCI runtimes by name (`--add-runtime`).
    pub runtimes: BTreeMap<String, RuntimeProgram>,
    /// The runtime of containers that name none; berth's own where it is empty.
    pub default_runtime: String,
    /// `--userns-remap`: the IDs of containers that do not say otherwise.
    pub remap: Option<IdMaps>,
    /// Where `--userns=auto` takes users and groups from.
    pub auto_ids: (Vec<IdRange>, Vec<IdRange>),
    /// Where vendors describe devices (`--cdi-spec-dir`), the later before the earlier.
    pub cdi_dirs: Vec<PathBuf>,
    /// Proxy variables (`HTTP_PROXY` …) shown by `info`.
    pub proxies: BTreeMap<String, String>,
    /// Version of the program, shown by `version` and `info`.
    pub version: String,
    /// Commit of the program.
    pub commit: String,
}

/// What stays of the options once the engine is open.
pub(crate) struct Settings {
    pub root: PathBuf,
    pub run_dir: PathBuf,
    pub cgroup_parent: String,
    pub init_path: Option<PathBuf>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub labels: Vec<String>,
    /// The IDs of containers that do not say otherwise, if they have a user namespace.
    pub remap: Option<IdMaps>,
    pub runtimes: BTreeMap<String, RuntimeProgram>,
    pub cdi_dirs: Vec<PathBuf>,
    pub proxies: BTreeMap<String, String>,
    pub blobs: Budget,
    pub images: UnusedImages,
    pub version: String,
    pub commit: String,
    /// The engine's own ID, made once.
    pub id: String,
    /// Paths below `/sys` that are hidden on this machine.
    pub thermal_paths: Vec<String>,
}

/// Containers, images, volumes and networks of one root directory; cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub settings: Settings,
    pub defaults: Defaults,
    pub store: Store,
    pub client: Client,
    pub networks: Networks,
    pub cgroups: Cgroups,
    pub tasks: Tasks,
    pub containers: Containers,
    pub volumes: Volumes,
    pub execs: Execs,
    pub auto_ids: Ranges,
    pub events: Events,
    pub db: Db,
    pub reserve: Arc<Reserve>,
    /// Those who take what removed containers left off the machine (one at a time does, with its
    /// turn), and steps of builds: what the engine's end waits for.
    pub sweeps: TaskTracker,
    pub turn: tokio::sync::Mutex<()>,
    /// Ends what lasts as long as its client: events, followed logs, statistics, waits; and steps of
    /// builds.
    pub leaving: CancellationToken,
    /// Fires when everybody from before the engine's start is known.
    pub taken_up: CancellationToken,
    /// Some of the records could not be read at this start: what no record tells of may be somebody's.
    pub records_lost: bool,
    /// Ends background work.
    pub closing: CancellationToken,
    warnings: Mutex<Vec<String>>,
}

impl Engine {
    /// Opens the engine below `options.root`: finds running containers again, makes the kernel agree
    /// with the records, and applies restart policies.
    pub async fn open(options: EngineOptions) -> Result<Self> {
        let (engine, found) = blocking(move || open(options)).await?;
        recovery::take_up(&engine, found).await;
        engine.keep_records();
        engine.keep_budgets();
        Ok(engine)
    }

    /// The store, for builders.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// How registries are reached, for builders.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Ends what would otherwise last as long as its client: events, followed logs, statistics, waits; and
    /// kills steps of builds. Whoever serves the engine says so first, so that only requests with an end of their own are waited
    /// for.
    pub fn leave(&self) {
        self.0.leaving.cancel();
    }

    /// Ends background work. Containers go on.
    pub async fn shutdown(&self) {
        self.leave();
        self.0.closing.cancel();
        self.0.sweeps.close();
        self.0.sweeps.wait().await;
        let engine = self.clone();
        let flushed = blocking(move || {
            engine.0.networks.shutdown();
            // In use, it stays.
            let parent = &engine.0.settings.cgroup_parent;
            if let Err(error) = engine.0.cgroups.remove_if_empty(parent) {
                tracing::debug!(%error, "the parent of the cgroups stays");
            }
            engine.0.db.flush()
        })
        .await;
        if let Err(error) = flushed {
            tracing::warn!(%error, "the records could not be put on disk");
        }
    }

    /// Before something is removed: on a full disk, room is made for doing it.
    pub fn make_way(&self) {
        self.0.reserve.make_way();
    }

    /// Whether the engine has something to look after: containers that run, or will again.
    pub fn busy(&self) -> bool {
        self.0.containers.all().iter().any(|c| c.status().running())
    }

    /// What went wrong and a user should know of.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let own = self
            .0
            .warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        own.iter().chain(self.0.store.warnings()).cloned().collect()
    }

    /// One more thing that a user should know of.
    pub(crate) fn warn(&self, text: String) {
        tracing::warn!("{text}");
        let mut warnings = self
            .0
            .warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        warnings.push(text);
    }

    /// A container's directory below the root.
    pub(crate) fn container_dir(&self, id: &str) -> PathBuf {
        self.0.settings.root.join("containers").join(id)
    }

    /// A container's directory below the run directory.
    pub(crate) fn task_dir(&self, id: &str) -> PathBuf {
        self.0.settings.run_dir.join("containers").join(id)
    }

    /// Keeps unused images and compressed layers within their budgets: now, and each hour.
    fn keep_budgets(&self) {
        let (engine, closing) = (self.clone(), self.0.closing.clone());
        tokio::spawn(async move {
            loop {
                engine.keep_budgets_once().await;
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = tokio::time::sleep(BUDGET_EVERY) => {}
                }
            }
        });
    }

    /// Does it once. What fails is said in the log: it is tried again.
    pub(crate) async fn keep_budgets_once(&self) {
        if let Err(error) = crate::image::budget::keep(self).await {
            tracing::warn!(%error, "unused images cannot be kept within their budget");
        }
        let (store, budget) = (self.0.store.clone(), self.0.settings.blobs);
        if let Err(error) = blocking(move || store.trim_blobs(&budget)).await {
            tracing::warn!(%error, "compressed layers cannot be kept within their budget");
        }
    }

    /// Puts changes of the records on disk as they come, until the engine closes.
    fn keep_records(&self) {
        let (db, closing) = (self.0.db.clone(), self.0.closing.clone());
        let reserve = self.0.reserve.clone();
        tokio::spawn(async move {
            let mut flushed = Instant::now();
            loop {
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = db.changed() => {}
                }
                let long = flushed.elapsed() >= FLUSH_EVERY;
                if long {
                    flushed = Instant::now();
                }
                let (written, reserve) = (db.clone(), reserve.clone());
                let work = move || {
                    reserve.restore();
                    match long {
                        true => written.flush(),
                        false => written.sync(),
                    }
                };
                if let Err(error) = blocking(work).await {
                    tracing::warn!(%error, "the records could not be put on disk");
                }
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = tokio::time::sleep(SYNC_PAUSE) => {}
                }
            }
        });
    }
}

fn cgroup_parent(asked: &str) -> String {
    match asked {
        "" => "/berth".to_owned(),
        parent => parent.to_owned(),
    }
}

/// The engine's ID: made at the first start, kept from then on.
fn engine_id(db: &Db) -> Result<String> {
    let (known, _) = db.all::<String>(Kind::Engine)?;
    if let Some(id) = known.into_iter().next() {
        return Ok(id);
    }
    let id = random::id();
    db.put(Kind::Engine, "id", &id)?;
    Ok(id)
}

fn open(options: EngineOptions) -> Result<(Engine, recovery::Found)> {
    std::fs::create_dir_all(&options.root)
        .map_err(|e| crate::Error::io(format_args!("cannot make {}", options.root.display()), e))?;
    std::fs::create_dir_all(&options.run_dir).map_err(|e| {
        crate::Error::io(format_args!("cannot make {}", options.run_dir.display()), e)
    })?;
    make_dir(&options.run_dir.join("containers"), 0o700)?;
    let reserve = Arc::new(Reserve::open(&options.root));
    // Opening the records writes, too.
    reserve.make_way();
    let store = Store::open(StoreOptions {
        root: options.root.clone(),
        run_dir: options.run_dir.clone(),
        extractor: options.extractor.clone(),
    })?;
    let (db, note) = Db::open(&options.root.join("engine.db"))?;
    db.rely_on(reserve.clone());
    let (volumes, broken_volumes) = Volumes::open(options.root.join("volumes"), db.clone())?;
    volumes.sweep(&broken_volumes);
    let cgroups = Cgroups::detect().map_err(|e| crate::Error::internal(e.to_string()))?;
    let (defaults, id) = (defaults(&options, &cgroups), engine_id(&db)?);
    let tasks = Tasks::new(options.launcher);
    let parent = cgroup_parent(&options.cgroup_parent);
    let cgroup = |id: &str| {
        cgroups
            .open(&format!("/{}/{id}", parent.trim_matches('/')))
            .ok()
    };
    let task_dirs = options.run_dir.join("containers");
    let found = recovery::look(&db, &tasks, &task_dirs, &cgroup)?;
    let networks = Networks::open(options.network, found.existing())?;
    for network in networks.list() {
        db.put(Kind::Network, &network.id, &network)?;
    }
    let records_lost = note.is_some();
    let mut warnings: Vec<String> = note.into_iter().collect();
    for name in broken_volumes {
        warnings.push(format!(
            "the record of volume {name} was broken and has been moved aside"
        ));
    }
    let engine = Engine(Arc::new(Parts {
        defaults,
        settings: Settings {
            id,
            thermal_paths: berth_runtime::defaults::thermal_paths(),
            cgroup_parent: parent,
            init_path: options.init_path,
            root: options.root,
            run_dir: options.run_dir,
            dns: options.dns,
            dns_search: options.dns_search,
            dns_options: options.dns_options,
            labels: options.labels,
            remap: options.remap,
            runtimes: options.runtimes,
            cdi_dirs: options.cdi_dirs,
            proxies: options.proxies,
            blobs: options.blobs,
            images: options.images,
            version: options.version,
            commit: options.commit,
        },
        store,
        client: options.client,
        networks,
        cgroups,
        tasks,
        containers: Containers::default(),
        volumes,
        execs: Execs::default(),
        auto_ids: Ranges::new(&options.auto_ids.0, &options.auto_ids.1),
        events: Events::new(),
        db,
        reserve,
        sweeps: TaskTracker::new(),
        turn: tokio::sync::Mutex::default(),
        leaving: CancellationToken::new(),
        taken_up: CancellationToken::new(),
        records_lost,
        closing: CancellationToken::new(),
        warnings: Mutex::new(warnings),
    }));
    if let Some(maps) = &engine.0.settings.remap {
        users::try_remap(&engine, maps)?;
    }
    Ok((engine, found))
}

fn defaults(options: &EngineOptions, cgroups: &Cgroups) -> Defaults {
    let kind = match options.log_driver.as_str() {
        "" => "json-file",
        driver => driver,
    };
    let shm_size = match options.shm_size {
        0 => berth_runtime::defaults::SHM_SIZE,
        size => size,
    };
    Defaults {
        log: LogConfig {
            kind: kind.to_owned(),
            config: options.log_opts.clone(),
        },
        shm_size: i64::try_from(shm_size).unwrap_or(i64::MAX),
        ulimits: options.ulimits.clone(),
        pids_limit: default_limit(options.pids_limit).filter(|_| cgroups.support().pids_limit),
        machine: Machine {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            memory_node: memory_node(),
            blkio_weight: cgroups.support().blkio_weight,
        },
        cgroup_v2: cgroups.layout() == Layout::V2,
        init: options.init,
        runtime: match options.default_runtime.as_str() {
            "" => "berth".to_owned(),
            runtime => runtime.to_owned(),
        },
        remap: options.remap.is_some(),
    }
}

/// The highest node that has memory; machines without a list of them have one.
fn memory_node() -> u32 {
    std::fs::read_to_string("/sys/devices/system/node/has_memory")
        .ok()
        .and_then(|text| text.trim().rsplit(['-', ',']).next()?.parse().ok())
        .unwrap_or(0)
}
