//! The engine as a process: the one place where a daemon is put together.
//!
//! [`main`] reads flags and file ([`settings`]), takes the root ([`lock`]), forks launcher and extractor while there is one thread
//! only, then starts the executor and builds the parts from the bottom up: client, engine, builder, routes, sockets. The
//! environment is read here, once ([`environment`]), and nowhere below.

mod assemble;
mod budget;
pub mod environment;
mod inherited;
mod lock;
pub mod notify;
mod panics;
mod settings;
mod signature_policy;
mod subordinate;
mod tls;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use berth_build::Builder;
use berth_engine::Engine;
use berth_runtime::launcher::Launcher;
use berth_server::{Activity, App, Listener};
use berth_store::tree::Extractor;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use assemble::Places;
use environment::Environment;
use lock::Lock;
use notify::Notify;
use settings::{Invocation, Settings};

/// An engine that was started on demand leaves after this long with nothing to look after.
const IDLE: Duration = Duration::from_secs(60);

/// After this long without a client the engine lets go of the memory that only work needs.
const REST: Duration = Duration::from_secs(5);

/// What `--version` and the API say.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that was built, where the build said it.
pub const COMMIT: &str = match option_env!("BERTH_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// `berth engine ARGS`. Call it before any thread exists.
pub fn main(args: Vec<OsString>) -> ExitCode {
    exit_code(run(&args, false))
}

/// `dockerd ARGS`: the same with dockerd's socket and PID file as defaults.
pub fn main_as_dockerd(args: Vec<OsString>) -> ExitCode {
    exit_code(run(&args, true))
}

fn exit_code(ended: anyhow::Result<ExitCode>) -> ExitCode {
    match ended {
        Ok(code) => code,
        Err(e) => {
            eprintln!("berth engine: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString], as_dockerd: bool) -> anyhow::Result<ExitCode> {
    let environment = Environment::read();
    // This process has become itself again, with arguments that are known to be right: the sooner the fork, the less
    // there is to copy for each shim.
    let again = rustix::process::geteuid().is_root()
        && berth_sys::executable::is_protected().unwrap_or(false);
    let forked = again.then(|| fork(&environment));
    let invocation = match Invocation::parse(args)? {
        Ok(invocation) => invocation,
        Err(e) => {
            // Help goes to standard output, complaints to standard error; a closed one changes nothing.
            let _ = e.print();
            return Ok(ExitCode::from(if e.use_stderr() { 125 } else { 0 }));
        }
    };
    if invocation.version {
        println!("berth engine version {}, build {}", VERSION, COMMIT);
        return Ok(ExitCode::SUCCESS);
    }
    let places = Places::new(&invocation.settings, as_dockerd)?;
    if invocation.validate {
        println!("configuration OK");
        return Ok(ExitCode::SUCCESS);
    }
    let notify = Notify::new(environment.notify_socket.clone());
    let ended = start(&invocation, places, environment, forked, &notify);
    if let Err(e) = &ended {
        notify.failed(&format!("{e:#}"));
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// What must happen while there is one thread only, then the executor.
fn start(
    invocation: &Invocation,
    places: Places,
    environment: Environment,
    forked: Option<anyhow::Result<Forked>>,
    notify: &Notify,
) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the engine needs root to make namespaces and mounts: start it with sudo");
    }
    protect_own_file();
    let sockets = inherited::sockets(
        environment.listen_pid.as_deref(),
        environment.listen_fds.as_deref(),
    )
    .context("cannot take the sockets that systemd opened")?;
    lock::private_dir(&places.data_root)?;
    lock::private_dir(&places.exec_root)?;
    let lock = Lock::take(&places.data_root, places.pidfile.as_deref())?;
    let forked = match forked {
        Some(forked) => forked?,
        // The file could not be protected.
        None => fork(&environment)?,
    };
    start_log(&invocation.settings);
    // The process's only provider; a second installation would be a mistake in this file.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    panics::confine();
    let executor = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(panics::EXECUTOR)
        .build()
        .context("cannot start the executor")?;
    let served = executor.block_on(serve(
        invocation,
        places,
        environment,
        forked,
        sockets,
        (notify, &lock),
    ));
    // Blocking work that is still under way may take its time; its effects are recorded or undone at the next start.
    executor.shutdown_timeout(Duration::from_secs(2));
    served
}

/// What must be forked before there are threads.
struct Forked {
    launcher: Launcher,
    extractor: Extractor,
}

/// Forks them, with what they are to have of this process.
fn fork(environment: &Environment) -> anyhow::Result<Forked> {
    if let Some(dir) = environment.fail_points.clone() {
        berth_sys::fail_point::watch(dir);
    }
    raise_descriptor_limit();
    Ok(Forked {
        extractor: Extractor::fork()?,
        launcher: Launcher::fork().context("cannot fork the launcher")?,
    })
}

async fn serve(
    invocation: &Invocation,
    places: Places,
    environment: Environment,
    forked: Forked,
    sockets: Vec<std::os::fd::OwnedFd>,
    (notify, lock): (&Notify, &Lock),
) -> anyhow::Result<()> {
    let settings = &invocation.settings;
    let client = assemble::client(settings, &environment)?;
    let options = assemble::engine(settings, &environment, &places, client.clone(), forked)?;
    let engine = Engine::open(options)
        .await
        .context("cannot open the engine")?;
    let builder = Builder::new(assemble::builder(settings, &environment, &places, &engine)?)
        .context("cannot open the builder")?;
    let router = berth_server::router(App {
        engine: engine.clone(),
        builder,
    });
    let listeners = listen(settings, &places, sockets).await?;
    for listener in &listeners {
        tracing::info!(listener = listener.name(), "serving the API");
    }
    let (end, ending) = watch::channel(false);
    let activity = Activity::default();
    let serving = tokio::spawn(berth_server::serve(
        listeners,
        router,
        activity.clone(),
        ending,
    ));
    notify.ready("Serving the Docker API");
    // Half of the code has done its work by now. Failing costs memory only.
    let _ = berth_sys::memory::forget_code();
    wait_for_the_end(invocation.on_demand, &engine, &activity).await?;
    notify.stopping();
    lock.ending();
    engine.leave();
    // The receiver lives in the task that is awaited next.
    let _ = end.send(true);
    serving.await.context("the server failed")?;
    engine.shutdown().await;
    Ok(())
}

async fn listen(
    settings: &Settings,
    places: &Places,
    sockets: Vec<std::os::fd::OwnedFd>,
) -> anyhow::Result<Vec<Listener>> {
    let tls = tls::server_config(settings)?;
    let mut listeners = Vec::new();
    let mut sockets = Some(sockets);
    for host in &places.hosts {
        if host.starts_with("fd://") {
            let inherited = sockets.take().unwrap_or_default();
            if inherited.is_empty() {
                bail!(
                    "no sockets found via socket activation: make sure that systemd started this engine"
                );
            }
            for socket in inherited {
                listeners.push(Listener::inherited(socket)?);
            }
        } else {
            if tls.is_none() && host.starts_with("tcp://") {
                tracing::warn!(
                    host,
                    "the API is served without TLS: whoever reaches this address is root on this machine"
                );
            }
            listeners.push(Listener::bind(host, places.group, tls.as_ref()).await?);
        }
    }
    Ok(listeners)
}

/// SIGTERM and SIGINT end the engine; so does having nothing to look after, where it was started on demand.
async fn wait_for_the_end(
    on_demand: bool,
    engine: &Engine,
    activity: &Activity,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => tracing::warn!("SIGHUP: settings are read at start only: restart the engine, containers go on"),
            () = rest(activity) => {}
            () = idle(engine, activity), if on_demand => {
                tracing::info!("nothing to look after: leaving");
                return Ok(());
            }
        }
    }
}

/// Returns once nobody was connected and nothing ran for [`IDLE`].
async fn idle(engine: &Engine, activity: &Activity) {
    loop {
        let changed = activity.changed();
        let quiet = activity.open() == 0 && !engine.busy();
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(IDLE) => if quiet && activity.open() == 0 && !engine.busy() {
                return;
            }
        }
    }
}

/// Lets memory go each time that clients have been and nothing has happened since; never returns.
async fn rest(activity: &Activity) {
    loop {
        let changed = activity.changed();
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(REST) => {
                berth_sys::memory::rest();
                activity.changed().await;
            }
        }
    }
}

