//! Questions and answers, as a client would read them, and bytes that are no questions.

use super::*;
use crate::naming::Directory;
use domain::rdata::AllRecordData;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Names and their instances; a name without instances has withdrawn ones.
#[derive(Debug, Default)]
struct Book(BTreeMap<&'static str, Vec<Instance>>);

impl View for Book {
    fn revision(&self) -> u64 {
        (1 << 32) + 7
    }

    fn instances(&self, name: &str) -> Vec<Instance> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn may_exist(&self, name: &str) -> bool {
        let below = format!(".{name}");
        self.0.keys().any(|known| *known == name || known.ends_with(&below))
    }
}

fn instance(addr: &str) -> Instance {
    let place = Place::parse(addr).expect(addr);
    Instance { place, terms: Terms::default(), left: Some(30) }
}

fn with(mut instance: Instance, change: impl FnOnce(&mut Instance)) -> Instance {
    change(&mut instance);
    instance
}

fn book() -> Book {
    let service = |name: &'static str| {
        move |it: &mut Instance| {
            it.terms.service = Some(name.to_owned());
        }
    };
    Book(BTreeMap::from([
        ("web", vec![instance("10.0.0.1:80"), instance("10.0.0.2:80"), instance("[fd00::1]:80")]),
        (
            "db.eu",
            vec![
                with(instance("10.1.0.1:5432"), service("pg")),
                with(instance("db2.example:5432"), |it| it.terms.priority = 3),
                with(instance("10.1.0.3"), |it| it.terms.priority = 9),
            ],
        ),
        ("ill", vec![]),
        ("short", vec![with(instance("10.2.0.1:1"), |it| it.left = Some(2))]),
    ]))
}

fn zone() -> Zone {
    Zone::new("quorate.", Directory::at("names/"), vec![[192, 0, 2, 1].into()]).expect("a zone")
}

const TERSE: Terse = Terse { ttl: 5, turn: 0 };

fn query(name: &str, rtype: Rtype, size: Option<u16>) -> Vec<u8> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(77);
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((Name::vec_from_str(name).expect(name), rtype)).expect("room");
    let mut message = message.additional();
    if let Some(size) = size {
        message
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                Ok(())
            })
            .expect("room");
    }
    message.finish()
}

fn asked(name: &str, rtype: Rtype) -> String {
    let query = query(name, rtype, Some(4_096));
    told(&answer(&query, Transport::Udp, &zone(), &book(), TERSE).expect("an answer").bytes)
}

/// Response code, flags, and the records of each section, sorted.
fn told(response: &[u8]) -> String {
    let message = Message::from_slice(response).expect("a message");
    let header = message.header();
    assert!(header.qr() && !header.ra(), "a response, without recursion");
    assert_eq!(header.id(), 77);
    let mut text = header.rcode().to_string();
    for (flag, name) in [(header.aa(), " aa"), (header.tc(), " tc")] {
        if flag {
            text += name;
        }
    }
    let (_, answers, authority, additional) = message.sections().expect("sections");
    for (name, section) in [("", answers), ("authority ", authority), ("additional ", additional)] {
        let mut lines = Vec::new();
        for record in section.limit_to::<AllRecordData<_, ParsedName<_>>>() {
            let record = record.expect("a record");
            if record.rtype() == Rtype::OPT {
                continue;
            }
            let (owner, ttl) = (record.owner(), record.ttl().as_secs());
            lines.push(format!("\n{name}{owner} {ttl} {} {}", record.rtype(), record.data()));
        }
        lines.sort();
        lines.iter().for_each(|line| write!(text, "{line}").expect("memory"));
    }
    text
}

#[test]
fn addresses_of_a_service() {
    let wanted = "NOERROR aa\nweb.quorate 5 A 10.0.0.1\nweb.quorate 5 A 10.0.0.2";
    assert_eq!(asked("web.quorate.", Rtype::A), wanted);
    // The name is told as it was asked for, so that a client knows its own question again.
    assert_eq!(asked("wEb.QUORATE.", Rtype::A), wanted.replace("web.quorate", "wEb.QUORATE"));
    assert_eq!(asked("web.quorate.", Rtype::AAAA), "NOERROR aa\nweb.quorate 5 AAAA fd00::1");
    // Those of a larger number are second to it, and a host that is a name has no address here.
    assert_eq!(asked("db.eu.quorate.", Rtype::A), "NOERROR aa\ndb.eu.quorate 5 A 10.1.0.1");
    // Nobody is told of for longer than he lives.
    assert_eq!(asked("short.quorate.", Rtype::A), "NOERROR aa\nshort.quorate 2 A 10.2.0.1");
    let host = "ip-10-0-0-2.web.quorate.";
    assert_eq!(asked(host, Rtype::A), "NOERROR aa\nip-10-0-0-2.web.quorate 5 A 10.0.0.2");
}

