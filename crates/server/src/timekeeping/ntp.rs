//! The packets of NTP, as far as a client needs them.
//!
//! **Problem.** What arrives on a socket may come from anybody. Only the server that was asked can
//! know the question, and even an honest one may have no time to give, or ask to be left alone.
//!
//! **Idea.** The transmit timestamp of a question tells the server nothing that it needs: it comes
//! back as the origin timestamp. So a random number is sent there, and an answer that does not
//! bring it back is not ours. What is ours is either a time with a bound on its error, or a reason.
//!
//! ```text
//!   0            1         2        3           4            8                  12
//!   +------------+---------+--------+-----------+------------+------------------+------------+
//!   | leap/vn/md | stratum | poll   | precision | root delay | root dispersion  | reference  |
//!   +------------+---------+--------+-----------+------------+------------------+------------+
//!   16 reference time   24 origin   32 received   40 transmitted            all big-endian
//! ```
//!
//! **Eras.** Seconds are counted from 1900 in 32 bits, which end in February 2036. A count with
//! its highest bit set belongs to 1968 to 2036, one without to 2036 to 2104; the clock of the host
//! is not asked, because it may be what is wrong.
//!
//! **Left out.** Authentication (NTS, symmetric keys) and extension fields: bytes after the header
//! are not looked at.
//!
//! **Source.** Mills et al., RFC 5905 (2010), figure 8, sections 6, 7.3 and 7.4 (kiss-o'-death);
//! RFC 4330 (2006), section 3, for the eras; Malhotra et al., "Attacking the Network Time Protocol"
//! (2016), for what an origin timestamp that can be guessed is worth.

use quorate_core::WallTime;
use std::fmt;
use std::time::Duration;

/// Where servers listen.
pub(super) const PORT: u16 = 123;
/// A packet without extensions.
pub(super) const PACKET_BYTES: usize = 48;
/// Who is as far away as this from a true clock knows nothing: RFC 5905, MAXDISP.
pub(super) const DISTANCE_MAX: Duration = Duration::from_secs(16);
/// From 1900 to 1970. Unit: seconds.
const EPOCH_SECONDS: i64 = 2_208_988_800;
const BILLION: i64 = 1_000_000_000;

/// What a server that wants to be left alone says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kiss {
    /// Ask less often.
    Rate,
    /// Do not ask.
    Deny,
    /// Do not ask: who may is restricted.
    Restrict,
    /// Something else, in four letters.
    Other([u8; 4]),
}

/// Why a packet says nothing about the time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unusable {
    /// It is no whole packet.
    Short {
        /// It has so many bytes.
        bytes: usize,
    },
    /// It is of another version of the protocol.
    Version {
        /// Which.
        version: u8,
    },
    /// It is no answer of a server.
    Mode {
        /// What it is instead.
        mode: u8,
    },
    /// It does not answer the question that was asked.
    NotOurs,
    /// The server wants to be left alone.
    Kiss(Kiss),
    /// The server says that it does not know the time.
    Unsynchronised {
        /// Its leap indicator: 3 is an alarm.
        leap: u8,
        /// Its distance from a true clock, in servers.
        stratum: u8,
    },
    /// A timestamp is missing.
    NoTime,
    /// The server is too far from a true clock.
    TooFar {
        /// So far.
        distance: Duration,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Short { bytes } => {
                write!(f, "an answer of {bytes} bytes, and NTP needs {PACKET_BYTES}")
            }
            Unusable::Version { version } => {
                write!(f, "an answer of NTP version {version}; 3 and 4 are understood")
            }
            Unusable::Mode { mode } => write!(f, "a packet of mode {mode}, no server's answer"),
            Unusable::NotOurs => f.write_str("an answer to a question that was not asked"),
            Unusable::Kiss(Kiss::Rate) => f.write_str("it is asked too often (RATE)"),
            Unusable::Kiss(Kiss::Deny) => f.write_str("it refuses to be asked (DENY)"),
            Unusable::Kiss(Kiss::Restrict) => f.write_str("it refuses to be asked (RSTR)"),
            Unusable::Kiss(Kiss::Other(code)) => {
                write!(f, "it gives no time ({})", code.escape_ascii())
            }
            Unusable::Unsynchronised { leap, stratum } => {
                write!(f, "it does not know the time (leap {leap}, stratum {stratum})")
            }
            Unusable::NoTime => f.write_str("an answer without a time"),
            Unusable::TooFar { distance } => write!(
                f,
                "it may be {} s off by its own account, and {} s is too much",
                distance.as_secs(),
                DISTANCE_MAX.as_secs()
            ),
        }
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    /// When the question arrived.
    pub(super) received: WallTime,
    /// When the answer left.
    pub(super) answered: WallTime,
    /// Both may be off by so much: root dispersion, half of the root delay, and its precision.
    pub(super) error: Duration,
}

