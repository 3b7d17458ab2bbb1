//! The first frame of every peer connection: who calls whom, and with which disk.

use bytes::{Buf, BufMut, Bytes};

/// Says that this is a quorate member and no stray HTTP client.
pub(super) const MAGIC: [u8; 4] = *b"QRTP";
/// Version of the peer protocol. Another one is refused with both numbers.
pub(super) const VERSION: u16 = 2;
/// Known members in one hello; a longer list is refused.
const KNOWN_MAX: usize = 1_024;

/// Bytes in one string, and strings in one list, of a profile.
const PROFILE_MAX: usize = 4_096;

/// What a member tells of itself, for clients that ask for the members.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Profile {
    /// Its name.
    pub(crate) name: String,
    /// Where clients reach it.
    pub(crate) client_urls: Vec<String>,
}

/// What the connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lane {
    /// Messages of the replica.
    Messages,
    /// One checkpoint, so that its megabytes never stand in front of a heartbeat.
    Checkpoint,
}

/// Who is calling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Hello {
    /// The cluster that the caller belongs to.
    pub(super) cluster: u64,
    /// The caller.
    pub(super) from: u64,
    /// Whom it believes to call.
    pub(super) to: u64,
    /// The caller's data directory.
    pub(super) data: u64,
    /// What the connection is for.
    pub(super) lane: Lane,
    /// What the caller tells of itself.
    pub(super) profile: Profile,
    /// The data directories that the caller knows of: (member, data).
    pub(super) known: Vec<(u64, u64)>,
}

/// The answer to a hello that was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Welcome {
    /// The data directory of the member that answers.
    pub(super) data: u64,
    /// What it tells of itself.
    pub(super) profile: Profile,
    /// The data directories that it knows of.
    pub(super) known: Vec<(u64, u64)>,
}

/// Why a hello is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum BadHello {
    /// Not a quorate member.
    Foreign,
    /// Another version of the peer protocol.
    Version {
        /// The caller's.
        theirs: u16,
    },
    /// Cut short or too long.
    Malformed,
}

impl std::fmt::Display for BadHello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadHello::Foreign => f.write_str("the caller does not speak the peer protocol"),
            BadHello::Version { theirs } => {
                write!(f, "the caller speaks version {theirs} of the peer protocol, not {VERSION}")
            }
            BadHello::Malformed => f.write_str("a hello that is cut short or too long"),
        }
    }
}

impl std::error::Error for BadHello {}

impl Hello {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.put_u16_le(VERSION);
        for number in [self.cluster, self.from, self.to, self.data] {
            out.put_u64_le(number);
        }
        out.put_u8(match self.lane {
            Lane::Messages => 0,
            Lane::Checkpoint => 1,
        });
        self.profile.encode(out);
        encode_known(&self.known, out);
    }

    pub(super) fn decode(mut bytes: Bytes) -> Result<Hello, BadHello> {
        if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != MAGIC {
            return Err(BadHello::Foreign);
        }
        bytes.advance(MAGIC.len());
        let theirs = bytes.try_get_u16_le().map_err(|_| BadHello::Malformed)?;
        if theirs != VERSION {
            return Err(BadHello::Version { theirs });
        }
        let mut number = || bytes.try_get_u64_le().map_err(|_| BadHello::Malformed);
        let (cluster, from, to, data) = (number()?, number()?, number()?, number()?);
        let lane = match bytes.try_get_u8() {
            Ok(0) => Lane::Messages,
            Ok(1) => Lane::Checkpoint,
            _ => return Err(BadHello::Malformed),
        };
        let profile = Profile::decode(&mut bytes)?;
        Ok(Hello { cluster, from, to, data, lane, profile, known: decode_known(bytes)? })
    }
}

