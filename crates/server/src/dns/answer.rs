//! One query, one response: a function of the query, the zone and a view of the store.
//!
//! | asked | answered |
//! |---|---|
//! | no header, or a response | nothing: an answer could go round for ever |
//! | not one question, or one that cannot be read | FORMERR |
//! | another operation than a query | NOTIMP |
//! | a version of EDNS other than 0 | BADVERS |
//! | another zone, another class, a transfer of the zone | REFUSED: there is no recursion |
//! | any type | one record that says that this is not done (RFC 8482) |
//! | a name with nothing at it and nothing below | NXDOMAIN |
//! | a name without records of this type | NODATA: no error, no answer (RFC 2308) |
//!
//! Both kinds of "nothing" carry the SOA, whose minimum says how long that may be believed.
//! An answer over UDP is never longer than the client takes, nor than [`UDP_BYTES_MAX`]; what does
//! not fit is left out whole, with the TC bit, which sends the client to TCP.

use super::zone::{Meaning, Zone, outside};
use crate::naming::{Host, Place, Terms};
use domain::base::charstr::CharStr;
use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, AuthorityBuilder};
use domain::base::name::{Name, ParsedName};
use domain::base::{Message, MessageBuilder, Serial, StaticCompressor, Ttl};
use domain::rdata::{A, Aaaa, Hinfo, Ns, Soa, Srv};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The longest answer over UDP: what passes nearly every network whole. Unit: bytes.
/// "DNS Flag Day 2020".
pub(crate) const UDP_BYTES_MAX: usize = 1_232;
/// What every client takes. Unit: bytes. RFC 1035, section 4.2.1.
const UDP_BYTES_MIN: usize = 512;
/// Over TCP, after the length. Unit: bytes.
const TCP_BYTES_MAX: usize = 65_535;
/// An OPT record without options. Unit: bytes.
const OPT_BYTES: usize = 11;
/// Records of one answer; of more instances a choice is told, another one each time.
const RECORDS_MAX: usize = 64;
/// How long "nothing" is believed, at most. Unit: seconds.
const NEGATIVE_TTL_MAX: u32 = 5;
/// Of what changes with the configuration alone. Unit: seconds.
const ZONE_TTL: u32 = 60;

/// How the query came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream.
    Tcp,
}

/// One healthy instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Where it is.
    pub(crate) place: Place,
    /// What is said of it.
    pub(crate) terms: Terms,
    /// So long it lives at least, as far as is known. Unit: seconds. None: it has no end.
    pub(crate) left: Option<u32>,
}

/// What is in the store.
pub(crate) trait View {
    /// The revision of the store.
    fn revision(&self) -> u64;
    /// The healthy instances of a name.
    fn instances(&self, name: &str) -> Vec<Instance>;
    /// False only if nobody is registered under this name, healthy or not, nor under one below it.
    fn may_exist(&self, name: &str) -> bool;
}

/// What has come.
pub(crate) enum Reading<'a> {
    /// Nothing that is answered.
    Nothing,
    /// The answer needs no look at the store.
    Answer(Response),
    /// A question.
    Ask(Question<'a>),
}

/// A response, and what is counted of it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The message.
    pub(crate) bytes: Vec<u8>,
    /// What was asked for; 0 if that cannot be said.
    pub(crate) rtype: u16,
    /// The response code, with what EDNS adds to it.
    pub(crate) rcode: u16,
}

/// A question about the zone.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    message: &'a Message<[u8]>,
    name: ParsedName<&'a [u8]>,
    rtype: Rtype,
    meaning: Meaning,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes_max: usize,
    has_edns: bool,
}

/// What is said in answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terse {
    /// An answer may be kept so long, at most. Unit: seconds.
    pub(crate) ttl: u32,
    /// Another number, another order.
    pub(crate) turn: u64,
}

/// Records of one type, with the time for which they may be kept.
struct Found {
    ttl: u32,
    records: Vec<Data>,
}

enum Data {
    A(A),
    Aaaa(Aaaa),
    Srv(Srv<Name<Vec<u8>>>, Option<IpAddr>),
    Ns,
    Soa,
    /// "This is not done."
    Hinfo,
}

type Target = StaticCompressor<Vec<u8>>;

