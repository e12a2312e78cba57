//! From a plan to an image: vertex by vertex, the cache asked first.
//!
//! A build is one thread. The store blocks; a step and a pull are awaited from here. Stages are built
//! in the file's order, which is the order of the text that the user reads; nothing else depends on
//! it, since a vertex knows its inputs by key.

mod base;
mod platform;
mod state;
mod step;

use std::sync::Arc;

use berth_distribution::Client;
use berth_spec::Digest;
use berth_store::{Lease, NewImage, Store};
use tokio::runtime::Handle;

pub(crate) use state::State;

use crate::builder::BuilderOptions;
use crate::cache::{Cache, Outcome};
use crate::dockerfile::{Command, Dockerfile, Instruction};
use crate::graph::{self, Plan};
use crate::op::Caches;
use crate::output::{Teller, random_id, short};
use crate::source::Archive;
use crate::variables::Arguments;
use crate::{BuildEvent, BuildRequest, Built, Error, Result};

/// Everything a build needs, gathered.
pub(crate) struct Job {
    pub(crate) options: Arc<BuilderOptions>,
    pub(crate) caches: Caches,
    pub(crate) request: BuildRequest,
    pub(crate) context: Archive,
    pub(crate) file: Dockerfile,
    pub(crate) teller: Teller,
    pub(crate) runtime: Handle,
}

/// A build under way.
pub(crate) struct Solver {
    pub(crate) job: Job,
    cache: Cache,
    pub(crate) lease: Lease,
    arguments: Arguments,
    plan: Plan,
    /// Finished stages by number.
    stages: Vec<Option<State>>,
    /// The step to announce next, and how many there are.
    step: usize,
    total: usize,
    /// Whether the cache has learned something.
    ran: bool,
}

/// Builds. Blocks.
pub(crate) fn solve(mut job: Job) -> Result<Built> {
    if job.request.squash {
        return Err(Error::invalid(
            "squash is only supported with experimental mode",
        ));
    }
    for warning in &job.file.warnings {
        job.teller.tell(BuildEvent::Warning(warning.clone()))?;
    }
    let platform = platform::requested(&job.request.platform)?;
    let mut arguments = Arguments::new(
        std::mem::take(&mut job.request.build_args),
        platform::arguments(&platform, &job.request.target),
    );
    let declared = std::mem::take(&mut job.file.arguments);
    let mut values = Vec::new();
    for command in &declared {
        values.push(declare_globals(&mut arguments, command, job.file.escape)?);
    }
    let plan = graph::plan(&job.file, &job.request.target, &arguments.globals())?;
    add_labels(&mut job, plan.target);
    let steps = |index: &usize| 1 + job.file.stages[*index].commands.len();
    let total = declared.len() + plan.order.iter().map(steps).sum::<usize>();
    let store = job.options.store.clone();
    let mut solver = Solver {
        cache: Cache::new(store.clone()),
        lease: store.lease()?,
        arguments,
        stages: vec![None; job.file.stages.len()],
        step: 1,
        total,
        ran: false,
        plan,
        job,
    };
    for command in &declared {
        solver.announce(&command.text)?;
    }
    solver.run()
}

impl Solver {
    fn run(&mut self) -> Result<Built> {
        for index in self.plan.order.clone() {
            self.stage(index)?;
        }
        let Some(state) = self.stages[self.plan.target].take() else {
            return Err(Error::invalid(
                "No image was generated. Is your Dockerfile empty?",
            ));
        };
        let image_id = self.finish(&state)?;
        if let Some(warning) = self.arguments.unused_warning() {
            self.job.teller.text(warning)?;
        }
        let done = format!("Successfully built {}\n", short(image_id.as_str()));
        self.job.teller.text(done)?;
        Ok(Built { image_id })
    }

    /// Builds stage `index` unless it is built already.
    pub(crate) fn stage(&mut self, index: usize) -> Result<()> {
        if self.stages[index].is_some() {
            return Ok(());
        }
        let stage = self.job.file.stages[index].clone();
        self.announce(&stage.text)?;
        let mut state = self.begin(index, &stage)?;
        self.tell_id(&state)?;
        for command in &stage.commands {
            self.announce(&command.text)?;
            self.step(&mut state, command)?;
            self.tell_id(&state)?;
        }
        if let Some(id) = &state.id {
            self.job.teller.tell(BuildEvent::Aux(id.clone()))?;
        }
        self.arguments.remember(&state.arguments);
        self.stages[index] = Some(state);
        Ok(())
    }

