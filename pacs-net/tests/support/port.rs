//! Ports for peers that can't choose one.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of the loopback interface that nobody listens on just now, and that the system gives to nobody who connects: such a
/// one may be taken before it is listened on, even by who tries to connect to it.
pub fn free_port() -> u16 {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let given = std::fs::read_to_string(RANGE).unwrap_or_default();
    let first = given
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    // Of the ports below that one, and above those of services.
    let end = first.filter(|first| *first >= 4_000).unwrap_or(32_768_u16);
    let ports = (end - 2_000).min(12_000);
    loop {
        // Tests run at once begin elsewhere.
        let begin = (std::process::id() % 1_000) as u16 * 37;
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = end - 1 - number % ports;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
