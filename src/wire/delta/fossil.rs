//! The delta format of the Fossil version control system. Source: "Fossil Delta Format",
//! fossil-scm.org/home/doc/trunk/www/delta_format.wiki.

use super::{Change, DeltaError, changes};

/// Digits of numbers, most significant first.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Appends what makes `target` of `base`.
pub fn encode(base: &[u8], target: &[u8], out: &mut Vec<u8>) {
    number(target.len() as u64, out);
    out.push(b'\n');
    for change in changes(base, target) {
        match change {
            Change::Copy(run) => {
                number(run.len() as u64, out);
                out.push(b'@');
                number(run.start as u64, out);
                out.push(b',');
            }
            Change::Add(run) => {
                number(run.len() as u64, out);
                out.push(b':');
                out.extend_from_slice(&target[run]);
            }
        }
    }
    number(u64::from(checksum(target)), out);
    out.push(b';');
}

/// What a delta makes of `base`, if it is at most `bytes_max` long.
pub fn apply(base: &[u8], delta: &[u8], bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
    let mut rest = delta;
    let (length, end) = take_number(&mut rest)?;
    if end != b'\n' {
        return Err(DeltaError::Malformed);
    }
    if length > bytes_max {
        return Err(DeltaError::Length);
    }
    let mut made = Vec::new();
    loop {
        let (number, kind) = take_number(&mut rest)?;
        let run = match kind {
            b'@' => {
                let (from, end) = take_number(&mut rest)?;
                if end != b',' {
                    return Err(DeltaError::Malformed);
                }
                let to = from.checked_add(number).ok_or(DeltaError::OutOfBase)?;
                base.get(from..to).ok_or(DeltaError::OutOfBase)?
            }
            b':' => rest.split_off(..number).ok_or(DeltaError::Malformed)?,
            b';' if made.len() != length => return Err(DeltaError::Length),
            b';' if number != checksum(&made) as usize => return Err(DeltaError::Checksum),
            b';' => return Ok(made),
            _ => return Err(DeltaError::Malformed),
        };
        if run.len() > length - made.len() {
            return Err(DeltaError::Length);
        }
        made.extend_from_slice(run);
    }
}

fn number(number: u64, out: &mut Vec<u8>) {
    let digits = (64 - number.leading_zeros()).div_ceil(6).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(number >> (6 * digit) & 63) as usize]);
    }
}

/// A number and the byte behind it.
fn take_number(rest: &mut &[u8]) -> Result<(usize, u8), DeltaError> {
    let mut number = 0usize;
    let mut has_digits = false;
    loop {
        let byte = *rest.split_off_first().ok_or(DeltaError::Malformed)?;
        let Some(digit) = DIGITS.iter().position(|it| *it == byte) else {
            return if has_digits { Ok((number, byte)) } else { Err(DeltaError::Malformed) };
        };
        // Nothing that is this long is ever meant.
        if number >= 1 << 40 {
            return Err(DeltaError::Malformed);
        }
        number = number * 64 + digit;
        has_digits = true;
    }
}

/// The sum of the bytes taken as big-endian words, the last one filled up with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.chunks(4).fold(0u32, |sum, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        sum.wrapping_add(u32::from_be_bytes(word))
    })
}
