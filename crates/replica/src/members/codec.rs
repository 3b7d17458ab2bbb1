//! Changes of the table, and the table, as bytes.
//!
//! ```text
//!   command   0xC1, then one of
//!             1 add: id, peer URLs, wanted u8            2 remove: id
//!             3 update: id, peer URLs                    4 promote: id
//!             5 publish: id, name, client URLs           6 replace: id, old, peer URLs
//!             7 force: id
//!   table     version u8 = 1, seats: count u16, each id, name, peer URLs, client URLs, wanted u8,
//!             started u8, replaces u64 (0: nobody); removed: count u16, each index u64, id u64,
//!             witness u8
//!   wanted    0 voter, 1 learner, 2 gone; and 16 of a witness
//!   id        u64          texts   count u16, each text
//!   text      length u16, bytes in UTF-8
//! ```
//!
//! All numbers are little-endian. The first byte of a command is none that a command of the store
//! begins with (`store/codec.rs`), so that both stand in one log.

use super::{Members, REMOVED_MAX, SEATS_MAX, Seat, TEXT_BYTES_MAX, URLS_MAX, Wanted};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{Index, NodeId};
use std::fmt;

/// First byte of every encoded command.
const MARK: u8 = 0xC1;
/// First byte of every encoded table.
const TABLE_VERSION: u8 = 1;

const ADD: u8 = 1;
const REMOVE: u8 = 2;
const UPDATE: u8 = 3;
const PROMOTE: u8 = 4;
const PUBLISH: u8 = 5;
const REPLACE: u8 = 6;
const FORCE: u8 = 7;

/// A change of the members, as the log holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MembersCommand {
    /// A member comes.
    Add {
        /// Its id. Range: never used before.
        id: NodeId,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// A voter or a learner.
        wanted: Wanted,
        /// It keeps no store.
        witness: bool,
    },
    /// A member takes the place of another, in one step, once it holds the log.
    Replace {
        /// The id of the new one. Range: never used before.
        id: NodeId,
        /// Whose place it takes.
        old: NodeId,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
    },
    /// A member leaves.
    Remove {
        /// Which.
        id: NodeId,
    },
    /// A member has moved.
    Update {
        /// Which.
        id: NodeId,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
    },
    /// A learner is to vote.
    Promote {
        /// Which.
        id: NodeId,
    },
    /// A member tells what it is called, and where clients reach it.
    Publish {
        /// Which.
        id: NodeId,
        /// Its name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
    },
    /// All other members are given up.
    Force {
        /// The one that is left.
        id: NodeId,
    },
}

/// Bytes that are no change of members, or no table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadMembers;

impl fmt::Display for BadMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no list of members, and no change of one, that this version knows")
    }
}

impl std::error::Error for BadMembers {}

impl MembersCommand {
    /// True if these bytes are such a command and none of the store.
    pub fn is_one(encoded: &[u8]) -> bool {
        encoded.first() == Some(&MARK)
    }

    /// The member that the command is about.
    pub fn id(&self) -> NodeId {
        match self {
            MembersCommand::Add { id, .. }
            | MembersCommand::Replace { id, .. }
            | MembersCommand::Remove { id }
            | MembersCommand::Update { id, .. }
            | MembersCommand::Promote { id }
            | MembersCommand::Publish { id, .. }
            | MembersCommand::Force { id } => *id,
        }
    }

    /// Appends the encoded command.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, id) = (self.kind(), self.id());
        out.extend_from_slice(&[MARK, kind]);
        out.put_u64_le(id.0);
        match self {
            MembersCommand::Add { peer_urls, wanted, witness, .. } => {
                put_texts(peer_urls, out);
                out.put_u8(wanted_byte(*wanted, *witness));
            }
            MembersCommand::Replace { old, peer_urls, .. } => {
                out.put_u64_le(old.0);
                put_texts(peer_urls, out);
            }
            MembersCommand::Update { peer_urls, .. } => put_texts(peer_urls, out),
            MembersCommand::Publish { name, client_urls, .. } => {
                put_text(name, out);
                put_texts(client_urls, out);
            }
            MembersCommand::Remove { .. }
            | MembersCommand::Promote { .. }
            | MembersCommand::Force { .. } => {}
        }
    }

    fn kind(&self) -> u8 {
        match self {
            MembersCommand::Add { .. } => ADD,
            MembersCommand::Remove { .. } => REMOVE,
            MembersCommand::Update { .. } => UPDATE,
            MembersCommand::Promote { .. } => PROMOTE,
            MembersCommand::Publish { .. } => PUBLISH,
            MembersCommand::Replace { .. } => REPLACE,
            MembersCommand::Force { .. } => FORCE,
        }
    }

    /// The command that was encoded.
    ///
    /// Errors: the bytes are something else, or beyond a bound of this module; never panics.
    pub fn decode(bytes: Bytes) -> Result<MembersCommand, BadMembers> {
        let mut reader = Reader(bytes);
        if reader.byte()? != MARK {
            return Err(BadMembers);
        }
        let kind = reader.byte()?;
        let id = NodeId(reader.number()?);
        let command = match kind {
            ADD => {
                let peer_urls = reader.texts()?;
                let (wanted, witness) = reader.wanted()?;
                MembersCommand::Add { id, peer_urls, wanted, witness }
            }
            REPLACE => {
                let old = NodeId(reader.number()?);
                MembersCommand::Replace { id, old, peer_urls: reader.texts()? }
            }
            REMOVE => MembersCommand::Remove { id },
            UPDATE => MembersCommand::Update { id, peer_urls: reader.texts()? },
            PROMOTE => MembersCommand::Promote { id },
            PUBLISH => {
                let (name, client_urls) = (reader.text()?, reader.texts()?);
                MembersCommand::Publish { id, name, client_urls }
            }
            FORCE => MembersCommand::Force { id },
            _ => return Err(BadMembers),
        };
        reader.end().map(|()| command)
    }
}

