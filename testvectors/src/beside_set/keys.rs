//! Key files under a passphrase (capsule-v1 §8). The lines were made once, by the implementation in Python.

use std::fs;

use kvcap::{Code, Error, Result};
use kvcap_store::{Passphrases, key_file};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Case;

const PASSPHRASE: &str = "correct horse battery staple";
/// The line that the page shows, of a wrapping key.
const WRAPPING: &str = "KVCAP-SECRET-LOCKED-1D276CBA6EF58F7FBDECCFC53B3ED7CC3DA9DECD17D63CDCE2C3860098DEAE40F58BBF725D5BDF28670E5D4C395F1588C39DAE937D49C6A2BB5FF1B3455644AA11BA22F07CB7872F958EF3825A8C4BD11E40FE3757610404FF37ACF7C8F9623F00594D5037E6E753BE3E4C50C69C588D10007165CB0F03B2BE7BDA8";
/// A signing key of 32 bytes 41, under `PASSPHRASE` and a salt of bytes 01.
const SIGNING: &str = "KVCAP-SECRET-LOCKED-1010101010101010101010101010101016EADF20F04ED16D4D3E0C5F75DCACF8BE1F9AC156BE35182A1A7C82D40976EBBD9D3C244149114041CB89EB3A6FEEEE5198E52AEC3833C60844F920089410E33531D5F7DF2369CD7EF3D9B8587CEEDD1FC451A0D9769171726631A549743BB6979279891C18F230C9DCDCD";
/// An X25519 key of 32 bytes 43, under another passphrase and a salt of bytes 02.
const UNICODE: &str = "KVCAP-SECRET-LOCKED-10202020202020202020202020202020211441EDC7FC71D75AE41EBF28B94596D0070124199E0367CED397CFC5E7B6DBD1E9B1881469ED8CCDED728ECA7B7C027F6E578760D4FA73EEA0085104726CF59DEE9B5C1593C8A0FDBB360AA89536759E4AC10C4CA1F6A2FA715B2A5AC522249001DF86D351E9EF4C77665";
/// The public half of the signing key, which is no secret, and a salt of bytes 03.
const PUBLIC: &str = "KVCAP-SECRET-LOCKED-1030303030303030303030303030303034A4FAB296F6B83EF015C0C0C062797BCF662953C0E96A4BEDA1F0430B399DBCE2C866D16BF6A07E0F99DF3284DE64B8456E981C4B8EF2298275545FD2285BBCCE955700095527D375103151B3065FAD337D4ACD2CF99F8D888675AFD9252708985F1B6";
/// Two lines of the signing key, and a salt of bytes 04.
const TWO_LINES: &str = "KVCAP-SECRET-LOCKED-104040404040404040404040404040404BFEE4CC96516A7941D9996898F9790C987E0C2418F1C4DD12C081160F8847A63C53E14919DB313583973C57ED95BEDC255F60ED58CBCD68469010BCC239E59E4341038DC9F39D8152BC26A2DB6352AE91A05C8C0708F957C57AD19C9536EA01B415087194185B2351783B95EA5F045EB173E89DD7421534294D2EA3F88E221190CFEEF26182F5710AB36AB80D75B78A9914D4EE908C36BBAF83FD6C3E81FFDF3CC67CB01AE18805A25ECEA11633123140C7E31401533FB81C2CE1F40D5CF40B192C183F54D8F48";
/// Bytes FF FE, and a salt of bytes 05.
const NO_TEXT: &str =
    "KVCAP-SECRET-LOCKED-105050505050505050505050505050505A0E29EA3BB2D7DD69D3754E67DD9DA707505";

fn case(
    name: &str,
    what: &'static str,
    (as_key, file): (&str, String),
    passphrase: Option<&str>,
    code: u16,
) -> Case {
    let input = json!({ "as": as_key, "file": file, "passphrase": passphrase });
    Case::new(name, what, &["§8"], ("locked-key", input), code)
}