#[test]
fn services_with_ports_priorities_and_addresses() {
    let wanted = "NOERROR aa\n\
        _http._tcp.web.quorate 5 SRV 0 1 80 ip-10-0-0-1.web.quorate\n\
        _http._tcp.web.quorate 5 SRV 0 1 80 ip-10-0-0-2.web.quorate\n\
        _http._tcp.web.quorate 5 SRV 0 1 80 ip-fd000000000000000000000000000001.web.quorate\n\
        additional ip-10-0-0-1.web.quorate 5 A 10.0.0.1\n\
        additional ip-10-0-0-2.web.quorate 5 A 10.0.0.2\n\
        additional ip-fd000000000000000000000000000001.web.quorate 5 AAAA fd00::1";
    assert_eq!(asked("_http._tcp.web.quorate.", Rtype::SRV), wanted);
    let plain = asked("web.quorate.", Rtype::SRV);
    assert_eq!(plain, wanted.replace("_http._tcp.web", "web"));
    // The one without a port is left out, the one that says what it serves serves nothing else.
    let wanted = "NOERROR aa\n\
        _pg._tcp.db.eu.quorate 5 SRV 0 1 5432 ip-10-1-0-1.db.eu.quorate\n\
        _pg._tcp.db.eu.quorate 5 SRV 3 1 5432 db2.example\n\
        additional ip-10-1-0-1.db.eu.quorate 5 A 10.1.0.1";
    assert_eq!(asked("_pg._tcp.db.eu.quorate.", Rtype::SRV), wanted);
    let other = asked("_http._tcp.db.eu.quorate.", Rtype::SRV);
    assert_eq!(other, "NOERROR aa\n_http._tcp.db.eu.quorate 5 SRV 3 1 5432 db2.example");
    assert!(asked("_http._udp.web.quorate.", Rtype::SRV).starts_with("NXDOMAIN aa"));
}

#[test]
fn no_such_name_and_no_such_record_are_told_apart() {
    let soa = "\nauthority quorate 5 SOA ns.quorate. hostmaster.quorate. 7 60 60 3600 5";
    for (name, rtype) in [
        ("web.quorate.", Rtype::TXT),
        ("ill.quorate.", Rtype::A),
        ("eu.quorate.", Rtype::A), // Nothing is there, and something is below.
        ("_tcp.web.quorate.", Rtype::SRV),
        ("_http._tcp.web.quorate.", Rtype::A),
        ("quorate.", Rtype::A),
        ("ns.quorate.", Rtype::AAAA),
        ("ip-10-0-0-2.web.quorate.", Rtype::AAAA),
    ] {
        assert_eq!(asked(name, rtype), format!("NOERROR aa{soa}"), "{name} {rtype}");
    }
    for (name, rtype) in [
        ("nobody.quorate.", Rtype::A),
        ("b.quorate.", Rtype::SRV),
        ("ip-10-0-0-9.web.quorate.", Rtype::A),
        ("_tcp.nobody.quorate.", Rtype::SRV),
        (r"we\.b.quorate.", Rtype::A),
        ("nobody.quorate.", Rtype::ANY),
    ] {
        assert_eq!(asked(name, rtype), format!("NXDOMAIN aa{soa}"), "{name} {rtype}");
    }
}

#[test]
fn the_zone_tells_of_itself_and_of_nothing_else() {
    let soa = "NOERROR aa\nquorate 60 SOA ns.quorate. hostmaster.quorate. 7 60 60 3600 5";
    assert_eq!(asked("quorate.", Rtype::SOA), soa);
    assert_eq!(asked("quorate.", Rtype::NS), "NOERROR aa\nquorate 60 NS ns.quorate.");
    assert_eq!(asked("ns.quorate.", Rtype::A), "NOERROR aa\nns.quorate 60 A 192.0.2.1");
    let any = "NOERROR aa\nweb.quorate 60 HINFO \"RFC8482\" \"\"";
    assert_eq!(asked("web.quorate.", Rtype::ANY), any);
    for (name, rtype) in [
        ("example.", Rtype::A),
        (".", Rtype::NS),
        ("xquorate.", Rtype::A),
        ("quorate.", Rtype::AXFR),
        ("quorate.", Rtype::IXFR),
    ] {
        assert_eq!(asked(name, rtype), "REFUSED", "{name} {rtype}");
    }
}

fn raw(query: &[u8]) -> Option<String> {
    answer(query, Transport::Udp, &zone(), &book(), TERSE).map(|response| told(&response.bytes))
}

