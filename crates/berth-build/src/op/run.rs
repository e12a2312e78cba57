//! `RUN`: a process over a snapshot, whose changes become a layer.

use std::collections::BTreeMap;

use berth_spec::oci::image::ExecConfig;

use super::mounts::{self, CA_BUNDLE, PIPES};
use super::snapshot::SnapshotGuard;
use crate::cache::Outcome;
use crate::dockerfile::{Run, Variables};
use crate::graph::KeyMaker;
use crate::solve::{Solver, State};
use crate::variables::{in_scope, name_of};
use crate::{Error, Result, RunStep, metadata};

/// Bytes of a tar in which there is nothing.
const EMPTY_TAR: u64 = 1024;
/// The variables by which programs are told of a CA bundle: OpenSSL and much else, requests, pip,
/// curl, Node, git, cargo, Deno, the AWS tools.
const CA_VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "AWS_CA_BUNDLE",
];

pub(crate) fn run(solver: &mut Solver, state: &mut State, run: &Run) -> Result<()> {
    let config = &state.image.config;
    let variables = in_scope(&config.env, &state.arguments);
    let (args, script) = command(run, config)?;
    let lasting = state.arguments.lasting(&config.env);
    let network = network(solver, run)?;
    let wanted = mounts::wanted(solver, state, &run.mounts, &variables)?;
    let key = KeyMaker::new("run")
        .layers(state.layers())
        .parts(&args)
        .part(script.map(|s| s.data()).unwrap_or_default())
        .parts(&config.env)
        .parts(
            lasting
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        )
        .part(&config.working_dir)
        .part(&config.user)
        .part(&network)
        .parts(&solver.job.request.extra_hosts)
        .parts(&wanted.key)
        .finish();
    if let Some(outcome) = solver.known(&key)? {
        return state.record(&outcome);
    }
    let id = solver.running()?;
    let result = execute(solver, state, &id, &args, script, &network, &wanted);
    let request = &solver.job.request;
    if request.force_remove || (request.remove && result.is_ok()) {
        // A cancelled build has nobody to tell.
        let told = solver.removed(&id);
        if result.is_ok() {
            told?;
        }
    }
    let layer = result?;
    let values = state.arguments.values(&state.image.config.env);
    let outcome = Outcome {
        created: solver.now(),
        layer,
        created_by: created_by(&args, &values, &lasting),
    };
    solver.learn(&key, &outcome)?;
    state.record(&outcome)
}

/// What is run, and the heredoc that is the program, if one is.
fn command<'r>(
    run: &'r Run,
    config: &ExecConfig,
) -> Result<(Vec<String>, Option<&'r crate::dockerfile::Heredoc>)> {
    let Some(first) = run.heredocs.first() else {
        let args = metadata::resolve(&run.line, config).unwrap_or_default();
        if args.is_empty() || run.line.args.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::invalid("RUN requires at least one argument"));
        }
        return Ok((args, None));
    };
    let text = run.line.args.as_ref().and_then(|args| args.first());
    let text = text.map(String::as_str).unwrap_or_default();
    let mut shell = metadata::shell(config);
    let alone = run.heredocs.len() == 1 && !text.contains(char::is_whitespace);
    if alone && first.content.starts_with("#!") {
        return Ok((vec![format!("{PIPES}/{}", first.name)], Some(first)));
    }
    if alone {
        shell.push(first.data());
        return Ok((shell, None));
    }
    // The shell reads them itself.
    let mut full = text.to_owned();
    for heredoc in &run.heredocs {
        full.push('\n');
        full.push_str(&heredoc.content);
        full.push_str(&heredoc.name);
    }
    shell.push(full);
    Ok((shell, None))
}

fn network(solver: &Solver, run: &Run) -> Result<String> {
    let of_build = &solver.job.request.network;
    match run.network.as_deref() {
        None | Some("default") => Ok(of_build.clone()),
        Some("host") if of_build != "host" => Err(Error::invalid(
            "RUN --network=host is allowed only in builds with --network=host",
        )),
        Some(mode) => Ok(mode.to_owned()),
    }
}

/// As the history has it: `|1 NAME=value` before a command that was given arguments.
fn created_by(args: &[String], values: &Variables, lasting: &Variables) -> String {
    let command = args.join(" ");
    if values.is_empty() {
        return command;
    }
    let mut text = format!("|{}", lasting.len());
    for (name, value) in lasting {
        text.push_str(&format!(" {name}={value}"));
    }
    format!("{text} {command}")
}

