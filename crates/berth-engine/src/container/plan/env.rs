//! The environment of a process.

use berth_runtime::defaults::PATH;

/// The name of `NAME=value`.
fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// What a process of the container sees: `PATH`, `HOSTNAME` and (with a terminal) `TERM` where
/// nothing else is said, then what was asked for. A name without a value takes a variable away.
pub(crate) fn process_env(asked: &[String], hostname: &str, tty: bool) -> Vec<String> {
    let mut env = vec![format!("PATH={PATH}"), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    overlay(&mut env, asked);
    env
}

/// Puts `over` over `env`: values are replaced in place, new ones appended.
pub(crate) fn overlay(env: &mut Vec<String>, over: &[String]) {
    for variable in over {
        let position = env.iter().position(|v| name(v) == name(variable));
        match (position, variable.contains('=')) {
            (Some(at), true) => env[at].clone_from(variable),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(variable.clone()),
            (None, false) => {}
        }
    }
}

/// Appends those of `below` whose names `env` does not have.
pub(crate) fn underlay(env: &mut Vec<String>, below: &[String]) {
    for variable in below {
        if !env.iter().any(|v| name(v) == name(variable)) {
            env.push(variable.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn as_docker_orders_it() {
        let env = process_env(&texts(&["A=1", "PATH=/x", "HOSTNAME"]), "h", true);
        assert_eq!(env, ["PATH=/x", "TERM=xterm", "A=1"]);
        let mut env = texts(&["A=1"]);
        underlay(&mut env, &texts(&["A=2", "B=3"]));
        assert_eq!(env, ["A=1", "B=3"]);
    }
}
