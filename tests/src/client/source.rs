//! Connections from a chosen source address, and with a chosen receive buffer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Another address of this machine than the one that connections come from by default.
pub const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Connects to a server at the loopback address from the address `source`, also one of the loopback network.
///
/// # Errors
/// When the connection is refused.
pub fn connect_from(source: IpAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddr::new(source, 0))?;
    connect(&socket, &server)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects to a server with a receive buffer that holds about a page, so that a client which does not read
/// stops the server's answer soon.
///
/// # Errors
/// When the connection is refused.
pub fn connect_to_stall(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_recv_buffer_size(&socket, 4_096)?;
    connect(&socket, &server)?;
    Ok(TcpStream::from(socket))
}
