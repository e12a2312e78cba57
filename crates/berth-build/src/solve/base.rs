//! `FROM`: what a stage begins with.

use berth_distribution::{Credentials, Progress, ProgressSender, PullOptions};
use berth_spec::oci::image::{ImageConfig, Platform, RootFs};
use berth_spec::{Digest, Reference};
use berth_store::Image;
use tokio::sync::mpsc;

use super::{Solver, State, platform};
use crate::dockerfile::{Expander, Stage, parse_commands};
use crate::graph::{self, Base, From};
use crate::variables::name_of;
use crate::{BuildEvent, Error, ErrorKind, Result};

/// Where programs are looked for in an image that does not say.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Progress of a pull that may wait to be told.
const PROGRESS_QUEUE: usize = 256;

impl Solver {
    /// The state that stage `index` begins with, its base's `ONBUILD` triggers run.
    pub(super) fn begin(&mut self, index: usize, stage: &Stage) -> Result<State> {
        let wanted = match &stage.platform {
            Some(text) => {
                let expander = Expander::new(self.job.file.escape);
                let text = expander.word(text, &self.arguments.globals())?;
                let parsed = platform::requested(&text);
                parsed.map_err(|e| e.within(&format!("failed to parse platform {text}")))?
            }
            None => platform::requested(&self.job.request.platform)?,
        };
        let mut state = match self.plan.bases[index].clone() {
            Base::Scratch => self.scratch(&wanted),
            Base::Stage(earlier) => {
                self.stage(earlier)?;
                let base = self.finished(earlier)?;
                State {
                    arguments: self.arguments.for_stage(Some(&base.arguments)),
                    ..base.clone()
                }
            }
            Base::Image(name) => self.on_image(&self.image(&name, &wanted)?),
        };
        state.stage = index;
        state.cmd_set = false;
        let environment = &mut state.image.config.env;
        if !environment
            .iter()
            .any(|variable| name_of(variable) == "PATH")
        {
            environment.push(DEFAULT_PATH.into());
        }
        let triggers = state.image.config.on_build.take().unwrap_or_default();
        self.triggers(&mut state, &triggers)?;
        Ok(state)
    }

    fn scratch(&self, platform: &Platform) -> State {
        State {
            image: ImageConfig {
                os: platform.os.clone(),
                architecture: platform.architecture.clone(),
                variant: platform.variant.clone(),
                rootfs: RootFs {
                    kind: "layers".into(),
                    diff_ids: Vec::new(),
                },
                ..ImageConfig::default()
            },
            id: None,
            changed: false,
            cmd_set: false,
            arguments: self.arguments.for_stage(None),
            stage: 0,
        }
    }

    fn on_image(&self, image: &Image) -> State {
        let mut config = (*image.config).clone();
        if config.rootfs.kind.is_empty() {
            config.rootfs.kind = "layers".into();
        }
        State {
            image: config,
            id: Some(image.id.clone()),
            changed: false,
            cmd_set: false,
            arguments: self.arguments.for_stage(None),
            stage: 0,
        }
    }

    fn triggers(&mut self, state: &mut State, triggers: &[String]) -> Result<()> {
        if triggers.is_empty() {
            return Ok(());
        }
        let plural = if triggers.len() > 1 { "s" } else { "" };
        let line = format!("# Executing {} build trigger{plural}\n", triggers.len());
        self.job.teller.text(line)?;
        for trigger in triggers {
            let (commands, _) = parse_commands(trigger)?;
            let [command] = commands.as_slice() else {
                return Err(Error::invalid(
                    "onbuild trigger should be a single expression",
                ));
            };
            // A trigger may bring stages in that nothing else needs.
            for name in graph::sources(&command.instruction) {
                if let From::Stage(earlier) = graph::from(&self.job.file, name, state.stage)? {
                    self.stage(earlier)?;
                }
            }
            self.step(state, command)?;
        }
        Ok(())
    }

    /// The layers of what `--from` names, and a name for errors.
    pub(crate) fn layers_of(&self, name: &str, current: usize) -> Result<Vec<Digest>> {
        match graph::from(&self.job.file, name, current)? {
            From::Stage(index) => Ok(self.finished(index)?.layers().to_vec()),
            From::Image(name) if name == "scratch" => Ok(Vec::new()),
            From::Image(name) => {
                let wanted = platform::requested(&self.job.request.platform)?;
                let image = self.image(&name, &wanted);
                let image =
                    image.map_err(|e| e.within(&format!("invalid from flag value {name}")))?;
                Ok(image.layers().to_vec())
            }
        }
    }

    /// The image `name`: from the store, or pulled where it is not there or was asked for anew.
    fn image(&self, name: &str, wanted: &Platform) -> Result<Image> {
        if !self.job.request.pull {
            match self.store().images().resolve(name) {
                Ok(image) if platform::fits(&image.config, wanted) => return Ok(self.held(image)),
                Ok(_) => {}
                Err(e) if e.kind() == berth_store::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        let reference: Reference = name
            .parse()
            .map_err(|_| Error::invalid(format!("invalid reference format: {name}")))?;
        let image = self.pull(&reference.or_latest(), wanted)?;
        if !platform::fits(&image.config, wanted) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "image with reference {name} was found but its platform ({}/{}) does not match the specified platform ({})",
                    image.config.os,
                    image.config.architecture,
                    platform::text(wanted)
                ),
            ));
        }
        Ok(self.held(image))
    }

    fn held(&self, image: Image) -> Image {
        image
            .layers()
            .iter()
            .for_each(|layer| self.lease.hold_layer(layer));
        image
    }

    fn pull(&self, reference: &Reference, wanted: &Platform) -> Result<Image> {
        let options = PullOptions {
            platform: Some(platform::text(wanted)),
            auth: self.credentials(reference),
        };
        let (sender, mut receiver) = mpsc::channel::<Progress>(PROGRESS_QUEUE);
        let events = self.job.teller.events().clone();
        let cancel = self.job.teller.cancel().clone();
        let telling = async move {
            while let Some(progress) = receiver.recv().await {
                if events.send(BuildEvent::Pull(progress)).await.is_err() {
                    break;
                }
            }
        };
        let pulled = self.job.runtime.block_on(async {
            let pull = self.client().pull(
                self.store(),
                reference,
                options,
                ProgressSender::new(sender),
            );
            let both = async { tokio::join!(pull, telling).0 };
            tokio::select! {
                pulled = both => pulled.map_err(Error::from),
                () = cancel.cancelled() => Err(Error::cancelled()),
            }
        })?;
        Ok(self.store().images().get(&pulled.image_id)?)
    }

    /// What the client sent for the registry of `reference`. Docker Hub goes by several names.
    fn credentials(&self, reference: &Reference) -> Option<Credentials> {
        let domain = reference.domain();
        let hub = [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "registry-1.docker.io",
        ];
        let by_name = |name: &str| self.job.request.credentials.get(name).cloned();
        if domain == "docker.io" {
            return hub.into_iter().find_map(by_name);
        }
        by_name(domain)
            .or_else(|| by_name(&format!("https://{domain}")))
            .or_else(|| by_name(&format!("http://{domain}")))
    }
}
