//! Rule F: what a default container, which has `NET_RAW`, may not do to its neighbours. The rest of the rule
//! is shown by `berth-network`'s tests.

use testkit::engine::Engine;

use crate::{BERTH, stays};

/// ARP spoofing: a container tells its neighbour that another's address is its own.
#[test]
fn nobody_answers_for_anothers_address() {
    let engine = Engine::start(BERTH);
    stays(&engine, &[], "busybox");
    for name in ["friend", "thief"] {
        engine.ok(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
    }
    let of = |name: &str, what: &str| {
        let format = format!("{{{{.NetworkSettings.Networks.bridge.{what}}}}}");
        engine.ok(&["inspect", "-f", &format, name])
    };
    let (victim, friend) = (of("box", "IPAddress"), of("friend", "IPAddress"));
    let known = || engine.ok(&["exec", "box", "ip", "neigh", "show", &friend]);
    engine.ok(&["exec", "box", "ping", "-c", "1", &friend]);
    let mac = of("friend", "MacAddress");
    assert!(known().contains(&mac), "{}", known());
    for flags in [&["-U"][..], &["-A"]] {
        let arping = ["exec", "thief", "busybox", "arping"];
        let claim = ["-c", "2", "-I", "eth0", "-s", &friend, &victim];
        let ran = engine.run(&[&arping[..], flags, &claim].concat());
        assert!(!ran.err.contains("applet not found"), "{ran:?}");
    }
    assert!(known().contains(&mac), "{}", known());
    assert!(!known().contains(&of("thief", "MacAddress")), "{}", known());
    engine.ok(&["exec", "box", "ping", "-c", "1", &friend]);
}
