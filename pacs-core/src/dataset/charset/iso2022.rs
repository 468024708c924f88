//! Code extension: several sets in one value, switched by escape sequences (PS3.5 6.1.2.5).

use dicom_core::VR;

use super::repertoire::{Designation, G0, G1, Repertoire};

/// Begins an escape sequence.
pub(super) const ESC: u8 = 0x1B;

/// What G0 and G1 hold.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Active {
    g0: G0,
    g1: Option<G1>,
}

impl Active {
    /// At the beginning of a value: the first set, which is never one of several bytes.
    fn initial(sets: &[Repertoire]) -> Self {
        let (g0, g1) = sets.first().map_or((None, None), |set| set.halves());
        Self {
            g0: g0.unwrap_or(G0::Ascii),
            g1,
        }
    }
}

/// Whether the set that was active at the beginning of the value is again active before `c`
/// (PS3.5 6.1.2.5.3).
fn resets(vr: VR, code: u8) -> bool {
    match code {
        b'\\' => !matches!(vr, VR::LT | VR::ST | VR::UT),
        b'^' | b'=' => vr == VR::PN,
        _ => code < 0x20,
    }
}

/// Decodes a value. See [`CharacterSet::decode`](super::CharacterSet::decode).
pub(super) fn decode(sets: &[Repertoire], vr: VR, bytes: &[u8]) -> String {
    if let Some(text) = shift_jis(sets, bytes) {
        return text;
    }
    let initial = Active::initial(sets);
    // Where nothing was designated to G1, a sender who forgot the escape sequence meant this.
    let fallback = sets.iter().find_map(|set| set.halves().1);
    let mut active = initial;
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&code, tail)) = rest.split_first() {
        if code == ESC {
            match Designation::read(tail) {
                Some((designation, length)) => {
                    match designation {
                        Designation::G0(g0) => active.g0 = g0,
                        Designation::G1(g1) => active.g1 = Some(g1),
                    }
                    rest = &tail[length..];
                }
                None => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = tail;
                }
            }
            continue;
        }
        if active.g0.is_double() && (0x21..0x7F).contains(&code) {
            let run = rest
                .iter()
                .take_while(|code| (0x21..0x7F).contains(*code))
                .count();
            let (now, tail) = rest.split_at(run);
            active.g0.decode_pairs(now, &mut out);
            rest = tail;
            continue;
        }
        if code >= 0xA0 {
            let run = rest.iter().take_while(|code| **code >= 0xA0).count();
            let (now, tail) = rest.split_at(run);
            match active.g1.or(fallback) {
                Some(g1) => g1.decode(now, &mut out),
                None => out.extend(now.iter().map(|&code| char::from(code))),
            }
            rest = tail;
            continue;
        }
        if resets(vr, code) {
            active = initial;
        }
        // From 0x80 to 0x9F these are control characters in every set.
        out.push(if code < 0x80 {
            active.g0.single(code)
        } else {
            char::from(code)
        });
        rest = tail;
    }
    out
}

/// ISO_IR 13 alone, with codes that it has not: a sender who means Shift JIS, which contains it.
fn shift_jis(sets: &[Repertoire], bytes: &[u8]) -> Option<String> {
    let alien = |code: &u8| matches!(code, 0x80..=0xA0 | 0xE0..);
    if sets.first() != Some(&Repertoire::IR13) || bytes.contains(&ESC) || !bytes.iter().any(alien) {
        return None;
    }
    encoding_rs::SHIFT_JIS
        .decode_without_bom_handling_and_without_replacement(bytes)
        .map(std::borrow::Cow::into_owned)
}

/// Encodes a value. See [`CharacterSet::encode`](super::CharacterSet::encode).
///
/// The VR is not asked: the first set is switched back to before every character that is a delimiter
/// in some VR, which is right in each.
pub(super) fn encode(sets: &[Repertoire], text: &str) -> Option<Vec<u8>> {
    let initial = Active::initial(sets);
    let mut active = initial;
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !matches!(c, '\t' | '\n' | '\x0C' | '\r') {
            return None;
        }
        if c.is_control() || matches!(c, '\\' | '^' | '=') {
            reset(&mut active, initial, &mut out);
        }
        if active.g0.encode(c, &mut out) || active.g1.is_some_and(|g1| g1.encode(c, &mut out)) {
            continue;
        }
        let own = (Some(initial.g0), initial.g1);
        let halves = std::iter::once(own).chain(sets.iter().map(|set| set.halves()));
        let found = halves
            .flat_map(|(g0, g1)| [g0.map(Designation::G0), g1.map(Designation::G1)])
            .flatten()
            .find_map(|designation| {
                let mut code = Vec::new();
                let says = match designation {
                    Designation::G0(g0) => g0.encode(c, &mut code),
                    Designation::G1(g1) => g1.encode(c, &mut code),
                };
                says.then_some((designation, code))
            });
        let (designation, code) = found?;
        designation.write(&mut out);
        out.extend_from_slice(&code);
        match designation {
            Designation::G0(g0) => active.g0 = g0,
            Designation::G1(g1) => active.g1 = Some(g1),
        }
    }
    reset(&mut active, initial, &mut out);
    Some(out)
}

/// Switches back to what is active at the beginning of a value.
fn reset(active: &mut Active, initial: Active, out: &mut Vec<u8>) {
    if active.g0 != initial.g0 {
        Designation::G0(initial.g0).write(out);
    }
    if active.g1 != initial.g1
        && let Some(g1) = initial.g1
    {
        Designation::G1(g1).write(out);
    }
    *active = initial;
}