impl Members {
    /// The table as bytes.
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = vec![TABLE_VERSION];
        out.put_u16_le(self.seats.len() as u16);
        for (id, seat) in &self.seats {
            out.put_u64_le(id.0);
            put_text(&seat.name, &mut out);
            put_texts(&seat.peer_urls, &mut out);
            put_texts(&seat.client_urls, &mut out);
            let wanted = wanted_byte(seat.wanted, seat.witness);
            out.extend_from_slice(&[wanted, u8::from(seat.started)]);
            out.put_u64_le(seat.replaces.map_or(0, |old| old.0));
        }
        out.put_u16_le(self.removed.len() as u16);
        for ((at, id), witness) in &self.removed {
            out.put_u64_le(at.0);
            out.put_u64_le(id.0);
            out.put_u8(u8::from(*witness));
        }
        out
    }

    /// The table that was encoded.
    ///
    /// Errors: the bytes are something else, or beyond a bound of this module; never panics.
    pub fn decode(bytes: Bytes) -> Result<Members, BadMembers> {
        let mut reader = Reader(bytes);
        if reader.byte()? != TABLE_VERSION {
            return Err(BadMembers);
        }
        let mut members = Members::default();
        for _ in 0..reader.count(SEATS_MAX)? {
            let id = NodeId(reader.number()?);
            let (name, peer_urls, client_urls) = (reader.text()?, reader.texts()?, reader.texts()?);
            let (wanted, witness) = reader.wanted()?;
            let started = reader.byte()? == 1;
            let replaces = Some(reader.number()?).filter(|old| *old != 0).map(NodeId);
            let seat = Seat { name, peer_urls, client_urls, wanted, started, replaces, witness };
            members.seats.insert(id, seat);
        }
        for _ in 0..reader.count(REMOVED_MAX)? {
            let name = (Index(reader.number()?), NodeId(reader.number()?));
            members.removed.insert(name, reader.byte()? == 1);
        }
        reader.end().map(|()| members)
    }
}

/// Added to what is wanted of a witness.
const WITNESS: u8 = 16;

fn wanted_byte(wanted: Wanted, witness: bool) -> u8 {
    let wanted = match wanted {
        Wanted::Voter => 0,
        Wanted::Learner => 1,
        Wanted::Gone => 2,
    };
    if witness { wanted + WITNESS } else { wanted }
}

/// Panics: on a text beyond the bound; whoever takes it in checks it.
fn put_text(text: &str, out: &mut Vec<u8>) {
    assert!(text.len() <= TEXT_BYTES_MAX, "a name or address of {} bytes", text.len());
    out.put_u16_le(text.len() as u16);
    out.extend_from_slice(text.as_bytes());
}

fn put_texts(texts: &[String], out: &mut Vec<u8>) {
    assert!(texts.len() <= URLS_MAX, "{} addresses", texts.len());
    out.put_u16_le(texts.len() as u16);
    texts.iter().for_each(|text| put_text(text, out));
}

struct Reader(Bytes);

impl Reader {
    fn byte(&mut self) -> Result<u8, BadMembers> {
        self.0.try_get_u8().map_err(|_| BadMembers)
    }

    fn number(&mut self) -> Result<u64, BadMembers> {
        self.0.try_get_u64_le().map_err(|_| BadMembers)
    }

    fn count(&mut self, max: usize) -> Result<usize, BadMembers> {
        let count = self.0.try_get_u16_le().map_err(|_| BadMembers)?;
        Some(usize::from(count)).filter(|count| *count <= max).ok_or(BadMembers)
    }

    fn text(&mut self) -> Result<String, BadMembers> {
        let length = self.count(TEXT_BYTES_MAX)?;
        if length > self.0.len() {
            return Err(BadMembers);
        }
        String::from_utf8(self.0.split_to(length).to_vec()).map_err(|_| BadMembers)
    }

    fn texts(&mut self) -> Result<Vec<String>, BadMembers> {
        (0..self.count(URLS_MAX)?).map(|_| self.text()).collect()
    }

    fn wanted(&mut self) -> Result<(Wanted, bool), BadMembers> {
        let byte = self.byte()?;
        let wanted = match byte & !WITNESS {
            0 => Wanted::Voter,
            1 => Wanted::Learner,
            2 => Wanted::Gone,
            _ => return Err(BadMembers),
        };
        Ok((wanted, byte & WITNESS != 0))
    }

    fn end(self) -> Result<(), BadMembers> {
        if self.0.is_empty() { Ok(()) } else { Err(BadMembers) }
    }
}