pub(super) fn cases() -> Vec<Case> {
    let (wrap, sign) = ("wrapping", "signing");
    let given = Some(PASSPHRASE);
    let file = |line: &str| format!("{line}\n");
    let damaged = WRAPPING.replacen("276C", "276D", 1);
    vec![
        case(
            "locked_wrapping",
            "the line that the page shows",
            (wrap, file(WRAPPING)),
            given,
            0,
        ),
        case(
            "locked_signing",
            "a signing key's file with a comment, an issuer and other ends of lines",
            (sign, format!("# mine\r\n\r\nissuer: lab\r\n{SIGNING} \r\n")),
            given,
            0,
        ),
        case(
            "locked_unicode",
            "a passphrase of more than ASCII",
            (wrap, file(UNICODE)),
            Some("Zürich ☃"),
            0,
        ),
        case(
            "locked_other_passphrase",
            "another passphrase",
            (wrap, file(WRAPPING)),
            Some("correct horse battery stapl"),
            946,
        ),
        case(
            "locked_passphrase_empty",
            "an empty passphrase",
            (wrap, file(WRAPPING)),
            Some(""),
            946,
        ),
        case(
            "locked_passphrase_absent",
            "no passphrase",
            (wrap, file(WRAPPING)),
            None,
            946,
        ),
        case(
            "locked_salt_changed",
            "another salt",
            (wrap, file(&damaged)),
            given,
            946,
        ),
        case(
            "locked_cut_byte",
            "a byte is cut off",
            (wrap, file(&WRAPPING[..WRAPPING.len() - 2])),
            given,
            946,
        ),
        case(
            "locked_cut_digit",
            "a digit is cut off",
            (wrap, file(&WRAPPING[..WRAPPING.len() - 1])),
            given,
            942,
        ),
        case(
            "locked_lower_case",
            "digits in lower case",
            (wrap, file(&WRAPPING.replacen("AE40", "ae40", 1))),
            given,
            942,
        ),
        case(
            "locked_salt_alone",
            "16 bytes",
            (wrap, file(&WRAPPING[..21 + 32])),
            given,
            946,
        ),
        case(
            "locked_opens_no_text",
            "what it opens is no text",
            (wrap, file(NO_TEXT)),
            given,
            942,
        ),
        case(
            "locked_no_salt",
            "15 bytes",
            (wrap, file(&WRAPPING[..21 + 30])),
            given,
            942,
        ),
        case(
            "locked_twice",
            "two lines",
            (wrap, format!("{WRAPPING}\n{WRAPPING}\n")),
            given,
            942,
        ),
        case(
            "locked_opens_public",
            "what it opens is no secret key",
            (sign, file(PUBLIC)),
            given,
            942,
        ),
        case(
            "locked_opens_two_lines",
            "what it opens are two lines",
            (sign, file(TWO_LINES)),
            given,
            942,
        ),
        case(
            "locked_opens_other_kind",
            "what it opens is a signing key where one for wrapping is wanted",
            (wrap, file(SIGNING)),
            given,
            942,
        ),
    ]
}

/// Reads a secret key's file as the programs do.
pub(super) fn locked_key(input: &Value) -> Result<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, input["file"].as_str().unwrap()).unwrap();
    own(&path);
    let asked = |_: &std::path::Path| match input["passphrase"].as_str() {
        Some(passphrase) => Ok(Zeroizing::new(passphrase.to_owned())),
        None => Err(Error::new(Code::LocalPassphrase, "nobody is there to ask")),
    };
    let passphrases = Passphrases::asking(&asked);
    let secret = match input["as"].as_str().unwrap() {
        "signing" => key_file::signing(&path, &passphrases)?.to_secret_text(),
        _ => key_file::wrapping_key(&path, &passphrases)?.to_secret_text(),
    };
    Ok(json!({ "secret": secret.unwrap().trim_end() }))
}

#[cfg(unix)]
fn own(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
fn own(_: &std::path::Path) {}
