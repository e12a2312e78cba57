//! How long a container's way into and out of its network takes, with many at once, and how long an engine takes to find
//! them again: `cargo run --release --example attach [rounds]`, as root.

use std::time::{Duration, Instant};

use berth_network::{
    EndpointRequest, Existing, HostPort, NetworkOptions, Networks, PortBinding, Protocol,
    SandboxRecord,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 100,
    };
    let dir = tempfile::tempdir()?;
    let mut options = NetworkOptions::new(format!("bench-{}", std::process::id()), dir.path());
    options.bip = Some("10.251.251.1/24".parse()?);
    let mut networks = Networks::open(options.clone(), Existing::default())?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..rounds {
        // The pool has its time, as it has between two starts of containers.
        std::thread::sleep(Duration::from_millis(50));
        let request = request();
        let start = Instant::now();
        let sandbox = networks.sandbox()?;
        let taken = Instant::now();
        networks.attach(&sandbox, "bridge", request)?;
        let attached = Instant::now();
        let id = sandbox.id().to_owned();
        drop(sandbox);
        networks.release(&id)?;
        times[0].push(taken - start);
        times[1].push(attached - taken);
        times[2].push(attached.elapsed());
    }
    for (name, times) in ["sandbox", "attach, 1 port", "release"]
        .iter()
        .zip(&mut times)
    {
        times.sort();
        println!(
            "{name}: median {:?}, worst of ten {:?}, worst {:?}",
            times[times.len() / 2],
            times[times.len() * 9 / 10],
            times[times.len() - 1]
        );
    }
    let start = Instant::now();
    let sandboxes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| some(&networks, 8))).collect();
        let records = threads.into_iter().map(|t| t.join().expect("a worker"));
        records.collect::<Result<Vec<_>, _>>()
    })?;
    let sandboxes = sandboxes.concat();
    println!("{} at once: {:?}", sandboxes.len(), start.elapsed());
    let existing = Existing {
        networks: networks.list(),
        sandboxes,
    };
    drop(networks);
    let start = Instant::now();
    networks = Networks::open(options, existing)?;
    println!("found again: {:?}", start.elapsed());
    networks.destroy()?;
    Ok(())
}

fn request() -> EndpointRequest {
    EndpointRequest {
        default_route: true,
        ports: vec![PortBinding {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port: HostPort::Any,
        }],
        ..EndpointRequest::default()
    }
}

fn some(networks: &Networks, count: usize) -> berth_network::Result<Vec<SandboxRecord>> {
    (0..count)
        .map(|_| {
            let sandbox = networks.sandbox()?;
            let endpoint = networks.attach(&sandbox, "bridge", request())?;
            Ok(SandboxRecord {
                id: sandbox.id().to_owned(),
                endpoints: vec![endpoint],
            })
        })
        .collect()
}