impl Welcome {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.data);
        self.profile.encode(out);
        encode_known(&self.known, out);
    }

    pub(super) fn decode(mut bytes: Bytes) -> Result<Welcome, BadHello> {
        let data = bytes.try_get_u64_le().map_err(|_| BadHello::Malformed)?;
        let profile = Profile::decode(&mut bytes)?;
        Ok(Welcome { data, profile, known: decode_known(bytes)? })
    }
}

impl Profile {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16_le(self.client_urls.len().min(PROFILE_MAX) as u16);
        for text in [&self.name].into_iter().chain(self.client_urls.iter().take(PROFILE_MAX)) {
            let text = &text.as_bytes()[..text.len().min(PROFILE_MAX)];
            out.put_u16_le(text.len() as u16);
            out.extend_from_slice(text);
        }
    }

    fn decode(bytes: &mut Bytes) -> Result<Profile, BadHello> {
        let urls = bytes.try_get_u16_le().map_err(|_| BadHello::Malformed)? as usize;
        if urls > PROFILE_MAX {
            return Err(BadHello::Malformed);
        }
        let mut text = || {
            let length = bytes.try_get_u16_le().map_err(|_| BadHello::Malformed)? as usize;
            if length > PROFILE_MAX || length > bytes.len() {
                return Err(BadHello::Malformed);
            }
            let text = bytes.split_to(length).to_vec();
            String::from_utf8(text).map_err(|_| BadHello::Malformed)
        };
        let name = text()?;
        let client_urls = (0..urls).map(|_| text()).collect::<Result<_, _>>()?;
        Ok(Profile { name, client_urls })
    }
}

fn encode_known(known: &[(u64, u64)], out: &mut Vec<u8>) {
    let known = &known[..known.len().min(KNOWN_MAX)];
    out.put_u16_le(known.len() as u16);
    for (member, data) in known {
        out.put_u64_le(*member);
        out.put_u64_le(*data);
    }
}

fn decode_known(mut bytes: Bytes) -> Result<Vec<(u64, u64)>, BadHello> {
    let count = bytes.try_get_u16_le().map_err(|_| BadHello::Malformed)? as usize;
    if count > KNOWN_MAX || bytes.len() != count * 16 {
        return Err(BadHello::Malformed);
    }
    Ok((0..count).map(|_| (bytes.get_u64_le(), bytes.get_u64_le())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let client_urls = vec!["http://127.0.0.1:2379".to_owned(), "http://[::1]:2379".to_owned()];
        let profile = Profile { name: "m1".to_owned(), client_urls };
        let known = vec![(1, 10), (2, 20)];
        Hello { cluster: 9, from: 1, to: 2, data: 10, lane: Lane::Checkpoint, profile, known }
    }

    #[test]
    fn a_hello_survives_the_wire() {
        let mut bytes = Vec::new();
        hello().encode(&mut bytes);
        assert_eq!(Hello::decode(Bytes::from(bytes)), Ok(hello()));
    }

    #[test]
    fn a_list_of_members_that_is_too_long_is_cut_and_no_reason_to_end() {
        let known: Vec<_> = (0..5_000).map(|member| (member, member)).collect();
        let mut bytes = Vec::new();
        Hello { known: known.clone(), ..hello() }.encode(&mut bytes);
        let read = Hello::decode(Bytes::from(bytes)).expect("a hello");
        assert_eq!(read.known, known[..KNOWN_MAX]);
    }

    #[test]
    fn cut_foreign_and_newer_hellos_are_told_apart() {
        let mut bytes = Vec::new();
        hello().encode(&mut bytes);
        for cut in 4..bytes.len() {
            let short = Bytes::copy_from_slice(&bytes[..cut]);
            assert_eq!(Hello::decode(short), Err(BadHello::Malformed), "cut at {cut}");
        }
        let http = Bytes::from_static(b"GET / HTTP/1.1\r\n");
        assert_eq!(Hello::decode(http), Err(BadHello::Foreign));
        bytes[4] = 9;
        assert_eq!(Hello::decode(Bytes::from(bytes)), Err(BadHello::Version { theirs: 9 }));
    }
}
