//! As much of HTTP/2 and gRPC as a client needs to load a server without costing much
//! itself: requests are byte templates, answers are cut into frames and not decoded.
//!
//! One connection makes calls of one method only, which keeps the indices of the
//! header table fixed.

/// What a frame means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A part of the answer on this stream.
    Data(u32, &'a [u8]),
    /// The stream has ended.
    End(u32),
}

/// The state of one connection: what to send next and what has been received.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Bytes to be written.
    pub(crate) out: Vec<u8>,
    path: &'static str,
    next_stream: u32,
    send_window: i64,
    received: u32,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
const WINDOW: u32 = 1 << 30;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

impl Wire {
    /// A connection for calls of one method, such as `/v2.KeyManagementService/Status`.
    pub(crate) fn new(path: &'static str) -> Self {
        let mut out = PREFACE.to_vec();
        // INITIAL_WINDOW_SIZE, so that no stream ever waits for us.
        head(&mut out, 6, SETTINGS, 0, 0);
        out.extend_from_slice(&4_u16.to_be_bytes());
        out.extend_from_slice(&(1_u32 << 20).to_be_bytes());
        window_update(&mut out, WINDOW);
        Self {
            out,
            path,
            next_stream: 1,
            send_window: 65535,
            received: 0,
        }
    }

    /// Appends a call with this message to what is to be sent; returns its stream.
    pub(crate) fn call(&mut self, message: &[u8]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut block = Vec::new();
        if stream == 1 {
            block.extend_from_slice(&[0x83, 0x86]); // POST, http
            literal(&mut block, &[0x44], self.path);
            literal(&mut block, &[0x41], "localhost"); // :authority
            literal(&mut block, &[0x5f], "application/grpc"); // content-type
            literal(&mut block, b"\x40\x02te", "trailers");
            literal(&mut block, &[0x7a], "bench"); // user-agent
        } else {
            block.extend_from_slice(&[0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        }
        head(&mut self.out, block.len(), HEADERS, END_HEADERS, stream);
        self.out.extend_from_slice(&block);
        let bytes = message.len() + 5;
        head(&mut self.out, bytes, DATA, END_STREAM, stream);
        self.out.push(0);
        let length = u32::try_from(message.len()).expect("a short message");
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(message);
        self.send_window -= i64::try_from(bytes).expect("a short message");
        assert!(
            self.send_window >= 0,
            "the server opens its window too late"
        );
        stream
    }

    /// Takes whole frames off the front of `input`; returns how many bytes that were.
    pub(crate) fn receive(&mut self, input: &[u8], mut seen: impl FnMut(Event<'_>)) -> usize {
        let mut at = 0;
        while let Some(frame) = input.get(at..at + HEAD_BYTES) {
            let length =
                usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
            let (kind, flags) = (frame[3], frame[4]);
            let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
            let Some(payload) = input.get(at + HEAD_BYTES..at + HEAD_BYTES + length) else {
                break;
            };
            at += HEAD_BYTES + length;
            match kind {
                DATA => {
                    self.consumed(length);
                    seen(Event::Data(stream, payload));
                }
                SETTINGS if flags & ACK == 0 => head(&mut self.out, 0, SETTINGS, ACK, 0),
                PING if flags & ACK == 0 => {
                    head(&mut self.out, 8, PING, ACK, 0);
                    self.out.extend_from_slice(payload);
                }
                WINDOW_UPDATE if stream == 0 => {
                    let more = u32::from_be_bytes(payload.try_into().expect("four bytes"));
                    self.send_window += i64::from(more);
                }
                RST_STREAM | GOAWAY => panic!("frame {kind}, stream {stream}: {payload:?}"),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                seen(Event::End(stream));
            }
        }
        at
    }

    fn consumed(&mut self, length: usize) {
        self.received += u32::try_from(length).expect("a frame");
        if self.received >= WINDOW / 2 {
            window_update(&mut self.out, self.received);
            self.received = 0;
        }
    }
}

fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).expect("a short frame").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, bytes: u32) {
    head(out, 4, WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// A literal field with incremental indexing (RFC 7541, section 6.2.1).
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    block.push(u8::try_from(value.len()).expect("a short value"));
    block.extend_from_slice(value.as_bytes());
}
