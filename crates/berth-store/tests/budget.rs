//! Compressed layers within a budget: the oldest go first, layers stay, what is held stays.

mod bench;

use std::time::{Duration, SystemTime};

use bench::{Bench, Tar};
use berth_spec::oci::image::Descriptor;
use berth_store::Budget;

#[test]
fn the_oldest_compressed_layers_go_first() {
    let bench = Bench::new();
    let Bench { dir, store, lease } = bench;
    let blobs: Vec<_> = (0_u8..4)
        .map(|n| {
            let tar = Tar::new().file("f", &n.to_string()).finish();
            let layer = store
                .layers()
                .import(&lease, &mut &tar[..], None)
                .unwrap()
                .diff_id;
            let blob = store.content().put(&lease, &[n; 100_000]).unwrap();
            let descriptor = Descriptor::new("application/x", blob.clone(), 100_000);
            store.layers().record_blob(&layer, &descriptor).unwrap();
            let path = dir.path().join("root/content/sha256").join(blob.hex());
            let came = SystemTime::now() - Duration::from_secs(1000 - u64::from(n));
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(came).unwrap();
            (layer, blob)
        })
        .collect();
    let here = || -> Vec<bool> {
        let info = |blob| store.content().info(blob).unwrap().is_some();
        blobs.iter().map(|(_, blob)| info(blob)).collect()
    };
    let budget = |max_used| Budget {
        reserved: 0,
        max_used,
        min_free: 0,
    };
    assert_eq!(store.trim_blobs(&budget(1 << 20)).unwrap().blobs, 0);
    // A lease holds all of them.
    assert_eq!(store.trim_blobs(&budget(0)).unwrap().blobs, 0);
    drop(lease);
    let held = store.lease().unwrap();
    held.hold_blob(&blobs[1].1);
    let trimmed = store.trim_blobs(&budget(250_000)).unwrap();
    assert_eq!((trimmed.blobs, here()), (2, vec![false, true, false, true]));
    drop(held);
    // A disk that is never free enough: what is reserved stays.
    let strict = Budget {
        reserved: 150_000,
        max_used: u64::MAX,
        min_free: u64::MAX,
    };
    store.trim_blobs(&strict).unwrap();
    assert_eq!(here(), [false, false, false, true]);
    for (layer, _) in &blobs {
        assert!(store.layers().get(layer).unwrap().is_some());
    }
}
