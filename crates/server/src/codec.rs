//! How messages become bytes on the client port: prost's encoding, in buffers of their own size.
//!
//! tonic sets 8 KiB aside for each request and 8 KiB for each answer. Most of ours take 30 to 400
//! bytes, so two thirds of the memory that a small request touched were never used.

use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// What is set aside for a request before its size is known, in bytes: a put of a short key and
/// a value of 256 bytes. A larger one grows its buffer once.
const REQUEST_BYTES: usize = 384;

/// What is set aside for an answer, in bytes: that of a put.
const ANSWER_BYTES: usize = 64;

/// Bytes of a stream's messages that are gathered before they are handed on.
const STREAM_BYTES: usize = 32 * 1024;

/// The codec that the generated services use.
#[derive(Debug)]
pub(crate) struct Snug<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Snug<T, U> {
    fn default() -> Snug<T, U> {
        Snug(PhantomData)
    }
}

impl<T, U> Codec for Snug<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = SnugEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> SnugEncoder<T> {
        SnugEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(REQUEST_BYTES, STREAM_BYTES))
    }
}

/// Encodes a message into a buffer that was made for it.
#[derive(Debug)]
pub(crate) struct SnugEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for SnugEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(message.encoded_len());
        message.encode(out).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ANSWER_BYTES, STREAM_BYTES)
    }
}
