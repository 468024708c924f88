//! The generated set: CT slices of a seeded gradient with noise, as Part 10 files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A set of files: one directory a study.
pub(crate) struct Set {
    pub(crate) studies: Vec<Study>,
    pub(crate) instances: usize,
    pub(crate) bytes: u64,
}

/// One study of a set.
pub(crate) struct Study {
    pub(crate) uid: String,
    pub(crate) directory: PathBuf,
}

/// What to generate.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) studies: usize,
    pub(crate) instances_per_study: usize,
    pub(crate) instances_per_series: usize,
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// Writes a set below `directory`. The same arguments write the same bytes.
pub(crate) fn generate(directory: &Path, shape: Shape, seed: u64) -> io::Result<Set> {
    let mut set = Set {
        studies: Vec::new(),
        instances: 0,
        bytes: 0,
    };
    let mut noise = Noise::new(seed);
    for study in 0..shape.studies {
        // 2.25: a UID made from a number (PS3.5 B.2). The UIDs of one device share a long prefix.
        let uid = format!("2.25.{}.{}", seed, study + 1);
        let directory = directory.join(format!("study-{}", study + 1));
        fs::create_dir_all(&directory)?;
        for instance in 0..shape.instances_per_study {
            let file = slice(&uid, study, instance, shape, &mut noise);
            set.bytes += file.len() as u64;
            set.instances += 1;
            fs::write(directory.join(format!("{instance:05}.dcm")), file)?;
        }
        set.studies.push(Study { uid, directory });
    }
    Ok(set)
}

/// A xorshift generator: noise that no file system compresses, the same in every run.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