#[test]
fn what_is_no_question_is_answered_shortly_or_not_at_all() {
    let good = query("web.quorate.", Rtype::A, None);
    assert_eq!(raw(&good[..11]), None, "no header");
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(raw(&response), None, "a response");
    let mut status = good.clone();
    status[2] |= 2 << 3;
    assert_eq!(raw(&status).as_deref(), Some("NOTIMP"));
    let mut none = good.clone();
    none[5] = 0;
    assert_eq!(raw(&none).as_deref(), Some("FORMERR"));
    assert_eq!(raw(&good[..good.len() - 3]).as_deref(), Some("FORMERR"));
    let mut chaos = good.clone();
    *chaos.last_mut().expect("the class") = 3;
    assert_eq!(raw(&chaos).as_deref(), Some("REFUSED"));
    let mut version = query("web.quorate.", Rtype::A, Some(1_232));
    let at = version.len() - 5; // Of the OPT record: extended code, version, flags, length.
    version[at] = 1;
    let answered = answer(&version, Transport::Udp, &zone(), &book(), TERSE).expect("an answer");
    let message = Message::from_slice(&answered.bytes).expect("a message");
    assert_eq!(message.opt_rcode(), OptRcode::BADVERS);
}

#[test]
fn what_does_not_fit_is_left_out_whole_and_sends_to_tcp() {
    let many = |i: u32| {
        let mut it = instance("10.0.0.1:80");
        it.place.host = Host::Ip(IpAddr::from((0x0a00_0000 + i).to_be_bytes()));
        it
    };
    let book = Book(BTreeMap::from([("web", (0..200).map(many).collect())]));
    for (size, transport, is_cut, bytes_max) in [
        (None, Transport::Udp, true, 512),
        (Some(100), Transport::Udp, true, 512),
        (Some(4_096), Transport::Udp, false, UDP_BYTES_MAX),
        (None, Transport::Tcp, false, TCP_BYTES_MAX),
    ] {
        let query = query("web.quorate.", Rtype::A, size);
        let response = answer(&query, transport, &zone(), &book, TERSE).expect("an answer").bytes;
        let message = Message::from_slice(&response).expect("a message");
        assert!(response.len() <= bytes_max, "{size:?}");
        assert_eq!(message.header().tc(), is_cut, "{size:?} {transport:?}");
        let wanted = if is_cut { 0 } else { RECORDS_MAX };
        assert_eq!(usize::from(message.header_counts().ancount()), wanted);
        assert_eq!(message.opt().is_some(), size.is_some());
    }
    let services = query("web.quorate.", Rtype::SRV, Some(UDP_BYTES_MAX as u16));
    let cut = answer(&services, Transport::Udp, &zone(), &book, TERSE).expect("an answer").bytes;
    assert_eq!(told(&cut), "NOERROR aa tc");
    let whole = answer(&services, Transport::Tcp, &zone(), &book, TERSE).expect("an answer").bytes;
    let message = Message::from_slice(&whole).expect("a message");
    let counts = message.header_counts();
    assert_eq!((counts.ancount(), counts.arcount()), (64, 65), "with addresses, and OPT");
}

#[test]
fn every_order_comes_up() {
    let first = |turn| {
        let query = query("web.quorate.", Rtype::A, None);
        let terse = Terse { turn, ..TERSE };
        let response = answer(&query, Transport::Udp, &zone(), &book(), terse).expect("an answer");
        response.bytes[response.bytes.len() - 1]
    };
    let last = (0..32).map(first).filter(|last| *last == 1).count();
    assert!((8..=24).contains(&last), "{last} of 32");
    assert_eq!(first(3), first(3), "the same turn is the same answer");
}

proptest! {
    #[test]
    fn arbitrary_bytes_get_an_answer_or_none(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let found = answer(&bytes, Transport::Udp, &zone(), &book(), TERSE);
        prop_assert_eq!(found.is_some(), bytes.len() >= 12 && bytes[2] & 0x80 == 0);
        if let Some(response) = found {
            prop_assert!(response.bytes.len() <= UDP_BYTES_MAX);
            prop_assert_eq!(&response.bytes[..2], &bytes[..2], "the id");
        }
    }

    #[test]
    fn questions_with_a_few_bytes_changed_do_no_harm(
        name in prop::sample::select(vec!["web.quorate.", "_http._tcp.db.eu.quorate.", "quorate."]),
        rtype in prop::sample::select(vec![Rtype::A, Rtype::SRV, Rtype::SOA, Rtype::ANY]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = query(name, rtype, Some(1_000));
        for (at, to) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *to;
        }
        if changes.len() == 3 {
            bytes.truncate(cut.index(bytes.len()));
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Some(response) = answer(&bytes, transport, &zone(), &book(), TERSE) {
                let parsed = Message::from_slice(&response.bytes).expect("a message");
                prop_assert!(parsed.sections().is_ok());
                prop_assert!(!changes.is_empty() || parsed.header().rcode() == Rcode::NOERROR);
            }
        }
    }
}
