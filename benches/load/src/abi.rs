//! The C ABI beside the Rust API: the same instances stored, found and read through both, turn by turn, on two stores
//! on the same medium.

#![allow(unsafe_code, reason = "what is measured is called as C calls it")]

use std::error::Error as StdError;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use pacs::context::{pacs_context, pacs_context_free, pacs_context_new};
use pacs::data_set::{
    pacs_data_set, pacs_data_set_free, pacs_data_set_new, pacs_data_set_put, pacs_data_set_text,
};
use pacs::engine::{pacs_engine, pacs_engine_close, pacs_engine_open};
use pacs::error::{pacs_status, pacs_status_text};
use pacs::find::{pacs_find, pacs_matches_free, pacs_matches_next};
use pacs::instance::{
    pacs_instance_free, pacs_instance_open, pacs_lookup, pacs_reader_free, pacs_reader_read,
};
use pacs::store::pacs_store;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::dataset::{Element, Value};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::query::{Model, QueryOptions};
use pacs_core::{DataSet, Level, Options, Pacs, Query, Source, Uid};
use pacs_store::embedded::{Settings, Store};

use crate::{Turns, median, say, scatter};

/// What the C ABI must reach of the Rust API's rate.
const TARGET: f64 = 0.95;
/// Length of the pixel data of an instance: a CT slice.
const PIXELS_LENGTH_BYTES: usize = 512 * 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    compared: Turns,
    /// Instances in a turn
    #[arg(long, default_value_t = 60)]
    instances: u64,
}

pub(crate) fn measure(arguments: &Arguments) -> Result<bool, Box<dyn StdError>> {
    let (turns, instances) = match arguments.compared.common.quick {
        true => (1, 3),
        false => (arguments.compared.turns, arguments.instances),
    };
    let room = arguments.compared.common.room()?;
    let rust = Rust::open(&room.path().join("rust"))?;
    let c = C::open(&room.path().join("c"))?;
    let mut times: [[Vec<Duration>; 2]; 3] = Default::default();
    for turn in 0..turns {
        let files: Vec<_> = (0..instances).map(|at| file(turn * instances + at)).collect();
        // Who begins is another one each time.
        for side in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let sides: [&dyn Side; 2] = [&rust, &c];
            for (what, times) in times.iter_mut().enumerate() {
                let begin = Instant::now();
                for (uid, file) in &files {
                    match what {
                        0 => sides[side].store(file),
                        1 => sides[side].find(uid),
                        _ => assert!(sides[side].read(uid) >= file.len() - 1024),
                    }
                }
                times[side].push(begin.elapsed());
            }
        }
    }
    say(&format!(
        "{instances} instances of {PIXELS_LENGTH_BYTES} bytes a turn, medians of {turns} turns, one thread:"
    ))?;
    let mut held = true;
    for (what, [rust, c]) in ["store", "find", "read"].iter().zip(times) {
        let (rust, c) = (median(rust.into_iter()), median(c.into_iter()));
        let ratio = rust.as_secs_f64() / c.as_secs_f64();
        // Finding is told, and has no target.
        held &= *what == "find" || ratio >= TARGET;
        let rate = |time: Duration| instances as f64 / time.as_secs_f64();
        say(&format!(
            "{what:>8}  Rust {:>9.0}/s  C {:>9.0}/s  C times Rust {ratio:.3}",
            rate(rust),
            rate(c)
        ))?;
    }
    rust.store.pacs.close()?;
    c.close();
    Ok(held || arguments.compared.common.quick)
}

trait Side {
    fn store(&self, file: &Bytes);
    fn find(&self, instance: &str);
    fn read(&self, instance: &str) -> usize;
}

struct Rust {
    store: Store,
}

impl Rust {
    fn open(data: &Path) -> Result<Self, Box<dyn StdError>> {
        let settings = Settings {
            data: data.to_owned(),
            ..Settings::default()
        };
        let store = Store::open_or_make(&settings, Options::default())?;
        Ok(Self { store })
    }

    fn pacs(&self) -> &Pacs {
        &self.store.pacs
    }
}

impl Side for Rust {
    fn store(&self, file: &Bytes) {
        // The bytes are the caller's own, as in C: what is handed over is a copy.
        let pieces = file
            .chunks(READ_CHUNK_BYTES)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)));
        block_on(self.pacs().import(Source::default(), stream::iter(pieces))).expect("it is stored");
    }

    fn find(&self, instance: &str) {
        let mut keys = DataSet::new();
        keys.put_text(tags::SOP_INSTANCE_UID, VR::UI, instance);
        keys.put_text(tags::PATIENT_NAME, VR::PN, "");
        let options = QueryOptions {
            relational: true,
            combined_date_time: true,
            ..QueryOptions::default()
        };
        let query = Query::new(Model::PatientRoot, Level::Instance, keys, options);
        let found: Vec<DataSet> = block_on(async {
            let found = self.pacs().find(&Source::default(), query)?;
            found.try_collect().await
        })
        .expect("it is asked");
        assert_eq!(found.len(), 1);
        assert!(found[0].string(tags::PATIENT_NAME).is_some());
    }

    fn read(&self, instance: &str) -> usize {
        let uid = Uid::parse(instance).expect("a UID");
        let mut buffer = vec![0; READ_CHUNK_BYTES];
        block_on(async {
            let record = self.pacs().lookup(&uid).await?.expect("it is kept");
            let mut pieces = self.pacs().outgoing_file(&record);
            let mut length = 0;
            while let Some(piece) = pieces.next().await {
                // Where C has it then.
                let piece = piece?;
                for part in piece.chunks(buffer.len()) {
                    buffer[..part.len()].copy_from_slice(part);
                    length += part.len();
                }
            }
            Ok::<_, pacs_core::Error>(length)
        })
        .expect("it is read")
    }
}

