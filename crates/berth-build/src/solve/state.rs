//! A stage as it stands after an instruction.

use berth_spec::Digest;
use berth_spec::oci::image::{History, ImageConfig};

use crate::cache::Outcome;
use crate::variables::Arguments;
use crate::{Error, Result, metadata};

/// What an instruction finds, and leaves behind.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The configuration that an image of this state would have.
    pub(crate) image: ImageConfig,
    /// Its ID; `None` for `scratch`.
    pub(crate) id: Option<Digest>,
    /// Whether anything came on top of the base image.
    pub(crate) changed: bool,
    /// Whether the stage has had a `CMD` of its own.
    pub(crate) cmd_set: bool,
    pub(crate) arguments: Arguments,
    /// The stage's number.
    pub(crate) stage: usize,
}

impl State {
    pub(crate) fn layers(&self) -> &[Digest] {
        &self.image.rootfs.diff_ids
    }

    /// The configuration as it is hashed and stored.
    pub(crate) fn config_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.image)
            .map_err(|e| Error::invalid(format!("cannot write the image's configuration: {e}")))
    }

    /// Takes an instruction's outcome in.
    pub(crate) fn record(&mut self, outcome: &Outcome) -> Result<()> {
        self.image.history.push(History {
            created: Some(outcome.created.clone()),
            created_by: Some(outcome.created_by.clone()),
            author: self.image.author.clone(),
            comment: None,
            empty_layer: outcome.layer.is_none(),
        });
        self.image.rootfs.diff_ids.extend(outcome.layer.clone());
        self.image.created = Some(outcome.created.clone());
        self.changed = true;
        self.id = Some(berth_store::hash::sha256(&self.config_bytes()?));
        Ok(())
    }

    /// A history's text for an instruction that runs no command.
    pub(crate) fn nop(&self, comment: &str) -> String {
        let shell = metadata::shell(&self.image.config).join(" ");
        format!("{shell} #(nop) {comment}")
    }

    /// The ID, or a text that no ID is.
    pub(crate) fn key(&self) -> &str {
        self.id.as_ref().map_or("scratch", Digest::as_str)
    }
}
