//! `--change` of `import` and `commit`: a few Dockerfile instructions applied to a configuration.

use berth_spec::oci::image::ExecConfig;

use crate::dockerfile::{Expander, Instruction, parse_commands};
use crate::variables::{Arguments, in_scope};
use crate::{Error, Result, metadata};

/// Changes one call may make.
const CHANGES_MAX: usize = 1000;

/// Applies `changes`, each one a Dockerfile instruction, to `config`: `CMD`, `ENTRYPOINT`, `ENV`,
/// `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`, `VOLUME` and `WORKDIR`.
/// On an error `config` is as it was.
pub fn apply(config: &mut ExecConfig, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    if changes.len() > CHANGES_MAX {
        return Err(Error::invalid(format!("more than {CHANGES_MAX} changes")));
    }
    let (commands, escape) = parse_commands(&changes.join("\n"))?;
    let mut changed = config.clone();
    // A CMD among the changes stands, one of the image goes with a new ENTRYPOINT.
    let mut cmd_set = false;
    for command in &commands {
        let variables = in_scope(&changed.env, &Arguments::default());
        match &command.instruction {
            Instruction::Workdir(path) => {
                let path = Expander::new(escape).word(path, &variables)?;
                changed.working_dir = metadata::workdir(&changed.working_dir, &path)?;
            }
            Instruction::Shell(_)
            | Instruction::Maintainer(_)
            | Instruction::Run(_)
            | Instruction::Copy(_)
            | Instruction::Add(_)
            | Instruction::Arg(_) => {
                let name = command.text.split_whitespace().next().unwrap_or_default();
                return Err(Error::invalid(format!(
                    "{name} is not a valid change command"
                )));
            }
            instruction => {
                metadata::apply(&mut changed, instruction, &variables, escape, &mut cmd_set)?;
            }
        }
    }
    *config = changed;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ExecConfig> {
        let mut config = ExecConfig {
            env: vec!["PATH=/bin".into()],
            cmd: Some(vec!["sh".into()]),
            ..Default::default()
        };
        let changes: Vec<String> = changes.iter().map(|s| s.to_string()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn changes() {
        let config = changed(&[
            "ENV A=1",
            "env B=$A",
            "WORKDIR /a",
            "WORKDIR b",
            "EXPOSE 80",
            "ENTRYPOINT [\"x\"]",
            "LABEL l=m",
        ])
        .unwrap();
        assert_eq!(config.env, ["PATH=/bin", "A=1", "B=1"]);
        assert_eq!(config.working_dir, "/a/b");
        assert_eq!(config.cmd, None);
        assert_eq!(config.labels.unwrap()["l"], "m");
        assert_eq!(changed(&[]).unwrap().cmd.unwrap(), ["sh"]);
    }

    #[test]
    fn refused() {
        for (change, error) in [
            ("RUN x", "RUN is not a valid change command"),
            ("copy a b", "copy is not a valid change command"),
            ("FROM x", "FROM is not allowed here"),
            ("FOO x", "unknown instruction: FOO (did you mean FROM?)"),
            ("ENV", "ENV requires at least one argument"),
        ] {
            assert_eq!(
                changed(&["ENV A=1", change]).unwrap_err().to_string(),
                error
            );
        }
    }
}
