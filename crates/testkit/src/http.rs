//! The smallest HTTP client: `curl` for tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The body of `GET /path` at `address`, or why there is none.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {answer:?}")))?;
    Ok(body.to_owned())
}

/// [`get`], asked until it answers.
pub fn get_when_up(address: SocketAddr, path: &str) -> String {
    crate::wait::until(&format!("http://{address}{path}"), || {
        get(address, path).ok().filter(|b| !b.is_empty())
    })
}

/// A TCP port of the host that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("its address").port()
}
