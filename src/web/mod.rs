//! The API over HTTP: on a Unix socket for whoever may open it, over TCP for whoever has the token.
//!
//! What can be read is read from the store and the facts; what changes something goes to the daemon as a
//! command ([`Commands`]). HTTP/1.1 with `httparse` and a loop of our own: tiny_http, which would be the
//! crate for it, knows no time limits (nor lets anybody set them), so whoever sends half a request holds one
//! of its threads for ever. Each connection carries one request and has a thread of its own.

mod api;
mod client;
mod faults;
mod hub;
mod metrics;
mod request;
mod response;
mod server;
mod socket;
mod token;

pub use api::{Api, Commands, ListedSample, ListedSlot, Told};
pub use client::{Client, ClientError, Events};
pub use faults::{doubts, faults};
pub use hub::Hub;
pub use server::{Server, WebError};
pub use socket::{SOCKET, choose};
pub use token::Token;
