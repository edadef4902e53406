//! VCDIFF, what xdelta3 writes: one window, the default code table, no secondary compression. Source: RFC 3284.

use super::{Change, DeltaError, changes};

/// "VCD" with the high bits set, version 0, and no indicator of anything more.
const HEADER: [u8; 5] = [0xd6, 0xc3, 0xc4, 0, 0];
/// Copies come from the base.
const VCD_SOURCE: u8 = 1;

/// Of the default code table: add, its size behind the code. The next 17 codes are for sizes from 1 on.
const ADD: u8 = 1;
const ADD_SIZE_MAX: usize = 17;
/// Copy from an address in full, its size behind the code. The next 15 codes are for sizes from 4 on.
const COPY: u8 = 19;
const COPY_SIZE_MIN: usize = 4;
const COPY_SIZE_MAX: usize = 18;

/// Appends what makes `target` of `base`.
pub fn encode(base: &[u8], target: &[u8], out: &mut Vec<u8>) {
    let (mut added, mut codes, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes(base, target) {
        match change {
            Change::Add(run) => {
                match run.len() {
                    size @ 1..=ADD_SIZE_MAX => codes.push(ADD + size as u8),
                    size => {
                        codes.push(ADD);
                        number(size, &mut codes);
                    }
                }
                added.extend_from_slice(&target[run]);
            }
            Change::Copy(run) => {
                match run.len() {
                    size @ COPY_SIZE_MIN..=COPY_SIZE_MAX => {
                        codes.push(COPY + 1 + (size - COPY_SIZE_MIN) as u8);
                    }
                    size => {
                        codes.push(COPY);
                        number(size, &mut codes);
                    }
                }
                number(run.start, &mut addresses);
            }
        }
    }
    let mut window = Vec::with_capacity(added.len() + codes.len() + addresses.len() + 16);
    number(target.len(), &mut window);
    // Nothing is compressed once more.
    window.push(0);
    for section in [&added, &codes, &addresses] {
        number(section.len(), &mut window);
    }
    for section in [&added, &codes, &addresses] {
        window.extend_from_slice(section);
    }
    out.extend_from_slice(&HEADER);
    out.push(VCD_SOURCE);
    number(base.len(), out);
    number(0, out);
    number(window.len(), out);
    out.extend_from_slice(&window);
}

/// What a delta of [`encode`] makes of `base`, if it is at most `bytes_max` long. Other encoders use more of the
/// format, which is malformed here.
pub fn apply(base: &[u8], delta: &[u8], bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
    use DeltaError::{Length, Malformed, OutOfBase};
    let mut rest = delta.strip_prefix(&HEADER).ok_or(Malformed)?;
    if rest.split_off_first() != Some(&VCD_SOURCE) {
        return Err(Malformed);
    }
    let (size, from) = (take_number(&mut rest)?, take_number(&mut rest)?);
    let to = from.checked_add(size).ok_or(OutOfBase)?;
    let source = base.get(from..to).ok_or(OutOfBase)?;
    if take_number(&mut rest)? != rest.len() {
        return Err(Malformed);
    }
    let length = take_number(&mut rest)?;
    if length > bytes_max {
        return Err(Length);
    }
    if rest.split_off_first() != Some(&0) {
        return Err(Malformed);
    }
    let sizes = [take_number(&mut rest)?, take_number(&mut rest)?, take_number(&mut rest)?];
    let mut section = |size| rest.split_off(..size).ok_or(Malformed);
    let (mut added, mut codes) = (section(sizes[0])?, section(sizes[1])?);
    let mut addresses = section(sizes[2])?;
    if !rest.is_empty() {
        return Err(Malformed);
    }
    let mut made = Vec::new();
    while let Some(&code) = codes.split_off_first() {
        let run = match code {
            ADD => {
                let size = take_number(&mut codes)?;
                added.split_off(..size).ok_or(Malformed)?
            }
            2..COPY => added.split_off(..usize::from(code - ADD)).ok_or(Malformed)?,
            COPY..=34 => {
                let size = match code {
                    COPY => take_number(&mut codes)?,
                    code => COPY_SIZE_MIN + usize::from(code - COPY - 1),
                };
                let from = take_number(&mut addresses)?;
                let to = from.checked_add(size).ok_or(OutOfBase)?;
                source.get(from..to).ok_or(OutOfBase)?
            }
            _ => return Err(Malformed),
        };
        if run.len() > length - made.len() {
            return Err(Length);
        }
        made.extend_from_slice(run);
    }
    if made.len() == length { Ok(made) } else { Err(Length) }
}

/// A number in digits of seven bits, most significant first; all but the last have their high bit set.
fn number(number: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(7).max(1);
    for digit in (0..digits).rev() {
        let more = if digit > 0 { 0x80 } else { 0 };
        out.push((number >> (7 * digit) & 0x7f) as u8 | more);
    }
}

fn take_number(rest: &mut &[u8]) -> Result<usize, DeltaError> {
    let mut number = 0usize;
    loop {
        let byte = *rest.split_off_first().ok_or(DeltaError::Malformed)?;
        // Nothing that is this long is ever meant.
        if number >= 1 << 40 {
            return Err(DeltaError::Malformed);
        }
        number = number << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
}
