//! `import`: a root file system as a tar becomes an image of one layer.

use std::io::Read;

use berth_spec::oci::image::{History, ImageConfig, RootFs};
use jiff::Timestamp;

use crate::platform::architecture;
use crate::{Error, Image, NewImage, Result, Store};

/// Makes an image whose only layer is `tar` (compressed or not) and whose config is `config`, with
/// layer, history and what is missing filled in. `message` goes into the history.
pub fn import_root(
    store: &Store,
    tar: &mut dyn Read,
    config: ImageConfig,
    message: &str,
) -> Result<Image> {
    let lease = store.lease()?;
    let layer = store.layers().import(&lease, tar, None)?;
    let created = config
        .created
        .clone()
        .unwrap_or_else(|| Timestamp::now().to_string());
    let or = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let config = ImageConfig {
        architecture: or(&config.architecture, architecture()),
        os: or(&config.os, "linux"),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![layer.diff_id],
        },
        history: vec![History {
            created: Some(created.clone()),
            comment: (!message.is_empty()).then(|| message.to_owned()),
            ..History::default()
        }],
        created: Some(created),
        ..config
    };
    let config =
        serde_json::to_vec(&config).map_err(|e| Error::io("cannot write the image config", e))?;
    store.images().add(
        &lease,
        NewImage {
            config,
            manifest: None,
            parent: None,
        },
    )
}
