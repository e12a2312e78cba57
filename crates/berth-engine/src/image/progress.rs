//! What a transfer tells, in the words of Docker's streams.

use berth_distribution::{LayerPhase, Progress};
use berth_spec::docker::JsonMessage;
use berth_spec::docker::stream::ProgressDetail;

/// The line of one step.
pub(super) fn line(progress: Progress) -> JsonMessage {
    match progress {
        Progress::Status { id, text } => JsonMessage {
            id: id.unwrap_or_default(),
            ..JsonMessage::status(text)
        },
        Progress::Layer { id, phase } => layer(id, phase),
    }
}

fn layer(id: String, phase: LayerPhase) -> JsonMessage {
    let plain = |id, text: &str| JsonMessage::progress(id, text, ProgressDetail::default());
    let moving = |id, text: &str, current, total| {
        let detail = ProgressDetail {
            current,
            total,
            ..ProgressDetail::default()
        };
        JsonMessage {
            progress: bar(current, total),
            ..JsonMessage::progress(id, text, detail)
        }
    };
    match phase {
        LayerPhase::PullingFsLayer => plain(id, "Pulling fs layer"),
        LayerPhase::Waiting => plain(id, "Waiting"),
        LayerPhase::Downloading { current, total } => moving(id, "Downloading", current, total),
        LayerPhase::VerifyingChecksum => plain(id, "Verifying Checksum"),
        LayerPhase::DownloadComplete => plain(id, "Download complete"),
        LayerPhase::Extracting { current, total } => moving(id, "Extracting", current, total),
        LayerPhase::PullComplete => plain(id, "Pull complete"),
        LayerPhase::AlreadyExists => plain(id, "Already exists"),
        LayerPhase::Preparing => plain(id, "Preparing"),
        LayerPhase::Pushing { current, total } => moving(id, "Pushing", current, total),
        LayerPhase::Pushed => plain(id, "Pushed"),
        LayerPhase::MountedFrom(from) => plain(id, &format!("Mounted from {from}")),
        LayerPhase::LayerAlreadyExists => plain(id, "Layer already exists"),
    }
}

/// The bar of clients that draw none: `[=====>     ]  1.5MB/3MB`.
pub(super) fn bar(current: u64, total: u64) -> String {
    if total == 0 || current > total {
        return size(current);
    }
    let done = usize::try_from(current.saturating_mul(50) / total).unwrap_or(50);
    let head = if done < 50 { ">" } else { "" };
    let rest = 50 - done - head.len();
    format!(
        "[{}{head}{}] {:>8}/{}",
        "=".repeat(done),
        " ".repeat(rest),
        size(current),
        size(total)
    )
}

/// A size with at most four digits, in decimal units, as Docker writes them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1500, "1.5kB"),
            (3_145_728, "3.146MB"),
            (27_100_000, "27.1MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(bar(5, 0), "5B");
        assert_eq!(bar(10, 10), format!("[{}]      10B/10B", "=".repeat(50)));
        assert!(bar(1, 4).starts_with("[============>"));
    }
}
