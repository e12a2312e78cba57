//! How long a container's way into and out of its network takes, with many at once, and how long an engine takes to find
//! them again: `cargo run --release --example attach [rounds]`, as root.

use std::error::Error;
use std::time::{Duration, Instant};

use berth_network::{
    EndpointRequest, Existing, HostPort, NetworkOptions, Networks, PortBinding, Protocol,
    SandboxRecord,
};

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 100,
    };
    let dir = tempfile::tempdir()?;
    let mut options = NetworkOptions::new(format!("bench-{}", std::process::id()), dir.path());
    options.bip = Some("10.251.251.1/24".parse()?);
    let networks = Networks::open(options.clone(), Existing::default())?;
    let one = one_by_one(&networks, rounds);
    let many = many_at_once(&networks);
    let existing = Existing {
        networks: networks.list(),
        sandboxes: many.as_ref().map_or_else(|_| Vec::new(), |m| m.1.clone()),
    };
    drop(networks);
    let start = Instant::now();
    let networks = Networks::open(options, existing)?;
    let found = start.elapsed();
    // Whatever failed, nothing is left.
    networks.destroy()?;
    let (time, sandboxes) = many?;
    println!("{}", one?);
    println!("{} at once: {time:?}", sandboxes.len());
    println!("found again: {found:?}");
    Ok(())
}

fn one_by_one(networks: &Networks, rounds: usize) -> berth_network::Result<String> {
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..rounds.max(1) {
        // The pool has its time, as it has between two starts of containers.
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        let sandbox = networks.sandbox()?;
        let taken = Instant::now();
        networks.attach(&sandbox, "bridge", request())?;
        let attached = Instant::now();
        let id = sandbox.id().to_owned();
        drop(sandbox);
        networks.release(&id)?;
        times[0].push(taken - start);
        times[1].push(attached - taken);
        times[2].push(attached.elapsed());
    }
    let names = ["sandbox", "attach, 1 port", "release"];
    let lines = names.iter().zip(&mut times).map(|(name, times)| {
        times.sort();
        let of_ten = |n: usize| times[(times.len() * n / 10).min(times.len() - 1)];
        let (median, late, worst) = (of_ten(5), of_ten(9), of_ten(10));
        format!("{name}: median {median:?}, worst of ten {late:?}, worst {worst:?}")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn many_at_once(networks: &Networks) -> berth_network::Result<(Duration, Vec<SandboxRecord>)> {
    let start = Instant::now();
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| some(networks, 8))).collect();
        let records = threads.into_iter().map(|t| t.join().expect("a worker"));
        records.collect::<Result<Vec<_>, _>>()
    })?;
    Ok((start.elapsed(), made.concat()))
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