fn execute(
    solver: &Solver,
    state: &State,
    id: &str,
    args: &[String],
    script: Option<&crate::dockerfile::Heredoc>,
    network: &str,
    wanted: &mounts::Wanted,
) -> Result<Option<berth_spec::Digest>> {
    let mut prepared = mounts::prepare(solver, state, wanted)?;
    if let Some(script) = script {
        prepared.script(script)?;
    }
    let host = &solver.job.options.host;
    let trusted = match &host.ca_bundle {
        Some(bundle) => prepared.certificates(bundle)?,
        None => false,
    };
    let config = &state.image.config;
    let mut env = config.env.clone();
    let values = state.arguments.values(&config.env);
    env.extend(values.iter().map(|(name, value)| format!("{name}={value}")));
    env.append(&mut prepared.env);
    add_host(&mut env, &host.env, trusted);
    let points = mounts::mount_points(solver, state.layers(), &prepared.points)?;
    let layers: Vec<_> = points
        .into_iter()
        .chain(state.layers().iter().cloned())
        .collect();
    let snapshot = SnapshotGuard::create(solver.store(), id, &layers)?;
    let request = &solver.job.request;
    let step = RunStep {
        id: id.to_owned(),
        snapshot: snapshot.key.clone(),
        args: args.to_vec(),
        env,
        cwd: match config.working_dir.as_str() {
            "" => "/".to_owned(),
            path => path.to_owned(),
        },
        user: config.user.clone(),
        network: network.to_owned(),
        extra_hosts: request.extra_hosts.clone(),
        mounts: std::mem::take(&mut prepared.mounts),
        limits: request.limits.clone(),
        ulimits: request.ulimits.clone(),
        shm_size: request.shm_size,
        security_opt: request.security_opt.clone(),
    };
    let teller = &solver.job.teller;
    let executor = &solver.job.options.executor;
    let running = executor.run(step, teller.step_output(), teller.cancel().clone());
    let events = teller.events().clone();
    let cancel = teller.cancel().clone();
    let code = solver.job.runtime.block_on(async {
        let mut running = running;
        tokio::select! {
            code = &mut running => code,
            // A step that says nothing has to notice too that nobody listens any more.
            () = events.closed() => {
                cancel.cancel();
                running.await
            }
        }
    });
    teller.check()?;
    match code? {
        0 => {}
        code => return Err(Error::step_failed(&args.join(" "), code)),
    }
    let snapshots = solver.store().snapshots();
    let layer = snapshots.commit(&solver.lease, &snapshot.key)?;
    Ok((layer.size > EMPTY_TAR).then_some(layer.diff_id))
}

/// Adds what the host hands to steps. What the image, the Dockerfile or the user set wins; of the
/// two spellings of a proxy variable either does.
fn add_host(env: &mut Vec<String>, host: &BTreeMap<String, String>, trusted: bool) {
    let set: Vec<String> = env
        .iter()
        .map(|e| name_of(e).to_ascii_uppercase())
        .collect();
    let free = |name: &str| !set.contains(&name.to_ascii_uppercase());
    let mut added: Vec<String> = host
        .iter()
        .filter(|(name, _)| free(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if trusted {
        let told = CA_VARIABLES.iter().filter(|name| free(name));
        added.extend(told.map(|name| format!("{name}={CA_BUNDLE}")));
    }
    env.append(&mut added);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Instruction, parse};

    fn command_of(source: &str) -> (Vec<String>, bool) {
        let file = parse(&format!("FROM x\n{source}"), "Dockerfile").unwrap();
        let Instruction::Run(run) = &file.stages[0].commands[0].instruction else {
            panic!();
        };
        let (args, script) = command(run, &ExecConfig::default()).unwrap();
        (args, script.is_some())
    }

    #[test]
    fn commands() {
        let sh = |text: &str| (vec!["/bin/sh".into(), "-c".into(), text.to_owned()], false);
        assert_eq!(command_of("RUN a  && b"), sh("a  && b"));
        assert_eq!(
            command_of("RUN [\"a\", \"b\"]"),
            (vec!["a".into(), "b".into()], false)
        );
        assert_eq!(command_of("RUN <<EOF\na\nb\nEOF"), sh("a\nb\n"));
        assert_eq!(command_of("RUN <<-EOF\n\ta\nEOF"), sh("a\n"));
        assert_eq!(
            command_of("RUN cat <<A <<B\n1\nA\n2\nB"),
            sh("cat <<A <<B\n1\nA\n2\nB")
        );
        assert_eq!(
            command_of("RUN <<EOF\n#!/usr/bin/python\nx\nEOF"),
            (vec!["/dev/pipes/EOF".into()], true)
        );
    }

    #[test]
    fn histories() {
        let args = ["/bin/sh".to_owned(), "-c".into(), "x".into()];
        let none = Variables::new();
        let some = Variables::from([("A".into(), "1".into()), ("B".into(), "2".into())]);
        assert_eq!(created_by(&args, &none, &none), "/bin/sh -c x");
        assert_eq!(created_by(&args, &some, &some), "|2 A=1 B=2 /bin/sh -c x");
        assert_eq!(created_by(&args, &some, &none), "|0 /bin/sh -c x");
    }

    #[test]
    fn the_host_gives_way() {
        let host = BTreeMap::from([
            ("HTTP_PROXY".to_owned(), "h".to_owned()),
            ("PIP_INDEX_URL".to_owned(), "i".to_owned()),
        ]);
        let mut env = vec!["http_proxy=mine".to_owned(), "PIP_CERT=mine".to_owned()];
        add_host(&mut env, &host, true);
        assert!(env.contains(&"PIP_INDEX_URL=i".to_owned()));
        assert!(!env.iter().any(|e| e.starts_with("HTTP_PROXY")));
        assert_eq!(env.iter().filter(|e| e.starts_with("PIP_CERT")).count(), 1);
        assert!(env.contains(&format!("SSL_CERT_FILE={CA_BUNDLE}")));
    }
}
