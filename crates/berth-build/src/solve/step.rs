//! One instruction on top of a state.

use super::{Solver, State};
use crate::cache::Outcome;
use crate::dockerfile::{Command, Expander, Instruction};
use crate::graph::KeyMaker;
use crate::variables::in_scope;
use crate::{Result, metadata, op};

impl Solver {
    /// Runs `command`, or takes its outcome from the cache.
    pub(crate) fn step(&mut self, state: &mut State, command: &Command) -> Result<()> {
        self.job.teller.check()?;
        match &command.instruction {
            Instruction::Run(run) => op::run::run(self, state, run),
            Instruction::Copy(copy) => op::copy::copy(self, state, copy, "COPY"),
            Instruction::Add(copy) => op::copy::copy(self, state, copy, "ADD"),
            Instruction::Workdir(path) => op::workdir::workdir(self, state, path),
            Instruction::Arg(pairs) => self.argument(state, pairs),
            instruction => self.metadata(state, instruction),
        }
    }

    fn metadata(&mut self, state: &mut State, instruction: &Instruction) -> Result<()> {
        let variables = in_scope(&state.image.config.env, &state.arguments);
        let key = state.key().to_owned();
        let escape = self.job.file.escape;
        let config = &mut state.image.config;
        let applied = metadata::apply(config, instruction, &variables, escape, &mut state.cmd_set)?;
        let Some(applied) = applied else {
            return Ok(());
        };
        if let Some(note) = applied.note {
            self.job.teller.text(note)?;
        }
        state.image.author = applied.author.or(state.image.author.take());
        self.without_layer(state, &key, &applied.comment)
    }

    fn argument(&mut self, state: &mut State, pairs: &[(String, Option<String>)]) -> Result<()> {
        let variables = in_scope(&state.image.config.env, &state.arguments);
        let expander = Expander::new(self.job.file.escape);
        let key = state.key().to_owned();
        let mut texts = Vec::new();
        for (name, default) in pairs {
            let name = expander.word(name, &variables)?;
            let default = default
                .as_ref()
                .map(|text| expander.word(text, &variables))
                .transpose()?;
            texts.push(match &default {
                Some(default) => format!("{name}={default}"),
                None => name.clone(),
            });
            state.arguments.declare(&name, default);
        }
        self.without_layer(state, &key, &format!("ARG {}", texts.join(" ")))
    }

    /// Records an instruction that makes no layer. Such a vertex is looked up only for the time that
    /// stands in the history, and so that the text is as it was.
    fn without_layer(&mut self, state: &mut State, parent: &str, comment: &str) -> Result<()> {
        let key = KeyMaker::new("metadata")
            .part(parent)
            .part(comment)
            .finish();
        if let Some(outcome) = self.known(&key)? {
            return state.record(&outcome);
        }
        let id = self.running()?;
        let outcome = Outcome {
            created: self.now(),
            layer: None,
            created_by: state.nop(&format!(" {comment}")),
        };
        self.learn(&key, &outcome)?;
        state.record(&outcome)?;
        if self.job.request.remove || self.job.request.force_remove {
            self.removed(&id)?;
        }
        Ok(())
    }
}
