//! A network that can be cut: every connection between two members leads through the test.
//!
//! ```text
//!    m1 ---> advertised port of m2 (proxy) ---> peer port of m2
//! ```
//!
//! Members call each other on connections of their own, so one direction can be cut alone. The
//! proxy learns who is calling from the first frame, in which the caller names itself. A stalled
//! connection keeps what was sent and delivers it when the cut is healed: late messages are the
//! ones that break protocols.

use crate::support::net::loopback;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where the first frame holds the id of the caller: after frame header (12), magic (4), version
/// (2) and cluster (8).
const CALLER_AT: usize = 26;

/// Bytes of the first frame that are read before it is passed on.
const FIRST_BYTES: usize = CALLER_AT + 8;

/// What happens to one direction between two members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cut {
    /// Nothing arrives, and nobody is told.
    Stalled,
    /// Connections are closed.
    Closed,
}

/// Cuts by caller (member id) and callee (its place in the cluster).
type Cuts = BTreeMap<(u64, usize), Cut>;

/// The proxies of one cluster. They end with the runtime of the test.
#[derive(Debug)]
pub(crate) struct Network {
    cuts: Arc<watch::Sender<Cuts>>,
}

impl Network {
    /// Begins to listen: `ports` are pairs of advertised port and peer port.
    pub(crate) async fn start(ports: &[(u16, u16)]) -> Network {
        let cuts = Arc::new(watch::Sender::new(Cuts::new()));
        for (callee, (advertised, peer)) in ports.iter().copied().enumerate() {
            let listener = TcpListener::bind(loopback(advertised)).await.expect("a free port");
            tokio::spawn(accept(listener, callee, peer, Arc::clone(&cuts)));
        }
        Network { cuts }
    }

    /// Cuts the direction from the member with this id to the one at this place.
    pub(crate) fn cut(&self, caller: u64, callee: usize, cut: Cut) {
        self.cuts.send_modify(|cuts| {
            cuts.insert((caller, callee), cut);
        });
    }

    /// Everything arrives again.
    pub(crate) fn heal(&self) {
        self.cuts.send_modify(Cuts::clear);
    }

    /// True if nothing is cut.
    pub(crate) fn is_whole(&self) -> bool {
        self.cuts.borrow().is_empty()
    }
}

async fn accept(listener: TcpListener, callee: usize, peer: u16, cuts: Arc<watch::Sender<Cuts>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("the listener lives");
        tokio::spawn(connect(stream, callee, peer, cuts.subscribe()));
    }
}

/// One connection. It ends when either side closes it or the cut says so.
async fn connect(
    mut caller: TcpStream,
    callee: usize,
    peer: u16,
    cuts: watch::Receiver<Cuts>,
) -> Option<()> {
    let mut first = [0; FIRST_BYTES];
    caller.read_exact(&mut first).await.ok()?;
    let id = u64::from_le_bytes(first[CALLER_AT..].try_into().expect("eight bytes"));
    let wire = Wire { caller: id, callee, cuts };
    wire.clone().passage().await?;
    let mut member = TcpStream::connect(loopback(peer)).await.ok()?;
    member.write_all(&first).await.ok()?;
    let (from_caller, to_caller) = caller.into_split();
    let (from_member, to_member) = member.into_split();
    // The answers belong to the caller's connection and share its fate.
    tokio::select! {
        () = wire.clone().carry(from_caller, to_member) => {}
        () = wire.clone().carry(from_member, to_caller) => {}
        () = wire.closed() => {}
    }
    Some(())
}

/// One direction between two members.
#[derive(Clone)]
struct Wire {
    caller: u64,
    callee: usize,
    cuts: watch::Receiver<Cuts>,
}

impl Wire {
    fn state(cuts: &Cuts, key: (u64, usize)) -> Option<Cut> {
        cuts.get(&key).copied()
    }

    /// Waits as long as the wire is stalled; none if it is closed.
    async fn passage(&mut self) -> Option<()> {
        let key = (self.caller, self.callee);
        let stalled = |cuts: &Cuts| Wire::state(cuts, key) == Some(Cut::Stalled);
        let cuts = self.cuts.wait_for(|cuts| !stalled(cuts)).await.ok()?;
        (Wire::state(&cuts, key) != Some(Cut::Closed)).then_some(())
    }

    async fn closed(mut self) {
        let key = (self.caller, self.callee);
        // An error means that the test is over.
        let _ = self.cuts.wait_for(|cuts| Wire::state(cuts, key) == Some(Cut::Closed)).await;
    }

    async fn carry(
        mut self,
        mut from: impl tokio::io::AsyncRead + Unpin,
        mut to: impl tokio::io::AsyncWrite + Unpin,
    ) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if self.passage().await.is_none() || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
