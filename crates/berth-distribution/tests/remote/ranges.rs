//! Large layers in several ranges at once, where the registry does that.

use std::time::Duration;

use berth_distribution::{ClientOptions, ProgressSender, PullOptions};

use crate::bench::{TestStore, client_with, reference, small_tar};
use crate::quirky::{Quirks, Quirky};

/// A layer that is fetched in ranges, of bytes that do not repeat.
fn large_tar() -> Vec<u8> {
    let text: String = (0..3_000_000).map(|n| format!("{n:07x}")).collect();
    small_tar(&text)
}

async fn pull(here: &TestStore, registry: &Quirky) -> berth_spec::Digest {
    let client = client_with(ClientOptions {
        retry_pause: Some(Duration::ZERO),
        ..ClientOptions::default()
    });
    let name = reference(&format!("{}/x", registry.host()));
    client
        .pull(
            &here.store,
            &name,
            PullOptions::default(),
            ProgressSender::none(),
        )
        .await
        .unwrap()
        .image_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_layer_comes_in_ranges() {
    let tar = large_tar();
    for breaks in [0, 5] {
        let here = TestStore::new();
        let (mut quirks, id, layer) = Quirks::with_image(&tar);
        // Whichever ranges it hits go on where they stopped.
        quirks.breaks = Some((layer.clone(), 300_000, breaks));
        let registry = Quirky::start(quirks).await;
        assert_eq!(pull(&here, &registry).await, id);
        let asked = registry.seen(layer.as_str());
        let pieces = tar.len().div_ceil(2 << 20);
        assert_eq!(asked.len(), pieces + breaks, "{asked:?}");
        assert_eq!(asked[0].3.as_deref(), Some("bytes=0-2097151"));
        assert_eq!(here.unfinished(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_is_asked_for_the_whole() {
    let here = TestStore::new();
    let (mut quirks, id, layer) = Quirks::with_image(&large_tar());
    quirks.ranges = false;
    let registry = Quirky::start(quirks).await;
    assert_eq!(pull(&here, &registry).await, id);
    let asked: Vec<_> = registry.seen(layer.as_str());
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[1].3, None);
}

/// Broken off for good in the middle; the next engine goes on with what came in order.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_gone_on_with_after_a_restart() {
    let tar = large_tar();
    let mut here = TestStore::new();
    let (mut quirks, id, layer) = Quirks::with_image(&tar);
    quirks.vanish_after = Some((layer.clone(), 6));
    let registry = Quirky::start(quirks).await;
    let name = reference(&format!("{}/x", registry.host()));
    let client = client_with(ClientOptions::default());
    let pulled = client
        .pull(
            &here.store,
            &name,
            PullOptions::default(),
            ProgressSender::none(),
        )
        .await;
    assert!(pulled.is_err());
    assert_eq!(here.unfinished(), 1);
    here.reopen();
    registry.set(|q| q.vanish_after = None);
    let before = registry.seen(layer.as_str()).len();
    assert_eq!(pull(&here, &registry).await, id);
    let asked = registry.seen(layer.as_str());
    let first = asked[before].3.as_deref().unwrap();
    assert!(
        first.starts_with("bytes=") && !first.starts_with("bytes=0-"),
        "{first}"
    );
    assert_eq!(here.unfinished(), 0);
}