/// A question of a client of version 4.
pub(super) fn question(nonce: u64) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = (4 << 3) | 3;
    packet[40..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// What `packet` says in answer to the question with that number.
///
/// Errors: nothing, and why.
pub(super) fn answer(packet: &[u8], nonce: u64) -> Result<Answer, Unusable> {
    let Some(packet) = packet.first_chunk::<PACKET_BYTES>() else {
        return Err(Unusable::Short { bytes: packet.len() });
    };
    let (leap, version, mode) = (packet[0] >> 6, (packet[0] >> 3) & 7, packet[0] & 7);
    let stratum = packet[1];
    // First of all, or anybody could have the answer refused that is still to come.
    if long(packet, 24) != nonce {
        return Err(Unusable::NotOurs);
    }
    if !(3..=4).contains(&version) {
        return Err(Unusable::Version { version });
    }
    if mode != 4 {
        return Err(Unusable::Mode { mode });
    }
    let code = [packet[12], packet[13], packet[14], packet[15]];
    if stratum == 0 && code.iter().all(u8::is_ascii_graphic) {
        return Err(Unusable::Kiss(match &code {
            b"RATE" => Kiss::Rate,
            b"DENY" => Kiss::Deny,
            b"RSTR" => Kiss::Restrict,
            _ => Kiss::Other(code),
        }));
    }
    if leap == 3 || !(1..=15).contains(&stratum) {
        return Err(Unusable::Unsynchronised { leap, stratum });
    }
    if long(packet, 32) == 0 || long(packet, 40) == 0 {
        return Err(Unusable::NoTime);
    }
    let error = short(packet, 4) / 2 + short(packet, 8) + precision(packet[3] as i8);
    if error >= DISTANCE_MAX {
        return Err(Unusable::TooFar { distance: error });
    }
    Ok(Answer { received: wall(long(packet, 32)), answered: wall(long(packet, 40)), error })
}

fn long(packet: &[u8; PACKET_BYTES], at: usize) -> u64 {
    packet[at..at + 8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// A length of time in units of 2^-16 s, rounded up.
fn short(packet: &[u8; PACKET_BYTES], at: usize) -> Duration {
    let units = packet[at..at + 4].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    Duration::from_nanos((units * BILLION as u64).div_ceil(1 << 16))
}

/// 2^exponent seconds, and never less than the nanosecond that is lost by rounding.
fn precision(exponent: i8) -> Duration {
    match exponent {
        4.. => DISTANCE_MAX,
        0..4 => Duration::from_secs(1 << exponent),
        -29..0 => Duration::from_nanos((BILLION as u64 >> -exponent) + 1),
        _ => Duration::from_nanos(2),
    }
}

/// The wall time of a timestamp, in the era that its highest bit says.
fn wall(stamp: u64) -> WallTime {
    let (count, fraction) = ((stamp >> 32) as i64, (stamp & 0xffff_ffff) as i64);
    let era = if count >= 1 << 31 { 0 } else { 1 << 32 };
    let seconds = count + era - EPOCH_SECONDS;
    WallTime::from_nanos(seconds * BILLION + ((fraction * BILLION) >> 32))
}

/// The timestamp of a wall time, for servers of tests.
#[cfg(test)]
pub(super) fn stamp(wall: WallTime) -> u64 {
    let seconds = wall.as_nanos().div_euclid(BILLION) + EPOCH_SECONDS;
    let nanos = wall.as_nanos().rem_euclid(BILLION) as u64;
    ((seconds as u64 & 0xffff_ffff) << 32) | ((nanos << 32) / BILLION as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: u64 = 0x0123_4567_89ab_cdef;

    /// What an honest server of stratum 2 says, at 1.5 s and 1.75 s after the beginning of 2000.
    fn honest() -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[0] = (4 << 3) | 4;
        (packet[1], packet[3]) = (2, -20_i8 as u8);
        packet[4..8].copy_from_slice(&0x0000_8000_u32.to_be_bytes()); // half a second
        packet[8..12].copy_from_slice(&0x0000_4000_u32.to_be_bytes()); // a quarter
        packet[24..32].copy_from_slice(&NONCE.to_be_bytes());
        let year_2000 = 3_155_673_600_u64;
        packet[32..40].copy_from_slice(&(((year_2000 + 1) << 32) | 1 << 31).to_be_bytes());
        packet[40..48].copy_from_slice(&(((year_2000 + 1) << 32) | 3 << 30).to_be_bytes());
        packet
    }

    fn with(at: usize, bytes: &[u8]) -> Result<Answer, Unusable> {
        let mut packet = honest();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        answer(&packet, NONCE)
    }

    #[test]
    fn a_question_is_of_a_client_and_holds_nothing_but_its_number() {
        let packet = question(NONCE);
        assert_eq!(packet[0], 0b00_100_011);
        assert_eq!(long(&packet, 40), NONCE);
        assert!(
            packet[1..40].iter().all(|byte| *byte == 0),
            "the host's clock is nobody's business"
        );
    }

    #[test]
    fn an_answer_has_two_times_and_the_distance_to_a_true_clock() {
        let told = answer(&honest(), NONCE).expect("an honest answer");
        assert_eq!(told.received, WallTime::from_nanos(946_684_801_500_000_000));
        assert_eq!(told.answered, WallTime::from_nanos(946_684_801_750_000_000));
        assert_eq!(told.error, Duration::from_nanos(500_000_000 + 954), "half of the root delay");
        assert_eq!(answer(&[&honest()[..], &[7; 20]].concat(), NONCE), Ok(told), "extensions");
    }

    #[test]
    fn what_is_no_answer_is_refused_with_a_reason() {
        let cases = [
            (with(0, &[(4 << 3) | 3]), Unusable::Mode { mode: 3 }),
            (with(0, &[(2 << 3) | 4]), Unusable::Version { version: 2 }),
            (with(24, &[0; 8]), Unusable::NotOurs),
            (with(0, &[0b11_100_100]), Unusable::Unsynchronised { leap: 3, stratum: 2 }),
            (with(1, &[0]), Unusable::Unsynchronised { leap: 0, stratum: 0 }),
            (with(1, &[16]), Unusable::Unsynchronised { leap: 0, stratum: 16 }),
            (with(32, &[0; 8]), Unusable::NoTime),
            (with(40, &[0; 8]), Unusable::NoTime),
            (with(3, &[127]), Unusable::TooFar { distance: Duration::from_nanos(16_500_000_000) }),
        ];
        for (told, why) in cases {
            assert_eq!(told, Err(why));
        }
        assert_eq!(answer(&honest()[..47], NONCE), Err(Unusable::Short { bytes: 47 }));
        let far = with(8, &[0, 16, 0, 0]).expect_err("sixteen seconds");
        assert!(matches!(far, Unusable::TooFar { .. }) && far.to_string().contains("16 s off"));
    }

    #[test]
    fn a_kiss_of_death_is_told_from_silence() {
        let kiss = |code: &[u8; 4]| {
            let mut packet = honest();
            packet[1] = 0;
            packet[12..16].copy_from_slice(code);
            answer(&packet, NONCE)
        };
        assert_eq!(kiss(b"RATE"), Err(Unusable::Kiss(Kiss::Rate)));
        assert_eq!(kiss(b"DENY"), Err(Unusable::Kiss(Kiss::Deny)));
        assert_eq!(kiss(b"RSTR"), Err(Unusable::Kiss(Kiss::Restrict)));
        assert_eq!(kiss(b"INIT"), Err(Unusable::Kiss(Kiss::Other(*b"INIT"))));
        assert_eq!(kiss(&[0; 4]), Err(Unusable::Unsynchronised { leap: 0, stratum: 0 }));
    }

    #[test]
    fn the_count_of_seconds_begins_anew_in_2036() {
        // The last second of the first era, and the first one of the second.
        assert_eq!(wall(0xffff_ffff << 32), WallTime::from_nanos(2_085_978_495_000_000_000));
        assert_eq!(wall(0), WallTime::from_nanos(2_085_978_496_000_000_000));
        for seconds in [0, 1_700_000_000, 2_085_978_495, 2_085_978_496, 4_000_000_000_i64] {
            let at = WallTime::from_nanos(seconds * BILLION);
            assert_eq!(wall(stamp(at)), at);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_a_reason(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            nonce: u64,
        ) {
            if let Err(why) = answer(&bytes, nonce) {
                prop_assert!(!why.to_string().is_empty());
            }
        }

        #[test]
        fn damaged_answers_are_none_or_have_a_bounded_error(
            at in 0..PACKET_BYTES, byte: u8, other in 0..PACKET_BYTES, second: u8,
        ) {
            let mut packet = honest();
            (packet[at], packet[other]) = (byte, second);
            if let Ok(told) = answer(&packet, NONCE) {
                prop_assert!(told.error < DISTANCE_MAX);
                prop_assert_eq!(long(&packet, 24), NONCE);
            }
        }
    }
}
