//! From the bytes of a question to the bytes of an answer, or to the decision that others shall answer it.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone;
use crate::state::State;

/// Seconds that an answer may be kept: Docker's.
const TTL: u32 = 600;
/// RFC 1035, 2.3.4, for those who do not say otherwise.
const USUAL_UDP: usize = 512;
/// Bytes of the header: RFC 1035, 4.1.1.
pub(super) const HEADER: usize = 12;

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This is said.
    Reply(Vec<u8>),
    /// Name servers outside are asked.
    Forward,
    /// Nothing is said: it was no question.
    Silence,
}

/// Decides. Over UDP an answer that is too long for the client is cut.
pub(super) fn answer(
    state: &State,
    (sandbox_id, host): (&str, &[IpAddr]),
    question: &[u8],
    over_udp: bool,
) -> Answer {
    let Ok(message) = Message::from_vec(question) else {
        return refuse_unread(question);
    };
    if message.metadata.message_type != MessageType::Query {
        return Answer::Silence;
    }
    let [query] = &message.queries[..] else {
        return reply(&message, ResponseCode::FormErr, Vec::new(), over_udp);
    };
    if message.metadata.op_code != OpCode::Query {
        return reply(&message, ResponseCode::NotImp, Vec::new(), over_udp);
    }
    // RFC 6891, 6.1.3: there is but version 0.
    if message.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return reply(&message, ResponseCode::BADVERS, Vec::new(), over_udp);
    }
    match records(state, (sandbox_id, host), query) {
        Some(records) => reply(&message, ResponseCode::NoError, records, over_udp),
        None => Answer::Forward,
    }
}

/// "Server failure" to a question that could not be forwarded.
pub(super) fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(question).ok()?;
    match reply(&message, ResponseCode::ServFail, Vec::new(), true) {
        Answer::Reply(bytes) => Some(bytes),
        Answer::Forward | Answer::Silence => None,
    }
}

/// Records of a name that is ours (none if it has none of this type); `None` if the name is not ours.
fn records(
    state: &State,
    (sandbox_id, host): (&str, &[IpAddr]),
    query: &Query,
) -> Option<Vec<Record>> {
    if query.query_class() != DNSClass::IN {
        return None;
    }
    let record = |data| Record::from_rdata(query.name().clone(), TTL, data);
    if query.query_type() == RecordType::PTR {
        let ip = query.name().parse_arpa_name().ok()?;
        if ip.prefix_len() != ip.max_prefix_len() {
            return None;
        }
        let name = zone::name_at(state, sandbox_id, ip.addr())?;
        let mut name = Name::from_str_relaxed(name).ok()?;
        name.set_fqdn(true);
        return Some(vec![record(RData::PTR(PTR(name)))]);
    }
    let name = query.name().to_ascii();
    let name = name.trim_end_matches('.');
    let addresses = zone::addresses(state, sandbox_id, name)
        .or_else(|| zone::host(state, sandbox_id, name, host))?;
    let kind = query.query_type();
    // A name that is there and has nothing of a kind has no records of it.
    let of_kind = |ip| match (ip, kind) {
        (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(ip))),
        (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(ip))),
        _ => None,
    };
    Some(
        addresses
            .into_iter()
            .filter_map(of_kind)
            .map(record)
            .collect(),
    )
}

fn reply(question: &Message, code: ResponseCode, records: Vec<Record>, over_udp: bool) -> Answer {
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata.recursion_desired = question.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(question.queries.iter().take(1).cloned());
    message.add_answers(records);
    // RFC 6891, 6.1.1: who speaks EDNS is answered so.
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(super::MOST_UDP as u16);
        edns.set_rcode_high(code.high());
        message.edns = Some(edns);
    }
    let limit = match &question.edns {
        Some(edns) => usize::from(edns.max_payload()).clamp(USUAL_UDP, super::MOST_UDP),
        None => USUAL_UDP,
    };
    match message.to_vec() {
        Ok(bytes) if over_udp && bytes.len() > limit => shorten(message),
        Ok(bytes) => Answer::Reply(bytes),
        Err(_) => Answer::Silence,
    }
}

/// Too long for UDP: the client asks again over TCP.
fn shorten(mut message: Message) -> Answer {
    message.answers.clear();
    message.metadata.truncation = true;
    message.to_vec().map_or(Answer::Silence, Answer::Reply)
}

/// What cannot be read is refused by its number, if it is a question at all.
fn refuse_unread(question: &[u8]) -> Answer {
    match question {
        [high, low, flags, ..] if question.len() >= HEADER && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            let message = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            message.to_vec().map_or(Answer::Silence, Answer::Reply)
        }
        _ => Answer::Silence,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;
    use crate::claim::Claims;
    use crate::nft::Nft;
    use crate::proxy::Doors;
    use crate::route::Route;

    /// Nobody is known: what counts is what the bytes do.
    fn empty() -> State {
        State {
            networks: BTreeMap::new(),
            rooms: HashMap::new(),
            claims: Claims::new(),
            doors: Doors::default(),
            nft: Nft::open().unwrap(),
            route: Route::open().unwrap(),
            mtu: 1500,
            closed: false,
        }
    }

    fn question() -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii("web.example.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message.to_vec().unwrap()
    }

    /// No panic, no answer to an answer, and none that is much longer than the question.
    fn is_harmless(state: &State, bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Answer::Reply(reply) = answer(state, ("nobody", &[]), bytes, true) {
            prop_assert!(bytes[2] & 0x80 == 0 && reply[2] & 0x80 != 0);
            prop_assert_eq!(&reply[..2], &bytes[..2]);
            prop_assert!(reply.len() <= bytes.len().max(HEADER) * 3 / 2);
        }
        let _ = failure(bytes);
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            is_harmless(&empty(), &bytes)?;
        }

        #[test]
        fn damaged_questions(at in 0usize..29, byte: u8, cut in 0usize..40) {
            let mut bytes = question();
            let last = bytes.len() - 1;
            bytes[at.min(last)] = byte;
            bytes.truncate(bytes.len() - cut.min(last));
            is_harmless(&empty(), &bytes)?;
        }
    }

    #[test]
    fn loops_of_pointers_are_refused() {
        let mut bytes = question();
        bytes.truncate(HEADER);
        // A name that is a pointer to itself, then type and class.
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        let Answer::Reply(reply) = answer(&empty(), ("nobody", &[]), &bytes, true) else {
            panic!("no refusal");
        };
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    }
}
