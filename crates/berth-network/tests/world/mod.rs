//! A throw-away set of networks on this machine, programs inside its sandboxes, and a neighbour outside.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use berth_network::{
    Endpoint, EndpointRequest, Existing, HostPort, NetworkOptions, Networks, PortBinding, Protocol,
    Sandbox, SandboxRecord,
};
use berth_sys::netns;

static NUMBER: AtomicU32 = AtomicU32::new(0);
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a connection that works, on a machine that is busy.
const REFUSAL: Duration = Duration::from_secs(2);

/// Networks of a test's own.
pub struct World {
    pub options: NetworkOptions,
    networks: Option<Networks>,
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut NetworkOptions)) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let mut options = NetworkOptions::new(format!("test-{pid}-{number}"), dir.path());
        options.bip = Some(net(pid, number));
        options.ready = 1;
        change(&mut options);
        let networks = Networks::open(options.clone(), Existing::default()).unwrap();
        Self {
            options,
            networks: Some(networks),
            _dir: dir,
        }
    }

    pub fn networks(&self) -> &Networks {
        self.networks.as_ref().unwrap()
    }

    /// Ends the engine's part and begins again with these sandboxes known.
    pub fn restart(&mut self, sandboxes: Vec<SandboxRecord>) {
        let networks = self.networks.take().unwrap();
        let existing = Existing {
            networks: networks.list(),
            sandboxes,
        };
        drop(networks);
        self.networks = Some(Networks::open(self.options.clone(), existing).unwrap());
    }

    /// Removes everything for a while.
    pub fn close(&mut self) {
        self.networks.take().unwrap().destroy().unwrap();
    }

    /// Begins again.
    pub fn open(&mut self, existing: Existing) {
        self.networks = Some(Networks::open(self.options.clone(), existing).unwrap());
    }

    /// A sandbox in the default network.
    pub fn member(&self, name: &str, ports: Vec<PortBinding>) -> (Sandbox, Endpoint) {
        let sandbox = self.networks().sandbox().unwrap();
        let request = request(name, ports);
        let endpoint = self.networks().attach(&sandbox, "bridge", request).unwrap();
        (sandbox, endpoint)
    }

    pub fn gateway(&self) -> Ipv4Addr {
        self.options.bip.unwrap().addr()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(networks) = self.networks.take() {
            let destroyed = networks.destroy();
            if !std::thread::panicking() {
                destroyed.unwrap();
            }
        }
    }
}

/// A /24 that no other test has, of this process or another.
fn net(pid: u32, number: u32) -> ipnet::Ipv4Net {
    let third = (pid * 7 + number) % 250;
    let second = 216 + (pid / 40) % 30;
    format!("10.{second}.{third}.1/24").parse().unwrap()
}

pub fn request(name: &str, ports: Vec<PortBinding>) -> EndpointRequest {
    EndpointRequest {
        container_id: format!("{name:0<64}"),
        container_name: name.to_owned(),
        ports,
        default_route: true,
        ..EndpointRequest::default()
    }
}

pub fn tcp(container_port: u16, host_ip: Option<&str>, host_port: HostPort) -> PortBinding {
    PortBinding {
        container_port,
        protocol: Protocol::Tcp,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
    }
}

/// Runs in a network namespace; sockets made there stay there.
pub fn within<T: Send + 'static>(
    place: BorrowedFd<'_>,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let place = place.try_clone_to_owned().unwrap();
    std::thread::spawn(move || {
        netns::enter_network(place.as_fd()).unwrap();
        job()
    })
    .join()
    .unwrap()
}

/// A server in the sandbox that tells each client which address it came from; ends with the test program.
pub fn serve(sandbox: &Sandbox, port: u16) {
    serve_in(sandbox.netns(), port);
}

/// The same in any namespace.
pub fn serve_in(place: impl AsFd, port: u16) {
    serve_at(place, (Ipv4Addr::UNSPECIFIED, port));
}

/// The same at all addresses, IPv6 ones too.
pub fn serve_everywhere(place: impl AsFd, port: u16) {
    serve_at(place, (Ipv6Addr::UNSPECIFIED, port));
}