    /// The finished stage `index`.
    pub(crate) fn finished(&self, index: usize) -> Result<&State> {
        self.stages[index]
            .as_ref()
            .ok_or_else(|| Error::invalid(format!("stage {index} is not built yet")))
    }

    fn announce(&mut self, text: &str) -> Result<()> {
        let line = format!(
            "Step {}/{} : {text}\n",
            self.step,
            self.total.max(self.step)
        );
        self.step += 1;
        self.job.teller.text(line)
    }

    fn tell_id(&self, state: &State) -> Result<()> {
        let id = state.id.as_ref().map_or("", |id| short(id.as_str()));
        self.job.teller.text(format!(" ---> {id}\n"))
    }

    /// Makes the image of a finished state, if it is not one already.
    fn finish(&self, state: &State) -> Result<Digest> {
        let Some(id) = &state.id else {
            return Err(Error::invalid(
                "No image was generated. Is your Dockerfile empty?",
            ));
        };
        if !state.changed {
            return Ok(id.clone());
        }
        let image = NewImage {
            config: state.config_bytes()?,
            manifest: None,
            parent: None,
        };
        let image = self.store().images().add(&self.lease, image)?;
        if self.ran {
            self.cache.trim(&self.job.options.cache)?;
        }
        Ok(image.id)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.job.options.store
    }

    pub(crate) fn client(&self) -> &Client {
        &self.job.options.client
    }

    /// Looks a vertex up, and says so where it is known.
    pub(crate) fn known(&self, key: &str) -> Result<Option<Outcome>> {
        if self.job.request.no_cache {
            return Ok(None);
        }
        let found = self.cache.get(&self.lease, key)?;
        if found.is_some() {
            self.job.teller.text(" ---> Using cache\n")?;
        }
        Ok(found)
    }

    /// Remembers what a vertex gave.
    pub(crate) fn learn(&mut self, key: &str, outcome: &Outcome) -> Result<()> {
        self.ran = true;
        self.cache.put(&self.lease, key, outcome)
    }

    /// Says that something runs now, in the "container" whose ID is answered.
    pub(crate) fn running(&self) -> Result<String> {
        let id = random_id()?;
        let line = format!(" ---> Running in {}\n", short(&id));
        self.job.teller.text(line)?;
        Ok(id)
    }

    /// Says that it is gone.
    pub(crate) fn removed(&self, id: &str) -> Result<()> {
        let line = format!(" ---> Removed intermediate container {}\n", short(id));
        self.job.teller.text(line)
    }

    /// The time for a history.
    pub(crate) fn now(&self) -> String {
        let epoch = self.arguments.given("SOURCE_DATE_EPOCH");
        let fixed = epoch
            .and_then(|text| text.parse().ok())
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        fixed.unwrap_or_else(jiff::Timestamp::now).to_string()
    }
}

/// `ARG` before the first `FROM`.
fn declare_globals(arguments: &mut Arguments, command: &Command, escape: char) -> Result<()> {
    let Instruction::Arg(pairs) = &command.instruction else {
        return Ok(());
    };
    let globals = arguments.globals();
    let expander = crate::dockerfile::Expander::new(escape);
    for (name, default) in pairs {
        let default = default
            .as_ref()
            .map(|text| expander.word(text, &globals))
            .transpose()?;
        arguments.declare_global(&expander.word(name, &globals)?, default);
    }
    Ok(())
}

/// `--label` makes one `LABEL` instruction per label at the end of the target.
fn add_labels(job: &mut Job, target: usize) {
    for (name, value) in &job.request.labels {
        job.file.stages[target].commands.push(Command {
            instruction: Instruction::Label {
                pairs: vec![(name.clone(), value.clone())],
                expand: false,
            },
            text: format!("LABEL {name}={value}"),
        });
    }
}
