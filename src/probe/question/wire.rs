//! Questions to bytes, and bytes to responses: RFC 1035, section 4.

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};

use super::{Found, Rcode, RecordKind, Response, Said};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The answer.
    Response(Response),
    /// Its beginning: all of it comes over TCP.
    Truncated,
    /// The answer to another question.
    Foreign,
    /// Something that cannot be read: why.
    Broken(String),
}

/// The question about an absolute name; `None` for what is none.
pub fn query(name: &str, kind: RecordKind, id: u16) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).ok()?, record_type(kind)));
    message.to_vec().ok()
}

/// What `bytes` say to the question `id` about `name`.
pub fn read(name: &str, id: u16, bytes: &[u8]) -> Reading {
    let reply = match Message::from_vec(bytes) {
        Ok(reply) => reply,
        Err(error) => return Reading::Broken(error.to_string()),
    };
    if reply.metadata.message_type != MessageType::Response || reply.metadata.id != id {
        return Reading::Foreign;
    }
    if reply.metadata.truncation {
        return Reading::Truncated;
    }
    Reading::Response(Response {
        name: name.to_owned(),
        rcode: rcode(reply.metadata.response_code),
        authoritative: reply.metadata.authoritative,
        truncated: false,
        answers: reply.answers.iter().map(found).collect(),
        authority: reply.authorities.iter().map(found).collect(),
    })
}

fn found(record: &Record) -> Found {
    let data = match &record.data {
        RData::A(a) => Said::Address(a.0.into()),
        RData::AAAA(aaaa) => Said::Address(aaaa.0.into()),
        RData::CNAME(alias) => Said::Alias(plain(&alias.0)),
        RData::PTR(pointer) => Said::Pointer(plain(&pointer.0)),
        RData::SRV(srv) => {
            Said::Service { priority: srv.priority, weight: srv.weight, port: srv.port, target: plain(&srv.target) }
        }
        RData::TXT(txt) => {
            Said::Text(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect())
        }
        RData::SOA(soa) => Said::Authority(soa.minimum),
        other => Said::Other(format!("{} {other}", record.record_type())),
    };
    let name = record.name.to_ascii();
    Found { name: name.strip_suffix('.').unwrap_or(&name).to_owned(), ttl: record.ttl, data }
}

/// In lower case and without the dot at its end.
fn plain(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Srv => RecordType::SRV,
        RecordKind::Ptr => RecordType::PTR,
        RecordKind::Cname => RecordType::CNAME,
        RecordKind::Txt => RecordType::TXT,
    }
}

fn rcode(code: ResponseCode) -> Rcode {
    match code {
        ResponseCode::NoError => Rcode::NoError,
        ResponseCode::FormErr => Rcode::FormErr,
        ResponseCode::ServFail => Rcode::ServFail,
        ResponseCode::NXDomain => Rcode::NxDomain,
        ResponseCode::NotImp => Rcode::NotImp,
        ResponseCode::Refused => Rcode::Refused,
        other => Rcode::Other(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let asked = query("shop.default", RecordKind::A, 7).expect("a name");
        let mut message = Message::from_vec(&asked).expect("a message");
        assert!(matches!(read("shop.default", 7, &asked), Reading::Foreign), "a question is no answer");
        message.metadata.message_type = MessageType::Response;
        let name = Name::from_ascii("Shop.default.").expect("a name");
        let data = RData::A("10.96.1.1".parse::<std::net::Ipv4Addr>().expect("an address").into());
        message.add_answer(Record::from_rdata(name, 30, data));
        let bytes = message.to_vec().expect("bytes");
        let Reading::Response(response) = read("shop.default", 7, &bytes) else { panic!("no response") };
        assert_eq!(response.rcode, Rcode::NoError);
        let found = Found { name: "Shop.default".to_owned(), ttl: 30, data: Said::Address([10, 96, 1, 1].into()) };
        assert_eq!(response.answers, [found]);
        assert_eq!(read("shop.default", 8, &bytes), Reading::Foreign);
        assert!(matches!(read("shop.default", 7, &bytes[..20]), Reading::Broken(_)));
        message.metadata.truncation = true;
        assert_eq!(read("shop.default", 7, &message.to_vec().expect("bytes")), Reading::Truncated);
        assert_eq!(query("a..b", RecordKind::A, 1), None);
    }
}
