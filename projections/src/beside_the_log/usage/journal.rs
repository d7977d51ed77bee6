//! The journal entry of one flush, in a compact form. For each key and hour:
//!
//! | bytes | what |
//! |---|---|
//! | 16 | key |
//! | 8 | last verification, milliseconds since 1970 |
//! | 1 | length of the address it came from: 0, 4 or 16 |
//! | … | the address |
//! | 4 | hour since 1970 |
//! | 1 | number of codes that follow |
//! | 9 each | a code's stored number, and its number of verifications |
//!
//! Numbers are little-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;

use super::Last;
use super::address::Address;
use super::counts::{Counts, code_of, stored_number};
use super::pending::Gathered;

/// Usual length of an entry: an IPv4 address and one code.
const USUAL_LEN: usize = 43;

pub(super) fn encode(entries: &[Gathered]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * USUAL_LEN);
    for Gathered { id, hour, counts, last } in entries {
        bytes.extend(id.to_u128().to_le_bytes());
        bytes.extend(last.at.millis().to_le_bytes());
        match last.from.ip() {
            None => bytes.push(0),
            Some(IpAddr::V4(ip)) => {
                bytes.push(4);
                bytes.extend(ip.octets());
            }
            Some(IpAddr::V6(ip)) => {
                bytes.push(16);
                bytes.extend(ip.octets());
            }
        }
        bytes.extend(hour.to_le_bytes());
        bytes.push(counts.iter().count() as u8);
        for (code, count) in counts.iter() {
            bytes.push(stored_number(code));
            bytes.extend(count.to_le_bytes());
        }
    }
    bytes
}

/// Decodes what [`encode`] encoded; `None` for other bytes. Codes of a later version are skipped.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Gathered>> {
    let mut entries = Vec::with_capacity(bytes.len() / USUAL_LEN);
    while !bytes.is_empty() {
        let id = KeyId::from_u128(u128::from_le_bytes(take(&mut bytes)?));
        let at = Timestamp::from_millis(i64::from_le_bytes(take(&mut bytes)?));
        let [address_len] = take(&mut bytes)?;
        let ip = match address_len {
            0 => None,
            4 => Some(IpAddr::V4(Ipv4Addr::from(take::<4>(&mut bytes)?))),
            16 => Some(IpAddr::V6(Ipv6Addr::from(take::<16>(&mut bytes)?))),
            _ => return None,
        };
        let hour = u32::from_le_bytes(take(&mut bytes)?);
        let [codes] = take(&mut bytes)?;
        let mut counts = Counts::default();
        for _ in 0..codes {
            let [number] = take(&mut bytes)?;
            let count = u64::from_le_bytes(take(&mut bytes)?);
            if let Some(code) = code_of(number) {
                counts.add(code, count);
            }
        }
        entries.push(Gathered { id, hour, counts, last: Last { at, from: Address::of(ip) } });
    }
    Some(entries)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verification::Code;

    #[test]
    fn entries_come_back_and_what_breaks_off_does_not() {
        let mut counts = Counts::default();
        let entry = |counts, from: Option<&str>| Gathered {
            id: KeyId::from_u128(u128::MAX - 7),
            hour: 495_000,
            counts,
            last: Last {
                at: Timestamp::from_millis(1_800_000_000_123),
                from: Address::of(from.map(|ip| ip.parse().unwrap())),
            },
        };
        let mut entries = vec![entry(counts, None)];
        for (code, from) in Code::ALL.into_iter().zip(["192.0.2.1", "2001:db8::7", "::1"].iter().cycle()) {
            counts.add(code, u64::MAX / 3);
            entries.push(entry(counts, Some(from)));
        }
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes), Some(entries));
        assert_eq!(decode(bytes.get(..bytes.len() - 1).unwrap()), None);
    }
}