struct C {
    context: *mut pacs_context,
    engine: *mut pacs_engine,
}

fn check(status: pacs_status) {
    if status != pacs_status::PACS_OK {
        // SAFETY: the text is for ever valid.
        let text = unsafe { CStr::from_ptr(pacs_status_text(status as i32)) };
        panic!("{}", text.to_string_lossy());
    }
}

impl C {
    fn open(data: &Path) -> Result<Self, Box<dyn StdError>> {
        let configuration = CString::new(format!("data = '{}'", data.display()))?;
        let (mut context, mut engine) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the arguments are as the header asks.
        unsafe {
            check(pacs_context_new(ptr::null(), &mut context));
            let configuration = configuration.as_ptr();
            check(pacs_engine_open(context, configuration, ptr::null(), &mut engine));
        }
        Ok(Self { context, engine })
    }

    fn close(self) {
        // SAFETY: as above.
        unsafe {
            check(pacs_engine_close(self.engine));
            check(pacs_context_free(self.context));
        }
    }
}

impl Side for C {
    fn store(&self, file: &Bytes) {
        // SAFETY: the arguments are as the header asks.
        check(unsafe {
            pacs_store(
                self.engine,
                ptr::null(),
                file.as_ptr().cast(),
                file.len(),
                ptr::null_mut(),
            )
        });
    }

    fn find(&self, instance: &str) {
        let instance = CString::new(instance).expect("no NUL");
        let (mut keys, mut matches) = (ptr::null_mut::<pacs_data_set>(), ptr::null_mut());
        let (mut found, mut name) = (ptr::null_mut(), [0 as c_char; 256]);
        // SAFETY: the arguments are as the header asks.
        unsafe {
            check(pacs_data_set_new(self.context, &mut keys));
            check(pacs_data_set_put(
                keys,
                0x0008_0018,
                ptr::null(),
                instance.as_ptr(),
            ));
            check(pacs_data_set_put(keys, 0x0010_0010, ptr::null(), ptr::null()));
            check(pacs_find(self.engine, ptr::null(), 4, keys, 0, &mut matches));
            check(pacs_matches_next(matches, &mut found));
            let (buffer, length) = (name.as_mut_ptr(), name.len());
            check(pacs_data_set_text(
                found,
                0x0010_0010,
                0,
                buffer,
                length,
                ptr::null_mut(),
            ));
            check(pacs_data_set_free(found));
            assert_eq!(pacs_matches_next(matches, &mut found), pacs_status::PACS_END);
            check(pacs_matches_free(matches));
            check(pacs_data_set_free(keys));
        }
    }

    fn read(&self, instance: &str) -> usize {
        let instance = CString::new(instance).expect("no NUL");
        let mut buffer = vec![0u8; READ_CHUNK_BYTES];
        let (mut kept, mut reader, mut all, mut length) = (ptr::null_mut(), ptr::null_mut(), 0, 0);
        // SAFETY: the arguments are as the header asks.
        unsafe {
            check(pacs_lookup(self.engine, instance.as_ptr(), &mut kept));
            check(pacs_instance_open(kept, ptr::null(), 0, &mut reader));
            while pacs_reader_read(reader, buffer.as_mut_ptr().cast(), buffer.len(), &mut length)
                == pacs_status::PACS_OK
            {
                all += length;
            }
            check(pacs_reader_free(reader));
            check(pacs_instance_free(kept));
        }
        all
    }
}

/// An instance with its UID: noise for pixels.
fn file(number: u64) -> (String, Bytes) {
    let uid = format!("2.25.7.1.{number}");
    let mut set = DataSet::new();
    set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, uid.clone());
    set.put_text(tags::MODALITY, VR::CS, "CT");
    set.put_text(tags::PATIENT_NAME, VR::PN, "MADE^UP");
    set.put_text(tags::PATIENT_ID, VR::LO, "1");
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.7");
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.7.1");
    let pixels = (0..PIXELS_LENGTH_BYTES as u64 / 8).flat_map(|at| scatter(number << 32 | at).to_le_bytes());
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(pixels.collect()),
    });
    let syntax = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    let data_set = encode(&set, syntax, &CharacterSet::utf8()).expect("it can be encoded");
    let meta = Meta::new(
        Uid::constant(uids::CT_IMAGE_STORAGE),
        Uid::parse(&uid).expect("a UID"),
        Uid::constant(syntax),
    );
    (uid, [write_meta(&meta), data_set.into()].concat().into())
}
