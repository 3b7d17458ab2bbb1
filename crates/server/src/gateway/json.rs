//! Messages as JSON, and JSON as messages.
//!
//! The mapping is that of protocol buffers, by descriptors, of the crate `prost_reflect`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Deserializer;
use std::mem;
use tonic::Status;

/// What stands before a message of gRPC: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// The first JSON value of `json` as a message of gRPC with its prefix. Nothing at all is the
/// message whose fields are all absent, and so is `null`.
///
/// Errors: `InvalidArgument` if it is no JSON or no such message; it says where.
pub(super) fn to_message(shape: &MessageDescriptor, json: &[u8]) -> Result<Bytes, Status> {
    let message = match json.trim_ascii() {
        b"" | b"null" => DynamicMessage::new(shape.clone()),
        json => {
            let options = DeserializeOptions::new().deny_unknown_fields(false);
            let mut reader = Deserializer::from_slice(json);
            DynamicMessage::deserialize_with_options(shape.clone(), &mut reader, &options)
                .map_err(|error| Status::invalid_argument(error.to_string()))?
        }
    };
    let length = message.encoded_len();
    let too_large = |_| Status::invalid_argument("a message of 4 GiB or more");
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).map_err(too_large)?);
    message.encode(&mut framed).map_err(|error| Status::internal(error.to_string()))?;
    Ok(framed.freeze())
}

/// A message without prefix as JSON, after what `out` has already.
pub(super) fn from_message(
    shape: &MessageDescriptor,
    message: Bytes,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    let internal = |error: String| Status::internal(format!("quorate: no answer as JSON: {error}"));
    let message = DynamicMessage::decode(shape.clone(), message);
    let message = message.map_err(|error| internal(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut writer = serde_json::Serializer::new(out);
    message
        .serialize_with_options(&mut writer, &options)
        .map_err(|error| internal(error.to_string()))
}

/// Finds the objects of a stream of JSON, which arrive in pieces of any size. Each byte is looked
/// at once.
#[derive(Debug)]
pub(super) struct Objects {
    bytes: BytesMut,
    /// How much of `bytes` was looked at.
    seen: usize,
    depth: usize,
    place: Place,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Between,
    InText,
    AfterBackslash,
    Outside,
}

impl Objects {
    /// Objects of at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Objects {
        Objects { bytes: BytesMut::new(), seen: 0, depth: 0, place: Place::Outside, bytes_max }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// Bytes that wait for the rest of their object.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// The next whole object; none if more has to come.
    ///
    /// Errors: something else than an object begins, or an object is too large. Then nothing can
    /// be found any more.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, Status> {
        while self.seen < self.bytes.len() {
            let byte = self.bytes[self.seen];
            if self.place == Place::Outside && byte.is_ascii_whitespace() {
                let _ = self.bytes.split_to(1);
                continue;
            }
            if self.place == Place::Outside && byte != b'{' {
                let found = char::from(byte).escape_default();
                return Err(Status::invalid_argument(format!(
                    "an object begins with '{{', not '{found}'"
                )));
            }
            self.seen += 1;
            if self.seen > self.bytes_max {
                return Err(super::too_large());
            }
            if self.ends(byte) {
                let seen = mem::take(&mut self.seen);
                return Ok(Some(self.bytes.split_to(seen)));
            }
        }
        Ok(None)
    }

    /// Whether the middle of an object was reached, and not its end.
    pub(super) fn is_within(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Whether that byte is the last of its object.
    fn ends(&mut self, byte: u8) -> bool {
        self.place = match (self.place, byte) {
            (Place::InText, b'\\') => Place::AfterBackslash,
            (Place::InText, b'"') => Place::Between,
            (Place::InText | Place::AfterBackslash, _) => Place::InText,
            (_, b'"') => Place::InText,
            _ => Place::Between,
        };
        if self.place == Place::Between {
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
        }
        if self.depth == 0 {
            self.place = Place::Outside;
        }
        self.depth == 0
    }
}