fn serve_at(place: impl AsFd, address: impl Into<SocketAddr>) {
    let address = address.into();
    let listener = within(place.as_fd(), move || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let Ok(peer) = client.peer_addr() else {
                continue;
            };
            let _ = write!(client, "{}", peer.ip().to_canonical());
        }
    });
}

/// The same over UDP.
pub fn serve_udp(sandbox: &Sandbox, port: u16) {
    let socket = within(sandbox.netns(), move || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

fn ask(address: SocketAddr, patience: Duration) -> Result<IpAddr, String> {
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    text.parse().map_err(|_| format!("{text:?} came"))
}

fn ask_udp(address: SocketAddr) -> Result<IpAddr, String> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"?", address).map_err(|e| e.to_string())?;
    let mut buffer = [0; 64];
    let len = socket.recv(&mut buffer).map_err(|e| e.to_string())?;
    Ok(std::str::from_utf8(&buffer[..len])
        .unwrap()
        .parse()
        .unwrap())
}

/// What a server says to a client on the host.
pub fn from_host(address: impl Into<SocketAddr>) -> Result<IpAddr, String> {
    ask(address.into(), PATIENCE)
}

pub fn from_host_udp(address: impl Into<SocketAddr>) -> Result<IpAddr, String> {
    ask_udp(address.into())
}

/// What a server says to a client in a namespace.
pub fn from(place: impl AsFd, address: impl Into<SocketAddr>) -> Result<IpAddr, String> {
    let address = address.into();
    within(place.as_fd(), move || ask(address, PATIENCE))
}

/// Whether a client in a namespace is kept from a server.
pub fn kept_from(place: impl AsFd, address: impl Into<SocketAddr>) -> bool {
    let address = address.into();
    within(place.as_fd(), move || ask(address, REFUSAL).is_err())
}

/// A listener on all addresses, on a port that no client of this machine has by chance.
pub fn listener() -> TcpListener {
    let first = 20_000 + std::process::id() % 10_000;
    (first..first + 1000)
        .find_map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port as u16)).ok())
        .unwrap()
}

/// Runs a program with these words and expects it to succeed.
pub fn run(words: &str) {
    let mut words = words.split_whitespace();
    let name = words.next().unwrap();
    let program = testkit::find_command(name).unwrap_or_else(|| panic!("no {name} in PATH"));
    let out = Command::new(program).args(words).output().unwrap();
    assert!(
        out.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// A machine on another wire of this host, which routes everything by the host.
pub struct Neighbour {
    netns: OwnedFd,
    /// The host's end of the wire; the other's name has an `f` more.
    pub link: String,
    /// The host's address on that wire.
    pub host: Ipv4Addr,
    pub own: Ipv4Addr,
}

impl Neighbour {
    pub fn new(world: &World) -> Self {
        let [_, second, third, _] = world.gateway().octets();
        let host = Ipv4Addr::new(198, 18 + second % 2, third, second & 0xfc | 1);
        let own = Ipv4Addr::from(u32::from(host) + 1);
        let link = format!(
            "bt{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let (name, far) = (link.clone(), format!("{link}f"));
        // The caller's host may be one of its own.
        let caller = rustix::thread::gettid();
        let netns = std::thread::spawn(move || {
            let home = netns::current_network().unwrap();
            netns::unshare_network().unwrap();
            let there = netns::current_network().unwrap();
            // The pair is born here, and the host's end moves home.
            run(&format!("ip link add {far} type veth peer name {name}"));
            run("ip link set lo up");
            run(&format!("ip addr add {own}/30 dev {far}"));
            run(&format!("ip link set {far} up"));
            run(&format!("ip link set {name} netns {caller}"));
            netns::enter_network(home.as_fd()).unwrap();
            run(&format!("ip addr add {host}/30 dev {name}"));
            run(&format!("ip link set {name} up"));
            netns::enter_network(there.as_fd()).unwrap();
            run(&format!("ip route add default via {host}"));
            there
        })
        .join()
        .unwrap();
        Self {
            netns,
            link,
            host,
            own,
        }
    }
}

impl AsFd for Neighbour {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["link", "del", &self.link])
            .output();
    }
}
