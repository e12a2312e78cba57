//! How long a container's way into and out of its network takes: `cargo run --release --example attach [rounds]`, as root.

use std::time::{Duration, Instant};

use berth_network::{
    EndpointRequest, Existing, HostPort, NetworkOptions, Networks, PortBinding, Protocol,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 100,
    };
    let dir = tempfile::tempdir()?;
    let mut options = NetworkOptions::new(format!("bench-{}", std::process::id()), dir.path());
    options.bip = Some("10.251.251.1/24".parse()?);
    let networks = Networks::open(options, Existing::default())?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..rounds {
        // The pool has its time, as it has between two starts of containers.
        std::thread::sleep(Duration::from_millis(50));
        let request = EndpointRequest {
            default_route: true,
            ports: vec![PortBinding {
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
                host_port: HostPort::Any,
            }],
            ..EndpointRequest::default()
        };
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
    networks.destroy()?;
    Ok(())
}
