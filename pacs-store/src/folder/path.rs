//! Names of files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use pacs_core::limits::LOCATOR_LENGTH_MAX_BYTES;
use pacs_core::{InstanceKey, Locator, Uid};

/// What is the archive's own, and no instance.
pub(super) const PRIVATE: &str = ".pacs";
/// Where instances are written before their commit.
pub(super) const INCOMING: &str = ".pacs/incoming";
/// The file that stands for the lock.
pub(super) const LOCK: &str = ".pacs/lock";

/// How the name of a file ends that is no DICOM file.
const SEALED: &str = ".sealed";

/// The directory of a series.
pub(super) fn directory(key: &InstanceKey) -> PathBuf {
    Path::new(&key.study.file_name()).join(key.series.file_name())
}

/// The name of an instance; later versions have a number.
pub(super) fn name(key: &InstanceKey, version: u32) -> String {
    let instance = key.instance.file_name();
    match version {
        1 => format!("{instance}.dcm"),
        version => format!("{instance}.{version}.dcm"),
    }
}

/// The name of an instance of which a layer made something else. `_` stands in no UID.
pub(super) fn sealed_name(key: &InstanceKey, version: u32) -> String {
    let instance = key.instance.file_name();
    match version {
        1 => format!("{instance}{SEALED}"),
        version => format!("{instance}_{version}{SEALED}"),
    }
}

/// The instance that a layer made something else of, and its version; none where it is not named by us.
pub(super) fn of_sealed(path: &Path) -> Option<(InstanceKey, u32)> {
    let mut names = path.components().map(|name| name.as_os_str().to_str());
    let (study, series, file) = (names.next()??, names.next()??, names.next()??);
    if names.next().is_some() {
        return None;
    }
    let name = file.strip_suffix(SEALED)?;
    // At the start `_` belongs to the UID.
    let (instance, version) = match name.rsplit_once('_') {
        Some((instance, version)) if !instance.is_empty() => (instance, version.parse().ok()?),
        _ => (name, 1),
    };
    let key = InstanceKey {
        study: of_file_name(study)?,
        series: of_file_name(series)?,
        instance: of_file_name(instance)?,
    };
    // One spelling only.
    let named = directory(&key).join(sealed_name(&key, version));
    (named == path && version > 0).then_some((key, version))
}

fn of_file_name(name: &str) -> Option<Uid> {
    let uid = name.strip_prefix('_').unwrap_or(name);
    Uid::parse(uid).ok()
}

/// Which version of an instance its file is, by its name; one that is not named by us is the first.
pub(super) fn version(path: &Path, key: &InstanceKey) -> u32 {
    let name = path.file_name().and_then(OsStr::to_str);
    let behind = name.and_then(|name| name.strip_prefix(&key.instance.file_name()));
    let number = behind.and_then(|behind| behind.strip_prefix('.')?.strip_suffix(".dcm"));
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// None when the path is too long.
pub(super) fn to_locator(path: &Path) -> Option<Locator> {
    let bytes = path.as_os_str().as_bytes();
    (bytes.len() <= LOCATOR_LENGTH_MAX_BYTES).then(|| Locator::new(bytes))
}

/// None unless it names something below the root that isn't the archive's own.
pub(super) fn from_locator(locator: &Locator) -> Option<PathBuf> {
    let bytes = locator.as_bytes();
    let path = Path::new(OsStr::from_bytes(bytes));
    let below = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    // One spelling only: `a//b` and `a/` are not what a scan yields.
    let rebuilt: PathBuf = path.components().collect();
    let valid = !bytes.is_empty()
        && bytes.len() <= LOCATOR_LENGTH_MAX_BYTES
        && !bytes.contains(&0)
        && below
        && rebuilt.as_os_str() == path.as_os_str()
        && !path.starts_with(PRIVATE);
    valid.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_version() {
        let uid = |text| Uid::parse(text).unwrap();
        let key = InstanceKey {
            study: uid("1"),
            series: uid("2"),
            instance: uid("1.2.3"),
        };
        for number in [1, 2, 17] {
            assert_eq!(version(&directory(&key).join(name(&key, number)), &key), number);
        }
        // Another instance's, whose UID ends like a version, and names of others.
        let other = InstanceKey {
            instance: uid("1.2.3.2"),
            ..key
        };
        assert_eq!(version(Path::new("1/2/1.2.3.2.dcm"), &other), 1);
        for other in ["1.2.3.x.dcm", "IM0001", "1.2.3.dcm", "1.2.3..dcm", "1.2.3.2"] {
            assert_eq!(version(Path::new(other), &key), 1, "{other}");
        }
    }

    #[test]
    fn a_sealed_name_tells_its_instance_and_its_version() {
        for instance in ["1.2.3", "1.2.3.2", "..", ".1", "1"] {
            let key = InstanceKey {
                study: Uid::parse("1.2").unwrap(),
                series: Uid::parse(".").unwrap(),
                instance: Uid::parse(instance).unwrap(),
            };
            for version in [1, 2, 17] {
                let path = directory(&key).join(sealed_name(&key, version));
                assert_eq!(of_sealed(&path), Some((key, version)));
            }
        }
        for other in [
            "1/2/3.dcm",
            "1/2/3",
            "2/3.sealed",
            "1/2/3/4.sealed",
            "1/2/x.sealed",
            "1/2/3_1.sealed",
            "1/2/3_0.sealed",
            "1/2/3_02.sealed",
            "1/2/_3.sealed",
            "1/2/.sealed",
            "1/2/_.sealed",
        ] {
            assert_eq!(of_sealed(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn no_uid_leads_out_of_the_folder() {
        let up = Uid::parse("..").unwrap();
        let key = InstanceKey {
            study: up,
            series: Uid::parse(".").unwrap(),
            instance: up,
        };
        let path = directory(&key).join(name(&key, 1));
        assert_eq!(path, Path::new("_../_./_...dcm"));
    }

    #[test]
    fn a_locator_names_one_file_below_the_root_and_nothing_else() {
        for good in ["a", "a/b.dcm", "1.2/3.4/5.6.dcm", "IM 1/\u{e9}"] {
            let locator = to_locator(Path::new(good)).unwrap();
            assert_eq!(from_locator(&locator), Some(PathBuf::from(good)));
        }
        for bad in [
            "",
            "/etc",
            "..",
            "a/../b",
            "./a",
            "a/",
            "a//b",
            ".pacs/lock",
            "a\0b",
        ] {
            assert_eq!(from_locator(&Locator::new(bad.as_bytes())), None, "{bad:?}");
        }
    }
}
