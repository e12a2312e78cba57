//! Messages of D-Bus (D-Bus Specification, "Message Format"), as far as systemd's manager is spoken to:
//! calls with simple arguments, answers, and signals.

/// A message's body under construction; little endian, aligned from its start.
#[derive(Debug, Default, Clone)]
pub(super) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        self.u32(value.len() as u32);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self
    }

    pub fn signature(&mut self, value: &str) -> &mut Self {
        self.bytes.push(value.len() as u8);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self
    }

    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Elements that are aligned to so many bytes.
    pub fn array(&mut self, align: usize, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(align);
        let start = self.bytes.len();
        fill(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    /// Fields that follow each other.
    pub fn structure(&mut self) -> &mut Self {
        self.align(8);
        self
    }

    pub fn variant(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Text(text) => self.signature("s").text(text),
            Value::Bool(on) => self.signature("b").u32(u32::from(*on)),
            Value::U64(number) => self.signature("t").u64(*number),
            Value::Numbers(numbers) => self.signature("au").array(4, |body| {
                for number in numbers {
                    body.u32(*number);
                }
            }),
            Value::Bytes(bytes) => self.signature("ay").array(1, |body| {
                body.bytes.extend(bytes);
            }),
        }
    }

    fn align(&mut self, to: usize) {
        let len = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(len, 0);
    }
}

/// A value with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    U64(u64),
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub destination: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
}

/// A method call.
pub(super) fn call(
    serial: u32,
    target: Target,
    member: &str,
    signature: &str,
    body: &Body,
) -> Vec<u8> {
    let mut message = Body::default();
    // Little endian, a call, no flags, version 1.
    message.byte(b'l').byte(1).byte(0).byte(1);
    message.u32(body.bytes.len() as u32).u32(serial);
    message.array(8, |fields| {
        let mut field = |number: u8, kind: &str, value: &str| {
            fields.structure().byte(number).signature(kind);
            match kind {
                "g" => fields.signature(value),
                _ => fields.text(value),
            };
        };
        field(1, "o", target.path);
        field(2, "s", target.interface);
        field(3, "s", member);
        field(6, "s", target.destination);
        if !signature.is_empty() {
            field(8, "g", signature);
        }
    });
    message.align(8);
    message.bytes.extend(&body.bytes);
    message.bytes
}

/// A message that came, as far as it is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// 2: an answer, 3: an error, 4: a signal.
    pub kind: u8,
    pub answers: u32,
    pub member: String,
    pub error: String,
    /// What strings, paths and numbers its body has, in order.
    pub strings: Vec<String>,
}

/// Bytes of the fixed part of a header.
pub(super) const FIXED: usize = 16;

/// Bytes that follow the fixed part, and where among them the body begins.
pub(super) fn rest(fixed: &[u8; FIXED]) -> (usize, usize) {
    let number = |at: usize| {
        u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize
    };
    let fields = number(12).next_multiple_of(8);
    (fields + number(4), fields)
}

/// Reads a message whose rest has been read; `None` where it is none.
pub(super) fn read(fixed: &[u8; FIXED], rest_of: &[u8]) -> Option<Message> {
    if fixed[0] != b'l' {
        // systemd writes in the machine's order, and berth's machines are little endian.
        return None;
    }
    let (total, body_at) = rest(fixed);
    if rest_of.len() != total {
        return None;
    }
    let mut message = Message {
        kind: fixed[1],
        ..Message::default()
    };
    let length = u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]) as usize;
    let mut fields = Reader(rest_of.get(..length)?, 0);
    let mut signature = String::new();
    while fields.1 < length {
        fields.align(8);
        let number = fields.byte()?;
        let kind = fields.signature()?;
        match (number, kind.as_str()) {
            (3, "s") => message.member = fields.text()?,
            (4, "s") => message.error = fields.text()?,
            (8, "g") => signature = fields.signature()?,
            (_, "s" | "o") => drop(fields.text()?),
            (5, "u") => message.answers = fields.u32()?,
            (_, "u") => drop(fields.u32()?),
            (_, "g") => drop(fields.signature()?),
            _ => return None,
        }
    }
    let mut body = Reader(rest_of.get(body_at..)?, 0);
    for kind in signature.chars() {
        match kind {
            's' | 'o' => message.strings.push(body.text()?),
            'u' => message.strings.push(body.u32()?.to_string()),
            // What follows is not of interest.
            _ => break,
        }
    }
    Some(message)
}

struct Reader<'a>(&'a [u8], usize);

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.1 = self.1.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.get(self.1)?;
        self.1 += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.0.get(self.1..self.1.checked_add(4)?)?;
        self.1 += 4;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn take(&mut self, len: usize) -> Option<String> {
        let end = self.1.checked_add(len)?;
        let text = std::str::from_utf8(self.0.get(self.1..end)?).ok()?;
        self.1 = end.checked_add(1)?;
        Some(text.to_owned())
    }

    fn text(&mut self) -> Option<String> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn signature(&mut self) -> Option<String> {
        let len = usize::from(self.byte()?);
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        destination: "org.a",
        path: "/a",
        interface: "a.B",
    };

    #[test]
    fn what_is_written_can_be_read() {
        let mut body = Body::default();
        body.text("x").u32(7).text("yz");
        let bytes = call(3, TARGET, "Do", "sus", &body);
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        let (total, body_at) = rest(&fixed);
        assert_eq!(total, bytes.len() - FIXED);
        assert_eq!((FIXED + body_at) % 8, 0);
        let message = read(&fixed, &bytes[FIXED..]).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (1, "Do"));
        assert_eq!(message.strings, ["x", "7", "yz"]);
        // Cut anywhere, it is none, and nothing worse.
        for end in FIXED..bytes.len() {
            assert_eq!(read(&fixed, &bytes[FIXED..end]), None);
        }
    }

    #[test]
    fn values_are_aligned() {
        let mut body = Body::default();
        body.array(8, |list| {
            list.structure().text("A").variant(&Value::U64(1));
        });
        let expected = [
            24, 0, 0, 0, 0, 0, 0, 0, // length, padding
            1, 0, 0, 0, b'A', 0, // the name
            1, b't', 0, 0, 0, 0, 0, 0, 0, 0, // its type, padding
            1, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(body.bytes, expected);
    }
}
