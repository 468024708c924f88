use dicom_core::VR;
use proptest::prelude::*;

use super::CharacterSet;

/// The Standard's own examples: set, text and bytes (PS3.5 annexes H, I, J, K).
const EXAMPLES: [(&str, &str, &[u8]); 9] = [
    // H.3.1
    (
        "\\ISO 2022 IR 87",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    // H.3.2
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    // I.2
    (
        "\\ISO 2022 IR 149",
        "Hong^Gildong=洪^吉洞=홍^길동",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    // J.1
    (
        "ISO_IR 192",
        "Wang^XiaoDong=王^小東=",
        b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=",
    ),
    // J.3
    ("GB18030", "Wang^XiaoDong=王^小东=", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab="),
    ("GBK", "Wang^XiaoDong=王^小东=", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab="),
    // K.2
    (
        "\\ISO 2022 IR 58",
        "Zhang^XiaoDong=张^小东=",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
    ),
    ("ISO_IR 100", "Buc^Jérôme", b"Buc^J\xe9r\xf4me"),
    (
        "ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 126",
        "Jérôme=Люкceмбypг=Διονυσιος",
        b"J\xe9r\xf4me=\x1b-L\xbb\xee\xdace\xdc\xd1yp\xd3\x1b-A=\x1b-F\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2\x1b-A",
    ),
];

#[test]
fn the_standards_examples_are_read_and_written_byte_for_byte() {
    for (set, text, bytes) in EXAMPLES {
        let set = CharacterSet::parse(set);
        assert_eq!(set.decode(VR::PN, bytes), text, "{}", set.value());
        assert_eq!(set.encode(text).as_deref(), Some(bytes), "{}", set.value());
    }
}

/// Every set of single bytes, with all its letters from 0xA0 on, as far as it has any.
const SINGLES: [(&str, &str); 12] = [
    (
        "100",
        "\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    ),
    (
        "101",
        "\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    ),
    (
        "109",
        "\u{a0}Ħ˘£¤\u{fffd}Ĥ§¨İŞĞĴ\u{ad}\u{fffd}Ż°ħ²³´µĥ·¸ışğĵ½\u{fffd}żÀÁÂ\u{fffd}ÄĊĈÇÈÉÊËÌÍÎÏ\u{fffd}ÑÒÓÔĠÖ×ĜÙÚÛÜŬŜßàáâ\u{fffd}äċĉçèéêëìíîï\u{fffd}ñòóôġö÷ĝùúûüŭŝ˙",
    ),
    (
        "110",
        "\u{a0}ĄĸŖ¤ĨĻ§¨ŠĒĢŦ\u{ad}Ž¯°ą˛ŗ´ĩļˇ¸šēģŧŊžŋĀÁÂÃÄÅÆĮČÉĘËĖÍÎĪĐŅŌĶÔÕÖ×ØŲÚÛÜŨŪßāáâãäåæįčéęëėíîīđņōķôõö÷øųúûüũū˙",
    ),
    (
        "144",
        "\u{a0}ЁЂЃЄЅІЇЈЉЊЋЌ\u{ad}ЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя№ёђѓєѕіїјљњћќ§ўџ",
    ),
    (
        "148",
        "\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
    ),
    (
        "203",
        "\u{a0}¡¢£€¥Š§š©ª«¬\u{ad}®¯°±²³Žµ¶·ž¹º»ŒœŸ¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    ),
    (
        "126",
        "\u{a0}‘’£€₯¦§¨©ͺ«¬\u{ad}\u{fffd}―°±²³΄΅Ά·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ\u{fffd}ΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ\u{fffd}",
    ),
    (
        "166",
        "\u{a0}กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรฤลฦวศษสหฬอฮฯะ\u{e31}าำ\u{e34}\u{e35}\u{e36}\u{e37}\u{e38}\u{e39}\u{e3a}\u{fffd}\u{fffd}\u{fffd}\u{fffd}฿เแโใไๅๆ\u{e47}\u{e48}\u{e49}\u{e4a}\u{e4b}\u{e4c}\u{e4d}\u{e4e}๏๐๑๒๓๔๕๖๗๘๙๚๛\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
    ),
    (
        "13",
        "\u{fffd}｡｢｣､･ｦｧｨｩｪｫｬｭｮｯｰｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾊﾋﾌﾍﾎﾏﾐﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜﾝﾞﾟ",
    ),
    ("127", "\u{a0}"),
    ("138", "\u{a0}"),
];

#[test]
fn every_set_of_single_bytes_says_its_characters_and_no_others() {
    for (number, letters) in SINGLES {
        let sets = [
            CharacterSet::parse(&format!("ISO_IR {number}")),
            CharacterSet::parse(&format!("ISO 2022 IR {number}\\ISO 2022 IR 6")),
        ];
        for set in sets {
            assert!(set.value().contains(number));
            for (at, letter) in letters.chars().enumerate() {
                let code = 0xA0 + at as u8;
                if number == "13" && code == 0xA0 {
                    continue;
                }
                assert_eq!(
                    set.decode(VR::LO, &[code]),
                    letter.to_string(),
                    "{number} {code:02x}"
                );
                if letter != '\u{fffd}' {
                    assert_eq!(
                        set.encode(&letter.to_string()),
                        Some(vec![code]),
                        "{number} {code:02x}"
                    );
                }
            }
            // Characters that Windows put where these sets have none, and what no such set has.
            for alien in ["\u{201e}", "\u{2026}", "山", "\u{1f600}"] {
                assert_eq!(set.encode(alien), None, "{number}");
            }
        }
    }
    let arabic = CharacterSet::parse("ISO_IR 127");
    assert_eq!(
        arabic.decode(VR::PN, b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1"),
        "قباني^لنزار"
    );
    let hebrew = CharacterSet::parse("ISO_IR 138");
    assert_eq!(
        hebrew.decode(VR::PN, b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4"),
        "שרון^דבורה"
    );
    assert_eq!(hebrew.encode("שרון").as_deref(), Some(&b"\xf9\xf8\xe5\xef"[..]));
}

#[test]
fn misspelled_terms_are_understood_and_unknown_ones_are_the_default_repertoire() {
    for spelling in [
        "ISO-IR 100",
        "ISO IR 100",
        "iso_ir 100",
        "ISO_IR_100 ",
        "ISO 2022-IR 100",
        "ISO_IR100",
        "ISO 8859-1",
        "100",
    ] {
        assert_eq!(CharacterSet::parse(spelling).value(), "ISO_IR 100", "{spelling}");
    }
    for spelling in ["ISO_IR_192", "ISO IR 192\0", "UTF-8", "utf8", "ISO 2022 IR 192"] {
        assert_eq!(CharacterSet::parse(spelling), CharacterSet::utf8(), "{spelling}");
    }
    assert_eq!(CharacterSet::parse("ISO 2022 GBK").value(), "GBK");
    assert_eq!(
        CharacterSet::parse("ISO 2022 58"),
        CharacterSet::parse("ISO 2022 IR 58")
    );
    for nothing in ["", "ISO_IR 6", "\\ISO 2022 IR 6", "KLINGON", "ISO_IR 70000"] {
        assert_eq!(CharacterSet::parse(nothing), CharacterSet::default(), "{nothing}");
    }
}

#[test]
fn a_second_byte_of_0x5c_does_not_split_a_value() {
    // In GB18030 the second byte of this character is a backslash's code.
    let set = CharacterSet::parse("GB18030");
    let bytes = set.encode("誠\\乗").unwrap();
    assert_eq!(bytes, b"\xd5\x5c\\\x81\x5c");
    assert_eq!(set.decode(VR::LO, &bytes), "誠\\乗");
    // In JIS X 0208 the second byte of this one.
    let set = CharacterSet::parse("\\ISO 2022 IR 87");
    let bytes = set.encode("弘\\弘").unwrap();
    assert_eq!(set.decode(VR::LO, &bytes), "弘\\弘");
    assert_eq!(set.decode(VR::LO, b"\x1b$B\x25\x5c\x1b(B"), "ボ");
}

#[test]
fn the_first_set_is_active_again_behind_each_delimiter() {
    let set = CharacterSet::parse("ISO 2022 IR 100\\ISO 2022 IR 144");
    let bytes = b"\x1b-L\xbb^\xbb=\xbb\\\xbb\r\n\xbb";
    assert_eq!(set.decode(VR::PN, bytes), "Л^»=»\\»\r\n»");
    // Neither ^ nor = delimits in other VRs, and \ not in text of one value.
    assert_eq!(set.decode(VR::LO, bytes), "Л^Л=Л\\»\r\n»");
    assert_eq!(set.decode(VR::UT, bytes), "Л^Л=Л\\Л\r\n»");
}

#[test]
fn supplementary_kanji_are_read_and_written() {
    let set = CharacterSet::parse("\\ISO 2022 IR 87\\ISO 2022 IR 159");
    assert_eq!(set.decode(VR::PN, b"\x1b$(D\x26\x21\x1b(B"), "\u{fffd}");
    let text = "丂山丂a";
    let bytes = set.encode(text).unwrap();
    assert_eq!(bytes, b"\x1b$(D0!\x1b$B;3\x1b$(D0!\x1b(Ba");
    assert_eq!(set.decode(VR::PN, &bytes), text);
}

#[test]
fn what_is_not_declared_or_not_known_never_fails() {
    let set = CharacterSet::default();
    assert_eq!(set.decode(VR::PN, "Müller".as_bytes()), "Müller");
    assert_eq!(set.decode(VR::PN, b"M\xfcller"), "Müller");
    assert_eq!(set.encode("Müller"), None);
    let korean = CharacterSet::parse("\\ISO 2022 IR 149");
    assert_eq!(
        korean.decode(VR::PN, b"\xc8\xab"),
        "홍",
        "without the escape sequence"
    );
    let japanese = CharacterSet::parse("ISO_IR 13");
    assert_eq!(
        japanese.decode(VR::PN, b"\x8eR\x93c^\xc0\xdb\xb3"),
        "山田^ﾀﾛｳ",
        "Shift JIS"
    );
    let set = CharacterSet::parse("ISO_IR 192");
    assert_eq!(set.decode(VR::PN, b"a\xff"), "a\u{fffd}");
}

proptest! {
    #[test]
    fn what_a_set_encodes_it_decodes(
        set in proptest::sample::select(vec![
            "", "ISO_IR 100", "ISO_IR 166", "ISO_IR 13", "ISO_IR 192", "GB18030", "GBK",
            "\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "\\ISO 2022 IR 58",
            "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
            "ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 126\\ISO 2022 IR 87\\ISO 2022 IR 149\\ISO 2022 IR 58",
        ]),
        text in "[a-zéЛΔกﾔ山丂洪홍张\\^=~ \t\r\n‾]{0,24}",
        vr in proptest::sample::select(vec![VR::PN, VR::LO, VR::UT]),
    ) {
        let set = CharacterSet::parse(set);
        if let Some(bytes) = set.encode(&text) {
            prop_assert_eq!(set.decode(vr, &bytes), text);
        }
    }

    #[test]
    fn any_bytes_decode_in_any_set(terms in "(\\\\|ISO 2022 IR (13|87|159|149|58|100|166)|GBK|x){0,6}",
                                   bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let set = CharacterSet::parse(&terms);
        for vr in [VR::PN, VR::LO, VR::UT, VR::CS] {
            let text = set.decode(vr, &bytes);
            prop_assert!(text.len() <= bytes.len() * 4);
        }
        prop_assert_eq!(CharacterSet::parse(&set.value()).value(), set.value());
    }
}