fn slice(study_uid: &str, study: usize, number: usize, shape: Shape, noise: &mut Noise) -> Vec<u8> {
    let series = number / shape.instances_per_series + 1;
    let series_uid = format!("{study_uid}.{series}");
    let instance_uid = format!("{series_uid}.{}", number + 1);

    let mut meta = Vec::new();
    put(&mut meta, 0x0002_0001, b"OB", &[0, 1]);
    text(&mut meta, 0x0002_0002, b"UI", CT_IMAGE_STORAGE);
    text(&mut meta, 0x0002_0003, b"UI", &instance_uid);
    text(&mut meta, 0x0002_0010, b"UI", EXPLICIT_VR_LITTLE_ENDIAN);
    text(&mut meta, 0x0002_0012, b"UI", "2.25.1");

    let pixels = usize::from(shape.rows) * usize::from(shape.columns);
    let mut file = Vec::with_capacity(pixels * 2 + 2048);
    file.resize(128, 0);
    file.extend_from_slice(b"DICM");
    let length = u32::try_from(meta.len()).unwrap_or(u32::MAX);
    put(&mut file, 0x0002_0000, b"UL", &length.to_le_bytes());
    file.extend_from_slice(&meta);

    text(&mut file, 0x0008_0005, b"CS", "ISO_IR 100");
    text(&mut file, 0x0008_0008, b"CS", "ORIGINAL\\PRIMARY\\AXIAL");
    text(&mut file, 0x0008_0016, b"UI", CT_IMAGE_STORAGE);
    text(&mut file, 0x0008_0018, b"UI", &instance_uid);
    text(&mut file, 0x0008_0020, b"DA", "20260114");
    text(&mut file, 0x0008_0021, b"DA", "20260114");
    text(&mut file, 0x0008_0030, b"TM", "101500");
    text(&mut file, 0x0008_0031, b"TM", "101730");
    text(&mut file, 0x0008_0050, b"SH", &format!("ACC{:05}", study + 1));
    text(&mut file, 0x0008_0060, b"CS", "CT");
    text(&mut file, 0x0008_0070, b"LO", "GENERATED");
    text(&mut file, 0x0008_0090, b"PN", "Referring^Physician");
    text(&mut file, 0x0008_1030, b"LO", "Thorax and abdomen");
    text(&mut file, 0x0008_103E, b"LO", &format!("Series {series}"));
    text(
        &mut file,
        0x0010_0010,
        b"PN",
        &format!("Generated^Patient{:03}", study + 1),
    );
    text(&mut file, 0x0010_0020, b"LO", &format!("PAT{:05}", study + 1));
    text(&mut file, 0x0010_0030, b"DA", "19700101");
    text(&mut file, 0x0010_0040, b"CS", "O");
    text(&mut file, 0x0018_0015, b"CS", "CHEST");
    text(&mut file, 0x0018_0050, b"DS", "1.25");
    text(&mut file, 0x0018_0060, b"DS", "120");
    text(&mut file, 0x0018_5100, b"CS", "HFS");
    text(&mut file, 0x0020_000D, b"UI", study_uid);
    text(&mut file, 0x0020_000E, b"UI", &series_uid);
    text(&mut file, 0x0020_0010, b"SH", &format!("{}", study + 1));
    text(&mut file, 0x0020_0011, b"IS", &format!("{series}"));
    text(&mut file, 0x0020_0013, b"IS", &format!("{}", number + 1));
    text(
        &mut file,
        0x0020_0032,
        b"DS",
        &format!("-180\\-180\\{}", number as f64 * 1.25),
    );
    text(&mut file, 0x0020_0037, b"DS", "1\\0\\0\\0\\1\\0");
    text(&mut file, 0x0020_0052, b"UI", &format!("{study_uid}.0.1"));
    put(&mut file, 0x0028_0002, b"US", &1u16.to_le_bytes());
    text(&mut file, 0x0028_0004, b"CS", "MONOCHROME2");
    put(&mut file, 0x0028_0010, b"US", &shape.rows.to_le_bytes());
    put(&mut file, 0x0028_0011, b"US", &shape.columns.to_le_bytes());
    text(&mut file, 0x0028_0030, b"DS", "0.7\\0.7");
    put(&mut file, 0x0028_0100, b"US", &16u16.to_le_bytes());
    put(&mut file, 0x0028_0101, b"US", &12u16.to_le_bytes());
    put(&mut file, 0x0028_0102, b"US", &11u16.to_le_bytes());
    put(&mut file, 0x0028_0103, b"US", &0u16.to_le_bytes());
    text(&mut file, 0x0028_1052, b"DS", "-1024");
    text(&mut file, 0x0028_1053, b"DS", "1");

    let mut data = Vec::with_capacity(pixels * 2);
    for row in 0..shape.rows {
        for column in 0..shape.columns {
            let gradient = (u32::from(row) + u32::from(column) + number as u32) & 0x7FF;
            let value = gradient + (noise.next() >> 55) as u32;
            data.extend_from_slice(&(value as u16).to_le_bytes());
        }
    }
    put(&mut file, 0x7FE0_0010, b"OW", &data);
    file
}

/// One element whose value is text, padded (PS3.5 6.2).
pub(crate) fn text(out: &mut Vec<u8>, tag: u32, vr: &[u8; 2], value: &str) {
    let mut value = value.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == b"UI" { 0 } else { b' ' });
    }
    put(out, tag, vr, &value);
}

/// One element in Explicit VR Little Endian (PS3.5 7.1.2).
pub(crate) fn put(out: &mut Vec<u8>, tag: u32, vr: &[u8; 2], value: &[u8]) {
    out.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
    out.extend_from_slice(&(tag as u16).to_le_bytes());
    out.extend_from_slice(vr);
    if matches!(vr, b"OB" | b"OW") {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    }
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_files_and_another_seed_others() {
        let shape = Shape {
            studies: 2,
            instances_per_study: 3,
            instances_per_series: 125,
            rows: 8,
            columns: 8,
        };
        let bytes = |seed| {
            let directory = tempfile::tempdir().unwrap();
            let set = generate(directory.path(), shape, seed).unwrap();
            assert_eq!((set.studies.len(), set.instances), (2, 6));
            fs::read(set.studies[1].directory.join("00002.dcm")).unwrap()
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(7));
    }
}