/// Reads a query.
pub(crate) fn read<'a>(query: &'a [u8], transport: Transport, zone: &Zone) -> Reading<'a> {
    let Ok(message) = Message::from_slice(query) else { return Reading::Nothing };
    if message.header().qr() {
        return Reading::Nothing;
    }
    let edns = message.opt();
    let taken = edns.as_ref().map_or(UDP_BYTES_MIN, |opt| opt.udp_payload_size().into());
    let bytes_max = match transport {
        Transport::Tcp => TCP_BYTES_MAX,
        Transport::Udp => taken.clamp(UDP_BYTES_MIN, UDP_BYTES_MAX),
    };
    let limits = Limits { bytes_max, has_edns: edns.is_some() };
    let refuse =
        |rcode: OptRcode, rtype: u16| Reading::Answer(empty(message, rcode, rtype, limits));
    if message.header().opcode() != Opcode::QUERY {
        return refuse(OptRcode::NOTIMP, 0);
    }
    let Ok(asked) = message.sole_question() else { return refuse(OptRcode::FORMERR, 0) };
    let (rtype, class) = (asked.qtype(), asked.qclass());
    let number = rtype.to_int();
    if edns.is_some_and(|opt| opt.version() > 0) {
        return refuse(OptRcode::BADVERS, number);
    }
    let is_transfer = matches!(rtype, Rtype::AXFR | Rtype::IXFR);
    let name = asked.into_qname();
    let meaning = zone.meaning(&name);
    if is_transfer || !matches!(class, Class::IN | Class::ANY) || meaning == Meaning::Elsewhere {
        return refuse(OptRcode::REFUSED, number);
    }
    Reading::Ask(Question { message, name, rtype, meaning, limits })
}

/// A response without records.
fn empty(message: &Message<[u8]>, rcode: OptRcode, rtype: u16, limits: Limits) -> Response {
    // The question is not repeated if it could not be read.
    let readable = message.sole_question().is_ok();
    let builder = builder(limits);
    let answer = match readable {
        true => builder.start_error(message, rcode.rcode()),
        false => {
            let mut builder = builder;
            let header = builder.header_mut();
            header.set_id(message.header().id());
            header.set_qr(true);
            header.set_opcode(message.header().opcode());
            header.set_rd(message.header().rd());
            header.set_rcode(rcode.rcode());
            builder.question().answer()
        }
    };
    finish(answer.authority(), rcode, rtype, limits)
}

fn builder(limits: Limits) -> MessageBuilder<Target> {
    let target = StaticCompressor::new(Vec::with_capacity(UDP_BYTES_MIN));
    let mut builder = MessageBuilder::from_target(target).expect("memory has room for a header");
    builder.set_push_limit(limits.bytes_max - if limits.has_edns { OPT_BYTES } else { 0 });
    builder
}

/// Adds what goes with EDNS.
fn finish(
    authority: AuthorityBuilder<Target>,
    rcode: OptRcode,
    rtype: u16,
    limits: Limits,
) -> Response {
    finish_with(authority, &[], 0, rcode, rtype, limits)
}

fn finish_with(
    authority: AuthorityBuilder<Target>,
    hosts: &[(Name<Vec<u8>>, IpAddr)],
    ttl: u32,
    rcode: OptRcode,
    rtype: u16,
    limits: Limits,
) -> Response {
    let mut additional = authority.additional();
    for (name, ip) in hosts {
        let ttl = Ttl::from_secs(ttl);
        let pushed = match ip {
            IpAddr::V4(ip) => additional.push((name, Class::IN, ttl, A::new(*ip))),
            IpAddr::V6(ip) => additional.push((name, Class::IN, ttl, Aaaa::new(*ip))),
        };
        if pushed.is_err() {
            break; // It can be asked for.
        }
    }
    if limits.has_edns {
        additional.clear_push_limit();
        let pushed = additional.opt(|opt| {
            opt.set_udp_payload_size(UDP_BYTES_MAX as u16);
            opt.set_rcode(rcode);
            Ok(())
        });
        pushed.expect("room was left for it");
    }
    let bytes = additional.finish().into_target();
    Response { bytes, rtype, rcode: rcode.to_int() }
}

