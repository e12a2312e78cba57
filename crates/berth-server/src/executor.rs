//! The builder's steps, run by the engine: the one place where the two meet.

use berth_build::{Executor, RunStep, StdStream, StepMount, StepOutput};
use berth_engine::{Engine, step};
use berth_spec::docker::StreamKind;
use berth_spec::docker::config::{HostConfig, Ulimit};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::with_causes;

/// Pieces of output that may wait for the builder.
const AHEAD: usize = 64;

/// Runs `RUN` steps as containers of this engine, without records.
#[derive(Clone)]
pub struct EngineExecutor(pub Engine);

impl Executor for EngineExecutor {
    fn run(
        &self,
        step: RunStep,
        output: StepOutput,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, berth_build::Result<i32>> {
        Box::pin(async move {
            let (sender, mut pieces) = mpsc::channel(AHEAD);
            let running = step::run(&self.0, request(step), sender, cancel);
            let passing = async {
                while let Some((kind, bytes)) = pieces.recv().await {
                    let stream = match kind {
                        StreamKind::Stderr => StdStream::Stderr,
                        _ => StdStream::Stdout,
                    };
                    if !output.write(stream, bytes).await {
                        // Nobody reads: the builder cancels, the rest is drained.
                        while pieces.recv().await.is_some() {}
                    }
                }
            };
            let (code, ()) = tokio::join!(running, passing);
            code.map_err(|e| {
                use berth_engine::ErrorKind as Kind;
                let kind = match e.kind() {
                    Kind::NotFound => berth_build::ErrorKind::NotFound,
                    Kind::Invalid | Kind::Conflict | Kind::Forbidden => {
                        berth_build::ErrorKind::Invalid
                    }
                    Kind::NoSpace => berth_build::ErrorKind::NoSpace,
                    _ => berth_build::ErrorKind::Internal,
                };
                berth_build::Error::new(kind, with_causes(&e))
            })
        })
    }
}

fn request(step: RunStep) -> step::StepRequest {
    let limits = HostConfig {
        memory: step.limits.memory,
        memory_swap: step.limits.memory_swap,
        cpu_shares: step.limits.cpu_shares,
        cpu_period: step.limits.cpu_period,
        cpu_quota: step.limits.cpu_quota,
        cpuset_cpus: step.limits.cpuset_cpus,
        cpuset_mems: step.limits.cpuset_mems,
        cgroup_parent: step.limits.cgroup_parent,
        ..HostConfig::default()
    };
    let ulimits = step.ulimits.into_iter().map(|u| Ulimit {
        name: u.name,
        soft: u.soft,
        hard: u.hard,
    });
    step::StepRequest {
        id: step.id,
        snapshot: step.snapshot,
        args: step.args,
        env: step.env,
        cwd: step.cwd,
        user: step.user,
        network: step.network,
        extra_hosts: step.extra_hosts,
        mounts: step.mounts.into_iter().map(mount).collect(),
        limits,
        ulimits: ulimits.collect(),
        shm_size: step.shm_size,
        security_opt: step.security_opt,
        privileged: false,
    }
}

fn mount(mount: StepMount) -> step::StepMount {
    match mount {
        StepMount::Bind {
            source,
            target,
            read_only,
            tree,
        } => step::StepMount::Bind {
            source,
            target,
            read_only,
            tree: tree.map(|tree| step::StepTree {
                snapshot: tree.snapshot,
                layers: tree.layers,
                path: tree.path,
            }),
        },
        StepMount::Tmpfs { target, size } => step::StepMount::Tmpfs { target, size },
    }
}