/// Becomes this program again from a read-only mount of its file, so that no container can write it through
/// `/proc/self/exe` of a process that enters it.
fn protect_own_file() {
    use std::os::unix::ffi::OsStringExt;
    if berth_sys::executable::is_protected().unwrap_or(false) {
        return;
    }
    let text = |bytes: Vec<u8>| std::ffi::CString::new(bytes).ok();
    let args: Vec<_> = std::env::args_os()
        .filter_map(|arg| text(arg.into_vec()))
        .collect();
    let env: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            text(pair)
        })
        .collect();
    let Err(e) = berth_sys::executable::protect(&args, &env);
    eprintln!("berth engine: the engine's own file cannot be protected from containers: {e}");
}

/// Containers need descriptors: the soft limit goes to the hard one, which only a privileged parent can raise.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Where it cannot be raised the engine works with what it has.
    let _ = setrlimit(Resource::Nofile, raised);
}

fn start_log(settings: &Settings) {
    use tracing_subscriber::EnvFilter;
    let level = match settings.log_level.as_deref() {
        _ if settings.debug == Some(true) => "debug",
        Some("fatal") => "error",
        Some(level @ ("trace" | "debug" | "info" | "warn" | "error")) => level,
        _ => "info",
    };
    let filter = EnvFilter::new(format!(
        "warn,berth={level},berth_engine={level},berth_build={level},berth_server={level},berth_store={level},berth_network={level},berth_runtime={level},berth_distribution={level}"
    ));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let ansi = settings.raw_logs != Some(true) && rustix::termios::isatty(rustix::stdio::stderr());
    if settings.log_format.as_deref() == Some("json") {
        log.json().init();
    } else {
        log.with_ansi(ansi).init();
    }
}