impl Question<'_> {
    /// What was asked for.
    fn rtype(&self) -> u16 {
        self.rtype.to_int()
    }

    /// That it cannot be said.
    pub(crate) fn fail(&self) -> Response {
        empty(self.message, OptRcode::SERVFAIL, self.rtype(), self.limits)
    }

    /// That it is not said.
    pub(crate) fn refuse(&self) -> Response {
        empty(self.message, OptRcode::REFUSED, self.rtype(), self.limits)
    }

    /// That too much is asked: over TCP it would be answered.
    pub(crate) fn truncate(&self) -> Response {
        let mut answer = builder(self.limits).start_error(self.message, Rcode::NOERROR);
        answer.header_mut().set_tc(true);
        finish(answer.authority(), OptRcode::NOERROR, self.rtype(), self.limits)
    }

    /// The answer, as the store has it.
    pub(crate) fn answer(&self, zone: &Zone, view: &impl View, terse: Terse) -> Response {
        let found = self.find(zone, view, terse);
        let rcode = if found.is_some() { Rcode::NOERROR } else { Rcode::NXDOMAIN };
        let mut answer = builder(self.limits).start_error(self.message, rcode);
        answer.header_mut().set_aa(true);
        let negative = terse.ttl.min(NEGATIVE_TTL_MAX);
        let soa = soa(zone, view.revision(), negative);
        let found = found.unwrap_or(Found { ttl: 0, records: Vec::new() });
        if found.records.is_empty() {
            let mut authority = answer.authority();
            let ttl = Ttl::from_secs(negative);
            // The question and this always fit.
            let _ = authority.push((&zone.origin, Class::IN, ttl, soa));
            return finish(authority, rcode.into(), self.rtype(), self.limits);
        }
        let ttl = Ttl::from_secs(found.ttl);
        let mut hosts = Vec::new();
        for data in &found.records {
            let owner = &self.name;
            let pushed = match data {
                Data::A(a) => answer.push((owner, Class::IN, ttl, a)),
                Data::Aaaa(aaaa) => answer.push((owner, Class::IN, ttl, aaaa)),
                Data::Srv(srv, ip) => {
                    hosts.extend(ip.map(|ip| (srv.target().clone(), ip)));
                    answer.push((owner, Class::IN, ttl, srv))
                }
                Data::Ns => answer.push((owner, Class::IN, ttl, Ns::new(&zone.server))),
                Data::Soa => answer.push((owner, Class::IN, ttl, &soa)),
                Data::Hinfo => answer.push((owner, Class::IN, ttl, not_done())),
            };
            if pushed.is_err() {
                return self.too_long(answer);
            }
        }
        hosts.sort();
        hosts.dedup();
        let rcode = Rcode::NOERROR.into();
        finish_with(answer.authority(), &hosts, found.ttl, rcode, self.rtype(), self.limits)
    }

    fn too_long(&self, answer: AnswerBuilder<Target>) -> Response {
        let answer = answer.tc_rewind_into();
        finish(answer.authority(), OptRcode::NOERROR, self.rtype(), self.limits)
    }

    /// The records of this name and type. None if there is no such name.
    fn find(&self, zone: &Zone, view: &impl View, terse: Terse) -> Option<Found> {
        if self.rtype == Rtype::ANY {
            let exists = self.exists(view);
            return exists.then(|| Found { ttl: ZONE_TTL, records: vec![Data::Hinfo] });
        }
        let nothing = || Found { ttl: 0, records: Vec::new() };
        let fixed = |records| Found { ttl: ZONE_TTL, records };
        match &self.meaning {
            Meaning::Zone => Some(match self.rtype {
                Rtype::SOA => fixed(vec![Data::Soa]),
                Rtype::NS => fixed(vec![Data::Ns]),
                _ => nothing(),
            }),
            Meaning::Server => {
                let all = zone.server_addresses.iter().copied();
                let records = all.filter_map(|ip| address(ip, self.rtype)).collect();
                Some(fixed(records))
            }
            Meaning::Service(name) => match self.instances(view, name) {
                Some(instances) if self.rtype == Rtype::SRV => {
                    Some(services(&instances, name, zone, terse))
                }
                Some(instances) => Some(self.addresses(&instances, terse)),
                None => None,
            },
            Meaning::Port { service, proto, name } => {
                let mut instances = self.instances(view, name)?;
                instances.retain(|instance| serves(&instance.terms, service, proto));
                match self.rtype {
                    // Nobody serves that: no such name, unless somebody might have, and is ill.
                    _ if instances.is_empty() && !view.instances(name).is_empty() => None,
                    Rtype::SRV => Some(services(&instances, name, zone, terse)),
                    _ => Some(nothing()),
                }
            }
            Meaning::Between(name) => self.instances(view, name).map(|_| nothing()),
            Meaning::Host { ip, name } => {
                let mut instances = view.instances(name);
                instances.retain(|instance| instance.place.host == Host::Ip(*ip));
                if instances.is_empty() {
                    return None;
                }
                Some(self.addresses(&instances, terse))
            }
            Meaning::Nothing | Meaning::Elsewhere => None,
        }
    }

    /// Of this service; None if there is no such name.
    fn instances(&self, view: &impl View, name: &str) -> Option<Vec<Instance>> {
        let instances = view.instances(name);
        (!instances.is_empty() || view.may_exist(name)).then_some(instances)
    }

    fn exists(&self, view: &impl View) -> bool {
        let is_there = |name: &str| !view.instances(name).is_empty() || view.may_exist(name);
        match &self.meaning {
            Meaning::Zone | Meaning::Server => true,
            Meaning::Service(name) | Meaning::Between(name) => is_there(name),
            Meaning::Port { service, proto, name } => {
                view.instances(name).iter().any(|it| serves(&it.terms, service, proto))
            }
            Meaning::Host { ip, name } => {
                view.instances(name).iter().any(|it| it.place.host == Host::Ip(*ip))
            }
            Meaning::Nothing | Meaning::Elsewhere => false,
        }
    }

    /// The addresses of those that are to be used first: an A record cannot say what is second.
    fn addresses(&self, instances: &[Instance], terse: Terse) -> Found {
        let first = instances.iter().map(|instance| instance.terms.priority).min().unwrap_or(0);
        let of_first = instances.iter().filter(|instance| instance.terms.priority == first);
        let (mut ttl, mut ips) = (terse.ttl, BTreeSet::new());
        for instance in of_first {
            let Host::Ip(ip) = instance.place.host else { continue };
            if address(ip, self.rtype).is_some() {
                ttl = ttl.min(instance.left.unwrap_or(ttl));
                ips.insert(ip);
            }
        }
        let mut ips: Vec<IpAddr> = ips.into_iter().collect();
        shuffle(&mut ips, terse.turn);
        let records = ips.into_iter().filter_map(|ip| address(ip, self.rtype));
        Found { ttl, records: records.take(RECORDS_MAX).collect() }
    }
}

