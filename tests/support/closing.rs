//! A broker of MQTT 3.1.1 that closes the connection over some topics, as hosted ones do over what their
//! access lists forbid; mosquitto never does.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// It ends with the process.
pub struct ClosingBroker {
    pub port: u16,
    /// Topics of the messages that it took, in order.
    pub taken: Receiver<String>,
}

impl ClosingBroker {
    /// Takes one client after the other.
    pub fn start(closes_over: fn(&str) -> bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (take, taken) = channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                // An error is the client's end, or one that was asked for.
                let _ = serve(client.unwrap(), closes_over, &take);
            }
        });
        ClosingBroker { port, taken }
    }
}

fn serve(mut client: TcpStream, closes_over: fn(&str) -> bool, take: &Sender<String>) -> io::Result<()> {
    loop {
        let mut kind = [0];
        client.read_exact(&mut kind)?;
        let (mut length, mut shift, mut byte) = (0, 0, [0x80]);
        while byte[0] & 0x80 != 0 {
            client.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
        }
        let mut body = vec![0; length];
        client.read_exact(&mut body)?;
        match kind[0] >> 4 {
            1 => client.write_all(&[0x20, 2, 0, 0])?,
            3 => {
                let size = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8_lossy(&body[2..2 + size]).into_owned();
                if closes_over(&topic) {
                    return Ok(());
                }
                client.write_all(&[0x40, 2, body[2 + size], body[3 + size]])?;
                let _ = take.send(topic);
            }
            // Both of the daemon's subscriptions.
            8 => client.write_all(&[0x90, 4, body[0], body[1], 1, 1])?,
            12 => client.write_all(&[0xd0, 0])?,
            _ => return Ok(()),
        }
    }
}
