//! A slow network without a clock: a proxy on loopback that lets so many bytes through, and more when told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Bytes that may still pass, both directions of all connections together.
type Allowance = Arc<(Mutex<u64>, Condvar)>;

/// A proxy in front of a server.
pub struct Gate {
    address: SocketAddr,
    allowance: Allowance,
}

impl Gate {
    /// Stands in front of `server` and lets `bytes` through at first.
    pub fn before(server: SocketAddr, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let allowance: Allowance = Arc::new((Mutex::new(bytes), Condvar::new()));
        let shared = Arc::clone(&allowance);
        // The threads end with their connections, the listener with the test program.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                    let from = from.try_clone().expect("a descriptor");
                    let to = to.try_clone().expect("a descriptor");
                    let allowance = Arc::clone(&shared);
                    thread::spawn(move || pass(from, to, &allowance));
                }
            }
        });
        Gate { address, allowance }
    }

    /// `127.0.0.1:port`, as an image name begins.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Lets `bytes` more through.
    pub fn open(&self, bytes: u64) {
        let mut left = self.allowance.0.lock().expect("no panic");
        *left = left.saturating_add(bytes);
        self.allowance.1.notify_all();
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, allowance: &Allowance) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut sent = 0;
        while sent < read {
            let mut left = allowance.0.lock().expect("no panic");
            while *left == 0 {
                left = allowance.1.wait(left).expect("no panic");
            }
            let now = (read - sent).min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= now as u64;
            drop(left);
            if to.write_all(&buffer[sent..sent + now]).is_err() {
                return;
            }
            sent += now;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}