/// Who says nothing serves everything, over TCP.
fn serves(terms: &Terms, service: &str, proto: &str) -> bool {
    terms.service.as_deref().is_none_or(|own| own.eq_ignore_ascii_case(service))
        && terms.proto.eq_ignore_ascii_case(proto)
}

fn services(instances: &[Instance], name: &str, zone: &Zone, terse: Terse) -> Found {
    let mut ttl = terse.ttl;
    let mut records = Vec::new();
    for instance in instances {
        let Some(port) = instance.place.port else { continue };
        let (target, ip) = match instance.place.host {
            Host::Ip(ip) => (zone.host_name(ip, name), Some(ip)),
            Host::Name(_) => (outside(&instance.place), None),
        };
        let Some(target) = target else { continue };
        ttl = ttl.min(instance.left.unwrap_or(ttl));
        let Terms { priority, weight, .. } = instance.terms;
        records.push(Data::Srv(Srv::new(priority, weight, port, target), ip));
    }
    shuffle(&mut records, terse.turn);
    records.truncate(RECORDS_MAX);
    Found { ttl, records }
}

/// The record of an address, if it is of this type.
fn address(ip: IpAddr, rtype: Rtype) -> Option<Data> {
    match ip {
        IpAddr::V4(ip) if rtype == Rtype::A => Some(Data::A(A::new(ip))),
        IpAddr::V6(ip) if rtype == Rtype::AAAA => Some(Data::Aaaa(Aaaa::new(ip))),
        _ => None,
    }
}

/// Fisher and Yates, by the numbers of SplitMix64.
fn shuffle<T>(items: &mut [T], turn: u64) {
    let mut state = turn;
    for i in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        items.swap(i, (z % (i as u64 + 1)) as usize);
    }
}

fn not_done() -> Hinfo<&'static [u8]> {
    let text = |text: &'static [u8]| CharStr::from_octets(text).expect("short");
    Hinfo::new(text(b"RFC8482"), text(b""))
}

fn soa(zone: &Zone, revision: u64, negative: u32) -> Soa<&Name<Vec<u8>>> {
    let hour = Ttl::from_secs(3_600);
    let minute = Ttl::from_secs(60);
    let serial = Serial((revision & u64::from(u32::MAX)) as u32);
    let (server, contact) = (&zone.server, &zone.contact);
    Soa::new(server, contact, serial, minute, minute, hour, Ttl::from_secs(negative))
}

/// All of it at once.
#[cfg(test)]
pub(crate) fn answer(
    query: &[u8],
    transport: Transport,
    zone: &Zone,
    view: &impl View,
    terse: Terse,
) -> Option<Response> {
    match read(query, transport, zone) {
        Reading::Nothing => None,
        Reading::Answer(response) => Some(response),
        Reading::Ask(question) => Some(question.answer(zone, view, terse)),
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
